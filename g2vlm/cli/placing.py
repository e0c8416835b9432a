"""Options that give a reconstruction its scale and its world, and what is said of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from g2vlm.known import KnownCameras, KnownReport
    from g2vlm.metric import Hint, ScaleReport
    from g2vlm.records import Reconstruction

SCALE = "Scale and world"

KnownOption = Annotated[
    Path | None,
    typer.Option(
        "--known",
        metavar="FILE",
        help="Cameras that are known: cameras.json, transforms.json, scene.json or a folder of COLMAP. The result is fitted to them.",
        rich_help_panel=SCALE,
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="LENGTH",
        help="A known length, which gives metres: 0:120,80-1:300,90=2.4m between two points (view:x,y of the photo), 0:120,80=2.4m of a "
        "depth, 0-1=0.5m between cameras, height=1.5m of the cameras. Repeat it for more.",
        rich_help_panel=SCALE,
    ),
]
WorldOption = Annotated[
    Literal["view_0", "gravity", "known"] | None,
    typer.Option(
        "--world",
        help="Frame of the result: camera of the first view, floor level and at zero with y down, or that of the known poses.",
        show_default="known if poses are, else view_0",
        rich_help_panel=SCALE,
    ),
]


@dataclass(frozen=True)
class Placing:
    """What was asked for, checked before the long work. known: file; hints: known lengths; world: None is the default."""

    known: Path | None
    hints: "tuple[Hint, ...]"
    world: Literal["view_0", "gravity", "known"] | None

    def cameras(self, names: Sequence[str], sizes: Sequence[tuple[int, int]]) -> "KnownCameras | None":
        """The known cameras of photos, sizes (height, width); refuses what they do not allow."""
        from g2vlm.data.known import read_known

        if self.known is None:
            return None
        cameras = read_known(self.known, names, sizes)
        if self.world == "known" and cameras.poses is None:
            raise ValueError(f"--world known needs poses, but {self.known} knows none; leave it out")
        if cameras.poses is not None and cameras.is_metric and self.hints:
            raise ValueError(f"{self.known} is in metres already; leave out --metric {self.hints[0].text}")
        return cameras


def placing(known: Path | None, lengths: Sequence[str], world: Literal["view_0", "gravity", "known"] | None) -> Placing:
    """The options, read; ValueError for a length that is none, and a file that is not there."""
    from g2vlm.metric import parse_hint

    if known is not None and not known.exists():
        raise ValueError(f"--known {known}: there is no such file or folder")
    if world == "known" and known is None:
        raise ValueError("--world known needs poses that are known; give them with --known FILE")
    return Placing(known, tuple(parse_hint(text) for text in lengths), world)


@dataclass(frozen=True)
class Placed:
    """A reconstruction in its scale and world; lines: for people, record: for programs."""

    reconstruction: "Reconstruction"
    lines: tuple[str, ...]
    record: dict[str, Any]


def place(reconstruction: "Reconstruction", asked: Placing) -> Placed:
    """Fit to what is known, scale to metres, turn into the world that was asked for."""
    import numpy as np

    from g2vlm.known import fit_to_known
    from g2vlm.metric import to_metres
    from g2vlm.worlds import in_gravity_frame, moved

    lines: list[str] = []
    record: dict[str, Any] = {}
    settings: dict[str, str | int | float | None] = {}
    cameras = asked.cameras(reconstruction.names, reconstruction.original_sizes)
    if cameras is not None:
        reconstruction, fit = fit_to_known(reconstruction, cameras)
        lines += _of_known(cameras, fit)
        record["known"] = {"source": cameras.source, **asdict(fit)}
        settings["known"] = cameras.source
    if asked.hints:
        reconstruction, scale = to_metres(reconstruction, asked.hints)
        lines += _of_scale(scale)
        record["metric"] = asdict(scale)
        settings["metric"] = "; ".join(scale.residuals)
    if asked.world == "gravity":
        reconstruction = in_gravity_frame(reconstruction)
    elif asked.world == "view_0" and reconstruction.world != "view_0":
        reconstruction = replace(moved(reconstruction, np.linalg.inv(reconstruction.poses[0])), world="view_0")
    provenance = replace(reconstruction.provenance, settings=reconstruction.provenance.settings | settings)
    return Placed(replace(reconstruction, provenance=provenance), tuple(lines), record)


def _of_known(cameras: "KnownCameras", fit: "KnownReport") -> list[str]:
    lines = []
    if fit.focal_error:
        worst = max(fit.focal_error, key=abs)
        lines.append(f"{cameras.source}: predicted focal lengths were up to {100 * worst:+.1f} % off")
    if cameras.poses is not None and len(cameras.poses) > 1:
        lines.append(
            f"{cameras.source}: predicted rotations were {fit.rotation_deg:.1f} degrees off, directions {fit.translation_deg:.1f} "
            f"(medians over pairs); one unit of the prediction is {fit.scale:.4g} of theirs"
        )
    if fit.before.num_matches and fit.after.num_matches:
        lines.append(
            f"views agree on depth within {100 * fit.before.median:.1f} % as predicted ({fit.before.num_matches} pixels), "
            f"{100 * fit.after.median:.1f} % as fitted ({fit.after.num_matches})"
        )
    return lines


def _of_scale(scale: "ScaleReport") -> list[str]:
    residuals = ", ".join(f"{text} {100 * residual:+.1f} %" for text, residual in scale.residuals.items())
    return [f"one unit of the prediction is {scale.factor:.4g} m; what is left: {residuals}"]
