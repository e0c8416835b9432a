"""Systems that can be evaluated: our models, stock Qwen-VLs of transformers, and whatever others have recorded in files."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, Qwen2VLImageProcessorPil

from g2vlm.answering import Reasoning, Session
from g2vlm.atomic import read_lines
from g2vlm.eval.benchmarks.asking import Reply, recorded_reply
from g2vlm.eval.benchmarks.base import Item, QuestionItem
from g2vlm.eval.benchmarks.prediction import Prediction
from g2vlm.eval.protocol import About, Absent, Setting
from g2vlm.eval.run import MISSING
from g2vlm.eval.typical import question_of, told_sizes, typical
from g2vlm.host import FAMILIES, Host
from g2vlm.host_predictor import HostPredictor
from g2vlm.host_processor import read_host_processor
from g2vlm.hub import Source, device_of, find, sha256_of, weight_files
from g2vlm.marks import words_of_marks
from g2vlm.pathway_config import NoPathway
from g2vlm.pictures import Photo
from g2vlm.predictor import Answering, Predictor
from g2vlm.records import Reconstruction
from g2vlm.speaking import GeometryInput

MAX_FRAMES = 32
"""Frames of a video that a system looks at, unless told otherwise."""

CAUSES = 3
"""So many ids are named in a message."""


class Model:
    """A model that looks and answers, greedily and one item at a time.

    kind: how reports call it. geometry: what the geometric encoder sees, see `speaking.GeometryInput`. reasoning: "geometry" lets it measure
    before it answers. reading: options that it was loaded with, for the report.
    """

    def __init__(
        self,
        predictor: Answering,
        *,
        kind: str = "ours",
        geometry: GeometryInput = "on",
        reasoning: Reasoning | None = None,
        max_frames: int = MAX_FRAMES,
        seed: int = 0,
        reading: Mapping[str, Setting] = MappingProxyType({}),
    ) -> None:
        self.predictor, self.max_frames, self.seed = predictor, max_frames, seed
        self.geometry: GeometryInput = geometry
        self.reasoning: Reasoning | None = reasoning
        settings = {
            "geometry": geometry,
            "reasoning": reasoning,
            "max_frames": max_frames,
            "seed": seed,
            **reading,
            **form_of(predictor),
        }
        self.about = About(kind, predictor.source, predictor.checkpoint_sha256, settings)
        self._read: tuple[tuple[Path, ...], Session] | None = None

    def answer(self, item: QuestionItem) -> str:
        marked: dict[str, Any] = {"marks": item.marks, "boxes": item.boxes, "reasoning": self.reasoning}
        if self.reasoning is not None:
            marked["between"] = item.between
        decoding: dict[str, Any] = {"max_new_tokens": item.max_new_tokens, "seed": self.seed}
        if item.system is None:
            return self._session(item).ask(item.prompt, **marked, **decoding).text
        images = [{"type": "image", "image": photo} for photo in seen(item, self.max_frames)]
        content = [*images, {"type": "text", "text": item.prompt}]
        messages = [{"role": "system", "content": item.system}, {"role": "user", "content": content}]
        return self.predictor.answer(messages=messages, geometry=self.geometry, **marked, **decoding).text

    def reconstruct(self, item: Item) -> Reconstruction:
        if self.geometry != "on":
            raise ValueError(f"geometry is {self.geometry!r}, but a reconstruction needs the views; set it to 'on'")
        photos = seen(item, self.max_frames)
        resolution = self._resolution(photos[0].size) if item.is_sized else None
        return self.predictor.reconstruct(photos, resolution=resolution, seed=self.seed)

    def _resolution(self, size: tuple[int, int]) -> int:
        """At which a photo of this size (height, width), in whole patches, is seen as it is."""
        is_by_width = isinstance(self.predictor, Predictor) and self.predictor.model.config.view_resize != "long_side"
        return size[1] if is_by_width else max(size)

    def _session(self, item: QuestionItem) -> Session:
        """Questions in a row about the same pictures share what was read of them, which changes no answer."""
        if self._read is None or self._read[0] != item.media:
            photos = seen(item, self.max_frames)
            self._read = None  # first, so that two never fill the memory
            self._read = item.media, self.predictor.open(photos, geometry=self.geometry, seed=self.seed)
        return self._read[1]


class TextOnly:
    """A model that is asked the same words, marks included, and is shown nothing: what it knows without looking.

    tells_sizes: how large the things that a question names typically are is said before it, see `typical.told_sizes`.
    """

    def __init__(self, predictor: Answering, *, kind: str = "ours", tells_sizes: bool = False) -> None:
        self.predictor, self.tells_sizes = predictor, tells_sizes
        told = {"typical_sizes": typical().sha256} if tells_sizes else {}
        settings = {"media": "withheld", **told, **form_of(predictor)}
        self.about = About(kind, predictor.source, predictor.checkpoint_sha256, settings)

    def answer(self, item: QuestionItem) -> str:
        has_marks = bool(item.marks or item.boxes)  # said in parts of the pictures' sides, which have to be read for it
        sizes = [photo.size for photo in seen(item, MAX_FRAMES)] if has_marks else []
        words = words_of_marks(item.marks, item.boxes, sizes) + item.prompt
        if self.tells_sizes:
            words = told_sizes(question_of(item)) + words
        return self.predictor.answer_blindly([words], system=item.system, max_new_tokens=item.max_new_tokens)[0]


def geometry_inputs(predictor: Answering) -> tuple[GeometryInput, ...]:
    """What a model's geometric encoder can be shown in turn, to see what it is good for; "on" alone where there is none."""
    assert isinstance(predictor, Predictor | HostPredictor)
    if predictor.host is None:
        return ("on", "off", "blank", "shuffled")
    return ("on",) if predictor.host.encoder is None else ("on", "blank", "shuffled")


