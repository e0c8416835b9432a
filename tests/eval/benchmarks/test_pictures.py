from pathlib import Path

import pytest
from published import png

from g2vlm.data.rows import BadRow
from g2vlm.eval.benchmarks.pictures import pictures_of, without


@pytest.mark.parametrize("value", [png(1), [png(1)], {"bytes": png(1), "path": "x"}, [{"bytes": png(1), "path": None}]])
def test_pictures_within_a_row_are_written_once_in_each_form_that_the_hub_has(tmp_path: Path, value: object):
    (path,) = pictures_of({"image": value}, "image", tmp_path, "7")
    assert path == tmp_path / "pictures" / "7_0.png"
    assert path.read_bytes() == png(1)
    path.write_bytes(b"as it is")
    assert pictures_of({"image": value}, "image", tmp_path, "7") == (path,)
    assert path.read_bytes() == b"as it is"


def test_what_is_no_png_is_called_a_jpg(tmp_path: Path):
    assert pictures_of({"image": b"\xff\xd8"}, "image", tmp_path, "7")[0].name == "7_0.jpg"


def test_paths_are_below_the_folder_which_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    row = {"image": ["a.jpg", png(), {"bytes": None, "path": "b.jpg"}]}
    paths = pictures_of(row, "image", Path("data"), "7")
    assert paths == (Path("data/a.jpg"), Path("data/pictures/7_1.png"), Path("data/b.jpg"))
    assert paths[1].is_file()


@pytest.mark.parametrize("row", [{"question": "?"}, {"image": None}, {"image": []}])
def test_annotations_without_pictures_are_enough_for_recorded_answers(row: dict[str, object]):
    assert pictures_of(row, "image", Path("data"), "7") == ()


@pytest.mark.parametrize("value", [png(), [{"bytes": png(), "path": ""}]])
def test_pictures_under_another_name_are_found_out(value: object):
    with pytest.raises(BadRow, match=r"has no column image \(but photo holds pictures\)"):
        pictures_of({"question": "?", "photo": value}, "image", Path("data"), "7")


def test_a_row_keeps_all_but_its_pictures():
    assert without({"image": png(), "id": 1}, "image") == {"id": 1}
