"""`g2vlm export`: a folder that predict wrote becomes files of other programs, and stays as it is."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData


@pytest.fixture
def result(run, hub, photos, tmp_path) -> Path:
    run("predict", photos, "--out", tmp_path / "result")
    return tmp_path / "result"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_formats_are_repeated_or_separated_by_commas(run, result, tmp_path):
    before = contents(result)
    outcome = run("export", result, "--to", "ply, glb", "--to", "tum", "--to", "colmap", "--out", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    written = {str(Path(line).relative_to(tmp_path / "out")) for line in outcome.out.splitlines()}
    models = {f"colmap/sparse/0/{name}.bin" for name in ("cameras", "images", "points3D")}
    assert written == contents(tmp_path / "out").keys() == {"points.ply", "scene.glb", "trajectory.txt"} | models
    assert contents(result) == before


def test_options_reach_the_files(run, result, tmp_path):
    options = "--to ply --to colmap --ascii --min-confidence 0.1 --max-points 50 --seed 3 --keep-edges --json"
    outcome = run("export", result, *options.split(), "--out", tmp_path / "out")
    assert json.loads(outcome.out)["scale"] == "scale_free"
    assert (tmp_path / "out/colmap/sparse/0/points3D.txt").is_file()
    cloud = PlyData.read(tmp_path / "out/points.ply")
    assert cloud.text
    assert len(cloud["vertex"].data) == 50


def test_a_mesh_is_of_surfaces(run, result, tmp_path):
    run("export", result, "--to", "glb", "--mesh", "-o", tmp_path / "out")
    assert b'"surfaces"' in (tmp_path / "out/scene.glb").read_bytes()


def test_maps_come_at_the_size_of_the_photos_with_their_colours(run, result, photos, tmp_path):
    options = ["--to", "depth_png,npz", "--original-resolution", "--photos", photos]
    assert run("export", result, *options, "--out", tmp_path / "out").code == 0
    assert [Image.open(p).size for p in sorted((tmp_path / "out/depth").iterdir())] == [(80, 60), (60, 80), (90, 90)]
    with np.load(tmp_path / "out/maps/00_1.npz") as maps:
        np.testing.assert_array_equal(maps["image"], np.array(Image.open(photos / "1.png")))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--to", "glbb"], "unknown format 'glbb'; did you mean 'glb'"),
        (["--to", "ply", "--min-confidence", 2], "min_confidence is 2.0; confidences lie between 0 and 1"),
        (["--to", "ply", "--photos", "."], "give --original-resolution, too"),
        (["--to", "ply", "--original-resolution", "--photos", "gone"], "1.png"),
        (["--to", "ply", "--min-confidence", 0.9], "the highest is 0.500, so ask for less"),
    ],
)
def test_bad_options_get_one_line_and_leave_nothing(run, result, tmp_path, options, says):
    outcome = run("export", result, *options, "--out", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert says in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_reconstruction_is_refused(run, photos, tmp_path):
    outcome = run("export", photos, "--to", "ply", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "holds no reconstruction.json, so it is no reconstruction" in outcome.err


def test_the_reconstruction_itself_is_never_overwritten(run, result):
    before = contents(result)
    outcome = run("export", result, "--to", "ply", "--out", result.parent / "result/../result", "--overwrite")
    assert outcome.code == 2
    assert "is the reconstruction itself" in outcome.err
    assert contents(result) == before


def test_a_folder_in_use_is_refused_unless_told_otherwise(run, result, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert "give --overwrite" in run("export", result, "--to", "ply", "--out", out).err
    assert run("export", result, "--to", "ply", "--out", out, "--overwrite").code == 0
    assert contents(out).keys() == {"mine.txt", "points.ply"}
