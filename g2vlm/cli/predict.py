"""`g2vlm predict`: from photos to depth, cameras and a point cloud."""

import json
import shutil
import sys
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from g2vlm.cli.placing import KnownOption, MetricOption, Placing, WorldOption, place, placing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from g2vlm.cli.placing import Placed
    from g2vlm.cli.progress import Steps
    from g2vlm.frames import Frames
    from g2vlm.pictures import Photo
    from g2vlm.predictor import Answering
    from g2vlm.records import Reconstruction
    from g2vlm.video import Cut

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16", "float16"]

MODEL, PHOTOS, MANY, POINTS = "Model", "Photos", "More photos than can be seen at once", "What is written"

MAX_VIEWS = 32

WINDOWS = ".windows"
"""Folder, among the results, of windows of a run that goes on or was cut short."""


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Photos of one scene: files, folders, globs, videos; - reads a list from stdin. The first sets the frame.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results; made if need be.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id of a model; without it the embedded tiny model runs, offline.", rich_help_panel=MODEL
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=MODEL)] = "auto",
    dtype: Annotated[DType, typer.Option(help="Number format of the model.", rich_help_panel=MODEL)] = "auto",
    seed: Annotated[
        int, typer.Option(help="Repeats a run: of the model, and of the choice of points.", rich_help_panel=MODEL)
    ] = 0,
    max_views: Annotated[
        int, typer.Option(help="See at most so many photos at once, evenly spaced.", rich_help_panel=PHOTOS)
    ] = MAX_VIEWS,
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Pixels of the side that sets the scale of a view.",
            show_default="the model's own",
            rich_help_panel=PHOTOS,
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames of a video for each second of it.", rich_help_panel=PHOTOS)
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Frames of a video or folder in all, evenly spaced.", rich_help_panel=PHOTOS)
    ] = None,
    start: Annotated[float, typer.Option(help="Seconds of a video to leave out.", rich_help_panel=PHOTOS)] = 0.0,
    end: Annotated[float | None, typer.Option(help="Second of a video to stop at.", rich_help_panel=PHOTOS)] = None,
    sharpest: Annotated[
        bool, typer.Option("--sharpest", help="Of neighbouring frames take the sharpest.", rich_help_panel=PHOTOS)
    ] = False,
    window: Annotated[
        int | None,
        typer.Option(help="See so many photos at a time, and join all of them; 16 is good.", rich_help_panel=MANY),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(help="Photos that windows share.", show_default="a quarter of the window", rich_help_panel=MANY),
    ] = None,
    loops: Annotated[
        bool, typer.Option(help="Find places that are seen again, and make them agree.", rich_help_panel=MANY)
    ] = True,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what memory it would take, and leave.", rich_help_panel=MANY)
    ] = False,
    known: KnownOption = None,
    metric: MetricOption = None,
    world: WorldOption = None,
    formats: Annotated[
        str, typer.Option(help="Formats of g2vlm export, separated by commas.", rich_help_panel=POINTS)
    ] = "ply,npz,depth_png,overview,json",
    max_points: Annotated[
        int, typer.Option(help="Points of the PLY; beyond it a random subset is kept.", rich_help_panel=POINTS)
    ] = 1_000_000,
    min_confidence: Annotated[
        float, typer.Option(help="Leave less certain points out of the PLY; 0 to 1.", rich_help_panel=POINTS)
    ] = 0.0,
    keep_edges: Annotated[
        bool, typer.Option("--keep-edges", help="Keep points at depth edges in the PLY.", rich_help_panel=POINTS)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in a folder that is not empty.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Depth, normals, confidence, cameras and a coloured point cloud from photos of one scene."""
    started = perf_counter()
    from g2vlm.cli.progress import progress
    from g2vlm.export.atomic import require_free
    from g2vlm.export.cloud import Selection
    from g2vlm.export.save import check_formats, save
    from g2vlm.video import Cut

    wanted = check_formats([name.strip() for name in formats.split(",")])
    Selection(max_points, min_confidence, keep_edges, seed)  # refuses wrong values before the long work
    if out is None and not plan:
        raise ValueError("no folder for the results was given; give --out DIR")
    if window is None and overlap is not None:
        raise ValueError(f"--overlap {overlap} is of windows; give --window, too")
    asked_place = placing(known, metric or (), world)
    shots = _shots(inputs, Cut(fps, frames, start, end, sharpest), window, max_views)
    asked = {"resolution": resolution, "device": device, "dtype": dtype}
    if plan:
        _plan(model, shots, window, **asked)
        return
    assert out is not None
    kept = out / WINDOWS
    if not (window is not None and _is_interrupted(out)):
        require_free(out, overwrite=overwrite)
    if overwrite or window is None:
        shutil.rmtree(kept, ignore_errors=True)
    seeing = _Seeing(model, device, dtype, resolution, seed, window, overlap, loops)
    with progress(len(shots) + 3) as steps:
        look = _at_once if window is None else _by_windows
        reconstruction, notes = look(shots, seeing, asked_place, kept, steps)
        placed = place(reconstruction, asked_place)
        with steps.step("writing"):
            written = save(
                placed.reconstruction,
                out,
                wanted,
                max_points=max_points,
                min_confidence=min_confidence,
                keep_edges=keep_edges,
                seed=seed,
            )
    shutil.rmtree(kept, ignore_errors=True)
    for line in (*(f"left out: {line}" for line in shots.skipped), *notes):
        _note(line)
    _report(placed, out, written, steps.seconds | {"total": perf_counter() - started}, as_json=as_json)


@dataclass(frozen=True)
class _Seeing:
    """By which model, how finely, and how many photos at a time; see the options."""

    model: str | None
    device: Device
    dtype: DType
    resolution: int | None
    seed: int
    window: int | None
    overlap: int | None
    loops: bool

    def load(self) -> "Answering":
        from g2vlm.loading import load

        return load(self.model, device=self.device, dtype=self.dtype)


def _at_once(
    shots: "Frames", seeing: _Seeing, asked_place: Placing, kept: Path, steps: "Steps"
) -> "tuple[Reconstruction, tuple[str, ...]]":
    """All photos in one forward, and what is to be noted."""
    photos = list(steps.each("reading", shots))
    _require_read(shots, len(photos), 1)
    asked_place.cameras([photo.name for photo in photos], [photo.size for photo in photos])
    _require_memory(seeing, photos[0].size, len(photos))
    with steps.step("loading the model"):
        predictor = seeing.load()
    with steps.step("reconstructing"):
        return _reconstruct(predictor, photos, seeing.resolution, seeing.seed), ()


def _by_windows(
    shots: "Frames", seeing: _Seeing, asked_place: Placing, kept: Path, steps: "Steps"
) -> "tuple[Reconstruction, tuple[str, ...]]":
    """Photos by windows that are joined; `kept` holds those that are done, should the run be interrupted."""
    assert seeing.window is not None
    photos = iter(shots)
    first = next(photos, None)
    if first is None:
        _require_read(shots, 0, 2)
    assert first is not None
    _require_memory(seeing, first.size, min(seeing.window, len(shots)))
    with steps.step("loading the model"):
        predictor = seeing.load()
    joiner = predictor.joiner(
        window=seeing.window,
        overlap=max(1, seeing.window // 4) if seeing.overlap is None else seeing.overlap,
        resolution=seeing.resolution,
        seed=seeing.seed,
        folder=kept,
    )
    read = steps.each("reconstructing", chain([first], photos))
    num_settled = sum(len(partial.reconstruction.names) for partial in joiner.run(read))
    _require_read(shots, num_settled, 2)
    found = f"{joiner.num_found} of {len(joiner.windows)} windows were there from an interrupted run"
    with steps.step("joining"):
        joined = joiner.joined(close_loops=seeing.loops)
    return joined.reconstruction, ((found,) if joiner.num_found else ()) + joined.notes


def _shots(inputs: list[str], cut: "Cut", window: int | None, max_views: int) -> "Frames":
    """What is seen of the inputs; without a window no more than can be seen at once."""
    from g2vlm.frames import Frames

    listed = [line for text in inputs for line in (sys.stdin.read().splitlines() if text == "-" else [text]) if line]
    if max_views < 1:
        raise ValueError(f"max_views is {max_views}; at least 1 picture is needed")
    if window is not None:
        return Frames(listed, cut)
    chosen = cut if cut.fps is not None or cut.frames is not None else replace(cut, frames=max_views)
    shots = Frames(listed, chosen, is_lenient=False)
    if len(shots) > max_views:
        raise ValueError(
            f"{len(shots)} frames are more than --max-views {max_views}; give --window 16 to see them by windows and join those, "
            f"or --max-views {len(shots)}"
        )
    _say_what_is_used(shots.num_found, len(shots))
    return shots


def _require_read(shots: "Frames", num_read: int, fewest: int) -> None:
    if num_read < min(fewest, len(shots)):
        raise ValueError(
            f"only {num_read} of {len(shots)} frames can be read, and at least {fewest} are needed; the first that cannot: "
            f"{shots.skipped[0]}"
        )


def _is_interrupted(out: Path) -> bool:
    """Whether a folder holds nothing but windows of a run that was cut short."""
    return (out / WINDOWS).is_dir() and [path.name for path in out.iterdir()] == [WINDOWS]


def _plan(
    model: str | None, shots: "Frames", window: int | None, resolution: int | None, device: Device, dtype: DType
) -> None:
    """Print what memory a run would take; exit code 2 if it would be refused."""
    from g2vlm.memory import memory_plan

    first = next(iter(shots), None)
    if first is None:
        _require_read(shots, 0, 1)
        return
    num = len(shots) if window is None else min(window, len(shots))
    made = memory_plan(
        model, first.size, num, resolution=resolution, device=device, dtype=dtype, keeps_all=window is None
    )
    if made is None:
        raise ValueError(f"{model} is a host of a pathway, which reconstructs nothing; --plan is of reconstructions")
    for line in made.lines():
        print(line)
    made.require(_CURE_OF_WINDOWS if window is not None else _CURE)


_CURE = "give --max-views {most}, a lower --resolution, or --window to see them by windows"
_CURE_OF_WINDOWS = "give --window {most} or a lower --resolution"


def _require_memory(seeing: _Seeing, photo_size: tuple[int, int], num_views: int) -> None:
    """Refuse what would not fit, before the model is loaded."""
    from g2vlm.memory import is_surely_enough, memory_plan

    if is_surely_enough(seeing.model, num_views, resolution=seeing.resolution, device=seeing.device):
        return
    plan = memory_plan(
        seeing.model,
        photo_size,
        num_views,
        resolution=seeing.resolution,
        device=seeing.device,
        dtype=seeing.dtype,
        keeps_all=seeing.window is None,
    )
    if plan is not None:
        plan.require(_CURE if seeing.window is None else _CURE_OF_WINDOWS)


def _reconstruct(
    predictor: "Answering", photos: "Sequence[Photo]", resolution: int | None, seed: int
) -> "Reconstruction":
    import torch

    try:
        return predictor.reconstruct(photos, resolution=resolution, seed=seed)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{len(photos)} views do not fit into the device's memory; lower --max-views or --resolution"
        ) from error


def _say_what_is_used(num_found: int, num_used: int) -> None:
    if num_used < num_found:
        _note(
            f"using {num_used} of {num_found} pictures, evenly spaced; --window 16 sees all by windows, --max-views {num_found} at once"
        )
    if num_used == 1:
        _note("one photo gives depth and points, but no camera motion; more photos of the scene give more")


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _report(placed: "Placed", out: Path, written: list[Path], seconds: dict[str, float], *, as_json: bool) -> None:
    reconstruction = placed.reconstruction
    if as_json:
        summary = {
            "folder": str(out),
            "files": [str(path) for path in written],
            "views": list(reconstruction.names),
            "scale": reconstruction.scale,
            "world": reconstruction.world,
            **placed.record,
            "model": reconstruction.provenance.model,
            "checkpoint_sha256": reconstruction.provenance.checkpoint_sha256,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
        }
        print(json.dumps(summary, ensure_ascii=False))
        return
    for text in (*written, *placed.lines):
        print(text)
    timings = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    print(f"{len(reconstruction.names)} views, {reconstruction.scale.replace('_', '-')}; {timings}")
