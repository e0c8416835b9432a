"""A coloured point cloud as PLY, which MeshLab, CloudCompare, Blender and Open3D open."""

import numpy as np

from g2vlm.export.cloud import Cloud

PLY_TYPES = {"float": "<f4", "uchar": "u1"}
PROPERTIES = {
    **dict.fromkeys(("x", "y", "z", "nx", "ny", "nz"), "float"),
    **dict.fromkeys(("red", "green", "blue"), "uchar"),
    "confidence": "float",
}
POINT = np.dtype(
    [("position", "<f4", 3), ("normal", "<f4", 3), ("colour", "u1", 3), ("confidence", "<f4")]
)  # as PROPERTIES
BLOCK = 1 << 14
"""Points packed at once: so many stay in the processor's cache, which makes packing twice as fast."""


def ply(cloud: Cloud, comments: tuple[str, ...] = ()) -> memoryview:
    """Little-endian PLY; comments are single lines of ASCII."""
    header = _header("binary_little_endian", len(cloud), comments)
    content = np.empty(len(header) + len(cloud) * POINT.itemsize, np.uint8)
    content[: len(header)] = np.frombuffer(header, np.uint8)
    packed = content[len(header) :].view(POINT)
    for start in range(0, len(cloud), BLOCK):
        part = slice(start, start + BLOCK)
        packed["position"][part] = cloud.positions[part]
        packed["normal"][part] = cloud.normals[part]
        packed["colour"][part] = cloud.colours[part]
        packed["confidence"][part] = cloud.confidence[part]
    return memoryview(content)


def ascii_ply(cloud: Cloud, comments: tuple[str, ...] = ()) -> bytes:
    """The same as text; nine digits tell any two numbers of 32 bits apart."""
    columns = [cloud.positions, cloud.normals, cloud.colours, cloud.confidence[:, None]]
    line = " ".join(["%.9g"] * 6 + ["%d"] * 3 + ["%.9g"]) + "\n"
    parts = [_header("ascii", len(cloud), comments)]
    for start in range(0, len(cloud), BLOCK):
        rows = np.concatenate([column[start : start + BLOCK] for column in columns], axis=1)
        parts.append((line * len(rows) % tuple(rows.ravel().tolist())).encode())
    return b"".join(parts)


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
