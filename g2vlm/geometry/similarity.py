"""Similarities of space, Sim(3): x -> scale rotation x + translation. How frames that differ in scale are joined."""

from dataclasses import dataclass
from typing import cast

import roma
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from g2vlm.geometry.align import FEWEST_POINTS
from g2vlm.geometry.pose import over_points, pose_from
from g2vlm.geometry.rotation import nearest_rotation


@dataclass(frozen=True)
class Similarity:
    """x -> scale rotation x + translation, any batch dimensions."""

    scale: Float[Tensor, "*batch"]
    rotation: Float[Tensor, "*batch 3 3"]
    translation: Float[Tensor, "*batch 3"]

    def __matmul__(self, first: "Similarity") -> "Similarity":
        """`first`, then this one."""
        moved = einsum(self.rotation, first.translation, "... i j, ... j -> ... i")
        return Similarity(
            self.scale * first.scale,
            self.rotation @ first.rotation,
            self.scale[..., None] * moved + self.translation,
        )

    def __getitem__(self, index: int) -> "Similarity":
        """One of a batch."""
        return Similarity(self.scale[index], self.rotation[index], self.translation[index])

    @property
    def inverse(self) -> "Similarity":
        scale, rotation = 1 / self.scale, self.rotation.mT
        moved = einsum(rotation, self.translation, "... i j, ... j -> ... i")
        return Similarity(scale, rotation, -scale[..., None] * moved)

    def points(self, points: Float[Tensor, "*more 3"]) -> Float[Tensor, "*more 3"]:
        """Points moved; leading dimensions are matched from the left, as in `pose.transform`."""
        matrix = over_points(self.scale[..., None, None] * self.rotation, points)
        shift = over_points(self.translation[..., None, :], points)[..., 0, :]
        return einsum(matrix, points, "... i j, ... j -> ... i") + shift

    def poses(self, poses: Float[Tensor, "*batch views 4 4"]) -> Float[Tensor, "*batch views 4 4"]:
        """Camera-to-world poses in the moved world: a camera has no scale, so only its place feels that of the world."""
        rotation = self.rotation[..., None, :, :] @ poses[..., :3, :3]
        return pose_from(rotation, self.points(poses[..., :3, 3]))


def identity(*batch: int) -> Similarity:
    """Float64, as all that chains many similarities should be."""
    one = torch.ones(batch, dtype=torch.float64)
    return Similarity(one, torch.eye(3, dtype=torch.float64).expand(*batch, 3, 3), torch.zeros(*batch, 3).double())


def stacked(similarities: list[Similarity]) -> Similarity:
    """A batch of them."""
    scales, rotations, shifts = zip(*((s.scale, s.rotation, s.translation) for s in similarities), strict=True)
    return Similarity(torch.stack(scales), torch.stack(rotations), torch.stack(shifts))


def small(numbers: Float[Tensor, "*batch 7"]) -> Similarity:
    """The similarity of seven numbers: logarithm of the scale, rotation vector (radians), translation; zeros are the identity."""
    return Similarity(
        numbers[..., 0].exp(), cast(Tensor, roma.rotvec_to_rotmat(numbers[..., 1:4])), numbers[..., 4:].clone()
    )


def numbers_of(similarity: Similarity) -> Float[Tensor, "*batch 7"]:
    """The seven numbers of `small`."""
    angles = cast(Tensor, roma.rotmat_to_rotvec(similarity.rotation))
    return torch.cat([similarity.scale.log()[..., None], angles, similarity.translation], dim=-1)


@dataclass(frozen=True)
class SimilarityFit:
    """A robust fit with its proof.

    residual: of each entry, |similarity(source) - target| in units of its `size`; infinite without weight.
    typical: the weighted median of the residuals.
    """

    similarity: Similarity
    residual: Float[Tensor, " n"]
    typical: float

    def share_within(self, bound: float, weight: Float[Tensor, " n"]) -> float:
        """Part of the weight whose residual is at most `bound`."""
        return float(weight[self.residual <= bound].sum() / weight.sum())


@torch.no_grad()
def robust_similarity(
    source: Float[Tensor, "n 3"],
    target: Float[Tensor, "n 3"],
    weight: Float[Tensor, " n"],
    size: Float[Tensor, " n"],
    *,
    num_steps: int = 30,
) -> SimilarityFit:
    """The similarity that brings source onto target, whatever a minority of the entries says.

    size: the length to which an entry's residual is compared, a depth say: a point ten times as far may be ten times as
    wrong. Least squares with the weights of Cauchy's loss at the size of the typical residual, again and again. Neither side is free
    of errors, so the scale is the ratio of both sides' spread (Horn), which is its own inverse; that of Umeyama is always
    too small, and a chain of such scales shrinks. Computed in float64.

    Raises ValueError for fewer than three entries with weight.
    """
    is_used = (weight > 0) & source.isfinite().all(-1) & target.isfinite().all(-1)
    if int(is_used.sum()) < FEWEST_POINTS:
        raise ValueError(
            f"a similarity needs at least {FEWEST_POINTS} points with weight, but got {int(is_used.sum())}; add points"
        )
    x, y, w, unit = (values[is_used].double() for values in (source, target, weight, size))
    trust = w / unit.square()
    fitted = _least_squares(x, y, trust)
    residual = _residuals(fitted, x, y, unit)
    for _ in range(num_steps):
        typical = _median(residual, w).clamp(min=1e-9)
        fitted = _least_squares(x, y, trust / (1 + (residual / (2 * typical)).square()))
        residual = _residuals(fitted, x, y, unit)
    everywhere = torch.full_like(weight, torch.inf, dtype=torch.float64)
    everywhere[is_used] = residual
    return SimilarityFit(fitted, everywhere, float(_median(residual, w)))


def _residuals(fitted: Similarity, x: Tensor, y: Tensor, unit: Tensor) -> Float[Tensor, " n"]:
    return torch.linalg.vector_norm(fitted.points(x) - y, dim=-1) / unit


def _least_squares(x: Float[Tensor, "n 3"], y: Float[Tensor, "n 3"], weight: Float[Tensor, " n"]) -> Similarity:
    weight = weight / weight.sum()
    mean_x, mean_y = (einsum(weight, points, "n, n i -> i") for points in (x, y))
    x, y = x - mean_x, y - mean_y
    rotation = nearest_rotation(einsum(weight, y, x, "n, n i, n j -> i j"))
    spread_x, spread_y = ((weight * points.square().sum(-1)).sum() for points in (x, y))
    scale = (spread_y / spread_x).sqrt()
    return Similarity(scale, rotation, mean_y - scale * rotation @ mean_x)


def _median(values: Float[Tensor, " n"], weight: Float[Tensor, " n"]) -> Tensor:
    order = values.argsort()
    reached = weight[order].cumsum(0)
    return values[order[torch.searchsorted(reached, reached[-1:] / 2).clamp(max=len(values) - 1)]][0]


def camera_marks(poses: Float[Tensor, "views 4 4"], reach: Float[Tensor, " views"]) -> Float[Tensor, "views four 3"]:
    """Four points that say where a camera stands and how it is turned: its centre, and the ends of its axes at a reach.

    Two frames that know the same cameras are joined by them as by any other points, if each reach is a length of its own
    frame, a depth say.
    """
    ends = torch.cat([poses.new_zeros(1, 3), torch.eye(3).to(poses)])
    local = reach[:, None, None] * ends
    return einsum(poses[:, :3, :3], local, "v i j, v k j -> v k i") + poses[:, None, :3, 3]
