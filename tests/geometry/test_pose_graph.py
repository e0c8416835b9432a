"""A pose graph spreads what a loop contradicts over the chain, and leaves a false loop unheeded."""

import numpy as np
import torch

from g2vlm.geometry.pose_graph import Edge, optimised
from g2vlm.geometry.similarity import Similarity, identity, numbers_of, small


def ring(count: int, seed: int, noise: float) -> tuple[list[Similarity], list[Edge]]:
    """Frames on a circle, each a little larger than the last, and noisy relative measurements of neighbours."""
    g = torch.Generator().manual_seed(seed)
    frames = []
    for i in range(count):
        angle = 2 * np.pi * i / count
        numbers = [0.02 * i, 0, angle, 0, 3 * np.cos(angle), 0, 3 * np.sin(angle)]
        frames.append(small(torch.tensor(numbers, dtype=torch.float64)))
    edges = []
    for i in range(count - 1):
        wrong = small(noise * torch.randn(7, generator=g, dtype=torch.float64))
        edges.append(Edge(i, i + 1, frames[i].inverse @ frames[i + 1] @ wrong, 1.0))
    return frames, edges


def chained(edges: list[Edge], start: Similarity) -> list[Similarity]:
    frames = [start]
    for edge in edges:
        frames.append(frames[-1] @ edge.relative)
    return frames


def error(found: list[Similarity], truth: list[Similarity]) -> float:
    off = [numbers_of(a.inverse @ b).norm() for a, b in zip(found, truth, strict=True)]
    return float(torch.stack(off).square().mean().sqrt())


def test_exact_edges_put_frames_right_from_anywhere_near():
    frames, edges = ring(6, 0, 0.0)
    g = torch.Generator().manual_seed(1)
    start = [frames[0]] + [f @ small(0.05 * torch.randn(7, generator=g, dtype=torch.float64)) for f in frames[1:]]
    assert error(optimised(start, edges), frames) < 1e-6


def test_a_loop_lowers_drift():
    frames, edges = ring(20, 0, 0.02)
    drifted = chained(edges, frames[0])
    loop = Edge(0, 19, frames[0].inverse @ frames[19], 1.0)
    assert error(optimised(drifted, [*edges, loop]), frames) < 0.6 * error(drifted, frames)


def test_a_loop_is_heeded_though_it_contradicts_all_that_went_before():
    """The drift of the last frame is twenty times the tolerance; each step's part of it is one twentieth."""
    frames, _ = ring(20, 0, 0.0)
    turn = small(torch.tensor([0, 0, 0.05, 0, 0, 0, 0], dtype=torch.float64))
    edges = [Edge(i, i + 1, frames[i].inverse @ frames[i + 1] @ turn, 1.0) for i in range(19)]
    drifted = chained(edges, frames[0])
    loop = Edge(0, 19, frames[0].inverse @ frames[19], 1.0)
    assert error(optimised(drifted, [*edges, loop]), frames) < 0.25 * error(drifted, frames)


def test_a_false_loop_is_left_unheeded():
    frames, edges = ring(12, 0, 0.0)
    wrong = Edge(0, 8, frames[0].inverse @ frames[8] @ small(torch.full((7,), 0.7, dtype=torch.float64)), 1.0)
    true = Edge(0, 11, frames[0].inverse @ frames[11], 1.0)
    assert error(optimised(chained(edges, frames[0]), [*edges, true, wrong]), frames) < 0.02


def test_the_first_frame_stays_and_no_edge_changes_nothing():
    frames, edges = ring(4, 0, 0.05)
    torch.testing.assert_close(numbers_of(optimised(frames, edges)[0]), numbers_of(frames[0]))
    (alone,) = optimised([identity()], [])
    torch.testing.assert_close(numbers_of(alone), torch.zeros(7).double())
