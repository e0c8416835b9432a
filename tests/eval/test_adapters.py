import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from inventions import SUMS, write_sums
from readers import pictures_of, reading_host, saved, tokenizer_of

from g2vlm.eval.adapters import (
    Model,
    RecordedAnswers,
    RecordedReconstructions,
    TextOnly,
    geometry_inputs,
    load_stock,
    named,
)
from g2vlm.eval.benchmarks.asking import Reply
from g2vlm.eval.benchmarks.base import Item, QuestionItem
from g2vlm.eval.benchmarks.rooms import RoomQuestions
from g2vlm.eval.protocol import Absent, Answers, Reconstructs
from g2vlm.hub import load
from g2vlm.loading import load as load_any
from g2vlm.pathway_config import NoPathway
from g2vlm.pictures import Photo


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> list[QuestionItem]:
    return SUMS.items(write_sums(tmp_path_factory.mktemp("sums") / "data", 3))


def test_a_model_answers_as_it_does_to_anybody(items):
    predictor = load()
    model = Model(predictor)
    assert isinstance(model, Answers)
    assert isinstance(model, Reconstructs)
    said = [model.answer(item) for item in items]
    assert said == [predictor.answer(item.media, item.prompt, max_new_tokens=16).text for item in items]
    assert model.about.sha256 == predictor.checkpoint_sha256
    assert model.about.settings["geometry"] == "on"
    assert model.reconstruct(items[0]).depth[0].ndim == 2


def test_a_model_may_measure_between_the_views_of_a_question_first():
    room = next(item for item in RoomQuestions(18).items(Path()) if item.between is not None)
    said = []

    class Watched:
        def __init__(self, session):
            self.session = session

        def ask(self, *words, **options):
            said.append(options)
            return self.session.ask(*words, **options)

    predictor = load()
    model = Model(predictor, reasoning="geometry")
    model._session = lambda item: Watched(predictor.open(item.seen(4)))
    answer = model.answer(room)
    assert (said[0]["reasoning"], said[0]["between"]) == ("geometry", room.between)
    session = predictor.open(room.photos)
    about = {"marks": room.marks, "boxes": room.boxes, "between": room.between, "max_new_tokens": room.max_new_tokens}
    assert answer == session.ask(room.prompt, reasoning="geometry", **about).text
    assert model.about.settings["reasoning"] == "geometry"


def test_a_system_line_goes_before_the_pictures(items):
    predictor = load()
    item = QuestionItem("a", "b", items[0].media, {}, "What is 1 + 1?", 8, "Say a number.")
    chat = [
        {"role": "system", "content": "Say a number."},
        {"role": "user", "content": [{"type": "image", "image": item.media[0]}, {"type": "text", "text": item.prompt}]},
    ]
    assert Model(predictor).answer(item) == predictor.answer(messages=chat, max_new_tokens=8).text


@dataclass(frozen=True)
class Sized(Item):
    """Shown at a size of its own."""

    size: tuple[int, int] = (56, 70)
    is_sized: bool = True  # pyright: ignore[reportIncompatibleMethodOverride]

    def seen(self, max_frames: int) -> list[Photo]:
        return [Photo("a", np.zeros((*self.size, 3), np.uint8))]

    def missing(self) -> None:
        return None


def test_what_has_a_size_is_seen_at_that_size(monkeypatch):
    predictor, asked = load(), []
    monkeypatch.setattr(predictor, "reconstruct", lambda photos, **options: asked.append(options["resolution"]))
    model = Model(predictor)
    for size in ((56, 70), (70, 56)):
        model.reconstruct(Sized("a", "b", (), {}, size))
    model.reconstruct(Sized("a", "b", (), {}, is_sized=False))
    sides = {"long_side": [70, 70]}.get(predictor.model.config.view_resize, [70, 56])
    assert asked == [*sides, None]


def test_text_alone_needs_no_picture(items, tmp_path):
    nowhere = QuestionItem("a", "b", (tmp_path / "not_there.png",), {}, items[0].prompt)
    system = TextOnly(load())
    assert system.answer(nowhere) == system.answer(items[0])
    assert system.about.settings["media"] == "withheld"
    with pytest.raises(Absent, match=r"not_there\.png"):
        Model(load()).answer(nowhere)


def test_typical_sizes_are_said_before_the_question(items):
    predictor = load()
    chair = QuestionItem("a", "b", (), {"question": "How long is the chair?"}, "How long is the chair?")
    system = TextOnly(predictor, tells_sizes=True)
    said = "The longest side of a typical chair is about 90 cm.\nHow long is the chair?"
    assert system.answer(chair) == predictor.answer_blindly([said], max_new_tokens=16)[0]
    assert system.answer(items[0]) == TextOnly(predictor).answer(items[0])  # names no thing
    assert len(str(system.about.settings["typical_sizes"])) == 64
    assert "typical_sizes" not in TextOnly(predictor).about.settings


def test_a_stock_model_answers_by_its_own_template(items, tmp_path):
    host = reading_host("qwen2_5_vl", NoPathway())
    for part in (host.model, tokenizer_of("qwen2_5_vl"), pictures_of("qwen2_5_vl")):
        part.save_pretrained(tmp_path)
    predictor = load_stock(tmp_path)
    assert geometry_inputs(predictor) == ("on",)
    system = Model(predictor, kind="transformers")
    assert system.answer(items[0]) == system.answer(items[0])
    assert len(str(system.about.sha256)) == 64
    assert TextOnly(predictor).answer(items[0]) != system.answer(items[0])


