"""Frames of video files, as photos."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from g2vlm.pictures import Photo


class BadVideo(ValueError):
    """A file that is no video, or a damaged one."""


def read_video(path: Path, most_frames: int) -> list[Photo]:
    """At most so many frames, evenly spaced, the first and the last among them; upright.

    Decodes all frames up to the last one that is wanted; where the same videos are read often, folders are faster. Raises
    BadVideo for a file that cannot be read, and ValueError where PyAV is missing.
    """
    if most_frames < 1:
        raise ValueError(f"{path}: {most_frames} frames are wanted; give at least 1")
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise ValueError(
            f"{path}: video files need PyAV: pip install 'g2vlm[video]'; or give folders of frames"
        ) from error
    try:
        with av.open(str(path)) as container:
            number = sum(packet.size > 0 for packet in container.demux(video=0))
        wanted = set(np.linspace(0, number - 1, min(most_frames, number)).round().astype(int).tolist())
        with av.open(str(path)) as container:
            photos = [
                Photo(f"{path.name} frame {i}", upright(frame.to_ndarray(format="rgb24"), frame.rotation))
                for i, frame in enumerate(container.decode(video=0))
                if i in wanted
            ]
    except (FFmpegError, IndexError) as error:
        raise BadVideo(f"{path}: cannot be read as a video: {error}") from error
    if not photos:
        raise BadVideo(f"{path}: the video has no frames")
    return photos


def upright(rgb: UInt8[np.ndarray, "_rows _columns 3"], rotation: int) -> UInt8[np.ndarray, "height width 3"]:
    """As the file asks to be shown; rotation: degrees against the clock. Telephones store frames as the sensor lies."""
    return np.ascontiguousarray(np.rot90(rgb, round(rotation / 90)))
