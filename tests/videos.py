"""A small video file, made here."""

from pathlib import Path

import numpy as np
import pytest


def video(path: Path, frames: int = 12) -> Path:
    """Frames that grow brighter, the upper half of each red."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            pixels = np.full((48, 64, 3), 20 * i, np.uint8)
            pixels[:24] = (255, 0, 0)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
