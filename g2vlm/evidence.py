"""What can be measured in a scene's geometry, as short lines that stand before an answer (docs/questions.md: Evidence).

Lengths are said in metres ("m") where the scene is metric, otherwise in "u": the mean distance of the visible points
from their cameras. A scene and the same scene at another scale therefore say the same. What a length would be in metres if
the room were as high as rooms are is said behind it ("about 2.4 m").
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, islice, pairwise
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float

from g2vlm.geometry.camera import unproject
from g2vlm.geometry.points import depth_jumps, normals_from_points
from g2vlm.geometry.pose import in_first_frame, transform
from g2vlm.records import Box, Mark, Reconstruction, Scale, Statement, Views
from g2vlm.worlds import unit, up_direction

Kind = Literal["depth", "extent", "distance", "same", "nearest", "sees", "motion", "room", "floor"]

ABOUT_MARKS: tuple[Kind, ...] = ("depth", "extent", "distance", "same", "nearest")
"""Measured by default where something is marked."""

ABOUT_VIEWS: tuple[Kind, ...] = ("motion", "room", "floor")
"""Measured by default where nothing is."""

MAX_LINES = 12
MAX_MOTIONS = 4

UNKNOWN = "unknown"
HEAD, TAIL = "Measured:", "Answer:"

IN_FRONT = 0.1
"""Part of a point's depth by which something has to stand before it to hide it."""

SAME_DEPTH = 0.25
"""Part of a box's median depth within which a point belongs to what the box is drawn around, and not to its background."""

OUTERMOST = 0.01
"""Part of the points that may lie outside an extent, at either end."""

ROOM_HEIGHT, CAMERA_HEIGHT = 2.8, 1.4
"""Metres from the floor to the ceiling, and to the cameras, in a usual room; both vary by about as many metres."""

GRID = 32
"""About how many pixels along the longer side of a view the size of the room is measured with.

Normals of neighbours that are far apart are less noisy: of 24, 32, 48 and 84, this one gave the best predicted sizes.
"""

Vector = Float[np.ndarray, "3"]
Pixel = tuple[float, float]


class RoomSize(NamedTuple):
    """Sides of what is seen of a room, along its own axes, in the scene's units; eyes: mean height of the cameras in it."""

    length: float
    width: float
    height: float
    eyes: float


@dataclass(frozen=True)
class Measurable:
    """Geometry of one scene, predicted or true, in any world frame: one map per view, cameras OpenCV, camera-to-world.

    mask: False where a map's values do not count; points and z-depth may be anything there.
    intrinsics: in pixels of the photos, whose sizes (height, width) are `original_sizes`.
    """

    points: tuple[Float[np.ndarray, "_height _width 3"], ...]
    depth: tuple[Float[np.ndarray, "_height _width"], ...]
    mask: tuple[Bool[np.ndarray, "_height _width"], ...]
    poses: Float[np.ndarray, "views 4 4"]
    intrinsics: Float[np.ndarray, "views 3 3"]
    original_sizes: tuple[tuple[int, int], ...]
    scale: Scale

    @property
    def unit(self) -> str:
        return "m" if self.scale == "metric" else "u"

    @cached_property
    def unit_length(self) -> float:
        """What 1 in the text means, in the scene's own units; NaN for a scale-free scene without a single valid point."""
        if self.scale == "metric":
            return 1.0
        from_cameras = np.concatenate(
            [p[m] - c for p, m, c in zip(self.points, self.mask, self.poses[:, :3, 3], strict=True)]
        )
        # a norm of np.linalg takes half as long again, and this is most of the work
        distances = np.sqrt(np.einsum("ij,ij->i", from_cameras, from_cameras))
        return float(distances.mean(dtype=np.float64)) if len(distances) else math.nan

    @cached_property
    def room(self) -> RoomSize:
        """The shorter level side is the width; all NaN without a single valid point."""
        return _room_size(self)

    @cached_property
    def usual_metres(self) -> float:
        """Metres of one unit of the scene if it is a room of usual height, seen from a usual height: least squares of both."""
        height, eyes = self.room.height, self.room.eyes
        weight = height**2 + eyes**2
        return (ROOM_HEIGHT * height + CAMERA_HEIGHT * eyes) / weight if weight > 0 else math.nan


