"""Questions about marked points: how deep, which is nearer, how far apart, and which is the same point in another view."""

import random
from dataclasses import replace

import numpy as np

from g2vlm.data.questions_seen import Points, Seen
from g2vlm.data.questions_words import LETTERS, Question, choice_of_marks, log_uniform, metres

MARGIN = 1.25
"""Least ratio of two depths whose order is asked for."""

TRIES = 400
"""Random groups of points from which one is chosen."""

SAME_POINT = 0.04
"""Metres between what two marks of the same point show, at most."""

OTHER_POINT = 0.3
"""Metres between what two marks of different points show, at least."""

DEPTH = (
    "What is the depth of A, in metres?",
    "How deep is A in its view, in metres?",
    "How many metres in front of the camera is A?",
)
NEAREST = (
    "Which point is nearest to its camera?",
    "Which of these points has the least depth?",
    "Which mark is closest to the camera that sees it?",
)
DISTANCE = (
    "How far apart are A and B, in metres?",
    "What is the distance between A and B, in metres?",
    "How many metres are between A and B?",
)
SAME = (
    "Which of these is the same point as D?",
    "Which mark shows the same point as D?",
    "D is one of these points. Which one?",
)


def depth_prediction(draw: random.Random, seen: Seen) -> Question | None:
    """Metres from the camera along its axis."""
    at, wanted = seen.points, log_uniform(draw, 0.8, 5.5)
    found = np.flatnonzero(np.abs(np.log(at.depth / wanted)) < 0.08)
    if not len(found):
        return None
    # near a place that was drawn before: else the lower part of a picture would be where near points are
    height, width = seen.depth.shape[1:]
    x, y = draw.random() * width, draw.random() * height
    point = int(found[np.hypot(at.column[found] - x, at.row[found] - y).argmin()])
    marks = (at.mark(point, "A"),)
    return Question("depth_prediction", draw.choice(DEPTH), metres(float(at.depth[point])), marks=marks, unit="metres")


def depth_comparison(draw: random.Random, seen: Seen) -> Question | None:
    """Which of two or three points is nearest to its camera, both along the camera's axis and in a straight line.

    All stand about as high in their pictures and keep away from the borders, where what is seen is near; which of them
    from left to right is the nearest is drawn first. So their places tell little.
    """
    at, count = seen.points, draw.choice((2, 3))
    groups = groups_of(draw, seen, count, is_level=True)
    depth, distance = np.sort(at.depth[groups], axis=1), np.sort(at.distance[groups], axis=1)
    first = at.depth[groups].argmin(axis=1)
    is_clear = (depth[:, 1] > MARGIN * depth[:, 0]) & (distance[:, 1] > MARGIN * distance[:, 0])
    is_clear &= first == at.distance[groups].argmin(axis=1)
    rank = (at.column[groups] < np.take_along_axis(at.column[groups], first[:, None], 1)).sum(axis=1)
    found = np.flatnonzero(is_clear & (rank == draw.randrange(count)) & is_spread(seen, groups))
    if not len(found):
        return None
    group = groups[found[0]]
    names = LETTERS[:count]
    marks = [at.mark(point, name) for point, name in zip(group, names, strict=True)]
    right = names[int(first[found[0]])]
    return choice_of_marks("depth_comparison", draw.choice(NEAREST), right, names, marks)


def distance_prediction(draw: random.Random, seen: Seen) -> Question | None:
    """Metres between two points, in the same view or in two."""
    at, wanted = seen.points, log_uniform(draw, 0.4, 5.0)
    groups = groups_of(draw, seen, 2)
    distance = np.linalg.norm(at.world[groups[:, 0]] - at.world[groups[:, 1]], axis=1)
    found = np.flatnonzero((np.abs(np.log(distance.clip(min=1e-3) / wanted)) < 0.08) & is_spread(seen, groups))
    if not len(found):
        return None
    marks = tuple(at.mark(point, name) for point, name in zip(groups[found[0]], "AB", strict=True))
    text, answer = draw.choice(DISTANCE), metres(distance[found[0]])
    return Question("distance_prediction", text, answer, marks=marks, unit="metres")