def test_a_stock_model_of_another_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match=r"holds a llama; .* qwen2_5_vl"):
        load_stock(tmp_path)


def test_a_host_with_a_pathway_answers_text_alone(items, tmp_path):
    saved("qwen2_vl", tmp_path / "host")
    predictor = load_any(tmp_path / "host")
    assert geometry_inputs(predictor) == ("on", "blank", "shuffled")
    assert isinstance(TextOnly(predictor).answer(items[0]), str)


# --- recorded ---------------------------------------------------------------------------------------------------------


def write_lines(file: Path, *rows: object) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def test_recorded_answers_are_given_by_id(items, tmp_path):
    file = write_lines(tmp_path / "a.jsonl", {"id": "sum_0", "prediction": "1"}, {"id": "other", "prediction": "2"})
    system = RecordedAnswers(file)
    assert system.answer(items[0]) == Reply("1")
    assert system.unknown(items) == ["other"]
    with pytest.raises(Absent, match="no prediction in"):
        system.answer(items[1])


@pytest.mark.parametrize("value", [float("nan"), 3, ["a"]])
def test_a_recorded_answer_that_is_no_text_is_unusable(items, tmp_path, value):
    system = RecordedAnswers(write_lines(tmp_path / "a.jsonl", {"id": "sum_0", "prediction": value}))
    with pytest.raises(ValueError, match="and no text"):
        system.answer(items[0])


def test_recorded_answers_may_say_more_than_a_text(items, tmp_path):
    rows = [
        {"id": "sum_0", "prediction": "1", "answer_top10": ["1", "one"], "judge_reply": None},
        {"id": "sum_1", "prediction": None, "judge_reply": "Your mark: 5"},
        {"id": "sum_2", "prediction": "3", "judge_reply": 5},
    ]
    system = RecordedAnswers(write_lines(tmp_path / "a.jsonl", *rows))
    assert system.answer(items[0]) == Reply("1", ranked=("1", "one"))
    assert system.answer(items[1]) == Reply(None, judgement="Your mark: 5")
    with pytest.raises(ValueError, match="judge_reply is 5 and no text"):
        system.answer(items[2])


def test_what_was_missing_in_a_log_is_no_answer(items, tmp_path):
    rows = [
        {"id": "sum_0", "prediction": "1", "status": "scored"},
        {"id": "sum_1", "prediction": None, "status": "missing"},
    ]
    system = RecordedAnswers(write_lines(tmp_path / "samples.jsonl", *rows))
    assert system.count == 1
    with pytest.raises(Absent, match="no prediction in"):
        system.answer(items[1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no answer; write one"),
        ([{"id": "a", "answer": "1"}], r"a.jsonl:1: no 'prediction' among id, answer; rename the column"),
        ([{"id": "a", "prediction": "1"}] * 2, "1 ids occur more than once: a; keep one line of each"),
    ],
)
def test_a_wrong_file_of_answers_is_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        RecordedAnswers(write_lines(tmp_path / "a.jsonl", *rows))


SCENE = Item("scene/7", "scene", (), {})


def test_recorded_reconstructions_are_read_by_id(tmp_path):
    (tmp_path / "scene").mkdir()
    poses = np.tile(np.eye(4), (2, 1, 1))
    np.savez(tmp_path / "scene" / "7.npz", depth_0=np.ones((2, 3)), depth_1=np.ones((3, 2)), poses=poses)
    found = RecordedReconstructions(tmp_path).reconstruct(SCENE)
    assert [depth.shape for depth in found.depth or ()] == [(2, 3), (3, 2)]
    assert np.array_equal(found.poses, poses)
    assert found.points is None
    with pytest.raises(Absent, match=r"no .*8\.npz"):
        RecordedReconstructions(tmp_path).reconstruct(Item("scene/8", "scene", (), {}))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"deep": np.ones(3)}, "holds deep; wanted is any of depth, points"),
        ({"depth": np.ones((2, 4, 5, 3))}, r"depth of a view has the shape \(4, 5, 3\); wanted is \[height, width\]"),
        ({"points": np.ones((2, 4, 5))}, r"points of a view has the shape \(4, 5\)"),
        ({"poses": np.ones((2, 3, 4))}, r"poses have the shape \(2, 3, 4\); wanted is \[views, 4, 4\]"),
        ({"poses": np.full((2, 4, 4), np.nan)}, "are not finite"),
        ({"depth_0": np.ones((4, 5)), "depth_2": np.ones((4, 5))}, "number them from 0 without a gap"),
    ],
)
def test_a_wrong_reconstruction_is_unusable(tmp_path, arrays, message):
    (tmp_path / "scene").mkdir()
    np.savez(tmp_path / "scene" / "7.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        RecordedReconstructions(tmp_path).reconstruct(SCENE)


def test_a_damaged_reconstruction_is_unusable(tmp_path):
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "7.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ValueError, match=r"cannot be read as \.npz"):
        RecordedReconstructions(tmp_path).reconstruct(SCENE)


def test_many_names_are_cut_short():
    assert named(["a", "b", "c"]) == "a, b, c"
    assert named(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
