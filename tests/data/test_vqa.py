"""Questions as data sets publish them become one kind of row, with what is wrong named by file and row."""

import io
import json
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from videos import video

from g2vlm import presets
from g2vlm.conversation import Turn
from g2vlm.data.media import check_media, photos_of
from g2vlm.data.rows import BadRow, JsonRows
from g2vlm.data.samples import BadSample, Bucket, Sample
from g2vlm.data.sources import QuestionSource, TextSource
from g2vlm.data.spar import LISTS, ON_THE_PICTURE, ONE_PER_PICTURE, UNMARKED, draw_markers, markers
from g2vlm.data.summary import summary_of
from g2vlm.data.vqa import Exchange, QuestionFile, VqaRow
from g2vlm.layout import Picture, Text, ViewBlock, segments_of
from g2vlm.marks import COLOURS
from g2vlm.pictures import Photo
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.records import IGNORE

TOKENS = presets.tiny().tokens
PROCESSOR = Processor(byte_tokenizer(TOKENS), TOKENS)
BUCKET = Bucket(0, 56, 84)
GREY = (128, 128, 128)


def written(path: Path, content: object) -> Path:
    """JSON; a list becomes JSON lines where the name says so."""
    is_lines = path.suffix == ".jsonl" and isinstance(content, list)
    text = "\n".join(map(json.dumps, content)) if is_lines else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def talk(*said: str, **more: object) -> dict[str, object]:
    """A row of LLaVA's: what human and model say by turns."""
    turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(said)]
    return {"conversations": turns} | more


def only_row(folder: Path, row: dict[str, object]) -> VqaRow:
    return QuestionFile(written(folder / "rows.json", [row])).row(0)


