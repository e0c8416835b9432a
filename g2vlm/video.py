"""Frames of video files, as photos: chosen by the times at which they are shown, decoded when they are asked for."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from g2vlm.pictures import Photo, evenly_spaced, sharpest

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".3gp", ".wmv", ".flv")

MOST_FRAMES = 5000
"""Of one sequence; a day's work for a model, and more than one scene has use for."""


class BadVideo(ValueError):
    """A file that is no video, or a damaged one."""


@dataclass(frozen=True)
class Cut:
    """Which frames of a video, or pictures of a folder, are wanted; all of them unless something is given.

    fps: of what is shown, so many frames a second. frames: so many in all, evenly spaced by their number, with the first and the last.
    start, end: seconds. sharpest: of all frames that are nearer to a chosen one than to the next, the sharpest in its place.
    """

    fps: float | None = None
    frames: int | None = None
    start: float = 0.0
    end: float | None = None
    sharpest: bool = False

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"fps is {self.fps}; it must be above 0")
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"{self.frames} frames are wanted; give at least 1")
        if self.fps is not None and self.frames is not None:
            raise ValueError(f"fps is {self.fps} and frames is {self.frames}; give one of them, not both")
        if not 0 <= self.start < (float("inf") if self.end is None else self.end):
            raise ValueError(f"start is {self.start} and end is {self.end}; give 0 <= start < end, in seconds")

    def groups(self, times: Sequence[float]) -> list[range]:
        """Of frames shown at these times (seconds, sorted), each one that is wanted with those that may stand in its place."""
        inside = range(
            bisect_left(times, self.start), len(times) if self.end is None else bisect_right(times, self.end)
        )
        if not inside:
            return []
        if self.fps is not None:
            first, last = times[inside[0]], times[inside[-1]]
            targets = first + np.arange(int((last - first) * self.fps + 1e-6) + 1) / self.fps
            # What is on the screen at a time is the last frame that began by then.
            chosen = sorted({min(bisect_right(times, t + 1e-6) - 1, inside[-1]) for t in targets.tolist()})
        else:
            chosen = evenly_spaced(inside, self.frames)
        return _with_neighbours(chosen, inside) if self.sharpest else [range(i, i + 1) for i in chosen]


def _with_neighbours(chosen: Sequence[int], inside: range) -> list[range]:
    """Each chosen one with all that are nearer to it than to the others."""
    borders = [(a + b + 1) // 2 for a, b in pairwise(chosen)]
    return [range(a, b) for a, b in zip([inside.start, *borders], [*borders, inside.stop], strict=True)]


class Clip:
    """The frames of a video that a cut wants: counted at once, decoded one by one when they are iterated over.

    skipped: after iteration, those that could not be decoded, by name.
    Raises BadVideo for a file that cannot be read, and ValueError where PyAV is missing or where more than MOST_FRAMES are wanted.
    """

    def __init__(self, path: Path, cut: Cut):
        self.path = path
        self.skipped: list[str] = []
        with _opened(path) as (container, stream):
            packets = [
                (packet.pts if packet.pts is not None else packet.dts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.size and (packet.pts is not None or packet.dts is not None)
            ]
            rate = float(stream.time_base or 1)
        self._stamps = sorted({stamp for stamp, _ in packets})
        if not self._stamps:
            raise BadVideo(f"{path}: the video has no frames")
        self._keys = [bisect_left(self._stamps, stamp) for stamp in sorted({s for s, is_key in packets if is_key})]
        self.times = [(stamp - self._stamps[0]) * rate for stamp in self._stamps]
        self._groups = cut.groups(self.times)
        if not self._groups:
            raise BadVideo(
                f"{path}: no frame between {cut.start} and {cut.end} seconds; it is {self.times[-1]:.1f} seconds long"
            )
        if len(self._groups) > MOST_FRAMES:
            raise ValueError(
                f"{path}: {len(self._groups)} frames are wanted of {self.times[-1]:.0f} seconds, over the limit of {MOST_FRAMES}; "
                "ask for fewer a second, for a number of frames, or for a part of it by start and end"
            )

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def num_found(self) -> int:
        """How many frames it has."""
        return len(self.times)

    def __iter__(self) -> Iterator[Photo]:
        self.skipped.clear()
        wanted = [i for group in self._groups for i in group]
        decoded = self._decoded(wanted)
        for group in self._groups:
            best = sharpest(photo for photo in islice(decoded, len(group)) if photo is not None)
            if best is not None:
                yield best
            else:
                self.skipped.append(f"{self._name(group[len(group) // 2])}: damaged")

    def _name(self, index: int) -> str:
        return f"{self.path.name} frame {index}"

    def _decoded(self, wanted: Sequence[int]) -> Iterator[Photo | None]:
        """These frames, None for each that is damaged; what lies between is jumped over where there are key frames."""
        with _opened(self.path) as (container, stream):
            frames: Iterator[tuple[int, Any]] = iter(())
            at, frame = -1, None
            for index in wanted:
                key = self._keys[max(bisect_right(self._keys, index) - 1, 0)] if self._keys else 0
                if at < 0 or key > at + 1:
                    container.seek(self._stamps[key], stream=stream)
                    frames, at = self._from_here(container, stream), -1
                while at < index:
                    at, frame = next(frames, (len(self._stamps), None))
                is_whole = at == index and frame is not None and not frame.is_corrupt
                yield Photo(self._name(index), _rgb(frame)) if is_whole else None

    def _from_here(self, container: Any, stream: Any) -> Iterator[tuple[int, Any]]:
        """Number and frame of all that can be decoded."""
        from av.error import FFmpegError

        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except FFmpegError:
                continue  # its frames are missing, and missed by whoever wants them
            for frame in frames:
                if frame.pts is not None:
                    yield bisect_left(self._stamps, frame.pts), frame


def read_video(path: Path, most_frames: int) -> list[Photo]:
    """At most so many frames, evenly spaced, the first and the last among them; upright. Damaged ones are left out.

    Raises BadVideo for a file that cannot be read, and ValueError where PyAV is missing.
    """
    if most_frames < 1:
        raise ValueError(f"{path}: {most_frames} frames are wanted; give at least 1")
    photos = list(Clip(path, Cut(frames=most_frames)))
    if not photos:
        raise BadVideo(f"{path}: none of its frames can be decoded")
    return photos


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Container and first video stream."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise ValueError(
            f"{path}: video files need PyAV: pip install 'g2vlm[video]'; or give folders of frames"
        ) from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadVideo(f"{path}: has no pictures, only {len(container.streams)} other streams")
            yield container, container.streams.video[0]
    except FFmpegError as error:
        raise BadVideo(f"{path}: cannot be read as a video ({error.strerror}); convert it or leave it out") from error


def _rgb(frame: Any) -> UInt8[np.ndarray, "height width 3"]:
    return upright(frame.to_ndarray(format="rgb24"), frame.rotation)


def upright(rgb: UInt8[np.ndarray, "_rows _columns 3"], rotation: int) -> UInt8[np.ndarray, "height width 3"]:
    """As the file asks to be shown; rotation: degrees against the clock. Telephones store frames as the sensor lies."""
    return np.ascontiguousarray(np.rot90(rgb, round(rotation / 90)))
