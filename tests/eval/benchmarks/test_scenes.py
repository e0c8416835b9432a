import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from perfect import perfect, perfect_room
from rooms import Room, millimetres, save, write

from g2vlm.data.samples import BadSample
from g2vlm.eval.benchmarks.base import Outcome
from g2vlm.eval.benchmarks.frames import drawn, every, fingerprint, read_list, write_list
from g2vlm.eval.benchmarks.prediction import Prediction
from g2vlm.eval.benchmarks.scenes import SCENES, SceneItem

LONG = (
    "deepv2d_kitti_1",
    "kitti_000008_single",
    "sun_corridor_single",
    "euroc_stereo_0",
    "middlebury_motorcycle_stereo",
)


def lay_out(room: Room, folder: Path, name: str = "room", **changes) -> Path:
    """A scene as our exchange format has it; centres at whole pixels, millimetres."""
    camera = room.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]] - [0, 0, 0.5, 0.5]
    frames = []
    for view, pose in enumerate(room.poses):
        save(folder / name / "images" / f"{view}.png", room.images[view])
        save(folder / name / "depth" / f"{view}.png", millimetres(room.depth[view]))
        size = {"width": 64, "height": 48}
        frame = {"image": f"images/{view}.png", "depth": f"depth/{view}.png", **size}
        frames.append(frame | {"intrinsics": camera.tolist(), "T_world_camera": pose.tolist()} | changes)
    record = {"scene": name, "metric_scale": True, "ordering": "video", "license": {}, "frames": frames}
    write(folder / name / "scene.json", json.dumps(record))
    return folder


@pytest.fixture
def item(room, tmp_path) -> SceneItem:
    return SCENES.items(lay_out(room, tmp_path))[0]


def test_a_scene_is_scored_on_everything_that_is_known_of_it(room, item):
    said = perfect_room(room, range(4), scale=2)
    said = replace(said, normals=item.truth().normals)
    outcome = SCENES.score(item, said)
    assert item.tasks == ("depth", "points", "poses", "trajectory", "intrinsics", "normals")
    assert outcome.status == "scored"
    assert outcome.note is None
    right = ("delta1", "auc5", "rra5", "rta5", "normals_within_11")
    assert [outcome.scores[name] for name in right] == [1] * 5
    wrong = ("absrel", "chamfer", "ate", "rpe_translation", "rpe_rotation", "focal", "fov", "normals_mean")
    assert [outcome.scores[name] for name in wrong] == pytest.approx([0] * 8, abs=1e-3)


def test_a_scene_is_scored_on_nothing_else(room, tmp_path):
    (item,) = SCENES.items(lay_out(room, tmp_path, depth=None, intrinsics=None))
    assert item.tasks == ("poses", "trajectory")
    assert SCENES.score(item, perfect_room(room, range(4))).status == "scored"


def test_what_was_not_predicted_fails_and_the_rest_is_scored(room, item):
    outcome = SCENES.score(item, replace(perfect_room(room, range(4)), intrinsics=None))
    assert outcome.status == "failed"
    assert outcome.note == "intrinsics: no intrinsics were predicted; normals: no normals was predicted"
    assert outcome.scores["delta1"] == 1
    assert outcome.scores["normals_within_11"] == 0
    assert (outcome.scores["pixels"], outcome.scores["pairs"]) == (4 * 48 * 64, 6)
    assert "normals_mean" not in outcome.scores
    assert "focal" not in outcome.scores


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            {"depth": [np.full((48, 64), np.nan)] * 4},
            "depth: the predicted depth is not finite in 12288 of 12288 pixels",
        ),
        ({"depth": [np.ones((64, 48))] * 4}, "depth: depth of picture 0 has 48 x 64 pixels, its photo 64 x 48"),
        ({"depth": [np.ones((48, 64))] * 3}, "depth: depth was predicted for 3 pictures, of which there are 4"),
        ({"poses": np.stack([np.eye(4)] * 4)[:2]}, r"poses: poses have the shape (2, 4, 4), not (4, 4, 4)"),
        ({"poses": np.full((4, 4, 4), np.nan)}, "poses: picture 0: its pose has NaN or infinite numbers"),
        (
            {"points": [np.full((48, 64, 3), np.inf)] * 4},
            "points: the predicted point is not finite in 12288 of 12288 pixels",
        ),
    ],
)
def test_an_unusable_prediction_fails_with_its_reason(room, item, change, note):
    outcome = SCENES.score(item, replace(perfect_room(room, range(4)), **change))
    assert outcome.status == "failed"
    assert note in outcome.note
    assert (outcome.scores["pixels"], outcome.scores["pairs"]) == (4 * 48 * 64, 6)


