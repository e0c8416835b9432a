"""A coloured point cloud as LAZ, which CloudCompare, QGIS and Potree open."""

import io

import numpy as np

from g2vlm.export.cloud import Cloud

POINTS_WITH_COLOURS = 7
"""The point format of LAS 1.4: x, y, z as integers, time, and three colours of 16 bits."""

FINEST = 2**31 - 2


def laz(cloud: Cloud, said: tuple[str, ...]) -> bytes:
    """Positions to a 4-billionth of the cloud's extent; normals and confidence as extra dimensions."""
    import laspy

    header = laspy.LasHeader(point_format=POINTS_WITH_COLOURS, version="1.4")
    header.generating_software = "g2vlm"
    positions = cloud.positions.astype(np.float64)
    lowest, highest = positions.min(0), positions.max(0)
    header.offsets = (lowest + highest) / 2
    header.scales = np.maximum((highest - lowest) / 2, np.finfo(np.float32).tiny) / FINEST
    names = ("nx", "ny", "nz", "confidence")
    header.add_extra_dims([laspy.ExtraBytesParams(name=name, type=np.dtype(np.float32)) for name in names])
    header.vlrs.append(laspy.VLR("g2vlm", 1, "frames, units and scale", "\n".join(said).encode()))
    points = laspy.LasData(header)
    points.x, points.y, points.z = positions.T
    points.red, points.green, points.blue = cloud.colours.T.astype(np.uint16) * 257
    for name, values in zip(names, (*cloud.normals.T, cloud.confidence), strict=True):
        points[name] = values
    buffer = io.BytesIO()
    points.write(buffer, do_compress=True)
    return buffer.getvalue()
