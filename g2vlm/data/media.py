"""The photos that a question is about: from picture files or their bytes, folders of frames, video files."""

import io
from pathlib import Path

from g2vlm.data.rows import BadRow
from g2vlm.data.vqa import VqaRow
from g2vlm.pictures import Photo, find_pictures, read_photo
from g2vlm.video import BadVideo, read_video


def photos_of(row: VqaRow, root: Path, most_frames: int) -> list[Photo]:
    """Photos in order, of a video at most so many, evenly spaced. root: the folder from which relative paths start.

    Raises BadRow for what is not there or cannot be read, and ValueError where the package for video files is missing.
    """
    if row.video:
        place = video_place(row.video, root)
        return frames_of_folder(place, most_frames) if place.is_dir() else frames_of_file(place, most_frames)
    return [read_picture(picture, root, f"picture {i}") for i, picture in enumerate(row.pictures)]


def check_media(row: VqaRow, root: Path) -> None:
    """Raises BadRow if a file is not there; nothing is decoded."""
    if row.video:
        video_place(row.video, root)
    for picture in row.pictures:
        if isinstance(picture, str) and not (root / picture).is_file():
            raise BadRow("a picture is not there", str(root / picture))


def read_picture(picture: str | bytes, root: Path, name: str) -> Photo:
    source = io.BytesIO(picture) if isinstance(picture, bytes) else root / picture
    try:
        return read_photo(source, name=name if isinstance(picture, bytes) else None)
    except ValueError as error:
        raise BadRow("a picture cannot be read", str(error)) from error


def video_place(video: str, root: Path) -> Path:
    """A video file, or a folder of its frames; for `room.mp4`, the folder `room` beside it will do."""
    for place in (root / video, (root / video).with_suffix("")):
        if place.exists():
            return place
    raise BadRow("a video is not there", f"{root / video}, nor a folder of its frames")


def frames_of_folder(folder: Path, most_frames: int) -> list[Photo]:
    """By name; frame 2 comes before frame 10."""
    try:
        return [read_photo(path) for path in find_pictures([str(folder)], most_frames)]
    except ValueError as error:
        raise BadRow("a folder of frames cannot be read", str(error)) from error


def frames_of_file(path: Path, most_frames: int) -> list[Photo]:
    try:
        return read_video(path, most_frames)
    except BadVideo as error:
        raise BadRow("a video cannot be read", str(error)) from error