def test_a_truth_without_depth_is_skipped_not_failed(room, tmp_path):
    lay_out(room, tmp_path, intrinsics=None, T_world_camera=None)
    for view in range(4):
        save(tmp_path / "room/depth" / f"{view}.png", np.zeros((48, 64), dtype=np.uint16))
    (item,) = SCENES.items(tmp_path)
    outcome = SCENES.score(item, Prediction(depth=[np.ones((48, 64))] * 4))
    assert (outcome.status, outcome.scores) == ("skipped", {})
    assert outcome.note == "depth: no pixel has a known depth that counts"


def test_a_broken_file_is_no_fault_of_the_prediction(room, item):
    item.frames[1].depth.file.path.write_bytes(b"broken")
    with pytest.raises(BadSample, match=r"depth/1\.png"):
        SCENES.score(item, perfect_room(room, range(4)))


def test_missing_files_are_counted_and_named(room, tmp_path):
    lay_out(room, tmp_path)
    for view in (1, 2):
        (tmp_path / "room/depth" / f"{view}.png").unlink()
    with pytest.raises(ValueError, match=r"2 of 8 files are missing .*depth/1\.png"):
        SCENES.items(tmp_path)


def test_two_scenes_of_one_name_are_refused(room, tmp_path):
    for folder in ("a", "b"):
        lay_out(room, tmp_path / folder)
    with pytest.raises(ValueError, match="room is there twice"):
        SCENES.items(tmp_path)


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_of_something_else_is_refused(tmp_path, folder):
    with pytest.raises(ValueError, match=r"there is no such folder; scenes is laid out|no folder with scene\.json"):
        SCENES.items(tmp_path / folder)


def test_an_unknown_rule_is_refused(room, item):
    with pytest.raises(ValueError, match="scenes has no rule 'best'; there are corrected, g2vlm-release"):
        SCENES.score(item, perfect_room(room, range(4)), "best")


def test_a_stored_list_takes_the_place_of_the_rule(room, tmp_path):
    for name in ("attic", "cellar"):
        lay_out(room, tmp_path, name)
    benchmark = replace(SCENES, selection=drawn(2))
    items = benchmark.items(tmp_path)
    frames = benchmark.frame_list(items)
    assert {name: len(numbers) for name, numbers in frames.items()} == {"attic": 2, "cellar": 2}
    write_list(tmp_path / "frames.json", frames)
    again = replace(SCENES, selection=every(1)).items(tmp_path)
    assert [item.row for item in again] == [item.row for item in items]
    assert fingerprint(read_list(tmp_path / "frames.json")) == fingerprint(frames)
    write_list(tmp_path / "frames.json", {"cellar": [3, 0]})
    (item,) = SCENES.items(tmp_path)
    assert (item.id, item.row["frames"]) == ("cellar", ["3.png", "0.png"])
    assert [path.name for path in item.media] == ["3.png", "0.png"]
    write_list(tmp_path / "frames.json", {"loft": [0]})
    with pytest.raises(ValueError, match=r"1 of 1 scenes are missing \(loft\)"):
        SCENES.items(tmp_path)


def test_the_lot_of_a_scene_does_not_depend_on_its_neighbours(room, tmp_path):
    benchmark = replace(SCENES, selection=drawn(2))
    alone = benchmark.frame_list(benchmark.items(lay_out(room, tmp_path, "cellar")))
    both = benchmark.frame_list(benchmark.items(lay_out(room, tmp_path, "attic")))
    assert alone == {"cellar": both["cellar"]}


# ---- figures


def item_of(id: str, kind: str, *tasks) -> SceneItem:
    return SceneItem(id, kind, (), {}, tasks=tasks)


def scored(kind: str, **scores: float) -> Outcome:
    return Outcome(kind, "scored", scores)


