"""The command line in this process, with a predictor that needs no model."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from g2vlm.cli import main
from g2vlm.conversation import Message, read_messages
from g2vlm.geometry.camera import unproject
from g2vlm.pictures import Photo, to_views
from g2vlm.records import Answer, Geometry, Provenance, Reconstruction, Statement
from g2vlm.windows import Joiner, Sight, Sizing, Windowing


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., Outcome]:
    """Call the command line; what it does not turn into an exit code comes through as an exception."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["g2vlm", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        captured = capsys.readouterr()
        return Outcome(int(leaving.value.code or 0), captured.out, captured.err)

    return run


def fake_answer(question: str, *, is_first: bool, reasoning: str | None) -> Answer:
    """The question backwards."""
    depth = Statement("depth", "depth A 1.50 u about 2.4 m", 1.5, "u", (0,), ((5.0, 6.0),), 2.4, "m")
    evidence = (depth,) if reasoning else ()
    return Answer(question[::-1], evidence, None, 20, 12, len(question), {"first_token": 0.5 + is_first, "all": 2.0})


@dataclass
class FakeSession:
    """Photos that a FakeHub was asked to open."""

    hub: "FakeHub"
    photos: Sequence[Photo]

    def ask(self, question: str, **options: Any) -> Answer:
        is_first = not any("question" in asked for asked in self.hub.asked)
        self.hub.asked.append({"question": question, **options})
        return fake_answer(question, is_first=is_first, reasoning=options["reasoning"])

    @property
    def reconstruction(self) -> Reconstruction:
        return self.hub.reconstruct(self.photos)


@dataclass
class FakeHub:
    """Remembers how it was called; sees a flat wall in every photo, and answers with the question backwards."""

    loaded: list[tuple] = field(default_factory=list)
    reading: dict[str, Any] = field(default_factory=dict)
    asked: list[dict] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)
    converted: list[tuple] = field(default_factory=list)
    source: str = "fake"
    checkpoint_sha256: str = "0" * 64

    def open(self, photos: Sequence[Photo], **options: Any) -> FakeSession:
        self.asked.append({"names": [photo.name for photo in photos], **options})
        return FakeSession(self, photos)

    def answer(
        self, *, messages: Sequence[Message], max_frames: int = 32, frame_labels: bool = False, **options: Any
    ) -> Answer:
        conversation = read_messages(messages, max_frames=max_frames, frame_labels=frame_labels)
        self.asked.append({"turns": conversation.turns, "names": [p.name for p in conversation.photos], **options})
        question = str(conversation.turns[-1].parts[-1])
        return fake_answer(question, is_first=False, reasoning=options["reasoning"])

    def load(self, model: str | None, *, device: str, dtype: str, **reading: Any) -> "FakeHub":
        self.loaded.append((model, device, dtype))
        self.reading.update(reading)
        return self

    def convert(self, source: str, out: Path, *, to: str, overwrite: bool) -> None:
        self.converted.append((source, out, to, overwrite))

    def reconstruct(self, photos: Sequence[Photo], *, resolution: int | None = None, seed: int = 0) -> Reconstruction:
        self.asked.append({"resolution": resolution, "seed": seed})
        images = [
            (v * 255).byte().permute(1, 2, 0).numpy()
            for v in to_views(photos, 56 if resolution is None else resolution, 14)
        ]
        depth = [np.full(image.shape[:2], 2, np.float32) for image in images]
        points = [np.stack([d, d, d], -1) for d in depth]
        return Reconstruction(
            names=tuple(photo.name for photo in photos),
            images=tuple(images),
            depth=tuple(depth),
            points=tuple(points),
            normals=tuple(np.zeros_like(p) + np.array([0, 0, -1], np.float32) for p in points),
            confidence=tuple(d / 4 for d in depth),
            mask=tuple(d > 0 for d in depth),
            poses=np.tile(np.eye(4, dtype=np.float32), (len(photos), 1, 1)),
            intrinsics=np.tile(np.eye(3, dtype=np.float32), (len(photos), 1, 1)),
            intrinsics_error=np.zeros(len(photos), np.float32),
            original_sizes=tuple(photo.size for photo in photos),
            scale="scale_free",
            provenance=Provenance("fake", "0" * 64),
        )

    def joiner(
        self, *, window: int, overlap: int, resolution: int | None = None, seed: int = 0, folder: Path
    ) -> Joiner:
        self.asked.append({"window": window, "overlap": overlap})
        sizing = Sizing(56 if resolution is None else resolution, 14, "long_side")
        return Joiner(self.look, sizing, Provenance("fake", "0" * 64), Windowing(window, overlap), folder)

    def look(self, views: Sequence[Tensor]) -> Sight:
        """A flat wall, seen by cameras that go sideways."""
        self.looks.append(len(views))
        poses = torch.eye(4).repeat(len(views), 1, 1)
        poses[:, 0, 3] = torch.arange(len(views)) / 2
        camera = torch.tensor([[56.0, 0, 28], [0, 56, 28], [0, 0, 1]])
        walls = [unproject(torch.full(view.shape[1:], 2.0), camera) for view in views]
        return Sight(Geometry(tuple(walls), poses), torch.ones(len(views), 2))


@pytest.fixture
def hub(monkeypatch) -> FakeHub:
    fake = FakeHub()
    for name, function in {"hub": fake.convert, "loading": fake.load}.items():
        module = ModuleType(f"g2vlm.{name}")
        monkeypatch.setattr(module, function.__name__, function, raising=False)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("g2vlm.windows.notes_of", lambda seen: ())  # nobody took photos of these walls
    memory = ModuleType("g2vlm.memory")
    monkeypatch.setattr(memory, "is_surely_enough", lambda *_, **__: True, raising=False)
    monkeypatch.setattr(memory, "memory_plan", lambda *_, **__: None, raising=False)
    monkeypatch.setitem(sys.modules, "g2vlm.memory", memory)
    return fake


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder of three photos of different kinds and sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, size in [("1.png", (60, 80)), ("2.jpg", (80, 60)), ("10.webp", (90, 90))]:
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder
