"""One scene, from its files to its results: what `g2vlm predict` does once, or with each of many scenes."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from g2vlm.cli.placing import Placing, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from g2vlm.cli.placing import Placed
    from g2vlm.cli.progress import Steps
    from g2vlm.frames import Frames
    from g2vlm.pictures import Photo
    from g2vlm.predictor import Answering
    from g2vlm.records import Reconstruction
    from g2vlm.video import Cut
    from g2vlm.windows import Joined, Joint

WINDOWS = ".windows"
"""Folder, among the results, of windows of a run that goes on or was cut short."""


@dataclass(frozen=True)
class Seeing:
    """By which model, how finely, and how many photos at a time; see the options."""

    model: str | None
    device: str
    dtype: str
    resolution: int | None
    seed: int
    window: int | None
    overlap: int | None
    loops: bool

    @cached_property
    def predictor(self) -> "Answering":
        """Loaded when it is first needed, and once for all scenes of this process."""
        from g2vlm.loading import load

        return load(self.model, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class Seen:
    """What a model saw. notes: what a person should know. sequence: of windows, how they were joined; for programs."""

    reconstruction: "Reconstruction"
    notes: tuple[str, ...] = ()
    sequence: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Result:
    """What was written, and what is to be said of it. sequence: as of `Seen`."""

    placed: "Placed"
    files: "list[Path]"
    notes: tuple[str, ...]
    sequence: Mapping[str, Any] | None


@dataclass(frozen=True)
class Asked:
    """What is wanted of a scene; see the options. formats, writing: what `save` is asked for."""

    seeing: Seeing
    cut: "Cut"
    max_views: int
    placing: Placing
    formats: tuple[str, ...]
    writing: Mapping[str, Any]

    def settings(self) -> dict[str, Any]:
        """All that decides a result, beside its pictures; on which device is none of it."""
        seeing = asdict(self.seeing)
        del seeing["device"]
        placing = {
            "known": self.placing.known and str(self.placing.known),
            "metric": [hint.text for hint in self.placing.hints],
            "world": self.placing.world,
        }
        writing = {"formats": self.formats, **self.writing}
        return {**seeing, **asdict(self.cut), "max_views": self.max_views, **placing, **writing}

    def shots(self, inputs: "Sequence[str]") -> "Frames":
        """What is seen of the inputs; without a window no more than can be seen at once."""
        from g2vlm.frames import Frames

        listed = [
            line for text in inputs for line in (sys.stdin.read().splitlines() if text == "-" else [text]) if line
        ]
        if self.max_views < 1:
            raise ValueError(f"max_views is {self.max_views}; at least 1 picture is needed")
        if self.seeing.window is not None:
            return Frames(listed, self.cut)
        chosen = self.cut if self._is_chosen else replace(self.cut, frames=self.max_views)
        shots = Frames(listed, chosen, is_lenient=False)
        if len(shots) > self.max_views:
            raise ValueError(
                f"{len(shots)} frames are more than --max-views {self.max_views}; give --window 16 to see them by windows and join "
                f"those, or --max-views {len(shots)}"
            )
        return shots

    @property
    def _is_chosen(self) -> bool:
        """Whether a person said which frames are wanted, so that --max-views need not."""
        return self.cut.fps is not None or self.cut.frames is not None

    def choice(self, shots: "Frames") -> tuple[str, ...]:
        """What a person should know before the work: that not all is used, though nobody asked for that, or hardly enough."""
        if self.seeing.window is not None:
            return ()
        found, used = shots.num_found, len(shots)
        thinned = f"using {used} of {found} pictures, evenly spaced; --window 16 sees all by windows, --max-views {found} at once"
        single = "one photo gives depth and points, but no camera motion; more photos of the scene give more"
        return ((thinned,) if used < found and not self._is_chosen else ()) + ((single,) if used == 1 else ())

    def prepare(self, out: Path, *, overwrite: bool) -> None:
        """Refuse a folder with other things in it; windows of an interrupted run stay there if they are gone on with."""
        from g2vlm.export.atomic import require_free

        if self.seeing.window is None or not _is_interrupted(out):
            require_free(out, overwrite=overwrite)
        if overwrite or self.seeing.window is None:
            shutil.rmtree(out / WINDOWS, ignore_errors=True)

    def reconstruct(
        self, shots: "Frames", out: Path, steps: "Steps", provenance: Mapping[str, str] = MappingProxyType({})
    ) -> Result:
        """See the photos and write what is wanted; provenance: to be kept among the settings of the result's own."""
        from g2vlm.export.save import save

        look = _at_once if self.seeing.window is None else _by_windows
        seen = look(shots, self.seeing, self.placing, out / WINDOWS, steps)
        origin = seen.reconstruction.provenance
        origin = replace(origin, settings={**origin.settings, **provenance})
        placed = place(replace(seen.reconstruction, provenance=origin), self.placing)
        with steps.step("writing"):
            files = save(placed.reconstruction, out, self.formats, **self.writing)
        shutil.rmtree(out / WINDOWS, ignore_errors=True)
        return Result(placed, files, (*(f"left out: {line}" for line in shots.skipped), *seen.notes), seen.sequence)


