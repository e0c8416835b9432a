"""What lands in the folder can be read back without us, and agrees with the reconstruction."""

import errno
import json
import os
import re
import weakref
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

from g2vlm.export.save import FORMATS, NEEDS, USUAL, check_formats, save
from g2vlm.records import Reconstruction
from g2vlm.window_store import StoredMaps


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


ALL = {"points.ply", "overview.png", "cameras.json", "reconstruction.json"} | {
    f"{kind}/{stem}.{ending}"
    for kind, ending in [("maps", "npz"), ("depth", "png")]
    for stem in ("00_a", "01_b", "02_a")
}


def test_every_format_is_written_and_listed(reconstruction, tmp_path):
    written = save(reconstruction, tmp_path)
    assert names(tmp_path) == ALL == {str(path.relative_to(tmp_path)) for path in written}
    assert set(json.loads((tmp_path / "reconstruction.json").read_text())["files"]) == ALL


@pytest.mark.parametrize(("format", "count"), [("ply", 1), ("npz", 3), ("depth_png", 3), ("overview", 1), ("json", 2)])
def test_each_format_stands_alone(reconstruction, tmp_path, format, count):
    assert len(save(reconstruction, tmp_path, [format])) == count == len(names(tmp_path))


def test_depth_pictures_times_their_unit_are_the_depth(reconstruction, tmp_path):
    save(reconstruction, tmp_path)
    unit = json.loads((tmp_path / "reconstruction.json").read_text())["depth_png"]["depth_of_one_level"]
    for stem, depth in zip(("00_a", "01_b"), reconstruction.depth, strict=False):
        levels = np.array(Image.open(tmp_path / f"depth/{stem}.png"))
        assert levels.dtype == np.uint16
        np.testing.assert_allclose(levels * unit, np.nan_to_num(depth), atol=unit)
    assert (levels[0] == 0).all()


def test_near_depth_is_never_mistaken_for_invalid(reconstruction, tmp_path):
    near = reconstruction.depth[0].copy()
    near[5, 5] = 1e-6
    save(replace(reconstruction, depth=(near, *reconstruction.depth[1:])), tmp_path, ["depth_png"])
    assert np.array(Image.open(tmp_path / "depth/00_a.png"))[5, 5] == 1


def test_maps_hold_every_array_with_zero_where_nothing_is_finite(reconstruction, tmp_path):
    save(reconstruction, tmp_path, ["npz"])
    for view, stem in enumerate(("00_a", "01_b")):
        with np.load(tmp_path / f"maps/{stem}.npz") as maps:
            for name in ("depth", "points", "normals", "confidence"):
                assert maps[name].dtype == np.float32
                np.testing.assert_array_equal(maps[name], np.nan_to_num(getattr(reconstruction, name)[view]))
            np.testing.assert_array_equal(maps["mask"], reconstruction.mask[view])


def test_depth_edges_are_left_out_of_the_cloud_alone(reconstruction, tmp_path):
    save(reconstruction, tmp_path)
    assert (np.array(Image.open(tmp_path / "depth/00_a.png")) > 0).all()
    assert len(PlyData.read(tmp_path / "points.ply")["vertex"].data) == 3 * 28 * 42 - 28 - 2 * 28
    save(reconstruction, tmp_path, keep_edges=True)
    assert len(PlyData.read(tmp_path / "points.ply")["vertex"].data) == 3 * 28 * 42 - 28


