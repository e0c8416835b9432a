"""The point cloud opens in another reader as what it was, however many blocks it is packed in."""

import io

import numpy as np
import pytest
from plyfile import PlyData

from g2vlm.export.cloud import Cloud
from g2vlm.export.ply import BLOCK, PROPERTIES, ascii_ply, ply


def random_cloud(num_points: int) -> Cloud:
    random = np.random.default_rng(0)
    return Cloud(
        positions=random.normal(size=(num_points, 3)).astype(np.float32) * 1e3,
        normals=random.normal(size=(num_points, 3)).astype(np.float32),
        colours=random.integers(0, 256, (num_points, 3), dtype=np.uint8),
        confidence=random.random(num_points, dtype=np.float32),
    )


@pytest.mark.parametrize("num_points", [0, 1, 2 * BLOCK + 5])
@pytest.mark.parametrize("write", [ply, ascii_ply])
def test_what_is_written_is_read_back_bit_for_bit(write, num_points):
    cloud = random_cloud(num_points)
    file = PlyData.read(io.BytesIO(b"".join(write(cloud, ("scale: scale_free",)))))
    assert file.comments == ["scale: scale_free"]
    assert (file.text, file.byte_order) == ((True, "=") if write is ascii_ply else (False, "<"))
    columns = [*cloud.positions.T, *cloud.normals.T, *cloud.colours.T, cloud.confidence]
    for name, column in zip(PROPERTIES, columns, strict=True):
        np.testing.assert_array_equal(file["vertex"][name], column)
