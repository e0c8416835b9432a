"""Compares our geometry metrics with recorded ones, for `oracles.py`: folders whose expected.json names numbers by case, beside arrays.

Arrays of a case are in CASE.npz, in an archive under names that begin with CASE, in JSON lines that have CASE as their id, or in
expected.json itself. What an array is follows from its name ("pred_poses", "gt", "depth_mask"); what a number is from its name
("abs_rel", "AUC@30", "rra_15"). How it was made (alignment, frame, bins) is looked for among all that our functions know: a number
agrees if one way gives it in every case, and that way is told, to be compared with what the variant says of itself.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from g2vlm.eval.metrics.depth import Alignment, depth_errors
from g2vlm.eval.metrics.intrinsics import focal_and_shift, focal_errors
from g2vlm.eval.metrics.points import PointAlignment, f_score, icp, matched_point_errors, point_errors, umeyama
from g2vlm.eval.metrics.poses import (
    Bins,
    Degenerate,
    Frame,
    pair_errors,
    pose_auc,
    rotation_accuracy,
    translation_accuracy,
)
from g2vlm.eval.metrics.trajectories import TrajectoryAlignment, absolute_errors, relative_errors

Arrays = Mapping[str, np.ndarray]
Values = dict[str, Any]

# --- arrays of a case -------------------------------------------------------------------------------------------------

SIDES = {
    "prediction": {"pred", "prediction", "predicted", "est", "estimate", "estimated", "source", "src"},
    "truth": {"annotation", "gt", "true", "truth", "target", "tgt", "ref", "reference"},
}
WORLD_TO_CAMERA = {"w2c", "extrinsics", "extrinsic"}


def arrays_of(folder: Path, case: str, *places: Any) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as archive:
            for name in archive.files:
                if path.stem == case:
                    found[name] = archive[name]
                elif re.match(rf"{re.escape(case)}[^A-Za-z0-9]", name):
                    found[name[len(case) + 1 :]] = archive[name]
    for path in sorted(folder.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        for row in rows:
            if case in (row.get("id"), row.get("_oracle_id")):
                found |= listed(row, path.stem.removesuffix("s"))
    for place in places:
        found |= listed(place, "")
    return found


def listed(value: Any, name: str) -> dict[str, np.ndarray]:
    """Lists of numbers within records, under the names of all records that they are in; a number is an option ("threshold")."""
    if isinstance(value, dict):
        parts = [listed(each, f"{name} {key}".strip()) for key, each in value.items()]
        return {key: array for part in parts for key, array in part.items()}
    if isinstance(value, list | int | float) and not isinstance(value, bool) and name:
        try:
            return {name: np.array(value, dtype=np.float64)}
        except (TypeError, ValueError):
            return {}
    return {}


def words_of(name: str) -> set[str]:
    return {*re.findall("[a-z0-9]+", name.lower())} | {*re.findall("[a-z]+", name.lower())}


def side(arrays: Arrays, which: str, num_axes: Iterable[int]) -> np.ndarray:
    found = [
        a for name, a in arrays.items() if words_of(name) & SIDES[which] and a.ndim in num_axes and "mask" not in name
    ]
    if len(found) != 1:
        raise ValueError(f"{len(found)} arrays of the {which} among {', '.join(arrays)}")
    return found[0]


def mask_of(arrays: Arrays, like: np.ndarray) -> np.ndarray:
    found = [a for name, a in arrays.items() if words_of(name) & {"mask", "valid"}]
    return found[0].astype(bool) if found else np.ones(like.shape, dtype=bool)


def poses_of(arrays: Arrays, which: str) -> np.ndarray:
    """Camera-to-world, of whatever the name says it is."""
    matrices = np.asarray(side(arrays, which, (3,)), dtype=np.float64)
    if matrices.shape[1] == 3:
        matrices = np.concatenate([matrices, np.tile([[[0.0, 0, 0, 1]]], (len(matrices), 1, 1))], axis=1)
    is_inverse = any(words_of(name) & WORLD_TO_CAMERA and words_of(name) & SIDES[which] for name in arrays)
    return np.linalg.inv(matrices) if is_inverse else matrices


def option(arrays: Arrays, name: str, default: float) -> float:
    return next((float(a) for key, a in arrays.items() if name in words_of(key) and a.ndim == 0), default)


# --- numbers by kind --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """pattern: of names, as letters and digits. ways: settings of `values`, which gives numbers by name."""

    pattern: str
    ways: tuple[tuple[Any, ...], ...]
    values: Callable[..., Values]


def depth(arrays: Arrays, names: Iterable[str], alignment: Alignment) -> Values:
    predicted, true = (side(arrays, which, (1, 2, 3)) for which in SIDES)
    found = depth_errors(predicted, true, mask_of(arrays, true), alignment=alignment)
    return {"absrel": found.absrel, "rmse": found.rmse, "scale": found.scale, "shift": found.shift} | {
        f"delta{n}": getattr(found, f"delta{n}") for n in (1, 2, 3)
    }


def poses(
    arrays: Arrays, names: Iterable[str], frame: Frame, is_sign_blind: bool, degenerate: Degenerate, bins: Bins
) -> Values:
    predicted, true = (poses_of(arrays, which) for which in SIDES)
    errors = pair_errors(predicted, true, frame=frame, is_sign_blind=is_sign_blind, degenerate=degenerate)
    found: Values = {"rotation": errors.rotation, "translation": errors.translation}
    measures = {"auc": partial(pose_auc, bins=bins), "rra": rotation_accuracy, "rta": translation_accuracy}
    for name in names:
        if at := re.fullmatch(r"(auc|rra|rta)(\d+)", name):
            found[name] = measures[at[1]](errors, int(at[2]))
    return found


def clouds(arrays: Arrays, names: Iterable[str], steps: str) -> Values:
    predicted, true = (side(arrays, which, (2, 3)) for which in SIDES)
    mask = mask_of(arrays, true[..., 0])
    is_matched = predicted.shape == true.shape
    p, q = (points[mask] if is_matched else points for points in (predicted, true))
    found: Values = {}
    if "umeyama" in steps:
        fit = umeyama(p, q)
        p = fit.of(p)
        found = {"scale": fit.scale, "rotation": fit.rotation, "translation": fit.translation}
    if "icp" in steps:
        p = icp(p, q, threshold=option(arrays, "threshold", 0.1)).motion.of(p)
    errors = point_errors(p, q)
    within = f_score(p, q, threshold=option(arrays, "threshold", 0.1))
    return (
        found
        | {"chamfer": errors.chamfer, "fscore": within.fscore, "precision": within.precision, "recall": within.recall}
        | {
            f"{short}{mean}": getattr(errors, f"{name}_{kind}")
            for short, name in (
                ("acc", "accuracy"),
                ("comp", "completeness"),
                ("nc", "nc"),
                ("nc1", "nc1"),
                ("nc2", "nc2"),
            )
            for mean, kind in (("", "mean"), ("mean", "mean"), ("med", "median"))
        }
    )


def matched(arrays: Arrays, names: Iterable[str], alignment: PointAlignment) -> Values:
    predicted, true = (side(arrays, which, (2, 3)) for which in SIDES)
    found = matched_point_errors(predicted, true, mask_of(arrays, true[..., 0]), alignment=alignment)
    return {"scale": found.scale, "shift": np.array(found.shift), "rel": found.relative, "delta1": found.delta1}


def trajectory(arrays: Arrays, names: Iterable[str], alignment: TrajectoryAlignment) -> Values:
    predicted, true = (poses_of(arrays, which) for which in SIDES)
    parts = {
        part: relative_errors(predicted, true, part=part, alignment=alignment).rmse
        for part in ("translation", "rotation")
    }
    return {
        "ate": absolute_errors(predicted, true, alignment=alignment).rmse,
        "rpetrans": parts["translation"],
        "rperot": parts["rotation"],
    }


def camera(arrays: Arrays, names: Iterable[str], is_coarse: bool) -> Values:
    if any(a.shape[-2:] == (3, 3) for a in arrays.values()):
        predicted, true = (side(arrays, which, (2, 3)).reshape(-1, 3, 3) for which in SIDES)
        size = int(option(arrays, "height", 1)), int(option(arrays, "width", 1))
        return {"focalerror": focal_errors(predicted, true, size).relative.mean()}
    points = next(a for a in arrays.values() if a.ndim == 3 and a.shape[-1] == 3)
    coarse: dict[str, Any] = {"grid": (64, 64), "tolerance": 1e-3, "dtype": np.float32} if is_coarse else {}
    found = focal_and_shift(points, mask_of(arrays, points[..., 0]), **coarse)
    return {"focal": found.focal, "shift": found.shift, "focalnorm": found.focal / np.hypot(*points.shape[:2]) * 2}


def singles(of: Any) -> tuple[tuple[Any], ...]:
    return tuple((each,) for each in get_args(of))


KINDS = (
    Kind(
        r"rotation|translation|(auc|rra|rta)\d+",
        tuple(product(get_args(Frame), (False, True), get_args(Degenerate), get_args(Bins))),
        poses,
    ),
    Kind("absrel|rmse|delta[123]|scale|shift", singles(Alignment), depth),
    Kind("rel|delta1|scale|shift", singles(PointAlignment), matched),
    Kind(
        "chamfer|fscore|precision|recall|(acc|comp|nc|nc1|nc2)(mean|med)?|scale|rotation|translation",
        (("none",), ("umeyama",), ("umeyama, icp",), ("icp",)),
        clouds,
    ),
    Kind("ate|rpetrans|rperot", singles(TrajectoryAlignment), trajectory),
    Kind("focal|focalnorm|focalerror|shift", ((False,), (True,)), camera),
)

SPELLINGS = (
    *(
        ("errors?(deg|degrees)?$", ""),
        ("(?<=.)rmse$", ""),
        ("^accuracy", "acc"),
        ("^(completeness|completion)", "comp"),
    ),
    *(("normalconsistency", "nc"), ("median$", "med"), ("^(racc|raccuracy)", "rra"), ("^(tacc|taccuracy)", "rta")),
    *(("^[ad]([123])$", r"delta\1"), ("^ape", "ate"), ("^rot$", "rotation"), ("^(trans|t)$", "translation")),
    *(("^rpet.*", "rpetrans"), ("^rper.*", "rperot"), ("^abs(olute)?rel(ative)?$", "absrel"), ("^f1?score$", "fscore")),
)
"""How else numbers are called, rewritten one after the other until a name is known."""


def name_of(name: str) -> str:
    """As letters and digits, in our words where we know others."""
    plain = rewritten = re.sub("[^a-z0-9]", "", name.lower())
    for pattern, ours in (("$", ""), *SPELLINGS):
        rewritten = re.sub(pattern, ours, rewritten)
        if any(re.fullmatch(kind.pattern, rewritten) for kind in KINDS):
            return rewritten
    return plain


# --- comparison -------------------------------------------------------------------------------------------------------


def numbers_of(item: Mapping[str, Any]) -> Values:
    """What is expected of a case, by our names; texts and records about it are none."""
    flat = item.get("metrics", item)
    kept = {
        name: value
        for name, value in flat.items()
        if isinstance(value, int | float | list) and not isinstance(value, bool)
    }
    return {name_of(name): value for name, value in kept.items()}


Where = tuple[str, str]
"""Case and name of a number."""


@dataclass(frozen=True)
class Attempt:
    """Numbers of one kind made in one way: how far each that could be made is from what is expected."""

    kind: Kind
    way: tuple[Any, ...]
    differences: Mapping[Where, float]

    def hits(self, tolerance: float) -> dict[Where, float]:
        """Numbers of names that are right in every case that could be made."""
        wrong = {name for (_, name), difference in self.differences.items() if not difference <= tolerance}
        return {where: difference for where, difference in self.differences.items() if where[1] not in wrong}


def attempts(cases: Mapping[str, tuple[Arrays, Values]]) -> Iterator[Attempt]:
    for kind in KINDS:
        for way in kind.ways:
            differences: dict[Where, float] = {}
            for case, (arrays, expected) in cases.items():
                wanted = {name: value for name, value in expected.items() if re.fullmatch(kind.pattern, name)}
                try:
                    ours = kind.values(arrays, wanted, *way) if wanted else {}
                except (ArithmeticError, LookupError, StopIteration, TypeError, ValueError):
                    continue  # arrays of another kind
                differences |= {(case, name): difference(ours[name], wanted[name]) for name in wanted if name in ours}
            yield Attempt(kind, way, differences)


def difference(ours: Any, theirs: Any) -> float:
    """The largest, infinite where only one is a number; a single number is compared with the mean of several of ours."""
    mine, other = (np.asarray(value, dtype=np.float64) for value in (ours, theirs))
    if mine.shape != other.shape:
        mine = np.asarray(np.nanmean(mine)) if other.ndim == 0 else np.full(other.shape, np.nan)
    unequal = np.isnan(mine) != np.isnan(other)
    return float("inf") if unequal.any() else float(np.nanmax(np.abs(mine - other), initial=0.0))


def best_attempts(cases: Mapping[str, tuple[Arrays, Values]], tolerance: float) -> list[Attempt]:
    """So few ways that each number that any of them gives is in one; those that give most come first."""
    left = {(case, name) for case, (_, expected) in cases.items() for name in expected}
    chosen = []
    for attempt in sorted(attempts(cases), key=lambda each: -len(each.hits(tolerance))):
        hits = {where: far for where, far in attempt.hits(tolerance).items() if where in left}
        if hits:
            chosen.append(Attempt(attempt.kind, attempt.way, hits))
            left -= hits.keys()
    return chosen
