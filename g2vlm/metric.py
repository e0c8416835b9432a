"""Metres: one factor for points and poses, from lengths that are known in a scene."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from g2vlm.geometry.align import robust_scale
from g2vlm.records import Reconstruction
from g2vlm.worlds import find_floor, scaled

GREATEST_DISAGREEMENT = 0.2
"""Median relative residual above which lengths are said to contradict one another."""

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}

FORMS = (
    "VIEW:X,Y-VIEW:X,Y=LENGTH (between two points), VIEW:X,Y=LENGTH (depth of a point), VIEW-VIEW=LENGTH (between two cameras), "
    "height=LENGTH or VIEW:height=LENGTH (of cameras above the floor)"
)


@dataclass(frozen=True)
class Pixel:
    """A pixel of a view's original photo, centres at +0.5; views count from 0."""

    view: int
    x: float
    y: float


@dataclass(frozen=True)
class Distance:
    """Between what two pixels show."""

    one: Pixel
    other: Pixel


@dataclass(frozen=True)
class Depth:
    """Of what a pixel shows, along its camera's axis."""

    at: Pixel


@dataclass(frozen=True)
class Baseline:
    """Between the cameras of two views."""

    one: int
    other: int


@dataclass(frozen=True)
class CameraHeight:
    """Of a view's camera above the floor; None: of all cameras, on the mean."""

    view: int | None = None


Length = Distance | Depth | Baseline | CameraHeight


@dataclass(frozen=True)
class Hint:
    """A known length. text: as it was given."""

    length: Length
    metres: float
    text: str


@dataclass(frozen=True)
class ScaleReport:
    """factor: metres in one unit of the scene as predicted. residuals: by hint, (said - known) / known after scaling."""

    factor: float
    residuals: dict[str, float]


_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_PIXEL = rf"(\d+):{_NUMBER},{_NUMBER}"
_HINT = re.compile(
    rf"(?:(?P<distance>{_PIXEL}-{_PIXEL})|(?P<depth>{_PIXEL})|(?P<baseline>(\d+)-(\d+))|(?P<height>(?:(\d+):)?height))"
    rf"=(?P<value>{_NUMBER})(?P<unit>{'|'.join(UNITS)})"
)


def parse_hint(text: str) -> Hint:
    """A known length as written on a command line, "0:120,80-1:300,90=2.4m"; ValueError names the forms."""
    found = _HINT.fullmatch(text.replace(" ", ""))
    if found is None:
        raise ValueError(f"{text!r} is no known length; write {FORMS}, with a unit of {', '.join(UNITS)}")
    metres = float(found["value"]) * UNITS[found["unit"]]
    if metres <= 0:
        raise ValueError(f"{text!r}: a known length must be above zero")
    numbers = [float(x) for x in re.findall(r"\d+(?:\.\d+)?|\.\d+", text.replace(" ", "").split("=")[0])]
    if found["distance"]:
        return Hint(Distance(_pixel(numbers[:3]), _pixel(numbers[3:])), metres, text)
    if found["depth"]:
        return Hint(Depth(_pixel(numbers)), metres, text)
    if found["baseline"]:
        return Hint(Baseline(int(numbers[0]), int(numbers[1])), metres, text)
    return Hint(CameraHeight(int(numbers[0]) if numbers else None), metres, text)


def _pixel(numbers: Sequence[float]) -> Pixel:
    return Pixel(int(numbers[0]), numbers[1], numbers[2])


