"""What a sample consists of: how many views of what shape, and which frames of a scene."""

import bisect
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from g2vlm.data.recon import Frame, Scene
from g2vlm.data.samples import BadSample


@dataclass(frozen=True)
class Shapes:
    """The shapes that packs may have.

    views: least and most per sample. resolution: longer side in pixels; with `other_resolutions`, one of them all is drawn
    for each pack. aspects: least and greatest shorter/longer side. portrait: part of the packs that stands upright. patch: sides are multiples of it.
    """

    views: tuple[int, int] = (2, 24)
    resolution: int = 112
    aspects: tuple[float, float] = (0.5, 1.0)
    portrait: float = 0.3
    patch: int = 14
    other_resolutions: tuple[int, ...] = ()

    def __post_init__(self):
        for side in self.resolutions:
            if side < self.patch or side % self.patch:
                raise ValueError(f"resolution {side} is not a multiple of the patch size, {self.patch} pixels")
        if not 0 < self.aspects[0] <= self.aspects[1] <= 1:
            raise ValueError(f"aspects must be shorter/longer side, 0 < least <= greatest <= 1, got {self.aspects}")
        if not 1 <= self.views[0] <= self.views[1]:
            raise ValueError(f"views must be 1 <= least <= most, got {self.views}")
        if not 0 <= self.portrait <= 1:
            raise ValueError(f"portrait is a part of the packs, in [0, 1], got {self.portrait}")

    def views_of(self, available: tuple[int, int]) -> tuple[int, int]:
        """Least and most views per sample of a source that has so many: as near to `views` as it can."""
        least, most = (min(max(count, available[0]), available[1]) for count in self.views)
        return least, most

    @property
    def resolutions(self) -> tuple[int, ...]:
        return (self.resolution, *self.other_resolutions)

    def side(self, aspect: float, longer: int | None = None) -> int:
        """Shorter side for an aspect ratio, in pixels, beside `resolution` unless another longer side is given."""
        return max(round((longer or self.resolution) * aspect / self.patch), 1) * self.patch


def random_size(draw: random.Random, shapes: Shapes) -> tuple[int, int]:
    """Height and width of the views of a pack."""
    long = draw.choice(shapes.resolutions)
    short = shapes.side(draw.uniform(*shapes.aspects), long)
    return (long, short) if draw.random() < shapes.portrait else (short, long)


@dataclass(frozen=True)
class FrameChoice:
    """How the frames of a sample are chosen.

    window: views of a sequence come from `window` frames per view wanted. random_frames: chance to draw them from the
    whole scene instead. overlap: least and greatest mean overlap of views, where depth and poses are known.
    """

    window: int = 30
    random_frames: float = 0.1
    overlap: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        if self.window < 1:
            raise ValueError(f"window must be at least 1 frame per view, got {self.window}")
        if not 0 <= self.overlap[0] <= self.overlap[1] <= 1:
            raise ValueError(f"overlap must be 0 <= least <= greatest <= 1, got {self.overlap}")


def usable_frames(scene: Scene, num_views: int) -> list[Frame]:
    """Frames that a sample of so many views may hold: one needs depth, several need poses, and intrinsics if any has."""
    if num_views == 1:
        return [frame for frame in scene.frames if has_depth(frame)]
    posed = [frame for frame in scene.frames if frame.pose is not None]
    return [frame for frame in posed if frame.intrinsics is not None] or posed


def has_depth(frame: Frame) -> bool:
    """Whether its points are known: depth without intrinsics says little."""
    return frame.depth is not None and frame.intrinsics is not None


Counts = Sequence[tuple[int, int] | None]
"""Frames of each scene that can be shown alone, and together with others; None for a scene that cannot be read."""


def usable_counts(scenes: Sequence[Scene]) -> Counts:
    """Read every scene and count its frames."""

    def counted(i: int) -> tuple[int, int] | None:
        try:
            scene = scenes[i]
        except BadSample:
            return None
        return len(usable_frames(scene, 1)), len(usable_frames(scene, 2))

    return [counted(i) for i in range(len(scenes))]