def _at_once(shots: "Frames", seeing: Seeing, asked_place: Placing, kept: Path, steps: "Steps") -> Seen:
    """All photos in one forward."""
    from g2vlm.windows import notes_of

    photos = list(steps.each("reading", shots))
    require_read(shots, len(photos), 1)
    asked_place.cameras([photo.name for photo in photos], [photo.size for photo in photos])
    _require_memory(seeing, photos[0].size, len(photos))
    with steps.step("loading the model"):
        predictor = seeing.predictor
    with steps.step("reconstructing"):
        reconstruction = _reconstruct(predictor, photos, seeing.resolution, seeing.seed)
        return Seen(reconstruction, notes_of(reconstruction))


def _by_windows(shots: "Frames", seeing: Seeing, asked_place: Placing, kept: Path, steps: "Steps") -> Seen:
    """Photos by windows that are joined; `kept` holds those that are done, should the run be interrupted."""
    assert seeing.window is not None
    photos = iter(shots)
    first = next(photos, None)
    if first is None:
        refuse_unread(shots, 0, 2)
    _require_memory(seeing, first.size, min(seeing.window, len(shots)))
    with steps.step("loading the model"):
        predictor = seeing.predictor
    joiner = predictor.joiner(
        window=seeing.window,
        overlap=max(1, seeing.window // 4) if seeing.overlap is None else seeing.overlap,
        resolution=seeing.resolution,
        seed=seeing.seed,
        folder=kept,
    )
    read = steps.each("reconstructing", chain([first], photos))
    num_settled = sum(len(partial.reconstruction.names) for partial in joiner.run(read))
    require_read(shots, num_settled, 2)
    found = f"{joiner.num_found} of {len(joiner.windows)} windows were there from an interrupted run"
    with steps.step("joining"):
        joined = joiner.joined(close_loops=seeing.loops)
    notes = ((found,) if joiner.num_found else ()) + joined.notes
    return Seen(joined.reconstruction, notes, _account(len(joiner.windows), joined))


def _account(num_windows: int, joined: "Joined") -> dict[str, Any]:
    """How windows were joined, for programs."""

    def told(joint: "Joint") -> dict[str, Any]:
        return {
            "windows": [joint.first, joint.second],
            "views": list(joint.views),
            "agreement": round(joint.agreement, 4),
        }

    return {"windows": num_windows, "joints": [*map(told, joined.joints)], "loops": [*map(told, joined.loops)]}


def note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def require_read(shots: "Frames", num_read: int, fewest: int) -> None:
    """Refuse a scene of which too little can be read."""
    if num_read < min(fewest, len(shots)):
        refuse_unread(shots, num_read, fewest)


def refuse_unread(shots: "Frames", num_read: int, fewest: int) -> NoReturn:
    raise ValueError(
        f"only {num_read} of {len(shots)} frames can be read, and at least {fewest} are needed; the first that cannot: "
        f"{shots.skipped[0]}"
    )


def _is_interrupted(out: Path) -> bool:
    """Whether a folder holds nothing but windows of a run that was cut short."""
    return (out / WINDOWS).is_dir() and [path.name for path in out.iterdir()] == [WINDOWS]


CURE = "give --max-views {most}, a lower --resolution, or --window to see them by windows"
CURE_OF_WINDOWS = "give --window {most} or a lower --resolution"


def _require_memory(seeing: Seeing, photo_size: tuple[int, int], num_views: int) -> None:
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
        plan.require(CURE if seeing.window is None else CURE_OF_WINDOWS)


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
