import base64
import io
import json
import os
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import readers
from PIL import Image
from videos import video

import g2vlm
from g2vlm.conversation import Conversation, read_messages
from g2vlm.eval.lmms import (
    Generation,
    Options,
    Question,
    answers,
    batch_size_of,
    generation_of,
    messages_of,
    options_of,
)
from g2vlm.predictor import Predictor

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = (64, 48)


def picture(seed: int) -> Image.Image:
    rgb = np.random.default_rng(seed).integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
    return Image.fromarray(rgb).resize(SIZE, Image.Resampling.NEAREST)


def saved(folder: Path, seed: int) -> str:
    path = folder / f"{seed}.png"
    picture(seed).save(path)
    return str(path)


def in_base64(seed: int) -> str:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def image(url: Any) -> dict[str, Any]:
    return {"type": "image", "url": url}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def chat(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def read(messages: list[dict[str, Any]]) -> Conversation:
    return read_messages(messages_of(messages))


# Chats


def test_pictures_come_as_paths_addresses_base64_or_pictures_and_are_the_same(tmp_path):
    path = saved(tmp_path, 1)
    conversation = read(chat(*map(image, (path, f"file://{path}", in_base64(1), picture(1))), text("What?")))
    assert conversation.turns[0].parts == (0, 1, 2, 3, "What?")
    for photo in conversation.photos:
        np.testing.assert_array_equal(photo.rgb, np.asarray(picture(1)))


def test_texts_and_pictures_keep_their_order_over_all_turns():
    conversation = read(
        [
            {"role": "system", "content": [text("Be brief.")]},
            {"role": "user", "content": [text("A: "), image(picture(1)), text("B: "), image(picture(2))]},
            {"role": "assistant", "content": "Seen."},
            {"role": "user", "content": [image(picture(3)), text("Which?")]},
        ]
    )
    assert [turn.role for turn in conversation.turns] == ["system", "user", "assistant", "user"]
    assert [turn.parts for turn in conversation.turns] == [
        ("Be brief.",),
        ("A: ", 0, "B: ", 1),
        ("Seen.",),
        (2, "Which?"),
    ]
    for seed, photo in enumerate(conversation.photos, 1):
        np.testing.assert_array_equal(photo.rgb, np.asarray(picture(seed)))


def test_a_video_is_its_frames(tmp_path):
    file = video(tmp_path / "room.mp4", frames=12)
    asked = messages_of(chat({"type": "video", "url": str(file)}, text("How many?")))
    conversation = read_messages(asked, max_frames=4)
    assert [photo.name for photo in conversation.photos] == [f"room.mp4 frame {i}" for i in (0, 4, 7, 11)]
    frames = [picture(seed) for seed in range(3)]
    assert len(read(chat({"type": "video", "url": frames}, text("How many?"))).photos) == 3


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "audio", "url": "a.wav"}, "holds audio"),
        (image("https://example.org/a.png"), "read from disk alone"),
        (image("data:image/png,abc"), "base64"),
        (image("data:image/png;base64,a$c="), "cannot be decoded"),
        (image("data:image/png;base64,AAAA"), "an image in base64: not a JPEG"),
        ({"type": "video", "url": "a.mp4", "start_time": 2.0}, "whole videos"),
        ({"type": "video", "url": {"path": "a.mp4", "video_end": 2.0}}, "whole videos"),
    ],
)
def test_media_that_cannot_be_shown_are_refused(part, reason):
    with pytest.raises(ValueError, match=reason):
        messages_of(chat(part, text("What?")))


# Settings


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Generation({})),
        ({"max_new_tokens": 16, "temperature": 0.0, "top_p": 1.0, "num_beams": 1, "do_sample": False, "until": ["\n\n"]},
         Generation({"max_new_tokens": 16, "num_beams": 1})),
        ({"do_sample": False, "temperature": 0.7, "top_k": 5}, Generation({})),
        ({"do_sample": True, "temperature": 0.0}, Generation({})),
        ({"temperature": 0.7, "top_p": None, "seed": 3}, Generation({"temperature": 0.7, "do_sample": True}, seed=3)),
        ({"do_sample": True, "top_p": 0.9}, Generation({"top_p": 0.9, "do_sample": True})),
        ({"until": "Q:", "image_aspect_ratio": "pad"}, Generation({}, ("Q:",))),
        ({"until": ["Q:", "", "\n\n"], "repetition_penalty": 1.2}, Generation({"repetition_penalty": 1.2}, ("Q:", "\n\n"))),
        ({"until": None}, Generation({})),
    ],
)  # fmt: skip
def test_settings_of_a_task_are_decoding_end_and_seed(given, expected):
    assert generation_of(given) == expected


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(ValueError, match=r"visual_cot.*leave it out"):
        generation_of({"max_new_tokens": 4, "visual_cot": True})