def measurable_of(reconstruction: Reconstruction) -> Measurable:
    """What can be measured in a prediction."""
    return Measurable(
        points=reconstruction.points,
        depth=reconstruction.depth,
        mask=reconstruction.mask,
        poses=reconstruction.poses,
        intrinsics=reconstruction.intrinsics,
        original_sizes=reconstruction.original_sizes,
        scale=reconstruction.scale,
    )


def measurable_from_truth(views: Views, scale: Scale = "scale_free") -> Measurable:
    """What can be measured in the truth of one scene, masked like a prediction; marks are then in pixels of the views.

    scale: `scale_free` says lengths as a prediction would; `metric` says them in the truth's own unit, metres.
    """
    if views.images.ndim != 4:
        raise ValueError(
            f"images are {tuple(views.images.shape)}; give the views of one scene, [views, 3, height, width]"
        )
    depth, mask, poses, intrinsics = views.depth, views.mask, views.poses, views.intrinsics
    if depth is None or mask is None or poses is None or intrinsics is None:
        raise ValueError("views without depth, mask, poses or intrinsics cannot be measured; set all four")
    depth = torch.where(mask, depth, 0)
    points = transform(in_first_frame(poses), unproject(depth, intrinsics))
    return Measurable(
        points=tuple(points.cpu().numpy()),
        depth=tuple(depth.cpu().numpy()),
        mask=tuple((mask & ~depth_jumps(depth, mask)).cpu().numpy()),
        poses=in_first_frame(poses).cpu().numpy(),
        intrinsics=intrinsics.cpu().numpy(),
        original_sizes=((depth.shape[1], depth.shape[2]),) * len(depth),
        scale=scale,
    )


def measure(
    scene: Measurable,
    marks: Sequence[Mark] = (),
    boxes: Sequence[Box] = (),
    *,
    between: tuple[int, int] | None = None,
    kinds: Sequence[Kind] | None = None,
    max_lines: int = MAX_LINES,
) -> tuple[Statement, ...]:
    """The first `max_lines` statements, kind after kind in the order of `kinds`.

    between: two views whose motion is asked for; without them it is that of consecutive views.
    By default what can be said about the two views, about the marks, or, where there is neither, about all views. Every view and place is
    taken to exist (see `g2vlm.marks.check_marks`). Values are as the text says them: lengths to two decimals.
    """
    if kinds is None:
        about_views: tuple[Kind, ...] = ABOUT_VIEWS if between is None else ("motion",)
        kinds = ABOUT_MARKS if marks or boxes else about_views
    for kind in kinds:
        if kind not in get_args(Kind):
            raise ValueError(f"nothing measures {kind!r}; choose from {', '.join(get_args(Kind))}")
    for mark in (*marks, *boxes):
        if mark.name.split() != [mark.name]:
            raise ValueError(f"the name {mark.name!r} is not one word, as evidence needs; write it without spaces")
    things = [*(_thing_at(scene, mark) for mark in marks), *(_thing_in(scene, box) for box in boxes)]
    measures = dict(_MEASURES)
    if between is not None:
        measures["motion"] = lambda scene, _: iter([_motion(scene, *between)])
    return tuple(islice((said for kind in kinds for said in measures[kind](scene, things)), max_lines))


def evidence_text(statements: Sequence[Statement]) -> str:
    """What stands in the assistant's turn before the answer, which follows it at once; empty without statements."""
    if not statements:
        return ""
    return "\n".join([HEAD, *(statement.text for statement in statements), TAIL, ""])


class Said(NamedTuple):
    """One line of evidence, read back. names: the marks or views that it is about."""

    kind: str
    names: tuple[str, ...]
    value: float | str
    unit: str
    about: float | str | None = None
    about_unit: str = ""


