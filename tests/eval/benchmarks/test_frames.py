import json

import pytest

from g2vlm.eval.benchmarks.frames import all_frames, drawn, every, fingerprint, read_list, shipped, write_list

FRAMES = [f"frame{i:03}.jpg" for i in range(60)]


def test_every_so_many_frames_begin_with_the_first():
    assert every(40).pick("chess/seq-03", FRAMES) == [0, 40]
    assert every(3, count=4).pick("any", FRAMES) == [0, 3, 6, 9]
    assert all_frames().pick("any", FRAMES[:3]) == [0, 1, 2]


def test_a_lot_depends_on_the_sequence_and_on_nothing_else():
    first, again = (drawn(10).pick("co3dv2/apple/1", FRAMES) for _ in range(2))
    assert first == again
    assert len(set(first)) == 10
    assert first != drawn(10).pick("co3dv2/apple/2", FRAMES)
    assert first != sorted(first)


def test_a_lot_is_of_frames_whatever_their_order_on_disk():
    turned = FRAMES[::-1]
    chosen, chosen_again = drawn(10).pick("a", FRAMES), drawn(10).pick("a", turned)
    assert [FRAMES[i] for i in chosen] == [turned[i] for i in chosen_again]


def test_a_lot_is_what_it_always_was():
    assert drawn(5).pick("co3dv2/apple/1", FRAMES) == [30, 46, 49, 1, 4]


def test_a_sequence_of_too_few_frames_is_left_out():
    assert drawn(10).pick("any", FRAMES[:9]) == []


@pytest.mark.parametrize(
    ("name", "num_sequences", "sequence", "frames"),
    [
        ("7scenes-dense", 18, "stairs/seq-04", list(range(0, 500, 40))),
        ("7scenes-sparse", 18, "chess/seq-03", [0, 200, 400, 600, 800]),
        ("nrgbd-sparse", 9, "thin_geometry", [0]),
        ("nrgbd-dense", 9, "morning_apartment", list(range(0, 901, 100))),
        ("eth3d", 13, "meadow", [0, 5, 10]),
        ("dtu", 22, "scan114", list(range(0, 49, 5))),
        ("sintel", 14, "cave_4", None),
        ("tum", 8, "rgbd_dataset_freiburg3_sitting_rpy", None),
    ],
)
def test_lists_are_shipped(name, num_sequences, sequence, frames):
    listed = shipped(name)
    assert len(listed) == num_sequences
    assert listed[sequence] == frames


def test_a_list_comes_back_with_its_fingerprint(tmp_path):
    frames = {"b": [3, 1], "a": None}
    write_list(tmp_path / "frames.json", frames)
    assert read_list(tmp_path / "frames.json") == frames
    assert fingerprint(frames) == fingerprint({"a": None, "b": [3, 1]})
    assert fingerprint(frames) != fingerprint({"b": [1, 3], "a": None})


@pytest.mark.parametrize("content", ["[1, 2]", "{}", '{"a": [1.5]}', '{"a": [-1]}', '{"a": [true]}', "{"])
def test_what_is_no_list_is_refused(tmp_path, content):
    (tmp_path / "frames.json").write_text(content)
    with pytest.raises(ValueError, match=r"frames\.json: is no .*delete it"):
        read_list(tmp_path / "frames.json")


def test_a_list_is_plain_json(tmp_path):
    write_list(tmp_path / "frames.json", {"a": [0, 5]})
    assert json.loads((tmp_path / "frames.json").read_text()) == {"a": [0, 5]}
