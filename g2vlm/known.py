"""Cameras that are known beforehand: a reconstruction is fitted to them, and says how far it was off and what that changed."""

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float

from g2vlm.geometry.align import robust_scale_points
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import FLIP, relative_poses
from g2vlm.geometry.rotation import geodesic_angle
from g2vlm.records import Reconstruction
from g2vlm.worlds import map_intrinsics, sighted

MOST_MATCHES = 2000
"""Pixels of a view that are followed into another one."""

SAME_SURFACE = 0.1
"""Relative difference of two depths below which they are taken to be of one surface."""

POOR = 30.0
"""Degrees, of rotation and direction together; known poses that differ by more are looked at for a mix-up of conventions."""


@dataclass(frozen=True)
class KnownCameras:
    """What is known of the cameras of a reconstruction, view by view.

    intrinsics: in pixels of the original photos, centres at +0.5. poses: camera-to-world, OpenCV axes. is_metric: poses are in metres.
    source: where they come from, for messages.
    """

    intrinsics: Float[np.ndarray, "views 3 3"] | None
    poses: Float[np.ndarray, "views 4 4"] | None
    is_metric: bool
    source: str


@dataclass(frozen=True)
class Agreement:
    """How well views agree: the median relative difference of the depths that two views give one surface, over `num_matches` pixels
    that both show; NaN of none."""

    median: float
    num_matches: int


@dataclass(frozen=True)
class KnownReport:
    """What a fit to known cameras found.

    focal_error: predicted focal length over the known one, minus 1, by view. rotation_deg, translation_deg: medians over pairs of views
    of the predicted against the known relative pose; NaN where poses, or baselines, are not known. scale: known units in one unit of
    the prediction. before, after: agreement of the views as predicted, and as fitted.
    """

    focal_error: tuple[float, ...]
    rotation_deg: float
    translation_deg: float
    scale: float
    before: Agreement
    after: Agreement


def fit_to_known(reconstruction: Reconstruction, known: KnownCameras) -> tuple[Reconstruction, KnownReport]:
    """The reconstruction with these cameras, and its points on their rays.

    Known intrinsics: every point moves to the nearest place on its pixel's true ray. Known poses: one factor for all depths brings the
    points that views share closest together between the known cameras (ROE over the shared points, so two views are enough); the world
    becomes that of the poses. Raises ValueError where the number of cameras differs, where known poses never move, and where they fit
    far better under another convention than the one they are given in.
    """
    for name, cameras in (("intrinsics", known.intrinsics), ("poses", known.poses)):
        if cameras is not None and len(cameras) != len(reconstruction.names):
            raise ValueError(
                f"{known.source} has {name} of {len(cameras)} views, but there are {len(reconstruction.names)}"
            )
    focal_error: tuple[float, ...] = ()
    rotation = translation = float("nan")
    scale = 1.0
    fitted = reconstruction
    if known.intrinsics is not None:
        ratios = _focals(reconstruction.intrinsics) / _focals(known.intrinsics) - 1
        focal_error = tuple(ratios.mean(-1).tolist())
        fitted = on_rays(fitted, known.intrinsics)
    if known.poses is not None and len(known.poses) > 1:
        rotation, translation = pose_difference(fitted.poses, known.poses)
        _require_convention(fitted.poses, known)
        scale = _scale_between(fitted, known)
    if known.poses is not None:
        fitted = _with_poses(fitted, known.poses, scale, is_metric=known.is_metric)
    report = KnownReport(focal_error, rotation, translation, scale, agreement(reconstruction), agreement(fitted))
    return fitted, report


def on_rays(reconstruction: Reconstruction, intrinsics: Float[np.ndarray, "views 3 3"]) -> Reconstruction:
    """Every point at the nearest place on the ray of its pixel by these intrinsics (of the original photos); normals stay as predicted."""
    given = replace(reconstruction, intrinsics=intrinsics)
    depths, points = [], []
    for view, pose in enumerate(reconstruction.poses.astype(np.float64)):
        local = _local_points(reconstruction, view)
        rays = unproject(torch.ones(local.shape[:2], dtype=torch.float64), map_intrinsics(given, view)).numpy()
        depth = (local * rays).sum(-1) / (rays * rays).sum(-1)
        local = depth[..., None] * rays
        depths.append(depth.astype(np.float32))
        points.append((local @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32))
    return replace(
        reconstruction,
        depth=tuple(depths),
        points=tuple(points),
        intrinsics=intrinsics.astype(np.float32),
        intrinsics_error=np.zeros(len(intrinsics), dtype=np.float32),
    )


def pose_difference(
    predicted: Float[np.ndarray, "views 4 4"], known: Float[np.ndarray, "views 4 4"]
) -> tuple[float, float]:
    """Medians over pairs of views, in degrees: of relative rotations, and of directions from camera to camera (NaN of no baseline)."""
    one, other = (relative_poses(torch.from_numpy(np.asarray(poses, np.float64))) for poses in (predicted, known))
    first, second = np.triu_indices(len(known), k=1)
    one, other = one[first, second], other[first, second]
    rotation = torch.rad2deg(geodesic_angle(one[:, :3, :3], other[:, :3, :3]))
    a, b = one[:, :3, 3].numpy(), other[:, :3, 3].numpy()
    has_baseline = np.linalg.norm(b, axis=-1) > 1e-9
    sine, cosine = np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)
    angles = np.degrees(np.arctan2(sine, cosine))[has_baseline]
    return float(rotation.median()), float(np.median(angles)) if len(angles) else float("nan")