def form_of(predictor: Answering) -> dict[str, str]:
    """Where a model computes, and in which numbers: the last digits of what it says depend on both."""
    assert isinstance(predictor, Predictor | HostPredictor)
    model: Any = predictor.model if isinstance(predictor, Predictor) else predictor.host.model
    return {"device": model.device.type, "dtype": str(model.dtype).removeprefix("torch.")}


def seen(item: Item, max_frames: int) -> Sequence[Photo]:
    """What a system looks at; Absent where some of it is not there, ValueError where it cannot be read."""
    if (reason := item.missing()) is not None:
        raise Absent(reason)
    return item.seen(max_frames)


def load_stock(source: Source, *, device: str = "auto", dtype: str = "auto") -> HostPredictor:
    """A stock Qwen-VL as transformers loads it, without any pathway, with its own chat template and picture settings.

    Frames of a video are shown as pictures. Raises ValueError for a model of another family.
    """
    folder = find(source)
    config = AutoConfig.from_pretrained(folder)
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"{folder} holds a {config.model_type}; of transformers' models {', '.join(FAMILIES)} can be evaluated, "
            "others by recorded answers"
        )
    size: Any = Qwen2VLImageProcessorPil.from_pretrained(folder).size
    processor = read_host_processor(
        folder,
        config,
        preprocessing="whole",
        min_pixels=size["shortest_edge"],
        max_pixels=size["longest_edge"],
    )
    on = device_of(device)
    form: Any = ("bfloat16" if on.type == "cuda" else "float32") if dtype == "auto" else dtype
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, form))
    host = Host(model.to(on), NoPathway(), None)
    return HostPredictor(host, processor, source=str(source), checkpoint_sha256=sha256_of(weight_files(folder)))


# --- recorded by others -----------------------------------------------------------------------------------------------


class RecordedAnswers:
    """Answers from a file of JSON lines, `{"id": ..., "prediction": "..."}`; a log of ours is such a file, too.

    Optional columns are `answer_top10`, a list of answers, best first (ScanQA), and `judge_reply`, what a judge said (OpenEQA).

    Raises ValueError for a file without an answer, for a line without one of the two, and for ids that occur twice.
    """

    def __init__(self, file: Path) -> None:
        rows = read_lines(file, is_log=False)
        if not rows:
            raise ValueError(f'{file} holds no answer; write one {{"id": ..., "prediction": ...}} a line')
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict):
                raise ValueError(  # noqa: TRY004, a file and no type is wrong
                    f'{file}:{number}: is no object but {row!r}; write {{"id": ..., "prediction": ...}}'
                )
            if absent := [name for name in ("id", "prediction") if name not in row]:
                raise ValueError(f"{file}:{number}: no {absent[0]!r} among {', '.join(row)}; rename the column")
        twice = [id for id, count in Counter(str(row["id"]) for row in rows).items() if count > 1]
        if twice:
            raise ValueError(f"{file}: {len(twice)} ids occur more than once: {named(twice)}; keep one line of each")
        self.file = file
        self.rows = {str(row["id"]): row for row in rows if row.get("status") != MISSING}
        self.count = len(self.rows)
        self.about = About("recorded", str(file), sha256_of([file]))

    def answer(self, item: QuestionItem) -> Reply:
        if item.id not in self.rows:
            raise Absent(f"no prediction in {self.file}")
        return recorded_reply(self.rows[item.id])

    def unknown(self, items: Iterable[Item]) -> list[str]:
        """Ids of answers to nothing that was asked."""
        asked = {item.id for item in items}
        return [id for id in self.rows if id not in asked]