def parse_evidence(text: str) -> tuple[Said, ...]:
    """The lines of evidence at the beginning of an assistant's turn, whose answer may follow; none if there are none."""
    head, *lines = text.split("\n")
    if head != HEAD:
        return ()
    if TAIL not in lines:
        raise ValueError(f"no line {TAIL!r} ends the evidence; it must follow the last statement")
    return tuple(_parsed(line) for line in lines[: lines.index(TAIL)])


_NUMBER = r"\d+\.\d\d"
_LENGTH = r" (?P<unit>m|u(?: about (?P<about>[\d. ]+) (?P<about_unit>m|cm))?)"
_AREA = r" (?P<unit>m2|u2(?: about (?P<about>\d+) (?P<about_unit>m2))?)"


def _line(kind: Kind, num_names: int, value: str, unit: str = _LENGTH) -> re.Pattern[str]:
    return re.compile(rf"{kind}(?P<names>{' [^ ]+' * num_names}) (?:(?P<value>{value}){unit}|{UNKNOWN})")


_GRAMMAR: dict[str, re.Pattern[str]] = {
    "depth": _line("depth", 1, _NUMBER),
    "extent": _line("extent", 1, f"{_NUMBER} {_NUMBER}"),
    "distance": _line("distance", 2, _NUMBER),
    "same": _line("same", 2, _NUMBER),
    "nearest": _line("nearest", 0, r"\S+", unit="(?P<unit>)"),
    "sees": _line("sees", 1, r"\d+(?: \d+)*", unit="(?P<unit>)"),
    "motion": _line(
        "motion",
        2,
        rf"turn (?:left|right) \d+(?: (?:left|right|up|down|forward|backward) {_NUMBER}){{3}}",
    ),
    "room": _line("room", 0, f"{_NUMBER} {_NUMBER} {_NUMBER}"),
    "floor": _line("floor", 0, _NUMBER, unit=_AREA),
}


def _parsed(line: str) -> Said:
    kind = line.split(" ")[0]
    found = _GRAMMAR[kind].fullmatch(line) if kind in _GRAMMAR else None
    if found is None:
        raise ValueError(f"{line!r} is not a line of evidence; docs/questions.md says what is")
    parts = {name: text or "" for name, text in found.groupdict().items()}
    return Said(
        kind,
        tuple(parts["names"].split()),
        _number(parts["value"]) if parts["unit"] else parts["value"] or UNKNOWN,
        parts["unit"].partition(" ")[0],
        _number(parts["about"]) if parts.get("about") else None,
        parts.get("about_unit", ""),
    )


def _number(text: str) -> float | str:
    """One number as such, anything else as it is."""
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else text


@dataclass(frozen=True)
class _Thing:
    """A marked point, or what a box is drawn around.

    pixels: in the photo of `view`; a box has two corners. point: in the world; depth: along the axis of `view`; extent:
    along the right and down axes of `view`, the longer first. NaN where the geometry does not say.
    """

    name: str
    view: int
    pixels: tuple[Pixel, ...]
    point: Vector
    depth: float
    extent: tuple[float, float] | None = None

    @property
    def views(self) -> tuple[int, ...]:
        """Of each of the pixels."""
        return (self.view,) * len(self.pixels)


_NOWHERE = np.full(3, np.nan)


def _thing_at(scene: Measurable, mark: Mark) -> _Thing:
    place = _nearest_valid(scene, mark.view, (mark.x, mark.y))
    pixels = ((mark.x, mark.y),)
    if place is None:
        return _Thing(mark.name, mark.view, pixels, _NOWHERE, math.nan)
    return _Thing(mark.name, mark.view, pixels, scene.points[mark.view][place], float(scene.depth[mark.view][place]))


