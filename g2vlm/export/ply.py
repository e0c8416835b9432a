"""A coloured point cloud as PLY, which MeshLab, CloudCompare, Blender and Open3D open."""

from collections.abc import Iterator

import numpy as np

from g2vlm.export.cloud import Cloud

PLY_TYPES = {"float": "<f4", "uchar": "u1"}
PROPERTIES = {
    **dict.fromkeys(("x", "y", "z", "nx", "ny", "nz"), "float"),
    **dict.fromkeys(("red", "green", "blue"), "uchar"),
    "confidence": "float",
}
BLOCK = 1 << 12
"""Points packed at once: they stay in the processor's cache, and a long cloud needs no memory beside its own."""


def ply(cloud: Cloud, comments: tuple[str, ...] = ()) -> Iterator[bytes]:
    """Little-endian PLY, piece by piece; comments are single lines of ASCII."""
    yield _header("binary_little_endian", len(cloud), comments)
    columns = [
        _as_items(column, kind) for column, kind in zip(_columns(cloud), ("<f4", "<f4", "u1", "<f4"), strict=True)
    ]
    packed = np.empty(BLOCK, [(f"column{i}", column.dtype) for i, column in enumerate(columns)])
    for start in range(0, len(cloud), BLOCK):
        part = packed[: len(cloud) - start]
        for name, column in zip(part.dtype.names or (), columns, strict=True):
            part[name] = column[start : start + BLOCK]
        yield part.tobytes()


def ascii_ply(cloud: Cloud, comments: tuple[str, ...] = ()) -> Iterator[bytes]:
    """The same as text; nine digits tell any two numbers of 32 bits apart."""
    yield _header("ascii", len(cloud), comments)
    line = " ".join(["%.9g"] * 6 + ["%d"] * 3 + ["%.9g"]) + "\n"
    for start in range(0, len(cloud), BLOCK):
        rows = np.concatenate([column[start : start + BLOCK] for column in _columns(cloud)], axis=1)
        yield (line * len(rows) % tuple(rows.ravel().tolist())).encode()


def _columns(cloud: Cloud) -> tuple[np.ndarray, ...]:
    """In the order of PROPERTIES."""
    return cloud.positions, cloud.normals, cloud.colours, cloud.confidence[:, None]


def _as_items(rows: np.ndarray, kind: str) -> np.ndarray:
    """Each row as one item: twelve bytes are copied in half the time that three numbers take."""
    whole = np.ascontiguousarray(rows, kind)
    return whole.view(f"V{whole.itemsize * whole.shape[1]}")[:, 0]


def _header(layout: str, num_points: int, comments: tuple[str, ...]) -> bytes:
    lines = [
        "ply",
        f"format {layout} 1.0",
        *(f"comment {line}" for line in comments),
        f"element vertex {num_points}",
        *(f"property {kind} {name}" for name, kind in PROPERTIES.items()),
        "end_header",
        "",
    ]
    return "\n".join(lines).encode("ascii")