@dataclass(frozen=True)
class SceneIndex:
    """Which scenes can give how many views: alone, those with depth; together, those with poses, fewest first.

    sizes: usable frames of each scene of `together`.
    """

    alone: list[int]
    together: list[int]
    sizes: list[int]

    def draw(self, draw: random.Random, num_views: int) -> int:
        """A scene that has so many views."""
        if num_views == 1:
            return draw.choice(self.alone)
        return self.together[draw.randrange(bisect.bisect_left(self.sizes, num_views), len(self.together))]


def scene_index(counts: Counts) -> SceneIndex:
    # A scene that cannot be read is kept among the largest, so that it is drawn, and named, like any other bad sample.
    unreadable = [i for i, count in enumerate(counts) if count is None]
    alone = [i for i, count in enumerate(counts) if count and count[0]]
    sized = sorted((count[1], i) for i, count in enumerate(counts) if count and count[1] > 1)
    together, sizes = [i for _, i in sized], [size for size, _ in sized]
    return SceneIndex(
        alone + unreadable * bool(alone), together + unreadable * bool(sizes), sizes + sizes[-1:] * len(unreadable)
    )


def choose_frames(
    draw: random.Random, num_frames: int, num_views: int, *, is_sequence: bool, choice: FrameChoice
) -> list[int]:
    """Different frames, in random order, from a window of a sequence or from anywhere."""
    span = choice.window * num_views
    if not is_sequence or draw.random() < choice.random_frames or span >= num_frames:
        return draw.sample(range(num_frames), num_views)
    first = draw.randrange(num_frames - span + 1)
    return draw.sample(range(first, first + span), num_views)


def overlap(
    depths: Sequence[Float[np.ndarray, "_height _width"]],
    intrinsics: Sequence[Float[np.ndarray, "3 3"]],
    poses: Sequence[Float[np.ndarray, "4 4"]],
) -> float:
    """Mean over pairs of views of the part of one's known points that the other sees.

    Seen are points inside the other picture whose depth there is known and agrees within 10 %. Every 32nd of a side is
    looked at.
    """
    points = [_points(*view) for view in zip(depths, intrinsics, poses, strict=True)]
    parts = [
        float(_seen(points[i], depths[j], intrinsics[j], poses[j]).mean())
        for i in range(len(points))
        for j in range(len(points))
        if i != j and len(points[i])
    ]
    return float(np.mean(parts)) if parts else 0.0


def _points(
    depth: Float[np.ndarray, "height width"], intrinsics: Float[np.ndarray, "3 3"], pose: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "points 3"]:
    """World points on a coarse grid of pixel centres."""
    rows, columns = (((np.arange(32) + 0.5) * side / 32).astype(int) for side in depth.shape)
    z = depth[rows][:, columns].astype(np.float64)
    y, x = np.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(intrinsics).T
    points = (rays * z[..., None])[z > 0]
    return points @ pose[:3, :3].T + pose[:3, 3]


def _seen(
    points: Float[np.ndarray, "points 3"],
    depth: Float[np.ndarray, "height width"],
    intrinsics: Float[np.ndarray, "3 3"],
    pose: Float[np.ndarray, "4 4"],
) -> np.ndarray:
    """Whether each world point is in the picture, on the surface that is seen there."""
    camera = (points - pose[:3, 3]) @ pose[:3, :3]
    z = camera[:, 2]
    pixels = np.floor((camera @ intrinsics.T)[:, :2] / np.where(z > 0, z, np.inf)[:, None])
    height, width = depth.shape
    is_inside = (z > 0) & (pixels >= 0).all(1) & (pixels < [width, height]).all(1)
    column, row = np.where(is_inside[:, None], pixels, 0).astype(int).T
    known = depth[row, column]
    return is_inside & (known > 0) & (np.abs(known / np.where(z > 0, z, 1) - 1) < 0.1)