def _thing_in(scene: Measurable, box: Box) -> _Thing:
    """The points of the box that are about as deep as its median; the rest is taken for background or for the way."""
    pixels = ((box.left, box.top), (box.right, box.bottom))
    left, top = _in_map(scene, box.view, pixels[0])
    right, bottom = _in_map(scene, box.view, pixels[1])
    inside = slice(math.floor(top), math.ceil(bottom)), slice(math.floor(left), math.ceil(right))
    valid = scene.mask[box.view][inside]
    if not valid.any():
        return _Thing(box.name, box.view, pixels, _NOWHERE, math.nan, (math.nan, math.nan))
    depth, pose = scene.depth[box.view][inside][valid], scene.poses[box.view]
    middle = float(np.median(depth))
    local = (scene.points[box.view][inside][valid] - pose[:3, 3]) @ pose[:3, :3]
    local = local[np.abs(depth - middle) <= SAME_DEPTH * middle]
    shorter, longer = sorted(_extents(local[:, :2]))
    return _Thing(
        box.name, box.view, pixels, pose[:3, :3] @ np.median(local, 0) + pose[:3, 3], middle, (longer, shorter)
    )


def _in_map(scene: Measurable, view: int, pixel: Pixel) -> Pixel:
    """A place of the photo in the view's maps, which need not have its aspect ratio."""
    (height, width), (rows, columns) = scene.original_sizes[view], scene.mask[view].shape
    return pixel[0] * columns / width, pixel[1] * rows / height


def _nearest_valid(scene: Measurable, view: int, pixel: Pixel) -> tuple[int, int] | None:
    """(row, column) of the valid pixel nearest to a place of the photo, among the 3 x 3 around it."""
    x, y = _in_map(scene, view, pixel)
    top, left = max(int(y) - 1, 0), max(int(x) - 1, 0)
    valid = np.argwhere(scene.mask[view][top : int(y) + 2, left : int(x) + 2]) + np.array([top, left])
    if not len(valid):
        return None
    row, column = valid[((valid + 0.5 - (y, x)) ** 2).sum(1).argmin()]
    return int(row), int(column)


def _extents(points: Float[np.ndarray, "points axes"]) -> list[float]:
    """Along each axis, without the outermost points."""
    low, high = np.quantile(points, (OUTERMOST, 1 - OUTERMOST), axis=0)
    return (high - low).tolist()


def _depths(scene: Measurable, things: Sequence[_Thing]) -> Iterator[Statement]:
    for thing in things:
        yield _lengths(scene, "depth", (thing.name,), [thing.depth], thing.views, thing.pixels)


def _extents_of_boxes(scene: Measurable, things: Sequence[_Thing]) -> Iterator[Statement]:
    for thing in things:
        if thing.extent is not None:
            yield _lengths(scene, "extent", (thing.name,), thing.extent, thing.views, thing.pixels, about="cm")


def _distances(scene: Measurable, things: Sequence[_Thing]) -> Iterator[Statement]:
    for a, b in combinations(things, 2):
        yield _lengths(scene, "distance", (a.name, b.name), [_gap(a, b)], a.views + b.views, a.pixels + b.pixels)


def _same(scene: Measurable, things: Sequence[_Thing]) -> Iterator[Statement]:
    """The two marks of different views that are closest to each other: the likeliest to show the same."""
    pairs = [(a, b) for a, b in combinations(things, 2) if a.view != b.view]
    known = [pair for pair in pairs if not math.isnan(_gap(*pair))]
    if known:
        a, b = min(known, key=lambda pair: _gap(*pair))
        yield _lengths(scene, "same", (a.name, b.name), [_gap(a, b)], a.views + b.views, a.pixels + b.pixels)


def _gap(a: _Thing, b: _Thing) -> float:
    return float(np.linalg.norm(a.point - b.point))


def _nearest(scene: Measurable, things: Sequence[_Thing]) -> Iterator[Statement]:
    """Of several marks, the one with the least depth."""
    known = [thing for thing in things if not math.isnan(thing.depth)]
    if len(things) > 1 and known:
        nearest = min(known, key=lambda thing: thing.depth)
        yield _statement("nearest", (), nearest.name, "", nearest.views, nearest.pixels)


