"""The photos of a sequence, from pictures and videos in the order in which they are named; read one by one when they are needed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from g2vlm.pictures import Photo, find_pictures, read_photo, sharpest
from g2vlm.video import MOST_FRAMES, SUFFIXES, Clip, Cut


class Frames:
    """Photos of pictures, folders, globs and video files; `len` says how many there will be, if none is damaged.

    cut: of each video; of the pictures that stand together its `frames` and `sharpest`.
    is_lenient: a picture that cannot be read is left out and named in `skipped`, as frames of videos always are; else ValueError.
    Raises ValueError for what is not there, for a number of frames over the limit, and for a cut that pictures have no use for.
    """

    def __init__(self, inputs: Sequence[str], cut: Cut = Cut(), *, is_lenient: bool = True):  # noqa: B008, frozen
        self.is_lenient = is_lenient
        self.parts: list[Clip | _Pictures] = []
        together: list[str] = []
        for text in inputs:
            if Path(text).suffix.lower() in SUFFIXES and Path(text).is_file():
                self._add_pictures(together, cut)
                together = []
                self.parts.append(Clip(Path(text), cut))
            else:
                together.append(text)
        self._add_pictures(together, cut)
        if not self.parts:
            raise ValueError("no picture was given; name at least one picture, folder, glob or video")
        if not self.has_videos and (cut.fps is not None or cut.start or cut.end is not None):
            raise ValueError("fps, start and end are of videos, but only pictures are given; leave them out")
        if len(self) > MOST_FRAMES:
            raise ValueError(f"{len(self)} frames are over the limit of {MOST_FRAMES}; give frames to thin them out")

    def _add_pictures(self, inputs: list[str], cut: Cut) -> None:
        if inputs:
            paths = find_pictures(inputs)
            groups = Cut(frames=cut.frames, sharpest=cut.sharpest).groups(range(len(paths)))
            self.parts.append(
                _Pictures([[paths[i] for i in group] for group in groups], len(paths), is_lenient=self.is_lenient)
            )

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def num_found(self) -> int:
        """How many there are to choose from."""
        return sum(part.num_found for part in self.parts)

    @property
    def has_videos(self) -> bool:
        return any(isinstance(part, Clip) for part in self.parts)

    @property
    def skipped(self) -> list[str]:
        """What could not be read so far, with the reason."""
        return [line for part in self.parts for line in part.skipped]

    def __iter__(self) -> Iterator[Photo]:
        for part in self.parts:
            yield from part


class _Pictures:
    """Groups of files, of each of which the sharpest that can be read is taken."""

    def __init__(self, groups: list[list[Path]], num_found: int, *, is_lenient: bool):
        self.groups, self.num_found, self.is_lenient = groups, num_found, is_lenient
        self.skipped: list[str] = []

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Photo]:
        self.skipped.clear()
        for group in self.groups:
            best = sharpest(self._readable(group))
            if best is not None:
                yield best

    def _readable(self, paths: list[Path]) -> Iterator[Photo]:
        for path in paths:
            try:
                yield read_photo(path)
            except ValueError as error:
                if not self.is_lenient:
                    raise
                self.skipped.append(str(error))
