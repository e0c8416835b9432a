import json
from typing import Any

import pytest

from g2vlm.records import Box, Mark


def asked(hub) -> list[dict[str, Any]]:
    return [call for call in hub.asked if "question" in call]


# What works


def test_one_answer_is_all_that_stdout_holds(run, hub, photos):
    outcome = run("ask", photos, "--question", "Why?")
    assert (outcome.code, outcome.out) == (0, "?yhW\n")
    assert outcome.err.startswith("note: 3 views read in ")
    assert outcome.err.endswith("first word 1.50 s after a question, for which 12 of 20 tokens were read already\n")
    assert hub.asked[0]["names"] == ["1.png", "2.jpg", "10.webp"]


def test_several_questions_share_a_session(run, hub, photos):
    outcome = run("ask", photos, "-q", "Why?", "-q", "Where?")
    assert outcome.out == "question: Why?\nanswer: ?yhW\nquestion: Where?\nanswer: ?erehW\n"
    assert len([call for call in hub.asked if "names" in call]) == 1


def test_evidence_is_shown_with_its_question(run, hub, photos):
    outcome = run("ask", photos, "-q", "Why?", "--reasoning", "geometry")
    assert outcome.out == "question: Why?\nmeasured: depth A 1.50 u about 2.4 m\nanswer: ?yhW\n"


def test_json_is_one_object_on_stdout(run, hub, photos):
    outcome = run("ask", photos, "-q", "Why?", "-q", "Where?", "--reasoning", "geometry", "--json")
    summary = json.loads(outcome.out)
    assert outcome.err == ""
    assert summary["views"] == ["1.png", "2.jpg", "10.webp"]
    assert summary["seconds"].keys() == {"reading", "loading the model", "looking", "answering", "total"}
    first, second = summary["answers"]
    assert first["answer"] == "?yhW"
    assert first["evidence"][0] == {
        "kind": "depth",
        "text": "depth A 1.50 u about 2.4 m",
        "value": 1.5,
        "unit": "u",
        "views": [0],
        "pixels": [[5.0, 6.0]],
        "about": 2.4,
        "about_unit": "m",
    }
    assert (first["num_prompt_tokens"], first["num_reused_tokens"], first["num_new_tokens"]) == (20, 12, 4)
    assert (first["seconds"]["first_token"], second["seconds"]["first_token"]) == (1.5, 0.5)


def test_options_reach_the_model(run, hub, photos):
    options = "--model m --device cpu --dtype bfloat16 --resolution 84 --seed 7 --max-new-tokens 9 --geometry blank"
    assert run("ask", photos, "-q", "Why?", *options.split(), "--max-views", 2).code == 0
    assert hub.loaded == [("m", "cpu", "bfloat16")]
    assert hub.asked[0] == {"names": ["1.png", "10.webp"], "geometry": "blank", "resolution": 84, "seed": 7}
    assert asked(hub)[0]["max_new_tokens"] == 9


def test_marks_reach_the_model(run, hub, photos):
    marks = ("--point", "2:10,20.5=A", "--point", "0: 5, 6 =the lamp", "--box", "1:3,4,20,30=B")
    assert run("ask", photos, "-q", "Why?", *marks).code == 0
    (call,) = asked(hub)
    assert call["marks"] == [Mark(2, 10, 20.5, "A"), Mark(0, 5, 6, "the lamp")]
    assert call["boxes"] == [Box(1, 3, 4, 20, 30, "B")]