def to_metres(reconstruction: Reconstruction, hints: Sequence[Hint]) -> tuple[Reconstruction, ScaleReport]:
    """The reconstruction in metres, points and poses alike, by the factor that leaves the least sum of relative residuals (ROE, L1).

    Less than half of the hints may be wrong; what each is off by is reported. Raises ValueError for a hint about no view, a pixel
    without a point, a length of nothing, and where hints contradict one another.
    """
    if reconstruction.scale == "metric":
        raise ValueError("the reconstruction is in metres already; a known length would scale it again")
    measured = np.array([measure(reconstruction, hint) for hint in hints])
    known = np.array([hint.metres for hint in hints])
    _require_consistent(hints)
    source, target = torch.from_numpy(measured), torch.from_numpy(known)
    factor = float(robust_scale(source, target, 1 / target))
    residuals = (factor * measured - known) / known
    if len(hints) > 1 and np.median(np.abs(residuals)) > GREATEST_DISAGREEMENT:
        each = ", ".join(f"{h.text} asks for {k / m:.3g}" for h, k, m in zip(hints, known, measured, strict=True))
        raise ValueError(
            f"the known lengths contradict one another: metres in one unit: {each}; leave out the wrong ones"
        )
    report = ScaleReport(factor, {hint.text: float(r) for hint, r in zip(hints, residuals, strict=True)})
    return replace(scaled(reconstruction, factor), scale="metric"), report


def _require_consistent(hints: Sequence[Hint]) -> None:
    """Two values for one length are a slip of whoever wrote them, and nothing to average."""
    by_length: dict[Length, Hint] = {}
    for hint in hints:
        other = by_length.setdefault(hint.length, hint)
        if other.metres != hint.metres:
            raise ValueError(
                f"{other.text} and {hint.text} say different things of one length; leave out the wrong one"
            )


def measure(reconstruction: Reconstruction, hint: Hint) -> float:
    """What a hint is about, in the unit of the reconstruction; above zero."""
    length = hint.length
    match length:
        case Distance(one, other):
            value = float(np.linalg.norm(_point(reconstruction, one, hint) - _point(reconstruction, other, hint)))
        case Depth(at):
            pose = reconstruction.poses[_view(reconstruction, at.view, hint)]
            value = float((_point(reconstruction, at, hint) - pose[:3, 3]) @ pose[:3, 2])
        case Baseline(one, other):
            first, second = (reconstruction.poses[_view(reconstruction, v, hint), :3, 3] for v in (one, other))
            value = float(np.linalg.norm(first - second))
        case CameraHeight(view):
            cameras = reconstruction.poses[:, :3, 3]
            chosen = cameras if view is None else cameras[_view(reconstruction, view, hint)][None]
            value = float(find_floor(reconstruction).above(chosen).mean())
    if not value > 0:
        raise ValueError(f"{hint.text}: what it measures has no length in the prediction; choose other points or views")
    return value


def _view(reconstruction: Reconstruction, view: int, hint: Hint) -> int:
    count = len(reconstruction.names)
    if view >= count:
        raise ValueError(f"{hint.text}: there is no view {view}, only 0 to {count - 1}")
    return view


def _point(reconstruction: Reconstruction, pixel: Pixel, hint: Hint) -> Float[np.ndarray, "3"]:
    """World point of the map's pixel that shows a photo's pixel, or the median of its neighbours on no depth edge."""
    view = _view(reconstruction, pixel.view, hint)
    height, width = reconstruction.original_sizes[view]
    if not (0 <= pixel.x <= width and 0 <= pixel.y <= height):
        raise ValueError(f"{hint.text}: ({pixel.x:g}, {pixel.y:g}) is outside view {view}, which is {width} x {height}")
    mask, points = reconstruction.mask[view], reconstruction.points[view]
    row = min(int(pixel.y * mask.shape[0] / height), mask.shape[0] - 1)
    column = min(int(pixel.x * mask.shape[1] / width), mask.shape[1] - 1)
    if mask[row, column]:
        return points[row, column].astype(np.float64)
    near = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
    if not mask[near].any():
        raise ValueError(f"{hint.text}: nothing certain was predicted at ({pixel.x:g}, {pixel.y:g}) of view {view}; "
                         "choose a point away from depth edges")  # fmt: skip
    return np.median(points[near][mask[near]].astype(np.float64), axis=0)