def test_cameras_and_account_say_what_is_needed_to_use_them(reconstruction, tmp_path):
    save(reconstruction, tmp_path, max_points=50, seed=3)
    camera = json.loads((tmp_path / "cameras.json").read_text())["cameras"][1]
    assert (camera["name"], camera["width"], camera["height"]) == ("b.jpg", 480, 640)
    assert (camera["map_width"], camera["map_height"]) == (28, 42)
    np.testing.assert_allclose(camera["intrinsics"], reconstruction.intrinsics[1])
    np.testing.assert_allclose(camera["world_from_camera"], reconstruction.poses[1])
    account = json.loads((tmp_path / "reconstruction.json").read_text())
    assert account["scale"] == "scale_free"
    assert account["checkpoint_sha256"] == "ab" * 32
    assert account["versions"] == {"g2vlm": "0"}
    assert account["seconds"] == {"reconstruct": 0.5}
    assert account["num_points"] == 50
    assert account["selection"] == {"max_points": 50, "min_confidence": 0.0, "keep_edges": False, "seed": 3}
    assert account["world"] == "view_0"
    assert {"axes", "poses", "intrinsics", "depth"} <= account["conventions"].keys()


def test_a_camera_that_could_not_be_fitted_is_null(reconstruction, tmp_path):
    unknown = reconstruction.intrinsics.copy(), reconstruction.intrinsics_error.copy()
    for numbers in unknown:
        numbers[2] = np.nan
    save(replace(reconstruction, intrinsics=unknown[0], intrinsics_error=unknown[1]), tmp_path, ["json"])
    cameras = json.loads((tmp_path / "cameras.json").read_text())["cameras"]
    assert cameras[2]["intrinsics"] is None
    assert cameras[2]["intrinsics_relative_error"] is None
    assert cameras[1]["intrinsics_relative_error"] == pytest.approx(0.01)


def test_the_cloud_says_its_scale_and_frame(reconstruction, tmp_path):
    save(reconstruction, tmp_path, ["ply"])
    comments = " ".join(PlyData.read(tmp_path / "points.ply").comments)
    assert "scale_free" in comments
    assert "OpenCV" in comments


def test_the_overview_shows_four_panels_per_view_and_grey_where_nothing_is_finite(reconstruction, tmp_path):
    save(reconstruction, tmp_path, ["overview"])
    picture = np.array(Image.open(tmp_path / "overview.png"))
    assert picture.shape[1] > 4 * 300
    assert picture.shape[0] > 3 * 213
    grey = (picture == 128).all(-1).sum()  # one row of 42 in two maps of one view, 213 pixels wide
    assert 2 * 213 * 7 <= grey <= 2 * 213 * 9


def of_many_views(reconstruction, often=lambda value: (value,) * 40):
    """Its first view, 40 times."""
    maps = ("images", "depth", "points", "normals", "confidence", "mask")
    return replace(
        reconstruction,
        **{name: often(getattr(reconstruction, name)[0]) for name in maps},
        names=reconstruction.names[:1] * 40,
        original_sizes=reconstruction.original_sizes[:1] * 40,
        poses=reconstruction.poses[:1].repeat(40, 0),
        intrinsics=reconstruction.intrinsics[:1].repeat(40, 0),
        intrinsics_error=reconstruction.intrinsics_error[:1].repeat(40, 0),
    )


def test_an_overview_of_many_views_stays_a_picture(reconstruction, tmp_path):
    (path,) = save(of_many_views(reconstruction), tmp_path, ["overview"])
    assert Image.open(path).height < 17 * 320


@pytest.mark.parametrize(
    ("format", "most"), [("npz", 8), ("depth_png", 4), ("depth_tiff", 4), ("normal_png", 4), ("overview", 22)]
)
def test_maps_of_a_long_sequence_are_written_without_holding_them_all(reconstruction, tmp_path, format, most):
    alive, peak = set(), []

    def often(value):
        def made(_view):
            copy = value.copy()
            alive.add(id(copy))
            weakref.finalize(copy, alive.discard, id(copy))
            peak.append(len(alive))
            return copy

        return StoredMaps(made, 40)

    save(of_many_views(reconstruction, often), tmp_path, [format])
    assert max(peak) <= most


def test_a_smaller_result_leaves_nothing_of_a_larger_one_behind(reconstruction, tmp_path):
    save(reconstruction, tmp_path)
    (tmp_path / "mine.txt").touch()
    save(reconstruction, tmp_path, ["ply", "json"])
    assert names(tmp_path) == {"points.ply", "cameras.json", "reconstruction.json", "mine.txt"}


