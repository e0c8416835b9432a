"""Rules by which predicted geometry is scored: what the release of G2VLM did, and the same without its slips."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from g2vlm.eval.benchmarks.base import CORRECTED, Rule
from g2vlm.eval.benchmarks.prediction import PATCH, Sampling
from g2vlm.eval.metrics.depth import Alignment
from g2vlm.eval.metrics.poses import Degenerate, Frame

RELEASE = "g2vlm-release"

WIDTH = 512
"""Pixels to which the release loads photos, and at which point maps are compared."""

MOST_POINTS = 200_000
"""Of an item, compared under corrected rules: its maps are thinned out to as many, so that a scene takes seconds and not an hour."""


@dataclass(frozen=True)
class GeometryRule(Rule):
    """alignment: of depth, per item. depth_sampling, point_sampling: how predicted maps get to the pixels of the truth.

    frame, is_sign_blind, degenerate: of translation errors, see `pair_errors`. is_stretched: all photos of an item
    are seen at one size, which follows from the first (`input_size`), and point maps are compared at a width of 512
    and a height of whole patches, the focal lengths of the truth scaled by one factor. is_pooled: pictures count by
    their valid pixels and sequences by their pairs, not alike. divides_by_all: sums over scenes are divided by the
    number of scenes in the set, scored or not.
    """

    alignment: Alignment = "median"
    depth_sampling: Sampling = "nearest"
    point_sampling: Sampling = "nearest"
    frame: Frame = "second"
    is_sign_blind: bool = False
    degenerate: Degenerate = "left_out"
    is_stretched: bool = False
    is_pooled: bool = False
    divides_by_all: bool = False

    def input_size(self, height: int, width: int) -> tuple[int, int] | None:
        """(height, width) of what a model has to be given of each photo of an item, the first of which has this size;
        None where the rule leaves that to the model."""
        if not self.is_stretched:
            return None
        return _whole(height * WIDTH / width), WIDTH // PATCH * PATCH

    def point_size(self, height: int, width: int, num_views: int) -> tuple[int, int]:
        """(height, width) at which the point map of a photo of this size is compared, one of so many of its item."""
        if self.is_stretched:
            return _whole(height * WIDTH / width), WIDTH
        factor = min(1.0, WIDTH / max(height, width), math.sqrt(MOST_POINTS / (num_views * height * width)))
        return max(round(height * factor), 1), max(round(width * factor), 1)


def _whole(pixels: float) -> int:
    return max(round(pixels / PATCH), 1) * PATCH


_CORRECTED = GeometryRule(
    CORRECTED,
    "corrects g2vlm-release: depth aligned by the ratio of medians, maps never mixed across edges, opposite "
    "translations wrong, every picture, scene and sequence counted once",
)
_RELEASE = GeometryRule(
    RELEASE,
    "github.com/InternRobotics/G2VLM at a45f2f4, eval_code/recons: monodepth/eval.py, mv_recon/eval.py, "
    "relpose/eval_angle.py, interfaces/g2vlm.py; frames are drawn by our lists, because its own are not published",
    alignment="release_l1",
    depth_sampling="bicubic",
    point_sampling="bilinear",
    is_sign_blind=True,
    degenerate="ninety",
    is_stretched=True,
    is_pooled=True,
    divides_by_all=True,
)


def _aligned(name: str, alignment: Alignment) -> GeometryRule:
    return replace(_CORRECTED, name=name, source=f"corrected, but depth aligned by {alignment}", alignment=alignment)


def _by_name(*rules: GeometryRule) -> Mapping[str, GeometryRule]:
    return {rule.name: rule for rule in rules}


POINTS = POSES = _by_name(_CORRECTED, _RELEASE)
DEPTH = _by_name(
    _CORRECTED,
    _RELEASE,
    _aligned("metric", "none"),
    _aligned("weighted-l1", "weighted_l1"),
    _aligned("scale-and-shift", "scale_and_shift"),
)