def test_the_reconstruction_can_be_saved(run, hub, photos, tmp_path):
    assert run("ask", photos, "-q", "Why?", "--save", tmp_path / "out").code == 0
    assert {"points.ply", "cameras.json", "reconstruction.json"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_fewer_views_than_pictures_are_announced(run, hub, photos):
    assert "using 2 of 3 pictures" in run("ask", photos, "-q", "Why?", "--max-views", 2).err


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-q", " "], "there is no question; ask something"),
        (["-q", "Why?", "--point", "A"], "--point A: write it as VIEW:X,Y=NAME, as in 0:120,80=A"),
        (["-q", "Why?", "--point", "0:1,2"], "--point 0:1,2: write it as VIEW:X,Y=NAME"),
        (["-q", "Why?", "--box", "0:1,2=A"], "--box 0:1,2=A: write it as VIEW:LEFT,TOP,RIGHT,BOTTOM=NAME"),
        (["-q", "Why?", "--point", "3:1,2=A"], "view 3 of point A: there are 3 views, 0 to 2"),
        (["-q", "Why?", "--point", "-1:1,2=A"], "view -1 of point A: there are 3 views, 0 to 2"),
        (["-q", "Why?", "--point", "0:80,2=A"], "point A in view 0 (1.png) lies at x 80, y 2, outside its 80 x 60"),
        (["-q", "Why?", "--between", "0-2"], "--between 0-2: write it as VIEW,VIEW, as in 0,2"),
        (["-q", "Why?", "--geometry", "off", "--reasoning", "geometry"], "--reasoning needs geometry"),
        (["-q", "Why?", "--geometry", "blank", "--save", "somewhere"], "--save needs the views"),
    ],
)
def test_bad_input_gets_one_line_before_anything_is_loaded(run, hub, photos, options, message):
    outcome = run("ask", photos, *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert not hub.loaded


def test_a_damaged_photo_is_named(run, hub, photos):
    (photos / "3.png").write_bytes(b"no picture")
    outcome = run("ask", photos, "-q", "Why?")
    assert outcome.code == 2
    assert "3.png: not a JPEG" in outcome.err
    assert not hub.loaded


def test_a_folder_in_use_is_refused_before_any_work(run, hub, photos):
    outcome = run("ask", photos, "-q", "Why?", "--save", photos)
    assert outcome.code == 2
    assert "exists and is not empty" in outcome.err
    assert not hub.loaded


def test_a_question_has_to_be_given(run, hub, photos):
    assert run("ask", photos).code == 2


# Videos, and how words are chosen


def test_a_video_gives_views_behind_the_photos(run, hub, photos):
    outcome = run("ask", photos / "1.png", "--video", photos, "-q", "Why?", "--max-frames", 2, "--json")
    assert json.loads(outcome.out)["views"] == ["1.png", "1.png", "10.webp"]
    assert hub.asked[0]["names"] == ["1.png", "1.png", "10.webp"]


def test_frames_with_numbers_are_asked_about_in_a_chat(run, hub, photos, tmp_path):
    options = ("--frame-labels", "--max-frames", 2, "--seed", 3, "--point", "2:5,6=A")
    outcome = run("ask", photos / "1.png", "--video", photos, "-q", "Why?", "-q", "Where?", *options)
    assert outcome.out == "question: Why?\nanswer: ?yhW\nquestion: Where?\nanswer: ?erehW\n"
    first, second = hub.asked
    assert [turn.parts for turn in first["turns"]] == [(0, "Frame 0: ", 1, "Frame 1: ", 2, "Why?")]
    assert [turn.parts for turn in second["turns"]] == [(0, "Frame 0: ", 1, "Frame 1: ", 2, "Where?")]
    assert (first["geometry"], first["seed"], first["marks"]) == ("on", 3, [Mark(2, 5, 6, "A")])
    assert not first["with_reconstruction"]


def test_choices_of_decoding_and_reading_reach_the_model(run, hub, photos):
    options = (
        "--temperature 0.5 --top-p 0.9 --num-beams 3 --encoder e --preprocessing crop --max-pixels 9 --thinking on"
    )
    assert run("ask", photos, "-q", "Why?", *options.split()).code == 0
    wanted = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "num_beams": 3, "seed": 0}
    assert wanted.items() <= asked(hub)[0].items()
    read = {"preprocessing": "crop", "max_pixels": 9, "thinking": True}
    assert {name: hub.reading[name] for name in read} == read
    assert str(hub.reading["encoder"]) == "e"


def test_nothing_but_greedy_words_is_said_unless_asked_for(run, hub, photos):
    run("ask", photos, "-q", "Why?")
    assert asked(hub)[0].keys() == {"question", "marks", "boxes", "between", "reasoning", "seed", "max_new_tokens"}
    assert hub.reading == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no picture was given; name at least one picture, folder or glob, or a --video"),
        (["--video", "nowhere.mp4"], "nowhere.mp4: there is no such file or folder"),
        (["--video", "{}/damaged.mp4"], "damaged.mp4: cannot be read as a video"),
    ],
)
def test_a_video_that_is_not_there_is_refused_before_anything_is_loaded(run, hub, photos, options, message):
    (photos / "damaged.mp4").write_bytes(b"no video")
    outcome = run("ask", "-q", "Why?", *(text.format(photos) for text in options))
    assert outcome.code == 2
    assert message in outcome.err
    assert not hub.loaded
