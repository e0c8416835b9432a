"""What strangers may hand to the page: how many files, how large, how long; everything else is refused by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from g2vlm.pictures import SUFFIXES, Photo, evenly_spaced, read_photo
from g2vlm.video import SUFFIXES as VIDEO_SUFFIXES
from g2vlm.video import BadVideo, Clip, Cut


@dataclass(frozen=True)
class Limits:
    """Of the page. views: seen at once; more photos or frames are thinned out evenly. answer_seconds: an answer ends then.

    waiting: jobs in the queue. scenes: people's scenes that are remembered, the oldest being forgotten first.
    """

    views: int = 16
    files: int = 64
    file_bytes: int = 200 * 2**20
    upload_bytes: int = 400 * 2**20
    pixels: int = 40_000_000
    video_seconds: float = 600
    question_characters: int = 2000
    new_tokens: int = 128
    answer_seconds: float = 120
    waiting: int = 32
    scenes: int = 16
    scene_seconds: int = 3600

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ValueError(f"views is {self.views}; at least 1 is needed")


def photos_of(paths: Sequence[str], limits: Limits) -> list[Photo]:
    """Uploaded photos, and frames of uploaded videos, in the order of the files; ValueError names a file by its name alone."""
    if not paths:
        raise ValueError("no photo was given; drop photos or a video of one scene")
    files = [Path(path) for path in paths]
    _check_amount(files, limits)
    for file in files:
        if file.suffix.lower() not in SUFFIXES + VIDEO_SUFFIXES:
            raise ValueError(f"{file.name}: wanted are files ending in {' '.join(SUFFIXES + VIDEO_SUFFIXES)}")
    photos = [photo for file in files for photo in _photos_in(file, limits)]
    return evenly_spaced(photos, limits.views)


def _check_amount(files: Sequence[Path], limits: Limits) -> None:
    if len(files) > limits.files:
        raise ValueError(
            f"{len(files)} files are more than the {limits.files} that are taken at once; choose some of them"
        )
    sizes = [file.stat().st_size for file in files]
    for file, size in zip(files, sizes, strict=True):
        if size > limits.file_bytes:
            raise ValueError(
                f"{file.name} has {_mib(size)}, over the limit of {_mib(limits.file_bytes)}; make it smaller"
            )
    if sum(sizes) > limits.upload_bytes:
        raise ValueError(
            f"{len(files)} files have {_mib(sum(sizes))}, over the limit of {_mib(limits.upload_bytes)}; choose some of them"
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _photos_in(file: Path, limits: Limits) -> list[Photo]:
    if file.suffix.lower() in SUFFIXES:
        with file.open("rb") as stream:
            return [read_photo(stream, name=file.name, max_pixels=limits.pixels)]
    try:
        return _frames_of(file, limits)
    except ValueError as error:
        raise ValueError(str(error).replace(str(file), file.name)) from error


def _frames_of(file: Path, limits: Limits) -> list[Photo]:
    """Its length is that of its packets, whatever it says of itself; none is decoded where it is too long."""
    clip = Clip(file, Cut(frames=limits.views))
    seconds = clip.times[-1]
    if seconds > limits.video_seconds:
        raise ValueError(
            f"{file} is {seconds:.0f} seconds long, over the limit of {limits.video_seconds:.0f}; cut out a part of it"
        )
    frames = list(clip)
    if not frames:
        raise BadVideo(f"{file}: none of its frames can be decoded; export it again")
    return frames