def _sightings(scene: Measurable, things: Sequence[_Thing]) -> Iterator[Statement]:
    for thing in things:
        if math.isnan(thing.depth):
            yield _statement("sees", (thing.name,), UNKNOWN, "", thing.views, thing.pixels)
            continue
        seen = [(view, pixel) for view in range(len(scene.poses)) for pixel in _pixels_of(scene, thing, view)]
        views, pixels = zip(*seen, strict=True)
        yield _statement("sees", (thing.name,), " ".join(map(str, dict.fromkeys(views))), "", views, pixels)


def _pixels_of(scene: Measurable, thing: _Thing, view: int) -> tuple[Pixel, ...]:
    """Where a thing appears in a view's photo; nothing where it lies outside, or something stands before it."""
    if view == thing.view:
        return thing.pixels
    pose, (height, width) = scene.poses[view], scene.original_sizes[view]
    local = pose[:3, :3].T @ (thing.point - pose[:3, 3])
    if local[2] <= 0:
        return ()
    x, y, _ = (scene.intrinsics[view] @ local / local[2]).tolist()
    if not (0 <= x < width and 0 <= y < height):
        return ()
    place = _nearest_valid(scene, view, (x, y))
    is_seen = place is not None and scene.depth[view][place] >= (1 - IN_FRONT) * local[2]
    return ((x, y),) if is_seen else ()


def _motions(scene: Measurable, things: Sequence[_Thing]) -> Iterator[Statement]:
    for first, second in islice(pairwise(range(len(scene.poses))), MAX_MOTIONS):
        yield _motion(scene, first, second)


def _motion(scene: Measurable, first: int, second: int) -> Statement:
    a, b = scene.poses[first], scene.poses[second]
    right, down, forward = (a[:3, :3].T @ (b[:3, 3] - a[:3, 3]) / scene.unit_length).tolist()
    ahead = a[:3, :3].T @ b[:3, 2]  # where the second camera looks, in the first one's frame
    turn = math.degrees(math.atan2(ahead[0], ahead[2]))
    value, unit = UNKNOWN, ""
    if math.isfinite(right + down + forward + turn):
        steps = [(right, "right", "left"), (-down, "up", "down"), (forward, "forward", "backward")]
        steps.sort(key=lambda step: -abs(round(step[0], 2)))
        value = " ".join([f"turn {_signed(turn, 'right', 'left', 0)}", *(_signed(*step) for step in steps)])
        unit = scene.unit
    return _statement("motion", (str(first), str(second)), value, unit, (first, second))


def _signed(value: float, positive: str, negative: str, decimals: int = 2) -> str:
    """A number whose sign is a word; what is rounded to zero is positive."""
    rounded = round(value, decimals)
    return f"{negative if rounded < 0 else positive} {abs(rounded):.{decimals}f}"


def _room(scene: Measurable, things: Sequence[_Thing]) -> Iterator[Statement]:
    yield _lengths(scene, "room", (), scene.room[:3], tuple(range(len(scene.poses))))


def _floor(scene: Measurable, things: Sequence[_Thing]) -> Iterator[Statement]:
    views = tuple(range(len(scene.poses)))
    yield _lengths(scene, "floor", (), [scene.room.length * scene.room.width], views, about="m2")


