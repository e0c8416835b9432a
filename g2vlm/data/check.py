"""Do depth, poses and intrinsics of a scene agree? Depth of each view is carried into the others and compared there.

Where it does not agree, the mistakes that people make are tried (poses inverted, OpenGL axes, another unit of depth, ...),
and the one that mends the scene is named.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from g2vlm.data.recon import Scene, ray_lengths, valid
from g2vlm.data.samples import BadSample

MAX_FRAMES = 16
GRID = 48
"""Points of each view that are carried into the others, along each side."""

MIN_OVERLAP = 0.2
"""Part of a view's points that must fall onto known depth of another view for the two to be compared."""

CLOSE = 0.05
MAX_MEDIAN = 0.05
"""Disagreement at which a scene is bad. Rendered scenes have 0.001, good sensors 0.01, rough ones 0.02."""

SUSPICIOUS, MENDED = 0.01, 1 / 3
"""A smaller disagreement is bad, too, where it is above the first and a known mistake mends it to the second of itself."""

DEPTH_FACTORS = (0.001, 0.01, 0.1, 0.2, 0.25, 0.5, 2.0, 4.0, 5.0, 10.0, 100.0, 1000.0)
FOCAL_RANGE = (0.2, 20.0)
"""Of the focal length in parts of the longer side: 136 to 3 degrees of view."""


@dataclass(frozen=True)
class Agreement:
    """How well depth and poses agree over pairs of views that see the same things.

    median: of the relative difference of depth, over pixels of a pair, then over pairs. close: part of pixels within 5 %.
    """

    median: float
    close: float
    num_pairs: int


@dataclass(frozen=True)
class SceneCheck:
    """What was found. reasons: what is wrong, nothing for a good scene. agreement: None where no two views overlap.

    num_views: frames read that have depth, a pose and intrinsics.
    """

    name: str
    reasons: tuple[str, ...]
    num_views: int
    agreement: Agreement | None

    @property
    def is_good(self) -> bool:
        return not self.reasons

    @property
    def num_pairs(self) -> int:
        return 0 if self.agreement is None else self.agreement.num_pairs

    def lines(self) -> list[str]:
        """What was found, for people: what is wrong, or how well the scene agrees."""
        if self.reasons:
            return list(self.reasons)
        if self.num_views < 2:
            return ["readable; depth and poses are not known together, so they were not compared"]
        if self.agreement is None:
            return [f"readable; none of {self.num_views} views overlap, so depth and poses were not compared"]
        return [f"depth and poses agree to {self.agreement.median:.1%} (median of {self.num_pairs} pairs of views)"]


@dataclass(frozen=True)
class View:
    """A frame with everything known, and the points of it that are compared."""

    depth: Float[np.ndarray, "height width"]
    pixels: Float[np.ndarray, "points 2"]
    intrinsics: Float[np.ndarray, "3 3"]
    pose: Float[np.ndarray, "4 4"]


def check(scene: Scene, max_frames: int = MAX_FRAMES) -> SceneCheck:
    """Read a few frames, spread over the scene and in neighbouring pairs, and judge them."""
    reasons: list[str] = []
    views: list[View] = []
    for index in chosen_frames(len(scene.frames), max_frames):
        frame = scene.frames[index]
        try:
            shot = frame.read()
        except BadSample as error:
            reasons.append(str(error))
            continue
        if frame.intrinsics is None:
            continue
        wrong = misfit(frame.intrinsics, (shot.image.shape[0], shot.image.shape[1]))
        if wrong:
            reasons.append(f"{frame.name}: {wrong}")
        if frame.pose is not None and shot.depth is not None:
            views.append(View(shot.depth, grid(*shot.depth.shape), frame.intrinsics, frame.pose))
    agreement = agree(views)
    suspicion = disagreement(views, agreement)
    if suspicion:
        reasons.append(suspicion)
    return SceneCheck(scene.name, tuple(reasons), len(views), agreement)


def disagreement(views: list[View], given: Agreement | None) -> str:
    """What is wrong between depth and poses, and the known mistake that would explain it; nothing if they agree."""
    if given is not None and given.median < SUSPICIOUS:
        return ""
    mended = {name: agreement for name, mend in MISTAKES.items() if (agreement := agree([mend(v) for v in views]))}
    enough = {name: agreement for name, agreement in mended.items() if 2 * agreement.num_pairs >= len(views)}
    name = min(enough, key=lambda name: enough[name].median, default=None)
    is_mended = name is not None and enough[name].median < MENDED * (MAX_MEDIAN if given is None else given.median)
    if given is None:
        found = "no two views overlap"
        is_bad = is_mended
    else:
        found = f"depth and poses disagree by {given.median:.1%} (median of {given.num_pairs} pairs of views)"
        is_bad = is_mended or given.median > MAX_MEDIAN
    if not is_bad:
        return ""
    return f"{found}; {enough[name].median:.1%} if {name}" if is_mended and name else found


def inverted(view: View) -> View:
    rotation = view.pose[:3, :3].T
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ view.pose[:3, 3]
    return replace(view, pose=pose)


