import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from g2vlm.eval.metrics.depth import depth_errors
from g2vlm.eval.metrics.intrinsics import focal_and_shift
from g2vlm.eval.metrics.points import icp, matched_point_errors, point_errors, umeyama
from g2vlm.eval.metrics.poses import pair_errors, pose_auc, rotation_accuracy
from g2vlm.eval.metrics.trajectories import absolute_errors, relative_errors
from g2vlm.geometry.rotation import nearest_rotation
from tests.eval import oracles
from tests.eval.oracles_geometry import name_of

CHANCE = np.random.default_rng(0)


def poses(n: int = 6) -> np.ndarray:
    matrices = np.tile(np.eye(4), (n, 1, 1))
    matrices[:, :3, :3] = nearest_rotation(torch.from_numpy(CHANCE.normal(size=(n, 3, 3)))).numpy()
    matrices[:, :3, 3] = CHANCE.normal(size=(n, 3))
    return matrices


def moved(matrices: np.ndarray) -> np.ndarray:
    other = matrices + 0.05 * CHANCE.normal(size=matrices.shape)
    other[:, :3, :3] = nearest_rotation(torch.from_numpy(other[:, :3, :3])).numpy()
    other[:, 3] = [0, 0, 0, 1]
    return other


TRUE_POSES, TRUE_DEPTH, TRUE_POINTS = poses(), CHANCE.uniform(1, 5, (8, 9)), CHANCE.normal(size=(40, 3))
POSES, DEPTH = moved(TRUE_POSES), 0.4 * TRUE_DEPTH + CHANCE.uniform(0, 0.3, (8, 9))
POINTS = 2 * TRUE_POINTS + 0.02 * CHANCE.normal(size=(40, 3)) + 1
MAP = np.concatenate([CHANCE.normal(size=(8, 9, 2)), CHANCE.uniform(2, 4, (8, 9, 1))], axis=-1)


def case_of(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays, and numbers by the functions that they are about."""
    depth_pair, pose_pair = {"pred_depth": DEPTH, "gt_depth": TRUE_DEPTH}, {"pred_poses": POSES, "gt_poses": TRUE_POSES}
    if name == "depth":
        found = depth_errors(DEPTH, TRUE_DEPTH, np.ones((8, 9), dtype=bool), alignment="weighted_l1")
        return depth_pair, {"abs_rel": found.absrel, "RMSE": found.rmse, "d1": found.delta1, "scale": found.scale}
    if name == "poses":
        errors = pair_errors(POSES, TRUE_POSES, frame="second", is_sign_blind=True, degenerate="ninety")
        numbers = {"rotation_error": errors.rotation.tolist(), "translation_error": errors.translation.tolist()}
        return pose_pair, numbers | {
            "AUC@5": pose_auc(errors, 5, bins="histc"),
            "rra_15": rotation_accuracy(errors, 15),
        }
    if name == "world_to_camera":
        errors = pair_errors(POSES, TRUE_POSES, frame="second")
        inverse = {"pred_w2c": np.linalg.inv(POSES)[:, :3], "gt_w2c": np.linalg.inv(TRUE_POSES)[:, :3]}
        return inverse, {"rot_error_deg": float(errors.rotation.mean())}
    if name == "points":
        fit = umeyama(POINTS, TRUE_POINTS)
        found = point_errors(icp(fit.of(POINTS), TRUE_POINTS, threshold=0.1).motion.of(fit.of(POINTS)), TRUE_POINTS)
        pair = {"source_points": POINTS, "target_points": TRUE_POINTS}
        return pair, {
            "accuracy": found.accuracy_mean,
            "completion_median": found.completeness_median,
            "nc1": found.nc1_mean,
        }
    if name == "umeyama":
        fit = umeyama(POINTS, TRUE_POINTS)
        numbers = {"scale": fit.scale, "R": fit.rotation.tolist(), "translation": fit.translation.tolist()}
        return {"src": POINTS, "tgt": TRUE_POINTS}, {key: value for key, value in numbers.items() if key != "R"}
    if name == "robust":
        found = matched_point_errors(POINTS, TRUE_POINTS, np.ones(40, dtype=bool), alignment="scale_and_shift")
        return {"pred": POINTS, "gt": TRUE_POINTS}, {"scale": found.scale, "shift": found.shift, "rel": found.relative}
    if name == "focal":
        found = focal_and_shift(MAP)
        return {"points": MAP}, {"focal": found.focal, "shift": found.shift}
    assert name == "trajectory"
    ate = absolute_errors(POSES, TRUE_POSES).rmse
    return pose_pair, {"ATE": ate, "rpe_rot": relative_errors(POSES, TRUE_POSES, part="rotation").rmse}


def write(folder: Path, name: str, form: str, *, off: float = 0.0) -> None:
    arrays, numbers = case_of(name)
    numbers = {key: value + off if isinstance(value, float) else value for key, value in numbers.items()}
    expected: dict[str, Any] = {"variants": {"public": {"kind": "public", "items": {"case_1": numbers}}}}
    folder.mkdir()
    if form == "an archive for each":
        np.savez(folder / "case_1.npz", **arrays)
    elif form == "one archive":
        np.savez(folder / "arrays.npz", **{f"case_1/{key}": value for key, value in arrays.items()})
    elif form == "lines":
        lines = {side: {key: value for key, value in arrays.items() if side in key} for side in ("gt", "pred")}
        for file, side in (("annotations", "gt"), ("predictions", "pred")):
            row = {"_oracle_id" if side == "gt" else "id": "case_1"}
            row |= {key: value.tolist() for key, value in lines[side].items()}
            (folder / f"{file}.jsonl").write_text(json.dumps(row))
    else:
        expected["cases"] = {"case_1": {key: value.tolist() for key, value in arrays.items()}}
    (folder / "expected.json").write_text(json.dumps(expected))


NAMES = ("depth", "poses", "world_to_camera", "points", "umeyama", "robust", "focal", "trajectory")


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_found_by_the_way_in_which_they_were_made(tmp_path: Path, name: str):
    write(tmp_path / name, name, "an archive for each")
    (found,) = oracles.compare_all(tmp_path)
    assert (found.faults, found.count) == ([], len(case_of(name)[1]))


@pytest.mark.parametrize("form", ["one archive", "inline", "lines"])
def test_arrays_may_lie_in_several_places(tmp_path: Path, form: str):
    write(tmp_path / "depth", "depth", form)
    assert [found.faults for found in oracles.compare_all(tmp_path)] == [[]]


@pytest.mark.parametrize("name", ["poses", "umeyama", "focal", "trajectory"])
def test_a_number_that_no_way_gives_is_a_fault(tmp_path: Path, name: str):
    write(tmp_path / name, name, "an archive for each", off=0.01)
    (found,) = oracles.compare_all(tmp_path)
    assert "no way of ours gives this" in found.faults[0]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *(("abs_rel", "absrel"), ("AbsRel", "absrel"), ("a1", "delta1"), ("delta_3", "delta3"), ("AUC@30", "auc30")),
        *(("Racc_5", "rra5"), ("Acc", "acc"), ("comp_med", "compmed"), ("rotation_error_deg", "rotation")),
        *(("ape_rmse", "ate"), ("rpe_translation", "rpetrans"), ("unheard_of", "unheardof")),
    ],
)
def test_numbers_are_known_by_many_names(theirs: str, ours: str):
    assert name_of(theirs) == ours
