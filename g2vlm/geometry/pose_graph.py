"""Many frames brought into one world from what is known of pairs of them: a pose graph over Sim(3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from torch import Tensor

from g2vlm.geometry.similarity import Similarity, numbers_of, small, stacked

STEP = 1e-6
"""Of the central differences; all numbers are of the order of one."""


SMALLEST_CHANGE, LARGEST_DAMPING = 1e-7, 1e8
"""Where a descent ends: nothing moves any more, or no step leads down."""


@dataclass(frozen=True)
class Edge:
    """What was measured of two frames: `relative` brings points of frame `second` into frame `first`.

    size: a typical length of frame `first` (its median depth), to which an error of translation is compared.
    """

    first: int
    second: int
    relative: Similarity
    size: float


def optimised(
    frames: Sequence[Similarity], edges: Sequence[Edge], *, tolerance: float = 0.05, num_steps: int = 50
) -> list[Similarity]:
    """Frame-to-world similarities that agree best with all edges; the first stays where it is.

    An edge's residual has seven numbers (`similarity.small`): of the scale, of three angles, of a translation in units of its
    size. Their length enters by Cauchy's loss at `tolerance`, so that an edge that contradicts all others is left unheeded;
    at first at many times that, for an edge that closes a long loop contradicts all drift before it is spread.
    Levenberg and Marquardt, with sparse normal equations: a step costs about as much as there are edges.
    """
    if len(frames) < 2 or not edges:
        return list(frames)
    graph, world = _Graph(edges, len(frames)), stacked(list(frames))
    for factor in (100, 10, 3, 1):
        world = _descended(graph, world, factor * tolerance, num_steps)
    return [world[i] for i in range(len(frames))]


def _descended(graph: "_Graph", world: Similarity, tolerance: float, num_steps: int) -> Similarity:
    """The nearest minimum at one tolerance."""
    residual, damping = graph.residuals(world), 1e-3
    for _ in range(num_steps):
        weight = 1 / (1 + residual.square().sum(-1) / tolerance**2)
        change = graph.step(world, residual, weight, damping)
        moved = world @ small(torch.cat([torch.zeros(1, 7).double(), change]) * graph.units)
        tried = graph.residuals(moved)
        if _loss(tried, tolerance) > _loss(residual, tolerance):
            damping *= 10
            if damping > LARGEST_DAMPING:
                break
            continue
        world, residual, damping = moved, tried, damping / 10
        if float(change.abs().max()) < SMALLEST_CHANGE:
            break
    return world


def _loss(residual: Float[Tensor, "edges 7"], tolerance: float) -> float:
    return float((residual.square().sum(-1) / tolerance**2).log1p().sum())


class _Graph:
    """The edges as tensors. units: of each frame's seven numbers; its translations are in units of its own size."""

    def __init__(self, edges: Sequence[Edge], num_frames: int):
        self.first, self.second = (
            torch.tensor([getattr(edge, name) for edge in edges]) for name in ("first", "second")
        )
        self.measured = stacked([edge.relative for edge in edges]).inverse
        # A residual is seen in the frame `second`, whose unit of length is that of `first` divided by the scale between them.
        sizes = torch.tensor([edge.size for edge in edges], dtype=torch.float64)
        self.edge_units = torch.ones(len(edges), 7, dtype=torch.float64)
        self.edge_units[:, 4:] = (sizes * self.measured.scale)[:, None]
        self.units = torch.ones(num_frames, 7, dtype=torch.float64)
        self.units[self.first, 4:] = sizes[:, None].expand(-1, 3)
        self.units[self.second, 4:] = self.edge_units[:, 4:]

    def residuals(self, world: Similarity) -> Float[Tensor, "edges 7"]:
        nothing = torch.zeros(len(self.first), 7, dtype=torch.float64)
        return self._moved(world, nothing, nothing)

    def _moved(self, world: Similarity, first: Tensor, second: Tensor) -> Float[Tensor, "edges 7"]:
        """Residuals after a change of both frames of each edge, every edge for itself."""
        one, other = (
            Similarity(world.scale[rows], world.rotation[rows], world.translation[rows])
            @ small(change * self.units[rows])
            for rows, change in ((self.first, first), (self.second, second))
        )
        return numbers_of(self.measured @ one.inverse @ other) / self.edge_units

    def step(
        self, world: Similarity, residual: Float[Tensor, "edges 7"], weight: Float[Tensor, " edges"], damping: float
    ) -> Float[Tensor, "moving 7"]:
        """The change of all frames but the first, of one step."""
        nothing = torch.zeros(len(self.first), 7, dtype=torch.float64)
        columns, rows, values = [], [], []
        places = 7 * torch.arange(len(self.first))[:, None] + torch.arange(7)
        for number in range(7):
            nudge = nothing.clone()
            nudge[:, number] = STEP
            for frame, there, back in (
                (self.first, (nudge, nothing), (-nudge, nothing)),
                (self.second, (nothing, nudge), (nothing, -nudge)),
            ):
                slope = (self._moved(world, *there) - self._moved(world, *back)) / (2 * STEP)
                is_moving = frame > 0
                rows.append(places[is_moving].flatten())
                columns.append((7 * (frame - 1) + number)[is_moving].repeat_interleave(7))
                values.append((slope * weight.sqrt()[:, None])[is_moving].flatten())
        shape = (7 * len(self.first), 7 * (len(world.scale) - 1))
        entries = (torch.cat(values).numpy(), (torch.cat(rows).numpy(), torch.cat(columns).numpy()))
        jacobian = coo_matrix(entries, shape=shape).tocsc()
        normal = jacobian.T @ jacobian
        right = jacobian.T @ (residual * weight.sqrt()[:, None]).flatten().numpy()
        solved = spsolve((normal + diags(damping * normal.diagonal() + 1e-12)).tocsc(), -right)
        return torch.from_numpy(np.asarray(solved)).view(-1, 7)
