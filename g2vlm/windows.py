"""Sequences that are too long for one forward: overlapping windows, joined by similarities, with loops closed.

Every window is predicted in a world and at a scale of its own. What two windows say of the frames that they share joins
them; where a place is seen again much later, a window of both visits joins those, and a pose graph spreads what that
contradicts. Memory holds one window, whatever the length; finished windows lie on disk.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.ndimage import uniform_filter
from torch import Tensor

from g2vlm.geometry.pose_graph import Edge, optimised
from g2vlm.geometry.similarity import Similarity, camera_marks, identity, robust_similarity
from g2vlm.pictures import Photo, Resize, view_at, view_sizes
from g2vlm.reconstruction import reconstruction_of
from g2vlm.records import Geometry, Provenance, Reconstruction
from g2vlm.window_store import MAPS, StoredMaps, StoredWindow, WindowStore, digest_of
from g2vlm.worlds import sighted

WINDOW, OVERLAP = 16, 4

SAME_PLACE = 0.1
"""Two depths, or a point and its twin, agree if they differ by less than this part of the depth."""

JOINED = 0.5
"""Part of the shared points that must agree, or it is said that two windows do not fit."""

LOOPED = 0.8
"""The same for a loop, which has to be surer: a missing one leaves drift, a false one spoils what was right."""

WINDOWS_PER_LOOP = 3
"""For so many windows one pair of like places is looked at, the most alike first: that costs as much as a window does."""

SHARED_VIEW = 0.15
"""Part of a view's pixels that the next must show at the same place and in like colours, or they show two scenes."""

LIKE_COLOURS = 0.65
"""Correlation of the colours of two views where they show the same place; 0.88 and more for neighbours, 0.41 at most between rooms."""

BLUR = 20
"""Colours are compared in the mean over the view's longer side divided by this, because a point map is not exact to the pixel."""

STILL = 0.02
"""Cameras of a window that lie within this part of its median depth only turn."""

FEWEST_SEEN = 8
"""Pixels below which colours have no correlation."""

PIXELS = 4096
"""Of a view, at most, that a fit looks at."""

OF_CAMERAS = 0.2
"""Part of the weight of a fit that the cameras have; the points have the rest."""


@dataclass(frozen=True)
class Sight:
    """What a model sees in one window. descriptors: what each view looks like, for finding places again."""

    geometry: Geometry
    descriptors: Float[Tensor, "views channels"]


Look = Callable[[Sequence[Tensor]], Sight]
"""From views (RGB in [0, 1], each [3, height, width]) to what the model sees."""


@dataclass(frozen=True)
class Windowing:
    """How a sequence is cut: each window has so many views, and shares the first `overlap` with the one before."""

    window: int = WINDOW
    overlap: int = OVERLAP

    def __post_init__(self) -> None:
        if not 1 <= self.overlap <= self.window // 2:
            raise ValueError(
                f"overlap is {self.overlap} with a window of {self.window}; it must be at least 1 and at most half of the window"
            )


@dataclass(frozen=True)
class Sizing:
    """How photos become views; see `pictures.working_size`."""

    resolution: int
    patch: int
    rule: Resize


@dataclass(frozen=True)
class Joint:
    """What joins two windows. relative: brings points of window `second` into `first`.

    agreement: part of the shared points that agree within SAME_PLACE. views: first and last of the frames that are shared, or, of a
    loop, the two that were found to show one place.
    """

    first: int
    second: int
    relative: Similarity
    agreement: float
    views: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.views[0]}-{self.views[1]} {self.agreement:.0%}"


@dataclass(frozen=True)
class Joined:
    """A long sequence in one world.

    reconstruction: its maps are read from the store when asked for, and each time anew; its provenance names joints and loops, with
    their views and agreement. notes: what a person should know, as sentences. joints: of consecutive windows. loops: of places that
    were seen again.
    """

    reconstruction: Reconstruction
    notes: tuple[str, ...]
    joints: tuple[Joint, ...]
    loops: tuple[Joint, ...]


@dataclass(frozen=True)
class Partial:
    """The frames that a window settles: from `start` on, in the world of view 0, as far as is known by now.

    A loop that is closed later moves them a little; `Joiner.joined` gives the last word.
    """

    start: int
    reconstruction: Reconstruction


@dataclass(frozen=True)
class _Frame:
    """A view, and what is still known of its photo. size: (height, width) of that."""

    name: str
    size: tuple[int, int]
    view: Float[Tensor, "3 _height _width"]


