"""A scene that turns once around itself, as a GIF or an MP4: no viewer and no graphics card are needed."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from g2vlm.export.cloud import Cloud, Selection, cloud_of, selected_pixels
from g2vlm.export.glb import COLOUR, EDGES, frustum, frustum_depth
from g2vlm.records import Reconstruction
from g2vlm.view.framing import frame_of, spacing
from g2vlm.view.render import Lens, render_points

SUFFIXES = (".gif", ".mp4")
MOST_FRAMES = 720

SIZE = (480, 640)
FIELD_OF_VIEW = np.radians(40)
RISE = np.radians(28)
FRAMES_PER_SECOND = 12
DOTS_PER_EDGE = 200
ROOM_AROUND = 1.15
SIDE = 1.3
"""Of a point, in distances of neighbours: a little more than 1 closes the gaps."""

Picture = UInt8[np.ndarray, "height width 3"]


def check_turntable(file: Path, num_frames: int) -> None:
    """ValueError for what cannot be written, before any work is done."""
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{file}: a turntable is a GIF or an MP4; let its name end in {' or '.join(SUFFIXES)}")
    if not 2 <= num_frames <= MOST_FRAMES:
        raise ValueError(f"{num_frames} frames do not make a turn; give 2 to {MOST_FRAMES}")
    if file.suffix.lower() == ".mp4":
        _av(file)


def turntable(reconstruction: Reconstruction, selection: Selection, file: Path, *, num_frames: int = 60) -> bytes:
    """What `file`, a .gif or .mp4, is to hold: one turn around the scene, of 12 frames a second.

    Surfaces seen from behind are left out, so that one looks into a room through its outer walls.
    """
    check_turntable(file, num_frames)
    pictures = turning(reconstruction, selection, num_frames)
    return _gif(list(pictures)) if file.suffix.lower() == ".gif" else _mp4(file, pictures)


def turning(reconstruction: Reconstruction, selection: Selection, num_frames: int) -> Iterator[Picture]:
    """The frames, the first from the side of the cameras; no two are equal, so that the last leads to the first."""
    pixels = selected_pixels(reconstruction, selection)
    cloud = cloud_of(reconstruction, pixels)
    side, frame, dots = (
        SIDE * spacing(reconstruction, len(cloud)),
        frame_of(reconstruction, cloud),
        _camera_dots(reconstruction),
    )
    lens = Lens(SIZE[0] / 2 / np.tan(FIELD_OF_VIEW / 2), SIZE)
    for turn in np.linspace(0, 2 * np.pi, num_frames, endpoint=False):
        pose = frame.around(turn, RISE, ROOM_AROUND * frame.radius / np.sin(FIELD_OF_VIEW / 2))
        facing = _facing(cloud, pose[:3, 3])
        positions = np.concatenate([cloud.positions[facing], dots])
        colours = np.concatenate([cloud.colours[facing], np.tile(np.array(COLOUR[:3], np.uint8), (len(dots), 1))])
        sides = np.repeat([side, 0.25 * side], [facing.sum(), len(dots)])
        yield render_points(positions, colours, pose, lens, sides=sides)


def _facing(cloud: Cloud, eye: Float[np.ndarray, "3"]) -> np.ndarray:
    return np.einsum("ij,ij->i", eye - cloud.positions, cloud.normals) > 0


def _camera_dots(reconstruction: Reconstruction) -> Float[np.ndarray, "dots 3"]:
    """Frusta of the cameras that are known, as rows of points."""
    depth = frustum_depth(reconstruction)
    known = [view for view in range(len(reconstruction.poses)) if np.isfinite(reconstruction.intrinsics[view]).all()]
    along = np.linspace(0, 1, DOTS_PER_EDGE)[:, None]
    dots = [np.zeros((0, 3))]
    for view in known:
        corners = frustum(
            reconstruction.intrinsics[view], reconstruction.original_sizes[view], reconstruction.poses[view], depth
        )
        dots += [corners[a] + along * (corners[b] - corners[a]) for a, b in EDGES]
    return np.concatenate(dots)


def _gif(pictures: Sequence[Picture]) -> bytes:
    """One palette for all frames, so that colours do not flicker."""
    sample = np.concatenate(pictures[:: max(len(pictures) // 4, 1)])
    palette = Image.fromarray(sample).quantize(255)
    first, *others = [Image.fromarray(p).quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    buffer = io.BytesIO()
    milliseconds = round(1000 / FRAMES_PER_SECOND / 10) * 10
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0, optimize=False)
    return buffer.getvalue()


def _mp4(file: Path, pictures: Iterator[Picture]) -> bytes:
    av = _av(file)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"  # what browsers and telephones play
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _av(file: Path):
    try:
        import av
    except ImportError as error:
        raise ValueError(f"{file}: an MP4 needs PyAV: pip install 'g2vlm[video]'; or name a .gif") from error
    return av