def opengl(view: View) -> View:
    return replace(view, pose=view.pose @ np.diag([1.0, -1.0, -1.0, 1.0]))


def transposed(view: View) -> View:
    pose = view.pose.copy()
    pose[:3, :3] = view.pose[:3, :3].T
    return replace(view, pose=pose)


def with_depth(factor: float) -> Callable[[View], View]:
    return lambda view: replace(view, depth=view.depth * np.float32(factor))


def with_focal(factor: float) -> Callable[[View], View]:
    return lambda view: replace(view, intrinsics=view.intrinsics * [[factor, 1, 1], [1, factor, 1], [1, 1, 1]])


def with_size(factor: float) -> Callable[[View], View]:
    return lambda view: replace(view, intrinsics=view.intrinsics * [[factor], [factor], [1]])


def from_rays(view: View) -> View:
    return replace(view, depth=view.depth / ray_lengths(view.intrinsics, (view.depth.shape[0], view.depth.shape[1])))


MISTAKES: dict[str, Callable[[View], View]] = {
    "the poses are inverted (world-to-camera was taken for camera-to-world)": inverted,
    "y and z of the cameras are turned (OpenGL axes were taken for OpenCV's)": opengl,
    "the poses are inverted, with y and z turned before (world-to-camera with OpenGL axes)": lambda v: opengl(
        inverted(v)
    ),
    "the rotations are transposed (a conjugated quaternion, or rows for columns)": transposed,
    "depth is taken as distance along the ray": from_rays,
    **{f"depth is multiplied by {f:g} (its unit is wrong)": with_depth(f) for f in DEPTH_FACTORS},
    **{f"focal lengths are multiplied by {f:g}": with_focal(f) for f in (0.5, 2.0)},
    **{f"intrinsics are multiplied by {f:g} (they are for another size)": with_size(f) for f in (0.5, 2.0)},
}


def chosen_frames(count: int, at_most: int) -> list[int]:
    """Pairs of neighbours, evenly spread: a sequence has overlap between them, a loose set anywhere."""
    if count <= at_most:
        return list(range(count))
    first = np.linspace(0, count - 1, at_most // 2).round().astype(int)
    step = max(1, count // (4 * at_most))
    return sorted({int(i) for i in (*first, *(first + step).clip(max=count - 1))})


def misfit(intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> str:
    """What is implausible about a camera for a picture of this (height, width); nothing if it is plausible."""
    (fx, cx), (fy, cy) = intrinsics[0, [0, 2]], intrinsics[1, [1, 2]]
    height, width = size
    if not (0 < cx < width and 0 < cy < height):
        return (
            f"its principal point ({cx:.1f}, {cy:.1f}) lies outside its {width} x {height} pixels; "
            "intrinsics for another size?"
        )
    low, high = (part * max(height, width) for part in FOCAL_RANGE)
    if not (low < fx < high and low < fy < high):
        return f"its focal lengths {fx:.1f} and {fy:.1f} do not fit {width} x {height} pixels; not in pixels?"
    return ""


def agree(views: list[View]) -> Agreement | None:
    """Over all ordered pairs that overlap enough."""
    medians, closes = [], []
    for i, source in enumerate(views):
        for j, target in enumerate(views):
            if i != j and (differences := carried(source, target)) is not None:
                medians.append(np.median(differences))
                closes.append(np.mean(differences < CLOSE))
    return Agreement(float(np.median(medians)), float(np.mean(closes)), len(medians)) if medians else None


def carried(source: View, target: View) -> Float[np.ndarray, " points"] | None:
    """Relative difference of a view's depth to another's where its points fall onto known depth; None for few."""
    columns, rows = source.pixels.astype(int).T
    depth = source.depth[rows, columns]
    known = valid(depth[None])[0]
    if not known.any():
        return None
    depth, pixels = depth[known, None].astype(np.float64), source.pixels[known]
    rays = (pixels - source.intrinsics[:2, 2]) / np.diag(source.intrinsics)[:2]
    local = np.concatenate([rays * depth, depth], axis=1)
    world = local @ source.pose[:3, :3].T + source.pose[:3, 3]
    seen = (world - target.pose[:3, 3]) @ np.linalg.inv(target.pose[:3, :3]).T
    seen = seen[seen[:, 2] > 0]
    places = seen[:, :2] / seen[:, 2:] * np.diag(target.intrinsics)[:2] + target.intrinsics[:2, 2]
    height, width = target.depth.shape
    inside = (places >= 0).all(1) & (places < [width, height]).all(1)
    columns, rows = places[inside].astype(int).T
    there = target.depth[rows, columns]
    met = there > 0
    if met.sum() < MIN_OVERLAP * len(depth):
        return None
    return np.abs(seen[inside, 2][met] / there[met] - 1)


def grid(height: int, width: int) -> Float[np.ndarray, "points 2"]:
    """Centres of evenly spaced pixels, (x, y)."""
    rows, columns = (np.linspace(0, n - 1, min(n, GRID)).round() + 0.5 for n in (height, width))
    return np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