def test_an_answer_ends_before_the_first_mark_in_it():
    assert Generation({}, ("Q:", "\n")).ended("B\nbecause Q: no") == "B"
    assert Generation({}, ("Q:",)).ended("B") == "B"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"pretrained": "tiny"}, "pretrained is no option of g2vlm.*model, dtype"),
        ({"max_frames": 1.5}, "max_frames is 1.5"),
        ({"thinking": "on"}, "thinking is 'on'; it must be true or false"),
    ],
)
def test_options_that_do_not_exist_or_do_not_fit_are_refused(given, reason):
    with pytest.raises(ValueError, match=reason):
        options_of(given)


@pytest.mark.parametrize("size", ["auto", 0, "2.5"])
def test_a_batch_size_is_a_number(size):
    with pytest.raises(ValueError, match="batch_size"):
        batch_size_of(size)


# Answers


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return g2vlm.load(device="cpu")


def question(*seeds: int, words: str = "How many?", **generation: Any) -> Question:
    parts = [image(picture(seed)) for seed in seeds]
    return Question(f"rooms test {seeds[0]}", lambda: chat(*parts, text(words)), {"max_new_tokens": 6, **generation})


@pytest.mark.parametrize("geometry", ["on", "off"])
def test_an_answer_is_what_the_model_says_to_the_same_photos(predictor, geometry):
    asked = question(1, 2, words="Which view is brighter?")
    ((said, answer),) = answers(predictor, [asked], Options(geometry=geometry))
    direct = predictor.answer([picture(1), picture(2)], "Which view is brighter?", geometry=geometry, max_new_tokens=6)
    assert said == direct.text != ""
    assert answer.num_prompt_tokens == direct.num_prompt_tokens


def test_as_many_frames_are_looked_at_as_asked_for(predictor):
    frames = {"type": "video", "url": [picture(seed) for seed in range(4)]}
    asked = Question("rooms test 0", lambda: chat(frames, text("What?")), {"max_new_tokens": 1})
    tokens = [
        answer.num_prompt_tokens
        for count in (1, 2)
        for _, answer in answers(predictor, [asked], Options(max_frames=count))
    ]
    assert tokens[0] < tokens[1]


def test_answers_keep_the_order_of_questions_whatever_the_batch(predictor):
    asked = [question(1, max_new_tokens=2), question(2, 3), question(4), question(5, max_new_tokens=2)]
    singly = [answer.text for _, answer in answers(predictor, asked, Options())]
    assert singly == [answer.text for _, answer in answers(predictor, asked, Options(), batch_size=3)]
    assert singly == [predictor.answer(messages=messages_of(each.chat()), **each.generation).text for each in asked]
    assert len(set(singly)) > 1


def test_few_media_are_read_ahead(predictor):
    read_so_far = []

    def asked(number: int) -> Question:
        def make() -> list[dict[str, Any]]:
            read_so_far.append(number)
            return chat(image(picture(number)), text("What?"))

        return Question(f"rooms test {number}", make, {"max_new_tokens": 1})

    said = answers(predictor, [asked(number) for number in range(4)], Options(), batch_size=2)
    next(said)
    assert read_so_far == [0, 1]


def test_a_question_that_cannot_be_asked_is_named(predictor):
    silent = Question("rooms test 7", lambda: chat(text("What?")), {})
    with pytest.raises(ValueError, match="rooms test 7: no image was given"):
        list(answers(predictor, [silent], Options()))
    with pytest.raises(ValueError, match="rooms test 1: generation_kwargs has stop_sequences"):
        next(answers(predictor, [question(2), question(1, stop_sequences=["x"])], Options()))


def test_a_stock_host_is_loaded_with_its_options_and_answers_alike(tmp_path):
    readers.saved("qwen2_vl", tmp_path / "host")
    host, reading = str(tmp_path / "host"), {"preprocessing": "whole", "max_pixels": 28 * 28 * 4}
    options = options_of({"model": host, **reading, "geometry": "blank"})
    small = options.load("cpu")
    ((said, answer),) = answers(small, [question(1, 2)], options)
    direct = g2vlm.load(host, device="cpu", **reading).answer(
        [picture(1), picture(2)], "How many?", geometry="blank", max_new_tokens=6
    )
    assert (said, answer.num_prompt_tokens) == (direct.text, direct.num_prompt_tokens)
    large = replace(options, max_pixels=None).load("cpu")
    ((_, seen_large),) = answers(large, [question(1, 2)], options)
    assert seen_large.num_prompt_tokens > answer.num_prompt_tokens


# The harness


def test_the_entry_point_leads_to_the_manifest_without_the_harness():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    module, name = project["entry-points"]["lmms_eval.models"]["g2vlm"].split(":")
    assert callable(getattr(import_module(module), name))
    code = f"import {module}, sys; assert 'lmms_eval' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


TASK = """\
task: rooms
dataset_path: json
dataset_kwargs:
  data_files: {test: rooms.jsonl}
test_split: test
output_type: generate_until
doc_to_messages: !function utils.doc_to_messages
doc_to_text: question
doc_to_target: answer
generation_kwargs: {max_new_tokens: 8, until: ["."], do_sample: false}
process_results: !function utils.process_results
metric_list:
  - {metric: accuracy, aggregation: mean, higher_is_better: true}
"""

