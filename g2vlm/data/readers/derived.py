"""Files whose bytes are made from those on disk when they are read: masked, turned, undistorted, unpacked."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from g2vlm.data.recon import File
from g2vlm.data.samples import BadSample
from g2vlm.pictures import UNREADABLE


@dataclass(frozen=True)
class Derived(File):
    """A file as it should have been stored; whoever reads or copies it gets what `make` returns for its bytes on disk.

    make: a module's function or a `partial` of one, so that it travels to worker processes.
    """

    make: Callable[[bytes], bytes] = field(kw_only=True)

    def read(self) -> bytes:
        content = super().read()
        try:
            return self.make(content)
        except BadSample:
            raise
        except UNREADABLE as error:
            raise BadSample(f"{self.name}: cannot be decoded ({error})") from error


def pixels(content: bytes) -> np.ndarray:
    """Of a picture or a 16-bit depth map, as stored."""
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
        return np.asarray(image)


def png(values: np.ndarray) -> bytes:
    """Lossless bytes of a picture or of 16-bit values; hardly compressed, because it is done while somebody waits."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()
