"""Points, normals, colours and confidence belong together, and what was asked to be left out is."""

from dataclasses import replace

import numpy as np
import pytest

from g2vlm.export.cloud import Selection, cloud_of, selected_pixels


def cloud(reconstruction, **selection):
    return cloud_of(reconstruction, selected_pixels(reconstruction, Selection(**selection)))


def test_points_colours_and_confidence_belong_together(reconstruction):
    found, valid = cloud(reconstruction), reconstruction.mask
    first = int(valid[0].sum())
    np.testing.assert_array_equal(found.positions[:first], reconstruction.points[0][valid[0]])
    np.testing.assert_array_equal(found.colours[:first], reconstruction.images[0][valid[0]])
    np.testing.assert_array_equal(found.confidence[:first], reconstruction.confidence[0][valid[0]])


def test_normals_are_in_the_world_frame(reconstruction):
    """The wall of view 1, whose camera is turned by 90 degrees: its points lie in one plane with that normal."""
    valid = reconstruction.mask
    part = slice(int(valid[0].sum()), int(valid[0].sum() + valid[1].sum()))
    found = cloud(reconstruction)
    positions, normals = found.positions[part], found.normals[part]
    np.testing.assert_allclose(((positions - positions[0]) * normals).sum(-1), 0, atol=1e-5)
    towards_camera = reconstruction.poses[1, :3, 3] - positions
    assert ((normals * towards_camera).sum(-1) > 0).all()


def test_invalid_pixels_and_depth_edges_are_left_out(reconstruction):
    total = sum(depth.size for depth in reconstruction.depth)
    assert len(cloud(reconstruction)) == total - 2 * 28 - 28
    with_edges = cloud(reconstruction, keep_edges=True)
    assert len(with_edges) == total - 28
    assert np.isfinite(with_edges.positions).all()


def test_only_confident_points_are_kept(reconstruction):
    found = cloud(reconstruction, min_confidence=0.75)
    assert 0 < len(found) < 3000
    assert found.confidence.min() >= 0.75


def test_a_random_subset_is_drawn_by_its_seed(reconstruction):
    def draw(seed):
        return cloud(reconstruction, max_points=100, seed=seed).positions

    assert len(draw(0)) == 100
    np.testing.assert_array_equal(draw(0), draw(0))
    assert (draw(0) != draw(1)).any()
    everything = {point.tobytes() for point in cloud(reconstruction).positions}
    assert len({point.tobytes() for point in draw(0)} & everything) == 100


def test_an_empty_cloud_is_refused_with_the_highest_confidence(reconstruction):
    timid = replace(reconstruction, confidence=tuple(c * 0.5 for c in reconstruction.confidence))
    with pytest.raises(ValueError, match=r"min_confidence 0\.9; the highest is 0\.500"):
        cloud(timid, min_confidence=0.9)
    blind = replace(reconstruction, mask=tuple(np.zeros_like(m) for m in reconstruction.mask))
    with pytest.raises(ValueError, match="keep edges, or leave formats of points out"):
        cloud(blind)


@pytest.mark.parametrize(
    "wrong", [{"max_points": 0}, {"min_confidence": 1.5}, {"min_confidence": float("nan")}, {"seed": -1}]
)
def test_a_wrong_selection_names_its_value(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Selection(**wrong)