def _room_size(scene: Measurable) -> RoomSize:
    """Of what holds all cameras and nearly all points, along the room's axes."""
    steps = [max(1, max(mask.shape) // GRID) for mask in scene.mask]
    maps = [
        (p[::n, ::n], m[::n, ::n], pose)
        for p, m, pose, n in zip(scene.points, scene.mask, scene.poses, steps, strict=True)
    ]
    points = np.concatenate([points[mask] for points, mask, _ in maps])
    if not len(points):
        return RoomSize(math.nan, math.nan, math.nan, math.nan)
    normals = np.concatenate([n[(n != 0).any(-1)] for n in (_normals(*view) for view in maps)])
    axes = _room_axes(normals, scene.poses)
    low, high = np.quantile(points @ axes.T, (OUTERMOST, 1 - OUTERMOST), axis=0)
    cameras = scene.poses[:, :3, 3] @ axes.T
    low, high = np.minimum(low, cameras.min(0)), np.maximum(high, cameras.max(0))
    one, other, height = (high - low).tolist()
    return RoomSize(max(one, other), min(one, other), height, float(cameras[:, 2].mean() - low[2]))


def _normals(
    points: Float[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"],
    pose: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, "height width 3"]:
    """Unit normals of a point map in the world, towards its camera; zero where there is none."""
    from_camera = torch.from_numpy(points - pose[:3, 3])
    return normals_from_points(from_camera, torch.from_numpy(mask)).numpy()


def _room_axes(
    normals: Float[np.ndarray, "pixels 3"], poses: Float[np.ndarray, "views 4 4"]
) -> Float[np.ndarray, "3 3"]:
    """Unit rows: two level axes along the walls, and up.

    The walls' direction is the fullest one among level normals, where a quarter turn makes no difference.
    """
    up = up_direction(normals, poses)
    right = unit(np.cross(poses[0, :3, 2], up))
    ahead = np.cross(up, right)
    level = normals[np.abs(normals @ up) < math.sin(math.radians(20))]
    angle = _main_direction(np.arctan2(level @ ahead, level @ right))
    c, s = math.cos(angle), math.sin(angle)
    return np.stack([c * right + s * ahead, c * ahead - s * right, up])


def _main_direction(angles: Float[np.ndarray, " angles"]) -> float:
    """The angle about which most others lie, modulo a quarter turn; 0 of none."""
    quarter = math.pi / 2
    counts = np.histogram(angles % quarter, bins=45, range=(0, quarter))[0]
    peak = (counts + np.roll(counts, 1) + np.roll(counts, -1)).argmax()
    offsets = (angles - (peak + 0.5) * quarter / 45 + quarter / 2) % quarter - quarter / 2
    near = offsets[np.abs(offsets) < math.radians(5)]
    return float((peak + 0.5) * quarter / 45 + near.mean()) if len(near) else 0.0


_MEASURES: dict[Kind, Callable[[Measurable, Sequence[_Thing]], Iterator[Statement]]] = {
    "depth": _depths,
    "extent": _extents_of_boxes,
    "distance": _distances,
    "same": _same,
    "nearest": _nearest,
    "sees": _sightings,
    "motion": _motions,
    "room": _room,
    "floor": _floor,
}


class _About(NamedTuple):
    """How a guess in metric units is said: units per metre, decimals; power: 1 of lengths, 2 of areas."""

    per_metre: float
    decimals: int
    power: int


_ABOUT = {"m": _About(1, 1, 1), "cm": _About(100, 0, 1), "m2": _About(1, 0, 2)}


def _lengths(
    scene: Measurable,
    kind: Kind,
    names: tuple[str, ...],
    lengths: Sequence[float],
    views: tuple[int, ...],
    pixels: tuple[Pixel, ...] = (),
    about: Literal["m", "cm", "m2"] = "m",
) -> Statement:
    """One or several lengths (or areas) of the scene in the unit of the text, and about what they would be in a metric one."""
    guess = _ABOUT[about]
    said = [length / scene.unit_length**guess.power for length in lengths]
    if not all(map(math.isfinite, said)):
        return _statement(kind, names, UNKNOWN, "", views, pixels)
    unit = scene.unit if guess.power == 1 else f"{scene.unit}{guess.power}"
    value = " ".join(f"{length:.2f}" for length in said)
    statement = replace(_statement(kind, names, value, unit, views, pixels), value=_number(value))
    if scene.scale == "metric":
        return statement
    metric = [length * scene.usual_metres**guess.power * guess.per_metre for length in lengths]
    words = " ".join(f"{length:.{guess.decimals}f}" for length in metric)
    return replace(statement, text=f"{statement.text} about {words} {about}", about=_number(words), about_unit=about)


def _statement(
    kind: Kind,
    names: tuple[str, ...],
    value: str,
    unit: str,
    views: tuple[int, ...],
    pixels: tuple[Pixel, ...] = (),
) -> Statement:
    words = " ".join(word for word in (kind, *names, value, unit) if word)
    return Statement(kind, words, value, unit, views, pixels)