class Joiner:
    """One sequence on its way: `for partial in joiner.run(photos): ...`, then `joiner.joined()`.

    folder: where finished windows go. A run that goes on in a folder of an interrupted one takes windows of the same pictures
    and settings from there. None: a temporary folder, which lasts as long as what was made of it.
    """

    def __init__(
        self,
        look: Look,
        sizing: Sizing,
        provenance: Provenance,
        windowing: Windowing = Windowing(),
        folder: Path | None = None,
    ):
        self.look, self.sizing, self.windowing = look, sizing, windowing
        settings: dict[str, Any] = {"checkpoint": provenance.checkpoint_sha256} | provenance.settings
        settings |= {"window": windowing.window, "overlap": windowing.overlap}
        named = {name: value for name, value in settings.items() if name != "checkpoint"}
        self.provenance = replace(provenance, settings=named)
        if folder is None:
            self._temporary = TemporaryDirectory(prefix="g2vlm-windows-")
            folder = Path(self._temporary.name)
        self.store = WindowStore(folder, settings)
        self.windows: list[StoredWindow] = []
        self.joints: list[Joint] = []
        self.worlds: list[Similarity] = []
        self.num_found = 0

    @torch.no_grad()
    def run(self, photos: Iterable[Photo]) -> Iterator[Partial]:
        """Predict and join window after window; photos are read one by one, as they are needed."""
        for start, frames, is_last in self._cut(self._frames(photos)):
            self.windows.append(self._window(len(self.windows), start, frames))
            self._join_last()
            yield self._settled(len(self.windows) - 1, is_last=is_last)
        if not self.windows:
            raise ValueError("no photo was given; at least one is needed")

    def _frames(self, photos: Iterable[Photo]) -> Iterator[_Frame]:
        first = None
        for photo in photos:
            first = photo.size if first is None else first
            size = view_sizes([first, photo.size], self.sizing.resolution, self.sizing.patch, self.sizing.rule)[1]
            yield _Frame(photo.name, photo.size, view_at(photo, size))

    def _cut(self, frames: Iterator[_Frame]) -> Iterator[tuple[int, list[_Frame], bool]]:
        """Windows with the number of their first frame; the last may be short, but shares its overlap all the same."""
        start, held, ahead = 0, [], next(frames, None)
        while ahead is not None:
            while ahead is not None and len(held) < self.windowing.window:
                held.append(ahead)
                ahead = next(frames, None)
            yield start, held, ahead is None
            start += len(held) - self.windowing.overlap
            held = held[-self.windowing.overlap :]

    def _window(self, index: int, start: int, frames: list[_Frame]) -> StoredWindow:
        digest = digest_of([frame.name for frame in frames], [frame.view.numpy() for frame in frames])
        stored = self.store.find(index, digest)
        if stored is not None:
            self.num_found += 1
            return stored
        views = [frame.view for frame in frames]
        sight = self.look(views)
        seen = reconstruction_of(sight.geometry, frames, views, self.provenance)
        return self.store.write(index, digest, start, seen, sight.descriptors.float().cpu().numpy())

    def _join_last(self) -> None:
        if len(self.windows) == 1:
            self.worlds.append(identity())
            return
        first = len(self.windows) - 2
        before, after = self.windows[-2:]
        shared = range(after.start, before.stop)
        relative, agreement = _fit(before, after, shared)
        self.joints.append(Joint(first, first + 1, relative, agreement, (shared.start, shared.stop - 1)))
        self.worlds.append(self.worlds[-1] @ relative)

    def _settled(self, index: int, *, is_last: bool) -> Partial:
        """What this window owns: its own half of what it shares with its neighbours, and all between."""
        window = self.windows[index]
        start = self._first_owned(index)
        stop = window.stop if is_last else window.stop - self.windowing.overlap // 2
        return Partial(start, self._made([index] * (stop - start), start, self.worlds))

    def _first_owned(self, index: int) -> int:
        window = self.windows[index]
        return 0 if index == 0 else window.start + self.windowing.overlap - self.windowing.overlap // 2

    @torch.no_grad()
    def joined(self, *, close_loops: bool = True) -> Joined:
        """All frames in one world, after `run` has ended."""
        loops = self._loops() if close_loops else []
        worlds = self.worlds
        if loops:
            edges = [
                Edge(joint.first, joint.second, joint.relative, self.windows[joint.first].size)
                for joint in (*self.joints, *loops)
            ]
            worlds = optimised(worlds, edges)
        owners = self.owners()
        account = {"joints": "; ".join(map(str, self.joints)), "loops": "; ".join(map(str, loops))}
        provenance = replace(self.provenance, settings=self.provenance.settings | account)
        return Joined(
            replace(self._made(owners, 0, worlds), provenance=provenance),
            tuple(self._notes(owners)),
            tuple(self.joints),
            tuple(loops),
        )

    def owners(self) -> list[int]:
        """The window of each frame."""
        starts = [self._first_owned(index) for index in range(len(self.windows))] + [self.windows[-1].stop]
        return [index for index, (start, stop) in enumerate(pairwise(starts)) for _ in range(start, stop)]

    def _made(self, owners: Sequence[int], start: int, worlds: Sequence[Similarity]) -> Reconstruction:
        """Frames from `start` on, each from its window, moved into the world of view 0."""
        windows = [self.windows[owner] for owner in owners]
        places = [start + view - window.start for view, window in enumerate(windows)]
        moves = [worlds[owner] for owner in owners]

        def maps(field: str) -> Any:
            return StoredMaps(partial(self._map, windows, moves, start, field), len(windows))

        def each(field: str) -> list[Any]:
            return [getattr(window, field)[place] for window, place in zip(windows, places, strict=True)]

        poses = [
            move.poses(torch.from_numpy(window.poses[place]).double()[None])[0]
            for move, window, place in zip(moves, windows, places, strict=True)
        ]
        return Reconstruction(
            names=tuple(each("names")),
            **{field: maps(field) for field in MAPS},
            poses=torch.stack(poses).float().numpy(),
            intrinsics=np.stack(each("intrinsics")),
            intrinsics_error=np.stack(each("intrinsics_error")),
            original_sizes=tuple(each("original_sizes")),
            scale="scale_free",
            provenance=self.provenance,
        )

    def _map(
        self, windows: Sequence[StoredWindow], moves: Sequence[Similarity], start: int, field: str, view: int
    ) -> np.ndarray:
        """One map of a frame, moved. A method, so that what reads maps keeps this joiner, and with it a temporary folder."""
        found = windows[view].map(field, start + view)
        if field == "points":
            return moves[view].points(torch.from_numpy(found).double()).float().numpy()
        return found * np.float32(moves[view].scale) if field == "depth" else found

    # --- places seen again

    def _loops(self) -> list[Joint]:
        """Of windows that are not neighbours, those that a window of both shows to be at one place."""
        joints = (self._loop(*pair) for pair in self._alike())
        return [joint for joint in joints if joint is not None]

    def _alike(self) -> list[tuple[int, int, int, int]]:
        """(window, window, frame, frame) that look most alike, as many as are looked at; each window in at most two of them.

        Alike are frames that look more so than frames as far apart as a window is long, half of the time.
        """
        owners = self.owners()
        looks = np.concatenate([window.descriptors[self._owned_places(i)] for i, window in enumerate(self.windows)])
        looks = looks - looks.mean(0)
        looks /= np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-12)
        apart = min(self.windowing.window // 2, len(looks) - 1)
        least = float(np.median((looks[:-apart] * looks[apart:]).sum(1))) if apart else 1.0
        found = []
        frames = np.array(owners)
        for first in range(len(self.windows)):
            here = np.flatnonzero(frames == first)
            later = np.flatnonzero(frames > first + 1)
            if not len(later):
                continue
            likeness = looks[here] @ looks[later].T
            for second in np.unique(frames[later]):
                columns = frames[later] == second
                row, column = np.unravel_index(likeness[:, columns].argmax(), (len(here), columns.sum()))
                best = likeness[:, columns][row, column]
                if best >= least:
                    found.append((float(best), first, int(second), int(here[row]), int(later[columns][column])))
        chosen: list[tuple[int, int, int, int]] = []
        most = max(2, len(self.windows) // WINDOWS_PER_LOOP)
        for _, *pair in sorted(found, reverse=True):
            if len(chosen) < most and all(sum(window in other[:2] for other in chosen) < 2 for window in pair[:2]):
                chosen.append((pair[0], pair[1], pair[2], pair[3]))
        return chosen

    def _owned_places(self, index: int) -> slice:
        window = self.windows[index]
        stop = self._first_owned(index + 1) if index + 1 < len(self.windows) else window.stop
        return slice(self._first_owned(index) - window.start, stop - window.start)

    def _loop(self, first: int, second: int, frame: int, other: int) -> Joint | None:
        """A window of both visits, fitted to each; None where they do not show one place after all."""
        one, two = self.windows[first], self.windows[second]
        chosen = [_around(one, frame, self.windowing.window // 2), _around(two, other, self.windowing.window // 2)]
        frames = [
            _Frame(window.names[i - window.start], window.original_sizes[i - window.start], _view(window, i))
            for window, around in zip((one, two), chosen, strict=True)
            for i in around
        ]
        views = [frame.view for frame in frames]
        seen = reconstruction_of(self.look(views).geometry, frames, views, self.provenance)
        num = len(chosen[0])
        if not any(is_same_place(seen, a, num + b) for a in range(num) for b in range(len(chosen[1]))):
            return None
        joint_one, agreement_one = _fit_maps(_stored(one, chosen[0]), _predicted(seen, range(num)))
        joint_two, agreement_two = _fit_maps(_stored(two, chosen[1]), _predicted(seen, range(num, len(views))))
        agreement = min(agreement_one, agreement_two)
        if agreement < LOOPED:
            return None
        return Joint(first, second, joint_one @ joint_two.inverse, agreement, (frame, other))

    # --- what a person should know

    def _notes(self, owners: Sequence[int]) -> Iterator[str]:
        for joint in self.joints:
            if joint.agreement < JOINED:
                first, last = joint.views
                yield (
                    f"views {first} to {last} look different from before and from after: only {joint.agreement:.0%} of their "
                    "points agree, so what comes behind may stand at a wrong place; use a larger overlap"
                )
        breaks = [frame for frame in range(1, len(owners)) if not self._follows(frame, owners)]
        for frame in breaks:
            yield (
                f"views {frame - 1} and {frame} do not connect: they show no common place, so their parts are placed by guess; "
                "reconstruct them apart if they are two scenes, or add photos between them"
            )
        still = [index for index, window in enumerate(self.windows) if _only_turns(window.poses, window.size)]
        if still and len(owners) > 1:
            yield _turning(f"{len(still)} of {len(self.windows)} windows" if len(self.windows) > 1 else "these views")

    def _follows(self, frame: int, owners: Sequence[int]) -> bool:
        """Whether a frame shows a place that the one before shows."""
        window = self.windows[owners[frame]]
        if frame - 1 < window.start:
            window = self.windows[owners[frame - 1]]
        return _connect(_stored_pair(window, frame - 1, frame, self.provenance), 0, 1)


def _view(window: StoredWindow, frame: int) -> Float[Tensor, "3 height width"]:
    return torch.from_numpy(window.map("images", frame)).permute(2, 0, 1) / 255


def _around(window: StoredWindow, frame: int, count: int) -> range:
    """So many frames of a window, or all, as nearly around one as they lie."""
    start = max(min(frame - count // 2, window.stop - count), window.start)
    return range(start, min(start + count, window.stop))


def _only_turns(poses: Float[np.ndarray, "views 4 4"], size: float) -> bool:
    centres = poses[:, :3, 3]
    reach = np.linalg.norm(centres - np.median(centres, axis=0), axis=1).max()
    return len(centres) > 1 and bool(reach < STILL * size)


def _turning(where: str) -> str:
    return (
        f"the camera hardly moves in {where}, it only turns: depth and scale then are what single views suggest; "
        "move sideways while taking them"
    )


@dataclass(frozen=True)
class _Maps:
    """Flat, of several views: points in their own world, their depth, how far they are trusted; and the cameras."""

    points: Float[Tensor, "n 3"]
    depth: Float[Tensor, " n"]
    trust: Float[Tensor, " n"]
    poses: Float[Tensor, "views 4 4"]
    reach: Float[Tensor, " views"]


def _maps(poses: np.ndarray, maps: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> _Maps:
    parts, reach = [], []
    for points, depth, confidence, mask in maps:
        step = max(1, round((depth.size / PIXELS) ** 0.5))
        thin = (slice(None, None, step), slice(None, None, step))
        parts.append((points[thin].reshape(-1, 3), depth[thin].ravel(), (confidence * mask)[thin].ravel()))
        reach.append(float(np.median(depth[mask])) if mask.any() else 1.0)
    flat = [torch.from_numpy(np.concatenate(part)).double() for part in zip(*parts, strict=True)]
    return _Maps(flat[0], flat[1], flat[2], torch.from_numpy(poses).double(), torch.tensor(reach).double())


def _stored(window: StoredWindow, frames: Sequence[int]) -> _Maps:
    fields = ("points", "depth", "confidence", "mask")
    maps = (tuple(window.map(field, frame) for field in fields) for frame in frames)
    return _maps(window.poses[[frame - window.start for frame in frames]], maps)  # pyright: ignore[reportArgumentType]


def _predicted(seen: Reconstruction, views: Sequence[int]) -> _Maps:
    maps = ((seen.points[i], seen.depth[i], seen.confidence[i], seen.mask[i]) for i in views)
    return _maps(seen.poses[list(views)], maps)


def _fit(before: StoredWindow, after: StoredWindow, frames: Sequence[int]) -> tuple[Similarity, float]:
    return _fit_maps(_stored(before, frames), _stored(after, frames))


def _fit_maps(target: _Maps, source: _Maps) -> tuple[Similarity, float]:
    """What brings the source's world into the target's, by pixels and cameras of the same views, and how much of it agrees."""
    trust = torch.minimum(source.trust, target.trust)
    marks, their_marks = (camera_marks(maps.poses, maps.reach).flatten(0, 1) for maps in (source, target))
    total = float(trust.sum())
    of_marks = OF_CAMERAS / (1 - OF_CAMERAS) * total / len(marks) if total else 1.0
    weight = torch.cat([trust, torch.full((len(marks),), of_marks, dtype=torch.float64)])
    fit = robust_similarity(
        torch.cat([source.points, marks]),
        torch.cat([target.points, their_marks]),
        weight,
        torch.cat([target.depth, target.reach.repeat_interleave(4)]),
    )
    return fit.similarity, fit.share_within(SAME_PLACE, weight)


def _stored_pair(window: StoredWindow, first: int, second: int, provenance: Provenance) -> Reconstruction:
    frames = (first, second)
    places = [frame - window.start for frame in frames]
    maps: dict[str, Any] = {field: tuple(window.map(field, frame) for frame in frames) for field in MAPS}
    return Reconstruction(
        names=tuple(window.names[place] for place in places),
        **maps,
        poses=window.poses[places],
        intrinsics=window.intrinsics[places],
        intrinsics_error=window.intrinsics_error[places],
        original_sizes=tuple(window.original_sizes[place] for place in places),
        scale="scale_free",
        provenance=provenance,
    )


def notes_of(seen: Reconstruction) -> tuple[str, ...]:
    """What a person should know of photos that were seen at once, in whatever order."""
    notes = []
    groups = connected_views(seen)
    if len(groups) > 1:
        firsts = ", ".join(seen.names[group[0]] for group in groups)
        notes.append(
            f"the photos do not connect: {len(groups)} parts, which begin with {firsts}, show no common place and are placed by guess; "
            "reconstruct them apart if they are several scenes, or add photos between them"
        )
    usable = np.concatenate([depth[mask] for depth, mask in zip(seen.depth, seen.mask, strict=True)])
    if len(usable) and _only_turns(seen.poses, float(np.median(usable))):
        notes.append(_turning("these views"))
    return tuple(notes)


def connected_views(seen: Reconstruction) -> list[list[int]]:
    """Groups of views that show a common place, two by two or through others of the group."""
    groups: list[list[int]] = []
    for view in range(len(seen.names)):
        met = [group for group in groups if any(_connect(seen, view, other) for other in reversed(group))]
        groups = [group for group in groups if group not in met] + [sorted([view, *(v for g in met for v in g)])]
    return sorted(groups)


def _connect(seen: Reconstruction, one: int, other: int) -> bool:
    return is_same_place(seen, one, other) or is_same_place(seen, other, one)


def is_same_place(seen: Reconstruction, first: int, second: int) -> bool:
    """Whether one view shows enough of what another does: at the same depth, and in like colours."""
    share, likeness = seen_again(seen, first, second)
    return share >= SHARED_VIEW and likeness >= LIKE_COLOURS


def seen_again(seen: Reconstruction, first: int, second: int) -> tuple[float, float]:
    """Part of the first view's pixels that the second shows at the same depth, and the correlation of their colours there."""
    mask = seen.mask[first]
    step = max(1, round((mask.size / PIXELS) ** 0.5))
    thin = np.zeros_like(mask)
    thin[::step, ::step] = True
    mask = mask & thin
    if not mask.any():
        return 0.0, 0.0
    row, column, z, is_inside = sighted(seen, seen.points[first][mask], second)
    depth = seen.depth[second][row, column]
    is_seen = is_inside & (np.abs(z - depth) < SAME_PLACE * depth)
    if is_seen.sum() < FEWEST_SEEN:
        return float(is_seen.mean()), 0.0
    here, there = (_blurred(seen.images[view]) for view in (first, second))
    one, other = (c - c.mean(0) for c in (here[mask][is_seen], there[row, column][is_seen]))
    spread = np.sqrt((one**2).sum() * (other**2).sum())
    return float(is_seen.mean()), float((one * other).sum() / spread) if spread else 0.0


def _blurred(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width 3"]:
    return uniform_filter(image.astype(float), max(1, max(image.shape) // BLUR), axes=(0, 1))