def album(folder: Path, *names: str, size: tuple[int, int] = (96, 64)) -> list[str]:
    """Pictures of different greys."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (60 + 40 * number,) * 3).save(folder / name)
    return list(names)


def grey_photos(number: int, height: int = 400, width: int = 600) -> list[Photo]:
    return [Photo(f"{i}.png", np.full((height, width, 3), 128, np.uint8)) for i in range(number)]


def learnt(sample: Sample) -> list[str]:
    """The answers in the labels, each without the token that ends it."""
    tokens = sample.labels[sample.labels != IGNORE].tolist()
    answers: list[list[int]] = [[]]
    for token in tokens:
        answers[-1].append(token)
        if token == TOKENS.eos:
            answers.append([])
    assert answers.pop() == []
    return [bytes(answer[:-1]).decode() for answer in answers]


# Where rows lie

TRICKY = [
    {"question": 'a "quoted, [bracket', "answer": "}"},
    {"question": "\\", "answer": "{,", "more": [[1, 2], {"a": [3]}]},
    {"question": "Wie groß?", "answer": "\n"},
]


@pytest.mark.parametrize("indent", [None, 2])
def test_elements_of_a_list_are_found_without_parsing_it(indent, tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("  " + json.dumps(TRICKY, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    rows = JsonRows(path)
    assert [rows[i] for i in range(len(rows))] == TRICKY


def test_lines_and_lists_give_the_same_rows(tmp_path):
    lines = JsonRows(written(tmp_path / "a.jsonl", TRICKY))
    whole = JsonRows(written(tmp_path / "b.json", TRICKY))
    assert [lines[i] for i in range(3)] == [whole[i] for i in range(3)]


def test_of_a_file_that_was_cut_off_only_the_last_row_is_lost(tmp_path):
    path = written(tmp_path / "rows.json", TRICKY)
    path.write_bytes(path.read_bytes()[:-30])
    rows = JsonRows(path)
    assert [rows[0], rows[1]] == TRICKY[:2]
    with pytest.raises(BadRow, match="is not JSON"):
        rows[len(rows) - 1]
    assert len(rows) == 3


# Conversations


def test_a_conversation_keeps_its_turns_and_pictures(tmp_path):
    said = ("<image>\nFirst?", "One.", "<image>\n<image>\nAnd then?", "Two.")
    row = only_row(tmp_path, talk(*said, id="r7", images=["a.png", "b.png", "c.png"], data_source="set"))
    assert row.turns == (Exchange("<image>First?", "One."), Exchange("<image><image>And then?", "Two."))
    assert row.pictures == ("a.png", "b.png", "c.png")
    assert row.kind == "set"
    assert re.search(r"rows\.json:1 \(r7\)$", row.name)
    assert row.chat(3) == [
        Turn("user", (0, "First?")),
        Turn("assistant", ("One.",)),
        Turn("user", (1, 2, "And then?")),
        Turn("assistant", ("Two.",)),
    ]


def test_roles_may_be_written_as_openai_does(tmp_path):
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    row = only_row(tmp_path, {"conversations": turns, "image": "a.png"})
    assert row.turns == (Exchange("<image>Q", "A"),)


@pytest.mark.parametrize(
    ("question", "media", "wanted"),
    [
        ("What?", {"images": ["a", "b"]}, "<image><image>What?"),
        ("<image>What?", {"images": ["a", "b"]}, "<image><image>What?"),
        ("<video>\nWhat?", {"images": ["a", "b"]}, "<image><image>What?"),
        ("From <image> to <image>?", {"images": ["a", "b"]}, "From <image> to <image>?"),
        ("What?", {"video": "v.mp4"}, "<video>What?"),
        ("<video>\nWhat?", {"video": "v.mp4"}, "<video>What?"),
        ("<image>\n<image>\nWhat?", {"video": "v.mp4"}, "<video>What?"),
        ("What?", {}, "What?"),
    ],
)
def test_placeholders_become_as_many_as_there_are_media(question, media, wanted, tmp_path):
    assert only_row(tmp_path, talk(question, "A", **media)).turns[0].question == wanted


def test_all_frames_stand_where_the_video_does(tmp_path):
    row = only_row(tmp_path, talk("Look: <video>\nWhat?", "A", video="v.mp4"))
    assert row.chat(3)[0] == Turn("user", ("Look: ", 0, 1, 2, "What?"))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (talk(), "has no conversations"),
        (talk("Q"), "ends with a question"),
        (talk("Q", " "), "a turn of its conversation is empty (turn 2)"),
        (talk("Q", "A") | {"conversations": [{"from": "gpt", "value": "A"}] * 2}, "turn 1 is by gpt"),
        (talk("Q", "A") | {"conversations": ["Q", "A"]}, "is not an object (turn 1)"),
        (talk("<image><image>Q", "A", images=["a"]), "2 of them, 1 pictures"),
        (talk("<image><image>Q", "A", images=["a", "b", "c"]), "2 of them, 3 pictures"),
        (talk("<image>Q", "A"), "asks about pictures, but names none"),
        (talk("Q", "A", images=[1]), "images or image is not a list of paths"),
        (talk("Q", "A", image="a", video="b"), "several media"),
        (talk("Q", "A", image="a", spar_info="{"), "spar_info is not JSON"),
        (talk("Q", "A", image="a", spar_info="[1]"), "spar_info is not an object"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_its_place(row, told, tmp_path):
    file = QuestionFile(written(tmp_path / "rows.json", [talk("Q", "A"), row]))
    with pytest.raises(BadRow, match=re.escape(told)) as refused:
        file.row(1)
    assert str(refused.value).startswith(f"{tmp_path / 'rows.json'}:2: ")


# SPAR's markers


def drawn(info: dict[str, object], num_pictures: int, **size: int) -> list[np.ndarray]:
    return [photo.rgb for photo in draw_markers(grey_photos(num_pictures, **size), markers(info, num_pictures))]


def has(colour: str, pixels: np.ndarray) -> bool:
    return bool((pixels == COLOURS[colour]).all(-1).any())


def test_a_point_is_a_disc_of_20_pixels_at_thousandths_of_the_picture():
    (pixels,) = drawn({"type": "distance_prediction_oc", "red_point": [[250, 500]]}, 1)
    rows, columns = (pixels == COLOURS["red"]).all(-1).nonzero()
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == pytest.approx((131, 169, 181, 219), abs=1)
    assert len(rows) == pytest.approx(np.pi * 20**2, rel=0.1)


def test_a_box_is_an_outline_of_20_pixels_that_reaches_beyond_it():
    (pixels,) = drawn({"type": "spatial_volume_infer", "red_bbox": [[250, 250, 750, 750]]}, 1)
    is_red = (pixels == COLOURS["red"]).all(-1)
    rows, columns = is_red.nonzero()
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == pytest.approx((132, 468, 82, 318), abs=1)
    assert is_red[200, 132:152].sum() == pytest.approx(20, abs=1)
    assert (pixels[110:290, 160:440] == GREY).all()


@pytest.mark.parametrize(
    ("kind", "place", "wanted"),
    [
        ("depth_prediction_oo_mv", "point_img_idx", ["red", "blue", "green"]),
        ("distance_infer_center_oo_mv", "point_img_idx", ["red", "green", "blue"]),
        ("spatial_imagination_oo_mv", "bbox_img_idx", ["green", "blue", "red", "yellow"]),
        ("spatial_imagination_oo_video", "bbox_img_idx", ["green", "blue", "red", "yellow"]),
    ],
)
def test_each_marker_lies_on_the_picture_that_its_number_names(kind, place, wanted):
    order = [2, 0, 3, 1][: len(wanted)]
    info = {"type": kind, place: [order]}
    for colour in wanted:
        info |= {f"{colour}_point": [[500, 500]], f"{colour}_bbox": [[300, 300, 700, 700]]}
    pictures = drawn(info, 4)
    for colour, at in zip(wanted, order, strict=True):
        assert [has(colour, picture) for picture in pictures] == [i == at for i in range(4)]


def test_two_of_three_boxes_lie_on_two_pictures_in_the_order_of_their_colours():
    info = {"type": "obj_spatial_relation_oo_mv", "bbox_img_idx": [[1, 0]]}
    info |= {"green_bbox": [[100, 100, 200, 200]], "blue_bbox": [[100, 100, 200, 200]]}
    assert [(each.colour, each.picture) for each in markers(info, 2)] == [("blue", 1), ("green", 0)]
    on_one = markers(info | {"type": "obj_spatial_relation_oc_mv"}, 2)
    assert [(each.colour, each.picture) for each in on_one] == [("blue", 1), ("green", 1)]
    with pytest.raises(BadRow, match="two boxes"):
        markers(info | {"red_bbox": [[1, 1, 2, 2]]}, 2)


def test_lists_are_blue_and_labelled():
    boxes = {"type": "spatial_imagination_map_mv", "bbox_list": [[[100, 100, 200, 200], [300, 300, 400, 400]]]}
    found = markers(boxes | {"bbox_img_idx": [[0, 1]]}, 2)
    assert [(each.picture, each.colour, each.label) for each in found] == [
        (0, "blue", "object0"),
        (1, "blue", "object1"),
    ]
    points = {"type": "distance_infer_center_oo_video", "point_list": [[[100, 100], [300, 300]]]}
    found = markers(points | {"point_img_idx": [[1, 0]]}, 2)
    assert [(each.picture, each.label) for each in found] == [(1, "objectA"), (0, "object0")]
    first, second = drawn(points | {"point_img_idx": [[1, 0]]}, 2)
    assert has("blue", first)
    assert has("green", first)  # the letters
    assert has("green", second)


def test_a_label_below_the_picture_stands_above():
    info = {"type": "spatial_imagination_oc_video", "bbox_img_idx": [[0, 0, 0]]}
    info |= {
        "green_bbox": [[100, 100, 400, 400]],
        "blue_bbox": [[500, 100, 900, 1000]],
        "red_bbox": [[0, 500, 100, 800]],
    }
    (pixels,) = drawn(info, 1)
    is_white = (pixels == 255).all(-1)
    assert is_white[:, 450:550].any()
    assert has("green", pixels)


def test_photos_without_markers_are_handed_back_and_the_others_copied():
    given = grey_photos(2)
    found = draw_markers(given, markers({"type": "position_matching", "red_bbox": [[1, 1, 500, 500]]}, 2))
    assert found[1] is given[1]
    assert (given[0].rgb == 128).all()
    assert has("red", found[0].rgb)


def test_every_type_of_the_table_is_known_once():
    types = [
        *ON_THE_PICTURE,
        *ONE_PER_PICTURE,
        *LISTS,
        *UNMARKED,
        "obj_spatial_relation_oc_mv",
        "obj_spatial_relation_oo_mv",
    ]
    assert len(types) == len(set(types)) == 35
    assert all(markers({"type": kind, "red_point": [[1, 1]]}, 1) == () for kind in UNMARKED)


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({"type": "new_task", "red_point": [[1, 1]]}, "unknown type (new_task)"),
        ({"red_point": [[1, 1]]}, "unknown type (none is given)"),
        ({"type": ["new"], "red_point": [[1, 1]]}, "unknown type (['new'])"),
        ({"type": "distance_prediction_oc"}, "red_point in its spar_info is not 2 numbers"),
        ({"type": "distance_prediction_oc", "red_point": [[1, "2"]]}, "not 2 numbers"),
        ({"type": "spatial_volume_infer", "red_bbox": [[1, 2, 3]]}, "not 4 numbers"),
        ({"type": "distance_prediction_oc_mv", "red_point": [[1, 1]]}, "no point_img_idx"),
        ({"type": "distance_prediction_oc_mv", "red_point": [[1, 1]], "point_img_idx": [[2]]}, "does not have (2)"),
        ({"type": "depth_prediction_oc_mv", "red_point": [[1, 1]], "point_img_idx": [[0]]}, "does not name 2 pictures"),
    ],
)
def test_markers_that_cannot_be_drawn_make_a_bad_row(info, told, tmp_path):
    with pytest.raises(BadRow, match=re.escape(told)):
        only_row(tmp_path, talk("Q", "A", images=["a", "b"], spar_info=json.dumps(info)))


def test_spar_info_without_markers_says_nothing(tmp_path):
    info = json.dumps({"scene_name": "s", "question_type": "object_counting"})
    assert only_row(tmp_path, talk("Q", "A", image="a", spar_info=info)).markers == ()


# Benchmarks


def test_choices_are_asked_in_one_line_and_answered_by_letter(tmp_path):
    common = {"dataset": "scannet", "scene_name": "s0", "question_type": "object_rel_distance", "question": "Closest?"}
    choice = only_row(tmp_path, common | {"ground_truth": "B", "options": ["A. bed", "B. chair"]})
    assert choice.turns == (Exchange("<video>Closest? A. bed B. chair", "B"),)
    assert choice.options == ("bed", "chair")
    assert choice.video == "scannet/s0.mp4"
    number = only_row(tmp_path, common | {"ground_truth": 2.4, "options": None})
    assert number.turns[0].answer == "2.4"
    with pytest.raises(BadRow, match=r"ground_truth is none of the options \(E of 2\)"):
        only_row(tmp_path, common | {"ground_truth": "E", "options": ["A. bed", "B. chair"]})


def test_omnispatial_counts_options_from_0_and_names_pictures_by_number(tmp_path):
    row = {"id": "12_3", "question": "How?", "options": ["x", "y"], "answer": 1, "task_type": "Dynamic_Reasoning"}
    found = only_row(tmp_path, row)
    assert found.turns == (Exchange("<image>How? A. x B. y", "B"),)
    assert found.pictures == ("Dynamic_Reasoning/12.png",)


def test_sqa3d_joins_questions_and_answers_from_either_file(tmp_path):
    asked = {"scene_id": "s0", "situation": "I sit.", "question": "What is left?", "question_id": 5}
    said = {"scene_id": "s0", "question_id": 5, "answers": [{"answer": "a bed"}, {"answer": "bed"}]}
    questions = written(tmp_path / "v1_questions_x.json", {"questions": [asked]})
    alone = QuestionFile(questions).row(0)
    assert alone.missing.startswith("answers")
    annotations = written(tmp_path / "v1_sqa_annotations_x.json", {"annotations": [said]})
    for path in (questions, annotations):
        row = QuestionFile(path).row(0)
        assert row.turns == (Exchange("<video>I sit. What is left?", "a bed"),)
        assert (row.accepted, row.video, row.kind, row.missing) == (("a bed", "bed"), "s0", "what", "")
    questions.unlink()
    with pytest.raises(ValueError, match="answers alone"):
        QuestionFile(annotations)


def test_answers_without_questions_are_read_but_not_trained_on(tmp_path):
    path = written(tmp_path / "val.json", {"val_Counting_2": "(C)", "val_Relative_Depth_4": "(A)"})
    counting, depth = QuestionFile(path).each_good(pytest.fail)
    assert (counting.kind, counting.turns[0].answer, counting.missing) == ("Counting", "C", "pictures and question")
    assert depth.kind == "Relative_Depth"
    with pytest.raises(BadSample, match="is not for training; the file lacks pictures"):
        QuestionSource("blink", path, PROCESSOR, 14).sample(random.Random(0), BUCKET)


REAL = {
    "blink/val_answers.sample.json": ("BLINK", 300),
    "blink/saved_outputs/GPT4o/Counting.sample.json": ("BLINK", 30),
    "mindcube/example_row.jsonl": ("MindCube", 1),
    "omnispatial/example_row.json": ("OmniSpatial", 1),
    "openeqa/open-eqa-v0.sample.json": ("OpenEQA", 150),
    "scanqa/ScanQA_v1.0_val.sample.json": ("ScanQA", 220),
    "sqa3d/v1_balanced_questions_test_scannetv2.sample.json": ("SQA3D", 220),
    "sqa3d/v1_balanced_sqa_annotations_test_scannetv2.sample.json": ("SQA3D", 220),
    "vsibench/vsibench_test.sample.jsonl": ("VSI-Bench", 70),
}


@pytest.mark.parametrize("name", REAL)
def test_published_samples_are_read_without_a_bad_row(name, shared):
    path = shared / "data" / "qa" / name
    if not path.is_file():
        pytest.skip(f"no {name} among the shared samples")
    file = QuestionFile(path)
    rows = list(file.each_good(pytest.fail))
    assert (file.format.name, len(rows)) == REAL[name]
    assert all(exchange.answer for row in rows for exchange in row.turns)
    assert all(row.missing or (row.has_media and row.turns[0].question) for row in rows)


def test_replies_of_models_are_kept_beside_the_answers(shared):
    folder = shared / "data" / "qa" / "blink" / "saved_outputs"
    if not folder.is_dir():
        pytest.skip("no saved outputs of BLINK among the shared samples")
    for path in sorted(folder.glob("*/*.json")):
        rows = list(QuestionFile(path).each_good(pytest.fail))
        assert len(rows) == 30
        assert all(isinstance(row.extra["full_prediction"], str) for row in rows)


# Formats that are not known


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no row"),
        ("[]", "holds no row"),
        ('[{"text": 1}]', "row 1 has the keys text"),
        ('{"scene": {"room_size": 3}}', "its keys are scene"),
        ("plain words", "row 1 is not JSON"),
        ('{"question": "Q", "answer": ', "neither JSON nor JSON lines"),
    ],
)
def test_an_unknown_format_is_refused_and_the_known_are_named(content, told, tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"(?s)rows\.json: .*{told}.*LLaVA conversations.*VSI-Bench"):
        QuestionFile(path)


def test_a_broken_first_line_does_not_hide_the_format(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("{broken\n" + json.dumps(talk("Q", "A")))
    file = QuestionFile(path)
    assert file.format.name == "LLaVA conversations"
    told: list[BadRow] = []
    assert len(list(file.each_good(told.append))) == 1
    assert [error.reason for error in told] == ["is not JSON"]


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        QuestionFile(tmp_path)


# Parquet


def parquet(folder: Path, rows: list[dict[str, object]], **options: int) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    files.write_table(pyarrow.Table.from_pylist(rows), folder / "rows.parquet", **options)
    return folder / "rows.parquet"


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (value,) * 3).save(stream, "png")
    return stream.getvalue()


def test_the_columns_of_g2vlm_come_with_depth_poses_and_markers(tmp_path):
    info = {"type": "distance_prediction_oc_mv", "red_point": [[500, 500]], "point_img_idx": [[1]]}
    row = {
        "question": "<image>\n<image>\nHow far?",
        "answer": "2.4",
        "image_list": ["a.png", "b.png"],
        "depth_list": ["a_depth.png", "b_depth.png"],
        "poses": [[float(x) for x in np.eye(4).flatten()]] * 2,
        "intrinsic": [float(x) for x in np.diag([500.0, 500, 1, 1]).flatten()],
        "metadata": json.dumps({"metadata": {"spar_info": json.dumps(info), "id": "r1"}}),
        "world_coords": "[]",
    }
    found = QuestionFile(parquet(tmp_path, [row])).row(0)
    assert found.turns == (Exchange("<image><image>How far?", "2.4"),)
    assert (found.pictures, found.depths) == (("a.png", "b.png"), ("a_depth.png", "b_depth.png"))
    assert found.poses.shape == (2, 4, 4)
    assert found.intrinsics.shape == (2, 3, 3)
    assert found.intrinsics[1, 0, 0] == 500
    assert (found.kind, found.markers[0].picture) == ("distance_prediction_oc_mv", 1)
    assert "world_coords" not in found.extra
    bad = QuestionFile(parquet(tmp_path, [row | {"poses": [[1.0] * 16]}]))
    with pytest.raises(BadRow, match=r"poses is not one matrix for each picture \(16 values, 2 pictures\)"):
        bad.row(0)


def test_pictures_may_lie_in_the_parquet_file_itself(tmp_path):
    rows = [
        {"question": f"Q{i}", "answer": f"{i}", "image_list": [{"bytes": png(50 * i), "path": None}]} for i in range(5)
    ]
    path = parquet(tmp_path, rows, row_group_size=2)
    file = QuestionFile(path)
    assert [row.turns[0].answer for row in file.each_good(pytest.fail)] == list("01234")
    (photo,) = photos_of(file.row(3), tmp_path, 8)
    assert (photo.rgb == 150).all()
    sample = QuestionSource("bytes", path, PROCESSOR, 14).sample(random.Random(0), BUCKET)
    assert sample.views.images.shape[0] == 1


def test_blink_is_read_as_the_hub_has_it(tmp_path):
    row = {"idx": "val_Counting_1", "question": "How many?", "choices": ["0", "1"], "answer": "(B)", "image_1": png(9)}
    row |= {"image_2": png(8), "image_3": None, "image_4": None}
    found = QuestionFile(parquet(tmp_path, [row])).row(0)
    assert found.turns == (Exchange("<image><image>How many? A. 0 B. 1", "B"),)
    assert (len(found.pictures), found.kind, found.missing) == (2, "Counting", "")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'g2vlm\[parquet\]'"):
        QuestionFile(tmp_path / "rows.parquet")


def test_a_damaged_parquet_file_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ValueError, match=r"rows\.parquet: cannot be read as parquet"):
        QuestionFile(tmp_path / "rows.parquet")


# Media


def test_frames_of_a_video_are_evenly_spaced_with_the_first_and_the_last(tmp_path):
    path = video(tmp_path / "v.mp4")
    photos = photos_of(only_row(tmp_path, talk("Q", "A", video=path.name)), tmp_path, 3)
    assert [photo.name for photo in photos] == ["v.mp4 frame 0", "v.mp4 frame 6", "v.mp4 frame 11"]
    assert [photo.rgb[36, 32].mean() for photo in photos] == pytest.approx([0, 120, 220], abs=12)


def test_a_folder_of_frames_stands_for_its_video(tmp_path):
    album(tmp_path, *(f"room/frame_{i}.png" for i in (0, 1, 2, 10)))
    for name in ("room", "room.mp4"):
        photos = photos_of(only_row(tmp_path, talk("Q", "A", video=name)), tmp_path, 3)
        assert [photo.name for photo in photos] == ["frame_0.png", "frame_2.png", "frame_10.png"]


def test_without_pyav_the_extra_is_named_and_the_run_stops(tmp_path, monkeypatch):
    (tmp_path / "v.mp4").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    source = QuestionSource("v", written(tmp_path / "rows.json", [talk("Q", "A", video="v.mp4")]), PROCESSOR, 14)
    with pytest.raises(ValueError, match=r"pip install 'g2vlm\[video\]'") as refused:
        source.sample(random.Random(0), BUCKET)
    assert not isinstance(refused.value, BadSample)


@pytest.mark.parametrize(
    ("media", "told"),
    [
        ({"image": "gone.png"}, r"a picture cannot be read \(.*gone\.png"),
        ({"image": "bad.png"}, r"bad\.png"),
        ({"video": "gone.mp4"}, r"a video is not there \(.*gone\.mp4"),
        ({"video": "bad.mp4"}, r"a video cannot be read \(.*bad\.mp4"),
        ({"video": "empty"}, r"a folder of frames cannot be read"),
    ],
)
def test_media_that_cannot_be_read_are_named_with_their_row(media, told, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "empty").mkdir()
    for name in ("bad.png", "bad.mp4"):
        (tmp_path / name).write_bytes(b"not what it says")
    source = QuestionSource("s", written(tmp_path / "rows.json", [talk("Q", "A", **media)]), PROCESSOR, 14)
    with pytest.raises(BadSample, match=rf"rows\.json:1: {told}|rows\.json:1: .*{told}"):
        source.sample(random.Random(0), BUCKET)


def test_media_are_looked_for_without_being_opened(tmp_path):
    album(tmp_path, "a.png")
    check_media(only_row(tmp_path, talk("Q", "A", image="a.png")), tmp_path)
    for media in ({"image": "b.png"}, {"video": "v.mp4"}):
        with pytest.raises(BadRow, match="is not there"):
            check_media(only_row(tmp_path, talk("Q", "A", **media)), tmp_path)


# Samples


def test_markers_are_drawn_for_the_vision_tower_alone(tmp_path):
    info = {"type": "distance_prediction_oc", "red_point": [[500, 500]]}
    names = album(tmp_path, "a.png")
    samples = []
    for more in ({}, {"spar_info": json.dumps(info)}):
        path = written(tmp_path / "rows.json", [talk("<image>\nHow far?", "2.4", images=names, **more)])
        samples.append(QuestionSource("spar", path, PROCESSOR, 14).sample(random.Random(0), BUCKET))
    plain, marked = samples
    assert torch.equal(plain.views.images, marked.views.images)
    assert torch.equal(plain.ids, marked.ids)
    assert not torch.equal(plain.pixel_values, marked.pixel_values)


def test_every_answer_of_a_conversation_is_learnt_and_nothing_else(tmp_path):
    names = album(tmp_path, "a.png", "b.png")
    path = written(
        tmp_path / "rows.json", [talk("<image>\nOne?", "First.", "And <image> two?", "Second.", images=names)]
    )
    sample = QuestionSource("talk", path, PROCESSOR, 14).sample(random.Random(0), BUCKET)
    assert learnt(sample) == ["First.", "Second."]
    at = (sample.labels != IGNORE).nonzero().flatten()
    assert torch.equal(sample.labels[at], sample.ids[at + 1])
    grids = [(rows // 2, columns // 2) for _, rows, columns in sample.image_grid_thw.tolist()]
    views = [(56 // 14, 84 // 14)] * 2
    found = segments_of(sample.ids, TOKENS, views, grids)
    assert [type(segment) for segment in found] == [Text, ViewBlock, Picture, Text, Picture, Text]


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        (("views", "pictures"), [Text, ViewBlock, Picture, Text]),
        (("pictures",), [Text, Picture, Text]),
        (("views",), [Text, ViewBlock, Text]),
        ((), [Text]),
    ],
)
def test_a_question_comes_with_what_the_recipe_says(inputs, wanted, tmp_path):
    path = written(tmp_path / "rows.json", [talk("What?", "That.", images=album(tmp_path, "a.png"))])
    sample = QuestionSource("s", path, PROCESSOR, 14, inputs=inputs).sample(random.Random(0), BUCKET)
    grids = [] if sample.image_grid_thw is None else [(r // 2, c // 2) for _, r, c in sample.image_grid_thw.tolist()]
    views = [] if sample.views is None else [(4, 6)]
    assert [type(segment) for segment in segments_of(sample.ids, TOKENS, views, grids)] == wanted
    assert learnt(sample) == ["That."]


def test_photos_come_once_more_for_the_encoder_of_a_pathway(tmp_path):
    path = written(tmp_path / "rows.json", [talk("What?", "That.", images=album(tmp_path, "a.png"))])
    source = QuestionSource("s", path, PROCESSOR, 14, inputs=("pictures", "geometry"))
    sample = source.sample(random.Random(0), BUCKET)
    _, rows, columns = sample.image_grid_thw[0].tolist()
    assert [tuple(image.shape) for image in sample.geometry_images] == [(3, 14 * rows, 14 * columns)]


def test_media_may_lie_in_another_folder_and_videos_are_thinned_out(tmp_path):
    album(tmp_path / "media", *(f"room/{i}.png" for i in range(6)))
    path = written(tmp_path / "rows.jsonl", [talk("<video>\nWhat?", "That.", video="room")])
    source = QuestionSource("s", path, PROCESSOR, 14, media=tmp_path / "media", frames=4)
    assert len(source.sample(random.Random(0), BUCKET).views.images) == 4


def test_rows_in_words_alone_are_trained_on_by_both_sources(tmp_path):
    path = written(tmp_path / "rows.jsonl", [talk("Q", "A", "Q again", "B")])
    for source in (TextSource("t", path, PROCESSOR), QuestionSource("q", path, PROCESSOR, 14)):
        sample = source.sample(random.Random(0), BUCKET)
        assert learnt(sample) == ["A", "B"]
        assert sample.views is None


def test_a_source_of_text_refuses_pictures(tmp_path):
    path = written(tmp_path / "rows.jsonl", [talk("Q", "A", image="a.png")])
    with pytest.raises(BadSample, match="has pictures; use a source of kind questions"):
        TextSource("t", path, PROCESSOR).sample(random.Random(0), BUCKET)


# Looking at a file


def test_a_row_that_no_reader_can_take_in_is_bad(tmp_path):
    deep = '{"question": ' + "[" * 100_000
    half = json.dumps({"question": "How \ud800?", "answer": "So."})
    good = json.dumps({"question": "How?", "answer": "So."})
    (tmp_path / "rows.jsonl").write_text(f"{good}\n{deep}\n{half}", encoding="utf-8")
    bad: list[BadRow] = []
    assert len(list(QuestionFile(tmp_path / "rows.jsonl").each_good(bad.append))) == 1
    assert [error.reason for error in bad] == ["is not JSON", "holds half a character"]


@pytest.mark.parametrize("content", [[1], 5.0])
def test_a_damaged_file_beside_the_questions_is_named(content, tmp_path):
    written(tmp_path / "question_templates.json", content)
    answers = written(tmp_path / "answers.json", {"val_Counting_1": "A"})
    with pytest.raises(ValueError, match=r"question_templates\.json: is not a JSON object; download it again"):
        QuestionFile(answers).row(0)
    written(tmp_path / "questions.json", content)
    annotations = written(tmp_path / "sqa_annotations.json", {"annotations": [{"question_id": 1, "answers": []}]})
    with pytest.raises(ValueError, match=r"questions\.json: is not a JSON object; download it again"):
        QuestionFile(annotations)


def test_bad_rows_are_counted_by_what_is_wrong(tmp_path):
    album(tmp_path, "a.png")
    rows = [
        talk("Q", "A", image="a.png", data_source="x"),
        talk("Q"),
        talk("Q", "A", image="gone.png"),
        talk("Q", "A", image="lost.png"),
        talk("Q", "A"),
    ]
    found = summary_of(QuestionFile(written(tmp_path / "rows.json", rows)), tmp_path, 1)
    assert (found.num_rows, found.num_bad) == (5, 3)
    assert found.bad == {"a picture is not there": 2, "its conversation ends with a question": 1}
    assert found.media == {"pictures": 1, "words alone": 1}
    text = "\n".join(found.lines())
    assert "5 rows, 2 good, 3 bad" in text
    assert re.search(r"2 bad: a picture is not there; first .*rows\.json:3: .*gone\.png", text)
    assert "asked:  <image>Q" in text
