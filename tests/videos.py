"""Small video files, made here."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest


def video(path: Path, frames: int = 12, *, seconds: Sequence[float] | None = None, key_every: int = 12) -> Path:
    """Frames that grow brighter, the upper half of each red. seconds: when each is shown; ten a second unless given."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", key_every
        if seconds is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for i in range(frames):
            pixels = np.full((48, 64, 3), min(20 * i, 240), np.uint8)
            pixels[:24] = (255, 0, 0)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if seconds is not None:
                frame.pts, frame.time_base = round(1000 * seconds[i]), Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