ITEMS = [item_of("a/1", "a", "depth"), item_of("a/2", "a", "depth"), item_of("b/1", "b", "depth")]
OUTCOMES = {
    "a/1": scored("a", delta1=1.0, absrel=0.1, pixels=100),
    "a/2": scored("a", delta1=0.5, absrel=0.2, pixels=300),
    "b/1": Outcome("b", "failed", {"delta1": 0.0, "pixels": 600}, note="depth: no depth was predicted"),
}


def figures(items, outcomes, rule="corrected") -> dict[str, tuple[float, int]]:
    return {figure.name: (figure.value, figure.count) for figure in SCENES.figures(items, outcomes, rule)}


def test_what_failed_counts_as_nothing_right_and_is_counted():
    assert figures(ITEMS, OUTCOMES) == {
        "overall": (0.5, 3),
        "delta1": (0.5, 3),
        "absrel": (pytest.approx(0.15), 2),
        "macro/delta1": (pytest.approx(0.375), 3),
        "groups/a/delta1": (0.75, 2),
        "groups/b/delta1": (0.0, 1),
        "failed": (1.0, 3),
    }


def test_the_release_pools_pixels_also_those_of_what_failed():
    found = figures(ITEMS, OUTCOMES, "g2vlm-release")
    assert found["delta1"] == (pytest.approx((100 * 1 + 300 * 0.5) / 1000), 3)
    assert found["absrel"] == (pytest.approx((100 * 0.1 + 300 * 0.2) / 400), 2)


def test_the_release_pools_pairs_and_poses_are_in_percent():
    items = [item_of("a", "a", "poses"), item_of("b", "b", "poses")]
    outcomes = {"a": scored("a", auc30=1.0, pairs=1), "b": scored("b", auc30=0.0, pairs=3)}
    assert figures(items, outcomes)["auc30"] == (50, 2)
    assert figures(items, outcomes, "g2vlm-release")["auc30"] == (25, 2)


def test_the_release_divides_by_all_scenes_though_some_were_not_scored():
    items = [item_of(name, name, "points") for name in "abcd"]
    outcomes = {name: scored(name, chamfer=0.4) for name in "ab"}
    assert figures(items, outcomes)["chamfer"] == (pytest.approx(0.4), 2)
    assert figures(items, outcomes, "g2vlm-release")["chamfer"] == (pytest.approx(0.2), 2)


@pytest.mark.parametrize("rule", ["corrected", "g2vlm-release"])
def test_a_figure_with_entries_is_their_mean(rule):
    for figure in SCENES.figures(ITEMS, OUTCOMES, rule):
        if figure.entries is not None:
            means = [
                np.mean([np.mean([OUTCOMES[i].scores[figure.metric] for i in kind]) for kind in entry])
                for entry in figure.entries
            ]
            assert figure.value == pytest.approx(np.mean(means) * figure.scale)


def test_no_outcome_gives_no_figure():
    assert SCENES.figures(ITEMS, {}) == []


# ---- real scenes


@pytest.mark.parametrize("rule", ["corrected", "g2vlm-release"])
def test_the_truth_of_real_scenes_is_perfect_at_any_scale(shared, rule):
    if not (shared / "data" / "val").is_dir():
        pytest.skip(f"no scenes in {shared.name}/data/val")
    items = [item for item in SCENES.items(shared / "data" / "val") if item.id in LONG]
    assert len(items) == len(LONG)
    outcomes = {}
    for item in items:
        truth = item.truth()
        said = perfect(truth.depth, truth.intrinsics, truth.poses, scale=2.5)
        normals = truth.normals if "normals" in item.tasks else None
        outcomes[item.id] = SCENES.score(item, replace(said, normals=normals), rule)
    assert {outcome.status for outcome in outcomes.values()} == {"scored"}
    found = figures(items, outcomes, rule)
    assert found["delta1"] == (1, 3)
    assert found["absrel"][0] < 1e-6
    assert found["auc5"] == (100, 2)
    assert found["focal"] == (0, 5)
    # Millimetres of a motorcycle that fills metres; the release resizes points across edges.
    assert found["chamfer"][0] < {"corrected": 1e-6, "g2vlm-release": 0.2}[rule]
