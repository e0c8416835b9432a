"""Photos in, files out; every wrong input gets one line, exit code 2, and leaves nothing behind."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def picture(path: Path, height: int = 60, width: int = 80) -> Path:
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


# ---- what works


def test_a_folder_of_mixed_photos_becomes_files(run, hub, photos, tmp_path):
    outcome = run("predict", photos, "--out", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    *paths, summary = outcome.out.splitlines()
    assert {str(Path(path).relative_to(tmp_path / "out")) for path in paths} == names(tmp_path / "out")
    assert names(tmp_path / "out") >= {"points.ply", "overview.png", "reconstruction.json", "maps/02_10.npz"}
    assert summary.startswith("3 views, scale-free; reading")


def test_json_is_one_object_on_stdout(run, hub, photos, tmp_path):
    outcome = run("predict", photos, "--out", tmp_path / "out", "--json", "--formats", "ply, json")
    summary = json.loads(outcome.out)
    assert summary["views"] == ["1.png", "2.jpg", "10.webp"]
    assert [Path(p).name for p in summary["files"]] == ["points.ply", "cameras.json", "reconstruction.json"]
    assert summary["seconds"].keys() == {"reading", "loading the model", "reconstructing", "writing", "total"}
    assert summary["scale"] == "scale_free"


def test_options_reach_the_model_and_the_files(run, hub, photos, tmp_path):
    options = "--model m --device cpu --dtype bfloat16 --resolution 84 --seed 7 --max-points 50 --min-confidence 0.25"
    assert run("predict", photos, "--out", tmp_path / "out", *options.split(), "--keep-edges").code == 0
    assert hub.loaded == [("m", "cpu", "bfloat16")]
    assert hub.asked == [{"resolution": 84, "seed": 7}]
    selection = json.loads((tmp_path / "out/reconstruction.json").read_text())["selection"]
    assert selection == {"max_points": 50, "min_confidence": 0.25, "keep_edges": True, "seed": 7}


def test_one_photo_works_and_says_what_is_missing(run, hub, photos, tmp_path):
    outcome = run("predict", photos / "1.png", "-o", tmp_path / "out")
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    assert "no camera motion" in outcome.err


def test_fewer_views_than_pictures_are_announced(run, hub, photos, tmp_path):
    outcome = run("predict", photos, "-o", tmp_path / "out", "--max-views", 2, "--json")
    assert "using 2 of 3 pictures" in outcome.err
    assert json.loads(outcome.out)["views"] == ["1.png", "10.webp"]


def test_an_empty_folder_that_exists_is_filled(run, hub, photos, tmp_path):
    (tmp_path / "out").mkdir()
    assert run("predict", photos, "-o", tmp_path / "out").code == 0


# ---- what is refused


def spoil(photos: Path, how: str) -> list[object]:
    """Make one thing wrong; returns the arguments of the call."""
    match how:
        case "empty folder":
            (photos / "empty").mkdir()
            return [photos / "empty"]
        case "truncated.png":
            truncate(picture(photos / "truncated.png"))
        case "text.jpg":
            (photos / "text.jpg").write_text("no picture")
        case "dot.png":
            picture(photos / "dot.png", 1, 1)
        case "ribbon.png":
            picture(photos / "ribbon.png", 100, 10000)
        case "huge.png":
            Image.new("1", (10_000, 9_000)).save(photos / "huge.png")
        case "gone.jpg":
            return [photos / "gone.jpg"]
        case "no views":
            return [photos, "--max-views", 0]
        case "plyy":
            return [photos, "--formats", "plyy"]
        case "max_points":
            return [photos, "--max-points", 0]
        case "min_confidence":
            return [photos, "--min-confidence", 1.5]
        case "seed":
            return [photos, "--seed", -1]
    return [photos]


@pytest.mark.parametrize(
    ("how", "names_it", "cure"),
    [
        ("empty folder", "empty", "wanted are files ending in .jpg"),
        ("truncated.png", "truncated.png", "leave it out"),
        ("text.jpg", "text.jpg", "convert it or leave it out"),
        ("dot.png", "dot.png: 1 x 1", "at least 16"),
        ("ribbon.png", "ribbon.png: 10000 x 100", "crop it"),
        ("huge.png", "huge.png: 10000 x 9000", "limit of 80,000,000; scale it down"),
        ("gone.jpg", "gone.jpg", "check the path"),
        ("no views", "max_views is 0", "at least 1"),
        ("plyy", "'plyy'", "did you mean 'ply'"),
        ("max_points", "max_points is 0", "at least 1"),
        ("min_confidence", "min_confidence is 1.5", "between 0 and 1"),
        ("seed", "seed is -1", "0 or more"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(run, hub, photos, tmp_path, how, names_it, cure):
    outcome = run("predict", *spoil(photos, how), "--out", tmp_path / "out", "--json")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert names_it in outcome.err
    assert cure in outcome.err
    assert not (tmp_path / "out").exists()
    assert not hub.loaded


def test_an_output_folder_in_use_is_refused_before_any_work(run, hub, photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    outcome = run("predict", photos, "--out", out)
    assert outcome.code == 2
    assert outcome.err == f"error: {out} exists and is not empty; choose another folder or give --overwrite\n"
    assert names(out) == {"mine.txt"}
    assert not hub.loaded
    assert run("predict", photos, "--out", out, "--overwrite").code == 0
    assert names(out) >= {"mine.txt", "points.ply"}


def test_an_output_folder_that_is_a_file_is_refused(run, hub, photos):
    outcome = run("predict", photos, "--out", photos / "1.png", "--overwrite")
    assert outcome.code == 2
    assert "1.png is a file" in outcome.err


def test_a_refused_rerun_leaves_the_earlier_result_whole(run, hub, photos, tmp_path):
    out = tmp_path / "out"
    run("predict", photos, "--out", out)
    before = {name: (out / name).read_bytes() for name in names(out)}
    assert run("predict", photos, "--out", out, "--overwrite", "--min-confidence", 0.9).code == 2
    truncate(picture(photos / "0.png"))
    assert run("predict", photos, "--out", out, "--overwrite").code == 2
    assert {name: (out / name).read_bytes() for name in names(out)} == before


@pytest.mark.parametrize("rerun", [False, True])
def test_a_write_cut_short_by_the_system_leaves_no_half_file(run, hub, photos, tmp_path, rerun):
    """The real thing: beyond 30 kB the system takes only a part of a write."""
    resource = pytest.importorskip("resource", reason="the system has no limits on files")
    out = tmp_path / "out"
    if rerun:
        run("predict", photos, "--out", out)
    before = {name: (out / name).read_bytes() for name in names(out)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        outcome = run("predict", photos, "--out", out, "--overwrite", "--resolution", 112)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {out / 'points.ply'}: File too large")
    assert {name: (out / name).read_bytes() for name in names(out)} == before
    assert out.exists() == rerun


def test_a_full_disk_gets_one_line_with_its_cure(run, hub, photos, tmp_path, monkeypatch):
    def write_bytes(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    outcome = run("predict", photos, "--out", tmp_path / "out", "--formats", "json")
    path = tmp_path / "out/cameras.json"
    cure = "free some space there, or choose another folder"
    assert (outcome.code, outcome.err) == (2, f"error: {path}: No space left on device; {cure}\n")
    assert not (tmp_path / "out").exists()


def test_too_many_views_for_the_device_get_a_cure(run, hub, photos, tmp_path, monkeypatch):
    def reconstruct(photos, **_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(hub, "reconstruct", reconstruct)
    outcome = run("predict", photos, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "3 views do not fit" in outcome.err
    assert "--max-views" in outcome.err


# ---- the policy


def test_an_error_of_ours_that_names_a_value_is_the_users(run, hub, photos, tmp_path):
    """The value is only found wrong deep inside."""
    outcome = run("predict", photos, "--out", tmp_path / "out", "--resolution", 3)
    assert hub.asked
    assert outcome.code == 2
    assert outcome.err == "error: resolution 3 is smaller than one patch; give at least 14 pixels\n"


@pytest.mark.parametrize("defect", [ValueError("shapes differ"), RuntimeError("no"), OSError("no errno")])
def test_a_defect_keeps_its_traceback(run, hub, photos, tmp_path, monkeypatch, defect):
    def reconstruct(photos, **_):
        raise defect

    monkeypatch.setattr(hub, "reconstruct", reconstruct)
    with pytest.raises(type(defect), match=str(defect)):
        run("predict", photos, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