def agreement(reconstruction: Reconstruction) -> Agreement:
    """How well the views of a reconstruction agree on the depth of what two of them show."""
    differences = [np.abs(m.seen / m.expected - 1) for m in _matches(reconstruction, greatest=np.inf)]
    flat = np.concatenate(differences) if differences else np.zeros(0)
    flat = flat[flat < 0.5]  # beyond, one surface hides another
    return Agreement(float(np.median(flat)) if len(flat) else float("nan"), len(flat))


# --- conventions ------------------------------------------------------------------------------------------------------


def _require_convention(predicted: Float[np.ndarray, "views 4 4"], known: KnownCameras) -> None:
    """Known poses in other axes, or world-to-camera, fit the prediction better once they are read so."""
    assert known.poses is not None
    inverse = np.linalg.inv(known.poses)
    readings = {
        "camera-to-world in OpenCV axes": known.poses,
        "world-to-camera in OpenCV axes": inverse,
        "camera-to-world in OpenGL axes": known.poses @ FLIP,
        "world-to-camera in OpenGL axes": np.linalg.inv(FLIP @ known.poses),
    }
    errors = {name: float(np.nansum(pose_difference(predicted, poses))) for name, poses in readings.items()}
    as_given, *_ = errors
    best = min(errors, key=lambda name: errors[name])
    if errors[as_given] > POOR and errors[best] < errors[as_given] / 2:
        raise ValueError(
            f"the poses of {known.source} do not fit the photos as {as_given} ({errors[as_given]:.0f} degrees off), but do as {best} "
            f"({errors[best]:.0f} degrees); convert them"
        )


# --- scale ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Matched:
    """Pixels of one view followed into another: camera-frame points of both, and the depth that was expected and is seen there."""

    one: int
    other: int
    source: Float[np.ndarray, "n 3"]
    target: Float[np.ndarray, "n 3"]
    expected: Float[np.ndarray, " n"]
    seen: Float[np.ndarray, " n"]


def _matches(reconstruction: Reconstruction, greatest: float = SAME_SURFACE) -> list[_Matched]:
    """Every ordered pair of views that share pixels; greatest: relative difference of the two depths."""
    locals_ = [_local_points(reconstruction, view) for view in range(len(reconstruction.names))]
    found = []
    for one, other in permutations(range(len(locals_)), 2):
        chosen = np.flatnonzero(reconstruction.mask[one])
        chosen = chosen[:: max(1, -(-len(chosen) // MOST_MATCHES))]
        source = locals_[one].reshape(-1, 3)[chosen]
        seen = sighted(reconstruction, reconstruction.points[one].reshape(-1, 3)[chosen], other)
        target = locals_[other][seen.row, seen.column]
        is_met = seen.is_inside & reconstruction.mask[other][seen.row, seen.column]
        is_met[is_met] = np.abs(target[is_met, 2] / seen.depth[is_met] - 1) < greatest
        if is_met.any():
            found.append(_Matched(one, other, source[is_met], target[is_met], seen.depth[is_met], target[is_met, 2]))
    return found


def _scale_between(reconstruction: Reconstruction, known: KnownCameras) -> float:
    """s of s (R_i x - R_j y) = t_j - t_i over points x, y that views i and j share, with the known rotations and positions."""
    assert known.poses is not None
    poses = known.poses.astype(np.float64)
    if np.ptp(poses[:, :3, 3], axis=0).max() < 1e-9:
        raise ValueError(
            f"the poses of {known.source} all stand in one place, which says nothing of scale; give --metric a length"
        )
    sources, targets = [], []
    for match in _matches(reconstruction):
        one, other = poses[match.one], poses[match.other]
        sources.append(match.source @ one[:3, :3].T - match.target @ other[:3, :3].T)
        targets.append(np.broadcast_to(other[:3, 3] - one[:3, 3], match.source.shape))
    if not sources:
        raise ValueError(
            f"the photos share nothing that would bring them to the poses of {known.source}; add photos between them"
        )
    source, target = (torch.from_numpy(np.concatenate(x)) for x in (sources, targets))
    scale = float(robust_scale_points(source, target, torch.ones(len(source), dtype=torch.float64)))
    if not scale > 0:
        raise ValueError(
            f"no positive scale brings the prediction to the poses of {known.source}; are they of these photos?"
        )
    return scale


def _with_poses(
    reconstruction: Reconstruction, poses: Float[np.ndarray, "views 4 4"], scale: float, *, is_metric: bool
) -> Reconstruction:
    """Local points times a scale, seen from known poses."""
    points = [
        (scale * _local_points(reconstruction, view) @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
        for view, pose in enumerate(poses.astype(np.float64))
    ]
    return replace(
        reconstruction,
        depth=tuple((scale * depth).astype(np.float32) for depth in reconstruction.depth),
        points=tuple(points),
        poses=poses.astype(np.float32),
        scale="metric" if is_metric else "scale_free",
        world="known",
    )


# --- cameras ----------------------------------------------------------------------------------------------------------


def _focals(intrinsics: Float[np.ndarray, "views 3 3"]) -> Float[np.ndarray, "views 2"]:
    return np.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], axis=-1)


def _local_points(reconstruction: Reconstruction, view: int) -> Float[np.ndarray, "height width 3"]:
    """In the camera's own frame, float64."""
    pose = reconstruction.poses[view].astype(np.float64)
    return (reconstruction.points[view] - pose[:3, 3]) @ pose[:3, :3]
