import json
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
from g2vlm.eval.benchmarks.base import Item, QuestionItem
from g2vlm.eval.protocol import Absent, Answers, Reconstructs
from g2vlm.hub import load
from g2vlm.loading import load as load_any
from g2vlm.pathway_config import NoPathway


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


def test_a_system_line_goes_before_the_pictures(items):
    predictor = load()
    item = QuestionItem("a", "b", items[0].media, {}, "What is 1 + 1?", 8, "Say a number.")
    chat = [
        {"role": "system", "content": "Say a number."},
        {"role": "user", "content": [{"type": "image", "image": item.media[0]}, {"type": "text", "text": item.prompt}]},
    ]
    assert Model(predictor).answer(item) == predictor.answer(messages=chat, max_new_tokens=8).text


def test_text_alone_needs_no_picture(items, tmp_path):
    nowhere = QuestionItem("a", "b", (tmp_path / "not_there.png",), {}, items[0].prompt)
    system = TextOnly(load())
    assert system.answer(nowhere) == system.answer(items[0])
    assert system.about.settings["media"] == "withheld"
    with pytest.raises(Absent, match=r"not_there\.png"):
        Model(load()).answer(nowhere)


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
    assert system.answer(items[0]) == "1"
    assert system.unknown(items) == ["other"]
    with pytest.raises(Absent, match="no prediction in"):
        system.answer(items[1])


@pytest.mark.parametrize("value", [float("nan"), None, 3, ["a"]])
def test_a_recorded_answer_that_is_no_text_is_unusable(items, tmp_path, value):
    system = RecordedAnswers(write_lines(tmp_path / "a.jsonl", {"id": "sum_0", "prediction": value}))
    with pytest.raises(ValueError, match="and no text"):
        system.answer(items[0])


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