MAPS = {"depth": (2, "height, width"), "points": (3, "height, width, 3"), "normals": (3, "height, width, 3")}
CAMERAS = {"poses": (4, 4), "intrinsics": (3, 3)}


class RecordedReconstructions:
    """Reconstructions from a folder: `ID.npz` for each item, with slashes of an id as folders.

    Arrays of a file, all optional: `depth` [views, height, width], `points` and `normals` [views, height, width, 3], `poses` [views, 4, 4],
    `intrinsics` [views, 3, 3], as in `protocol.Reconstructed`. Views of different sizes are written one by one instead: `depth_0`,
    `depth_1` and so on.
    """

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.rglob("*.npz"))
        if not files:
            raise ValueError(f"{folder} holds no .npz file; write ID.npz for each item")
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{sha256_of([file])}  {file.relative_to(folder).as_posix()}\n".encode())
        self.folder, self.count = folder, len(files)
        self.about = About("recorded", str(folder), digest.hexdigest())

    def reconstruct(self, item: Item) -> Prediction:
        file = self.folder / f"{item.id}.npz"
        if not file.is_file():
            raise Absent(f"no {file}")
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = dict(archive)
        except (ValueError, BadZipFile, OSError, EOFError) as error:
            raise ValueError(f"{file} cannot be read as .npz: {error}") from error
        found: dict[str, Any] = {name: _maps(arrays, name) for name in MAPS}
        found |= {name: _cameras(arrays, name) for name in CAMERAS}
        if all(value is None for value in found.values()):
            names = ", ".join(field.name for field in fields(Prediction))
            raise ValueError(f"{file} holds {', '.join(arrays) or 'nothing'}; wanted is any of {names}")
        if not np.isfinite(found["poses"] if found["poses"] is not None else 0).all():
            raise ValueError(f"poses in {file} are not finite")
        return Prediction(**found)

    def unknown(self, items: Iterable[Item]) -> list[str]:
        """Files for nothing that was asked."""
        asked = {f"{item.id}.npz" for item in items}
        names = [file.relative_to(self.folder).as_posix() for file in sorted(self.folder.rglob("*.npz"))]
        return [name for name in names if name not in asked]


def _maps(arrays: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, ...] | None:
    if name in arrays:
        maps = tuple(arrays[name])
    else:
        numbers = sorted(int(key.removeprefix(f"{name}_")) for key in arrays if key.startswith(f"{name}_"))
        if numbers != [*range(len(numbers))]:
            raise ValueError(f"{name} is there for views {numbers}; number them from 0 without a gap")
        maps = tuple(arrays[f"{name}_{number}"] for number in numbers)
    axes, words = MAPS[name]
    for values in maps:
        if values.ndim != axes or (axes == 3 and values.shape[2] != 3):
            raise ValueError(f"{name} of a view has the shape {values.shape}; wanted is [{words}]")
    return maps or None


def _cameras(arrays: dict[str, np.ndarray], name: str) -> np.ndarray | None:
    values = arrays.get(name)
    if values is not None and values.shape[1:] != CAMERAS[name]:
        raise ValueError(
            f"{name} have the shape {values.shape}; wanted is [views, {', '.join(map(str, CAMERAS[name]))}]"
        )
    return values


def named(ids: Sequence[str]) -> str:
    """The first of them: "a, b, c and 2 more"."""
    rest = len(ids) - CAUSES
    return ", ".join(ids[:CAUSES]) + (f" and {rest} more" if rest > 0 else "")
