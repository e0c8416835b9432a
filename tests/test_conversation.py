from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import video

from g2vlm import presets
from g2vlm.conversation import Conversation, Turn, about, read_messages
from g2vlm.pictures import Photo
from g2vlm.processor import Processor, byte_tokenizer

TOKENS = presets.tiny().tokens


def photo(name: str) -> Photo:
    return Photo(name, np.zeros((20, 30, 3), np.uint8))


def image(name: str) -> dict:
    return {"type": "image", "image": photo(name)}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def frames(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        Image.effect_noise((30, 20), 50).convert("RGB").save(folder / f"{i}.png")
    return folder


def names(conversation: Conversation) -> list[str]:
    return [photo.name for photo in conversation.photos]


# Reading


def test_photos_and_a_question_are_one_turn():
    conversation = about([photo("a"), photo("b")], "How many?")
    assert conversation.turns == (Turn("user", (0, 1, "How many?")),)
    assert names(conversation) == ["a", "b"]


def test_the_same_said_in_messages_is_the_same():
    message = {"role": "user", "content": [image("a"), image("b"), text("How many?")]}
    assert read_messages([message]).turns == about([photo("a"), photo("b")], "How many?").turns


def test_images_may_stand_anywhere_and_are_numbered_over_all_turns():
    conversation = read_messages(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [text("Look: "), image("a"), text("What?")]},
            {"role": "assistant", "content": [text("A room.")]},
            {"role": "user", "content": [image("b"), text("And "), text("this?"), image("c")]},
        ]
    )
    assert conversation.turns == (
        Turn("system", ("Be brief.",)),
        Turn("user", ("Look: ", 0, "What?")),
        Turn("assistant", ("A room.",)),
        Turn("user", (1, "And this?", 2)),
    )
    assert names(conversation) == ["a", "b", "c"]


def test_a_video_is_its_frames_thinned_out_evenly(tmp_path):
    folder = frames(tmp_path / "video", 12)
    for source in (folder, str(folder), [folder / f"{i}.png" for i in range(12)]):
        message = {"role": "user", "content": [{"type": "video", "video": source}, text("What?")]}
        conversation = read_messages([message], max_frames=4)
        assert names(conversation) == ["0.png", "4.png", "7.png", "11.png"]
        assert conversation.turns[0].parts == (0, 1, 2, 3, "What?")


def test_frames_can_be_labelled():
    message = {"role": "user", "content": [{"type": "video", "video": [photo("a"), photo("b")]}, text("What?")]}
    parts = read_messages([message], frame_labels=True).turns[0].parts
    assert parts == ("Frame 0: ", 0, "Frame 1: ", 1, "What?")


def test_words_about_marks_stand_right_before_the_question():
    message = {"role": "user", "content": [text("Look: "), image("a"), text("What?"), image("b")]}
    conversation = read_messages([message]).saying_first("A is there. ")
    assert conversation.turns[0].parts == ("Look: ", 0, "A is there. What?", 1)
    assert read_messages([message]).saying_first("").turns == read_messages([message]).turns


# What is refused

QUESTION = {"role": "user", "content": [image("a"), text("What?")]}


def asking(*parts: object) -> list[dict]:
    return [{"role": "user", "content": [*parts, text("What?")]}]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "there is no question"),
        ([{"role": "user", "content": [image("a")]}], "there is no question; ask something"),
        ([{"role": "user", "content": [image("a"), text(" \n")]}], "there is no question"),
        ([{"role": "user", "content": "What?"}], "no image was given; a question needs at least one"),
        ([QUESTION, {"role": "assistant", "content": "A room."}], "the last message is of role 'assistant'"),
        (
            [{"role": "robot", "content": "?"}],
            "message 0 is of role 'robot'; it must be one of system, user, assistant",
        ),
        ([QUESTION, {"role": "system", "content": "x"}], "message 1 is of role 'system', which only the first"),
        ([{"role": "system", "content": [image("a")]}, QUESTION], "message 0 is of role 'system' and has images"),
        ([{"role": "user", "content": None}], "the content of message 0 is None; it must be text or a list"),
        (asking({"type": "audio"}), "message 0 has the part {'type': 'audio'}; wanted are"),
        (asking("words"), "message 0 has the part 'words'; wanted are"),
        (asking({"type": "image", "url": "http://x"}), "message 0 has an image without a file or picture"),
        (asking({"type": "video", "video": [1]}), "message 0 has a video without frames"),
        (asking({"type": "video", "video": []}), "no picture was given"),
    ],
)
def test_messages_that_make_no_question_are_refused(messages, message):
    with pytest.raises(ValueError, match=message):
        read_messages(messages)


def test_a_video_file_is_its_frames(tmp_path):
    conversation = read_messages(
        asking({"type": "video", "video": str(video(tmp_path / "v.mp4"))}), max_frames=2, frame_labels=True
    )
    assert names(conversation) == ["v.mp4 frame 0", "v.mp4 frame 11"]
    assert conversation.turns[0].parts[:4] == ("Frame 0: ", 0, "Frame 1: ", 1)


def test_a_damaged_image_among_others_is_named(tmp_path):
    folder = frames(tmp_path / "video", 3)
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"1\.png: cannot be read"):
        about([folder / f"{i}.png" for i in range(3)], "What?")
    with Image.open(folder / "1.png") as opened, pytest.raises(ValueError, match="view_001: cannot be read"):
        about([photo("a"), opened], "What?")


# As ids


@pytest.fixture(scope="module")
def processor() -> Processor:
    return Processor(byte_tokenizer(TOKENS), TOKENS)


GRIDS = {"view_grids": [(1, 2), (2, 1), (1, 1)], "picture_grids": [(1, 1), (2, 2), (1, 2)]}


def test_ids_of_one_turn_are_those_of_a_question(processor):
    turns = (Turn("user", (0, 1, 2, "How?")),)
    assert processor.conversation_ids(turns, **GRIDS).equal(processor.question_ids("How?", **GRIDS))


def test_all_views_stand_where_the_first_pictures_turn_begins_and_pictures_where_they_are_put(processor):
    t = TOKENS
    turns = (
        Turn("system", ("Be brief.",)),
        Turn("user", ("Hello.",)),
        Turn("assistant", ("Hi.",)),
        Turn("user", ("Look: ", 0)),
        Turn("assistant", ("A room.",)),
        Turn("user", (1, "And this?", 2)),
    )

    def placeholders(patch: int, count: int) -> list[int]:
        return [t.vision_start, *[patch] * count, t.vision_end]

    views = [id for count in (2, 2, 1) for id in placeholders(t.view_patch, count)]
    pictures = [placeholders(t.image_patch, count) for count in (1, 4, 2)]
    wanted = [
        *[t.bos, *b"system\nBe brief.", t.eos, t.newline],
        *[t.bos, *b"user\nHello.", t.eos, t.newline],
        *[t.bos, *b"assistant", t.newline, *b"Hi.", t.eos, t.newline],
        *[t.bos, *b"user\n", *views, *b"Look: ", *pictures[0], t.eos, t.newline],
        *[t.bos, *b"assistant", t.newline, *b"A room.", t.eos, t.newline],
        *[t.bos, *b"user\n", *pictures[1], *b"And this?", *pictures[2], t.eos, t.newline],
        *[t.bos, *b"assistant", t.newline],
    ]
    assert processor.conversation_ids(turns, **GRIDS).tolist() == wanted
