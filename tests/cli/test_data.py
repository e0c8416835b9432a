"""Data sets become shards, are checked and drawn, by a user who may mistype, interrupt, and bring damaged files."""

import json
import re
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from g2vlm.cli import data as command
from g2vlm.data.readers import READERS
from g2vlm.data.scenes import rooms


@pytest.fixture
def run():
    """Call `g2vlm data`; a ValueError, which the app turns into one line, comes through."""

    def run(*arguments: object):
        outcome = CliRunner().invoke(command.data, [str(argument) for argument in arguments])
        if isinstance(outcome.exception, Exception) and not isinstance(outcome.exception, SystemExit):
            raise outcome.exception
        return outcome

    return run


@pytest.fixture(scope="session")
def views():
    return rooms([7], num_views=3, height=48, width=64).views


@pytest.fixture
def source(tmp_path, views):
    """A folder of three scenes of one room; the poses of `inverted` are world-to-camera."""
    fx, fy, cx, cy = (float(views.intrinsics[0, 0][place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    for name in ("a", "b", "inverted"):
        folder = tmp_path / "source" / name
        folder.mkdir(parents=True)
        frames = []
        for view in range(3):
            image = (views.images[0, view] * 255).byte().permute(1, 2, 0).numpy()
            Image.fromarray(image).save(folder / f"{view}.jpg")
            Image.fromarray((views.depth[0, view].numpy() * 1000).astype(np.uint16)).save(folder / f"{view}.png")
            pose = views.poses[0, view].double().numpy()
            frames.append(
                {
                    "image": f"{view}.jpg",
                    "depth": f"{view}.png",
                    "intrinsics": [fx, fy, cx - 0.5, cy - 0.5],
                    "T_world_camera": (np.linalg.inv(pose) if name == "inverted" else pose).tolist(),
                }
            )
        record = {"scene": name, "metric_scale": True, "license": {"repository": "MIT"}, "frames": frames}
        (folder / "scene.json").write_text(json.dumps(record))
    return tmp_path / "source"


def test_the_help_names_every_kind():
    assert command.KINDS.split(", ") == list(READERS)


def test_help_loads_nothing_heavy():
    import subprocess

    code = "import sys, g2vlm.cli.data; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_data_set_becomes_shards_and_again_nothing_is_done_twice(run, source, tmp_path):
    outcome = run("convert", "scene_json", source, tmp_path / "out", "--limit", 2)
    assert re.fullmatch(r".*/out: 2 scenes written \(6 frames, 0\.\d MB\)\n", outcome.stdout)
    outcome = run("convert", "scene_json", source, tmp_path / "out")
    assert re.fullmatch(r".*/out: 1 scenes written \(3 frames, 0\.\d MB\), 2 were there already\n", outcome.stdout)


def test_bad_scenes_and_frames_are_named_and_left_out(run, source, tmp_path):
    (source / "a/scene.json").write_text("{}")
    (source / "b/1.jpg").write_bytes(b"no picture")
    outcome = run("convert", "scene_json", source, tmp_path / "out")
    assert re.fullmatch(r".*/out: 2 scenes written \(5 frames, 0\.\d MB\), 1 bad, left out\n", outcome.stdout)
    lines = outcome.stderr.splitlines()
    assert len(lines) == 2
    assert "a/scene.json" in lines[0]
    assert "b/1.jpg: not a JPEG" in lines[1]


def test_a_data_set_that_is_mostly_bad_stops(run, source, tmp_path):
    for name in "ab":
        (source / name / "scene.json").write_text("{}")
    with pytest.raises(ValueError, match="2 of 3 scenes are bad"):
        run("convert", "scene_json", source, tmp_path / "out")


def test_check_finds_the_bad_scene_in_shards_and_in_the_data_set(run, source, tmp_path):
    run("convert", "scene_json", source, tmp_path / "out")
    for arguments in ((tmp_path / "out",), (source, "--kind", "scene_json")):
        outcome = run("check", *arguments)
        assert outcome.exit_code == 1
        lines = outcome.stdout.splitlines()
        assert lines[0].startswith("ok    a: depth and poses agree to ")
        assert lines[2].startswith("bad   inverted: ")
        assert "if the poses are inverted" in lines[2]
        assert lines[-1] == "3 scenes checked, 1 bad"
    assert run("check", tmp_path / "out", "--limit", 2).exit_code == 0


def test_check_names_a_cut_shard(run, source, tmp_path):
    run("convert", "scene_json", source, tmp_path / "out")
    shard = tmp_path / "out/shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:30_000])
    outcome = run("check", tmp_path / "out")
    assert outcome.exit_code == 1
    assert outcome.stdout.startswith(f"bad   {shard}: 30000 of ")


def test_check_counts_scenes_that_cannot_be_read(run, source):
    (source / "a/scene.json").write_text("{}")
    (source / "b/2.png").write_bytes(b"")
    outcome = run("check", source, "--kind", "scene_json")
    assert outcome.exit_code == 1
    assert "b/2.png" in outcome.stdout
    assert outcome.stdout.splitlines()[-1] == "2 scenes checked, 3 bad"


def test_show_draws_photos_depth_and_cameras(run, source, tmp_path):
    run("convert", "scene_json", source, tmp_path / "out")
    outcome = run("show", tmp_path / "out", "--scene", "b", "--out", tmp_path / "b.png", "--views", 2)
    assert outcome.stdout == f"{tmp_path}/b.png\n"
    page = np.asarray(Image.open(tmp_path / "b.png").convert("RGB")).astype(int)
    photo = page[34 : 34 + 180, 12 : 12 + 240]
    truth = np.asarray(Image.open(source / "b/0.jpg").resize((240, 180), Image.Resampling.NEAREST)).astype(int)
    assert np.abs(photo - truth).max() == 0
    assert len(np.unique(page[34 + 192 : 34 + 192 + 180, 12 : 12 + 240].reshape(-1, 3), axis=0)) > 100
    plan = page[34 + 384 :, 12 : 12 + 480]
    assert (plan == 0xF4).mean() > 0.5
    assert (plan != 0xF4).mean() > 0.01


def test_show_draws_a_scene_that_knows_nothing(run, source, tmp_path):
    record = json.loads((source / "a/scene.json").read_text())
    for frame in record["frames"]:
        frame.update(depth=None, intrinsics=None, T_world_camera=None)
    (source / "a/scene.json").write_text(json.dumps(record))
    run("show", source, "--kind", "scene_json", "--out", tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size[1] > 480


def test_what_is_mistyped_is_answered_with_what_there_is(run, source, tmp_path):
    with pytest.raises(ValueError, match="scanet is no kind of data set; there are scene_json, colmap"):
        run("convert", "scanet", source, tmp_path / "out")
    with pytest.raises(ValueError, match="there is no such folder"):
        run("convert", "tum", tmp_path / "none", tmp_path / "out")
    with pytest.raises(ValueError, match=r"no index\.json"):
        run("check", source)
    with pytest.raises(ValueError, match="no scene named c; there are a, b, inverted"):
        run("show", source, "--kind", "scene_json", "--scene", "c", "--out", tmp_path / "c.png")
    assert not (tmp_path / "out").exists()


def test_questions_are_counted_and_shown(run, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    good, bad = ({"question": "What?", "answer": "That.", "images": [name]} for name in ("a.png", "gone.png"))
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps(good))
    outcome = run("questions", lines, "--media", tmp_path)
    assert outcome.exit_code == 0
    assert "1 rows, 1 good, 0 bad" in outcome.stdout
    assert "asked:  <image>What?" in outcome.stdout
    lines.write_text(json.dumps(good) + "\n" + json.dumps(bad))
    outcome = run("questions", lines, "--media", tmp_path, "--examples", 0)
    assert outcome.exit_code == 1
    assert re.search(r"1 bad: a picture is not there; first .*lines\.jsonl:2: .*gone\.png", outcome.stdout)
    assert "asked" not in outcome.stdout
    (tmp_path / "other.json").write_text("[3]")
    with pytest.raises(ValueError, match=r"other\.json: no known format, row 1 .* known are: LLaVA conversations"):
        run("questions", tmp_path / "other.json")
