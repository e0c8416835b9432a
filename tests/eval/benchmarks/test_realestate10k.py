from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from perfect import perfect_room
from rooms import Room, save, write

from g2vlm.eval.benchmarks.frames import drawn
from g2vlm.eval.benchmarks.realestate10k import BENCHMARKS

SMALL = replace(BENCHMARKS[0], selection=drawn(3))
CLIP = "000c3ab189999a83"


def lay_out(room: Room, folder: Path, named: str = "number", lists: str = "metadata/test") -> Path:
    fx, fy, cx, cy = room.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]] / [64, 48, 64, 48]
    lines = ["https://www.youtube.com/watch?v=none"]
    for view, (image, pose) in enumerate(zip(room.images, room.poses, strict=True)):
        time = 45979267 + 33000 * view
        outside = np.linalg.inv(pose)[:3].ravel()
        lines.append(f"{time} {fx} {fy} {cx} {cy} 0 0 " + " ".join(f"{value:.12g}" for value in outside))
        picture = {"number": f"{CLIP}/images/{view:04}.png", "time": f"{CLIP}/{time}.jpg"}[named]
        save(folder / picture, image)
    write(folder / lists / f"{CLIP}.txt", "\n".join(lines) + "\n")
    write(folder / lists / "ffffffffffffffff.txt", "a clip without pictures is not asked for\n")
    return folder


@pytest.mark.parametrize(("named", "lists"), [("number", "metadata/test"), ("time", "test"), ("number", ".")])
def test_cameras_are_those_of_the_room(room, tmp_path, named, lists):
    (item,) = SMALL.items(lay_out(room, tmp_path, named, lists))
    views = item.row["numbers"]
    assert (item.id, len(views)) == (CLIP, 3)
    truth = item.truth()
    assert truth.poses == pytest.approx(room.poses[views], abs=1e-6)
    assert truth.intrinsics == pytest.approx(np.stack([room.intrinsics] * 3))
    for rule in SMALL.rules:
        assert SMALL.score(item, perfect_room(room, views, scale=2), rule).scores["auc5"] == 1


def test_drawn_pictures_that_were_not_extracted_are_named(room, tmp_path):
    (item,) = SMALL.items(lay_out(room, tmp_path))
    item.frames[0].image.path.unlink()
    with pytest.raises(ValueError, match=r"1 of 3 files are missing .*\.png"):
        SMALL.items(tmp_path)


def test_a_line_that_is_no_camera_is_named(room, tmp_path):
    file = lay_out(room, tmp_path) / "metadata/test" / f"{CLIP}.txt"
    file.write_text(file.read_text() + "46111267 0.5 0.5\n")
    with pytest.raises(ValueError, match=r"line 6 is no camera of 18 numbers"):
        SMALL.items(tmp_path)


def test_a_folder_without_cameras_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no camera files in metadata/test, test, \."):
        SMALL.items(tmp_path)
