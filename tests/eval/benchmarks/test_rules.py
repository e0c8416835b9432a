import pytest

from g2vlm.eval.benchmarks import rules
from g2vlm.eval.benchmarks.rules import DEPTH, POINTS, POSES


@pytest.fixture(autouse=True)
def _published_width(monkeypatch):
    monkeypatch.setattr(rules, "WIDTH", 512)


@pytest.mark.parametrize(
    ("photo", "seen"), [((480, 640), (378, 504)), ((436, 1024), (224, 504)), ((640, 480), (686, 504))]
)
def test_the_release_sees_a_width_of_504_and_a_height_of_whole_patches(photo, seen):
    # (436, 1024): 436 * 512 / 1024 = 218 rounds to 16 patches, and the width 512 is cut to 36.
    assert POSES["g2vlm-release"].input_size(*photo) == seen


def test_the_corrected_rule_leaves_the_size_to_the_model():
    assert POSES["corrected"].input_size(480, 640) is None


@pytest.mark.parametrize(
    ("photo", "release", "corrected"),
    [
        ((480, 640), (378, 512), (384, 512)),
        ((480, 640, 4), (378, 512), (194, 258)),
        ((100, 200), (252, 512), (100, 200)),
        ((1024, 512), (1022, 512), (512, 256)),
    ],
)
def test_points_are_compared_at_a_width_of_512_and_not_too_many_of_them(photo, release, corrected):
    height, width, *views = photo
    num_views = views[0] if views else 1
    assert POINTS["g2vlm-release"].point_size(height, width, num_views) == release
    assert POINTS["corrected"].point_size(height, width, num_views) == corrected


def test_alignments_have_rules_of_their_own():
    assert {name: rule.alignment for name, rule in DEPTH.items()} == {
        "corrected": "median",
        "g2vlm-release": "release_l1",
        "metric": "none",
        "weighted-l1": "weighted_l1",
        "scale-and-shift": "scale_and_shift",
    }
    assert all(name == rule.name for name, rule in DEPTH.items())
