import json
from pathlib import Path

from g2vlm.eval.benchmarks.base import QuestionItem
from g2vlm.eval.overlap import overlap, scene_names


def asked(id: str, prompt: str, media: str) -> QuestionItem:
    return QuestionItem(id, "k", (Path("/data/bench") / media,), {}, prompt)


def talk(question: str, answer: str) -> dict:
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]}


ITEMS = [
    asked("same", "Look well.\nHow many chairs are there?\nAnswer with a number.", "scannet/scene0001_00.mp4"),
    asked("nearly", "how many CHAIRS are there", "scannet/scene0002_00.mp4"),
    asked("picture", "What else?", "arkitscenes/41069021/000012.png"),
    asked("scene", "What more?", "arkitscenes/41069021/000099.png"),
    asked("nothing", "What now?", "arkitscenes/47331606/000012.png"),
]


def test_questions_media_and_scenes_are_found_apart(tmp_path):
    rows = [
        talk("<image>\nHow many chairs are there?", "3") | {"image": "train/41069021/000012.jpg"},
        talk("<video>\nWhy?", "Thus.") | {"video": "scannet/scene0001_00.mp4"},
    ]
    training = tmp_path / "train.jsonl"
    training.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = overlap(ITEMS, training)
    assert (found.num_items, found.num_rows, found.bad) == (5, 2, ())
    assert found.ids == {
        "words": ("same",),
        "normalised": ("same", "nearly"),
        "media": ("same", "picture"),
        "scene": ("same", "picture", "scene"),
    }


def test_rows_that_cannot_be_read_are_told(tmp_path):
    training = tmp_path / "train.jsonl"
    training.write_text('{"question": "Why?", "answer": "Thus."}\n{"question": ""}\n')
    found = overlap(ITEMS, training)
    assert len(found.bad) == 1
    assert "train.jsonl:2" in found.bad[0]


def test_names_of_data_sets_are_no_scenes():
    assert scene_names(Path("/data/scannet/frames/scene0001_00/color/12.png")) == {"scene0001_00"}
    assert scene_names(Path("scannet/scene0001_00.mp4")) == {"scene0001_00"}