def test_a_foreign_account_makes_us_remove_nothing(reconstruction, tmp_path):
    outside = tmp_path / "outside.txt"
    outside.touch()
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "reconstruction.json").write_text('{"files": ["../outside.txt"]}')
    save(reconstruction, folder, ["json"])
    assert outside.exists()
    (folder / "reconstruction.json").write_text("not json")
    save(reconstruction, folder, ["json"])


@pytest.mark.parametrize("file", sorted(ALL - {"points.ply"}))  # which is written piece by piece: see test_atomic
def test_a_full_disk_at_any_file_leaves_the_earlier_result_whole(reconstruction, tmp_path, monkeypatch, file):
    save(reconstruction, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ALL}
    write = Path.write_bytes

    def write_bytes(self, data):
        if str(self).endswith(file):
            write(self, data[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match=file):
        save(replace(reconstruction, scale="metric"), tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_an_unknown_format_is_refused_before_anything_is_written(reconstruction, tmp_path):
    with pytest.raises(ValueError, match="unknown format 'plyy'; did you mean 'ply'"):
        save(reconstruction, tmp_path / "out", ["npz", "plyy"])
    with pytest.raises(ValueError, match="no format was given"):
        save(reconstruction, tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def test_names_of_photos_cannot_lead_out_of_the_folder(reconstruction, tmp_path):
    named = replace(reconstruction, names=("../../x.jpg", "a/b.jpg", "Straße 1.tar.jpg"))
    save(named, tmp_path / "out")
    assert names(tmp_path / "out") >= {"maps/00_x.npz", "maps/01_b.npz", "maps/02_Straße 1.tar.npz"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_usual_formats_are_written_unless_others_are_named(reconstruction, tmp_path):
    assert USUAL == ("ply", "npz", "depth_png", "overview", "json")
    assert set(USUAL) < set(FORMATS)
    assert save(reconstruction, tmp_path)[0].read_bytes()[:3] == b"ply"


def test_a_reconstruction_without_views_is_refused(reconstruction, tmp_path):
    per_view = {f.name: () for f in fields(reconstruction) if isinstance(getattr(reconstruction, f.name), tuple)}
    nothing = {name: getattr(reconstruction, name)[:0] for name in ("poses", "intrinsics", "intrinsics_error")}
    with pytest.raises(ValueError, match="has no views, so there is nothing to write"):
        save(replace(reconstruction, **per_view, **nothing), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("format", "cure"), [("laz", "g2vlm[export]"), ("usd", "g2vlm[usd]")])
def test_a_format_whose_package_is_absent_names_the_extra(monkeypatch, format, cure):
    monkeypatch.setattr("g2vlm.export.save.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=re.escape(f"{format} needs the package")) as refusal:
        check_formats(["ply", format])
    assert str(refusal.value).endswith(f"pip install '{cure}'")


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"npz", "laz"}))  # these two carry the date
def test_every_format_is_the_same_from_the_same(reconstruction, tmp_path, format):
    if format in NEEDS:
        pytest.importorskip(NEEDS[format][0], reason=f"{format} needs {NEEDS[format][1]}")
    pairs = zip(*(save(reconstruction, tmp_path / folder, [format]) for folder in ("1", "2")), strict=True)
    assert all(a.read_bytes() == b.read_bytes() for a, b in pairs)


def test_a_reconstruction_saves_and_loads_itself_with_its_world(reconstruction, tmp_path):
    turned = replace(reconstruction, world="gravity")
    written = turned.save(tmp_path, ["tum"])
    assert tmp_path / "trajectory.txt" in written
    loaded = Reconstruction.load(tmp_path)
    assert loaded.world == "gravity"
    np.testing.assert_array_equal(loaded.points[0], turned.points[0])
    assert "world: y down along gravity" in (tmp_path / "trajectory.txt").read_text()
