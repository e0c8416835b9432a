"""Questions about the views of a room: how the camera moved and turned, and what is seen where, and first."""

import math
import random
from dataclasses import replace

import numpy as np

from g2vlm.data.questions_seen import HIDDEN, SEEN, Seen
from g2vlm.data.questions_words import Question, choice, log_uniform
from g2vlm.data.rooms_furniture import AGAINST_WALL, FREE

MOVED = (
    "How did the camera move from view {} to view {}?",
    "From view {} to view {}, where did the camera go?",
    "In which direction did the camera move between view {} and view {}?",
)
TURNED = (
    "Which way did the camera turn from view {} to view {}?",
    "From view {} to view {}, did the camera turn left or right?",
    "In which direction did the camera turn between view {} and view {}?",
)
ANGLE = (
    "By how many degrees did the camera turn from view {} to view {}?",
    "How many degrees are between the directions of view {} and view {}?",
    "What is the angle between view {} and view {}, in degrees?",
)
BEST = ("In which view is the {} largest?", "Which view shows most of the {}?", "Where is the {} seen best?")
ONLY = ("In which view is the {} seen?", "Which view shows the {}?", "Where can the {} be seen?")
ORDER = (
    "In which order do these first appear?",
    "Going through the views, what is the order of first appearance?",
    "Which of these orders of first appearance is right?",
)


ALIKE = (*AGAINST_WALL, *FREE)
"""Classes whose order of appearance is asked for: none of them comes first by where it always is."""


def relative(seen: Seen) -> np.ndarray:
    """Pose of view j in the camera frame of view i, [i, j, 4, 4]."""
    return np.linalg.inv(seen.poses)[:, None] @ seen.poses[None]


def camera_motion(draw: random.Random, seen: Seen) -> Question | None:
    """In which direction of the first camera's own frame the second one stands, or to which side it has turned."""
    poses = relative(seen)
    if draw.random() < 0.15:
        ahead = poses[:, :, :3, 2]
        yaw, pitch = np.degrees(np.arctan2(ahead[..., 0], ahead[..., 2])), np.degrees(np.arcsin(-ahead[..., 1]))
        is_clear = (np.abs(yaw) > 8) & (np.abs(yaw) > 2 * np.abs(pitch))
        answers = {"right": is_clear & (yaw > 0), "left": is_clear & (yaw < 0)}
        texts, right = TURNED, draw.choice(list(answers))
    else:
        move = poses[:, :, :3, 3]
        length = np.sort(np.abs(move), axis=-1)
        is_clear = (length[..., 2] > 0.15) & (length[..., 2] > 1.3 * length[..., 1])
        main = np.abs(move).argmax(axis=-1)
        answers = {
            "right": is_clear & (main == 0) & (move[..., 0] > 0), "left": is_clear & (main == 0) & (move[..., 0] < 0),
            "forward": is_clear & (main == 2) & (move[..., 2] > 0),
            "backward": is_clear & (main == 2) & (move[..., 2] < 0),
        }  # fmt: skip
        texts, right = MOVED, draw.choices(list(answers), (1, 1, 5, 6))[0]  # by how rare they are
    pairs = np.argwhere(answers[right]).tolist()
    if not pairs:
        return None
    one, other = draw.choice(pairs)
    text = draw.choice(texts).format(one, other)
    question = choice(draw, "camera_motion", text, right, [name for name in answers if name != right])
    return replace(question, between=(one, other))


def view_change(draw: random.Random, seen: Seen) -> Question | None:
    """Degrees of the rotation that takes one view's camera to the other's."""
    wanted = log_uniform(draw, 4, 40)
    trace = np.trace(relative(seen)[..., :3, :3], axis1=2, axis2=3)
    angles = np.degrees(np.arccos(((trace - 1) / 2).clip(-1, 1)))
    pairs = np.argwhere(np.abs(np.log(angles.clip(min=0.1) / wanted)) < 0.12).tolist()
    if not pairs:
        return None
    one, other = draw.choice(pairs)
    text = draw.choice(ANGLE).format(one, other)
    return Question("view_change", text, f"{angles[one, other]:.0f}", unit="degrees", between=(one, other))


def object_in_frame(draw: random.Random, seen: Seen) -> Question | None:
    """Which of two or three views shows a thing, or shows it by far the largest."""
    views = sorted(draw.sample(range(seen.num_views), min(seen.num_views, draw.choice((2, 3)))))
    # what is seen best between two views is rare, and wanted as much oftener
    right = draw.choices(views, (1, 4, 1) if len(views) == 3 else (1, 1))[0]
    views.remove(right)
    of = [thing.object.instance for thing in seen.things]
    if not of:
        return None
    share, others = seen.shares[right, of], seen.shares[np.array(views)[:, None], of].max(axis=0)
    is_only = draw.random() < 0.5
    clear = (share >= SEEN) & ((others < HIDDEN) if is_only else (others >= HIDDEN) & (share > 1.4 * others))
    found = np.flatnonzero(clear).tolist()
    if not found:
        return None
    text = draw.choice(ONLY if is_only else BEST).format(seen.things[draw.choice(found)].name)
    return choice(draw, "object_in_frame", text, f"view {right}", [f"view {view}" for view in views])


def obj_appearance_order(draw: random.Random, seen: Seen) -> Question | None:
    """In which order two or three things come into the views; each comes from nothing to being clearly seen."""
    by_view: dict[int, list[str]] = {}
    for thing in seen.things:
        if thing.class_name not in ALIKE:
            continue
        shares = seen.shares[:, thing.object.instance]
        first = int((shares >= SEEN).argmax())
        if (shares[:first] < HIDDEN).all():
            by_view.setdefault(first, []).append(thing.name)
    if len(by_view) < 2:
        return None
    count = min(len(by_view), draw.choice((2, 3)))
    order = [draw.choice(by_view[view]) for view in sorted(draw.sample(sorted(by_view), count))]
    right = ", ".join(order)
    wrong: set[str] = set()
    while len(wrong) < min(math.factorial(count) - 1, 2):
        wrong |= {", ".join(draw.sample(order, count))} - {right}
    return choice(draw, "obj_appearance_order", draw.choice(ORDER), right, sorted(wrong))