def groups_of(draw: random.Random, seen: Seen, count: int, *, is_level: bool = False) -> np.ndarray:
    """Random groups of points, half of the time all of one view; of the inner
    picture and at about the same height if `is_level`."""
    generator = np.random.default_rng(draw.getrandbits(32))
    if draw.random() < 0.5:
        chosen = np.flatnonzero(seen.points.view == draw.randrange(seen.num_views))
    else:
        chosen = np.arange(len(seen.points.view))
    if is_level and len(chosen):
        at, (height, width) = seen.points, seen.depth.shape[1:]
        is_inner = (np.abs(at.row / height - 0.5) < 0.36) & (np.abs(at.column / width - 0.5) < 0.4)
        chosen = chosen[is_inner[chosen] & (np.abs(at.row[chosen] - at.row[draw.choice(chosen)]) < spread(seen))]
    if not len(chosen):
        return np.zeros((0, count), dtype=int)
    return chosen[generator.integers(len(chosen), size=(TRIES, count))]


def spread(seen: Seen) -> float:
    """Pixels between two marks in the same view, at least."""
    return 0.08 * max(seen.depth.shape[1:])


def is_spread(seen: Seen, groups: np.ndarray) -> np.ndarray:
    """Whether marks in the same view do not cover each other."""
    at = seen.points
    is_far = np.ones(len(groups), dtype=bool)
    for i in range(groups.shape[1]):
        for j in range(i):
            one, other = groups[:, i], groups[:, j]
            gap = np.hypot(at.column[one] - at.column[other], at.row[one] - at.row[other])
            is_far &= (at.view[one] != at.view[other]) | (gap > spread(seen))
    return is_far


def position_matching(draw: random.Random, seen: Seen) -> Question | None:
    """Which of three marks in one view is the point that the last mark shows in another view.

    The three stand about as high, and by their places alone the right one is the nearest to the last mark as often as
    any other.
    """
    at = seen.points
    source, target = draw.sample(range(seen.num_views), 2)
    here, there = np.flatnonzero(at.view == source), np.flatnonzero(at.view == target)
    generator = np.random.default_rng(draw.getrandbits(32))
    if not len(here) or not len(there):
        return None
    here = here[generator.integers(len(here), size=40)]
    right = shown_again(seen, at.world[here], target)
    is_same = np.linalg.norm(right.world - at.world[here], axis=1) < SAME_POINT
    is_same &= (right.instance == at.instance[here]) & seen.can_be_marked(right.view, right.column, right.row)
    found = np.flatnonzero(is_same)
    if not len(found):
        return None
    one = int(found[0])
    query, place = here[one], np.array([right.column[one], right.row[one]])
    row = right.row[one] + draw.uniform(-1, 1) * spread(seen)  # the right one is not the middle one either
    pixels = np.stack([at.column, at.row], axis=1)
    shift, reach = np.linalg.norm(pixels - pixels[query], axis=1), float(np.linalg.norm(place - pixels[query]))
    there = there[(np.abs(at.row[there] - row) < spread(seen)) & (shift[there] < 1.5 * reach + spread(seen))]
    if not len(there):
        return None
    wrong = there[generator.integers(len(there), size=(TRIES, 2))]
    wanted = draw.choices((0, 1, 2), (1, 2, 4))[0]  # one that has moved the farthest is rare
    rank = (shift[wrong] < reach).sum(axis=1)
    is_other = np.linalg.norm(at.world[wrong] - right.world[one], axis=-1).min(axis=1) > OTHER_POINT
    is_clear = np.linalg.norm(pixels[wrong] - place, axis=-1).min(axis=1) > spread(seen)
    found = np.flatnonzero(is_other & is_clear & is_spread(seen, wrong) & (rank == wanted))
    if not len(found):
        return None
    marks = [right.mark(one, ""), *(at.mark(point, "") for point in wrong[found[0]])]
    order = draw.sample(range(3), 3)
    named = [replace(marks[i], name=name) for i, name in zip(order, LETTERS, strict=False)]
    text = draw.choice(SAME)
    return choice_of_marks(
        "position_matching", text, LETTERS[order.index(0)], LETTERS[:3], [*named, at.mark(int(query), "D")]
    )


def shown_again(seen: Seen, world: np.ndarray, view: int) -> Points:
    """What a view shows in the direction of points; where that is outside of it, at its border."""
    height, width = seen.depth.shape[1:]
    pose, intrinsics = seen.poses[view], seen.intrinsics[view]
    local = (world - pose[:3, 3]) @ pose[:3, :3]
    pixels = local[:, :2] / local[:, 2:].clip(min=0.01) * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
    column, row = np.floor(pixels).astype(int).clip(0, [width - 1, height - 1]).T
    return seen.points_at(np.full(len(world), view), column, row)