UTILS = """\
def doc_to_messages(doc):
    media = [{"type": "video" if url.endswith("mp4") else "image", "url": url} for url in doc["media"]]
    return [{"role": "user", "content": [*media, {"type": "text", "text": doc["question"]}]}]


def process_results(doc, results):
    return {"accuracy": float(results[0] == doc["answer"])}
"""

KINDS = [
    "object_rel_direction_easy", "object_rel_direction_medium", "object_rel_direction_hard", "object_rel_distance",
    "route_planning", "obj_appearance_order", "object_abs_distance", "object_counting", "object_size_estimation",
    "room_size_estimation",
]  # fmt: skip
CHOICES = KINDS[:6]


@pytest.fixture(scope="module")
def harness() -> Path:
    """The folder of lmms-eval."""
    found = find_spec("lmms_eval")
    if found is None or found.origin is None:
        pytest.skip("lmms-eval is not installed; docs/lmms_eval.md says how, in an environment of its own")
    return Path(found.origin).parent


def lmms_eval(folder: Path, task: str, model_args: str, *more: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of a task, and a line for each question, as its command line writes them."""
    command = [
        *(sys.executable, "-m", "lmms_eval", "--model", "g2vlm", "--model_args", model_args, "--device", "cpu"),
        *("--include_path", str(folder), "--tasks", task, "--output_path", str(folder / "out"), "--log_samples"),
        *("--verbosity", "DEBUG", *more),  # otherwise it ends with code 0 whatever happened
    ]
    offline = {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, cwd=folder, env=os.environ | offline, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    (results,) = (folder / "out").rglob("*_results.json")
    (samples,) = (folder / "out").rglob(f"*_samples_{task}.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(results.read_text())["results"][task], sorted(lines, key=lambda line: line["doc_id"])


def asked_about(row: dict[str, Any]) -> list[dict[str, Any]]:
    """What `UTILS` make of a row."""
    kinds = ["video" if url.endswith("mp4") else "image" for url in row["media"]]
    return chat(
        *({"type": kind, "url": url} for kind, url in zip(kinds, row["media"], strict=True)), text(row["question"])
    )


@pytest.mark.slow
def test_a_task_runs_by_the_name_of_the_model(harness, predictor, tmp_path):
    clip = video(tmp_path / "room.mp4")
    rows = [
        {"media": [saved(tmp_path, 1), saved(tmp_path, 2)], "question": "Which view is brighter?"},
        {"media": [in_base64(3)], "question": "How many chairs are there?"},
        {"media": [str(clip)], "question": "How far is the wall, in metres?"},
    ]
    generation = {"max_new_tokens": 8, "until": ["."]}
    asked = [Question("", lambda row=row: asked_about(row), generation) for row in rows]
    expected = [said for said, _ in answers(predictor, asked, Options(geometry="shuffled", max_frames=3))]
    truths = [*expected[:2], "something else"]
    lines = [json.dumps(row | {"answer": truth}) for row, truth in zip(rows, truths, strict=True)]
    (tmp_path / "rooms.jsonl").write_text("\n".join(lines))
    (tmp_path / "rooms.yaml").write_text(TASK)
    (tmp_path / "utils.py").write_text(UTILS)
    figures, said = lmms_eval(tmp_path, "rooms", "geometry=shuffled,max_frames=3", "--batch_size", "2")
    assert [line["filtered_resps"] for line in said] == expected
    assert figures["accuracy,none"] == pytest.approx(2 / 3)


@pytest.mark.slow
def test_its_own_vsibench_runs_on_sample_data(harness, predictor, tmp_path):
    prompt_of = import_module("lmms_eval.tasks.vsibench.utils").vsibench_doc_to_text
    (tmp_path / "home" / "vsibench" / "arkitscenes").mkdir(parents=True)
    clip = str(video(tmp_path / "home" / "vsibench" / "arkitscenes" / "room.mp4"))
    rows = [
        {
            "dataset": "arkitscenes",
            "scene_name": "room",
            "question_type": kind,
            "question": "Which or how many?",
            "options": ["A. left", "B. right"] if kind in CHOICES else None,
            "ground_truth": "2",
        }
        for kind in KINDS
    ]
    asked = [
        Question("", lambda row=row: chat({"type": "video", "url": clip}, text(prompt_of(row))), {"max_new_tokens": 16})
        for row in rows
    ]
    expected = [said for said, _ in answers(predictor, asked, Options(max_frames=2))]
    for row, said in zip(rows[: len(CHOICES)], expected, strict=False):
        row["ground_truth"] = said.split(" ")[0].rstrip(".")
    (tmp_path / "rooms.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "vsibench_sample.yaml").write_text(
        textwrap.dedent(f"""\
            include: {harness}/tasks/vsibench/_default_template_yaml
            task: vsibench_sample
            dataset_path: json
            dataset_kwargs:
              data_files: {{test: rooms.jsonl}}
            test_split: test
            """)
    )
    figures, lines = lmms_eval(tmp_path, "vsibench_sample", "max_frames=2", "--batch_size", "4")
    assert [line["filtered_resps"] for line in lines] == expected
    assert figures["object_rel_direction_accuracy,none"] == figures["route_planning_accuracy,none"] == 1
