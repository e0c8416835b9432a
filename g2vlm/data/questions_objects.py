"""Questions about the things of a room: how many, how far apart, how large, where from where, and which way to walk."""

import math
import random
from itertools import combinations

import numpy as np
from jaxtyping import Bool

from g2vlm.data.questions_seen import SEEN, Seen
from g2vlm.data.questions_words import Question, choice, log_uniform, metres
from g2vlm.data.rooms_furniture import AGAINST_WALL, FREE

MARGIN = 1.25
"""Least ratio of two lengths whose order is asked for."""

APART = 0.7
"""Metres over ground between things whose directions from each other are asked for, at least."""

CLEAR = math.radians(15)
"""How far a direction keeps from the border between two answers, at least."""

WIDE_CLASSES = frozenset(
    ["table", "cabinet", "shelf", "plant", "box", "ball", "picture", "window", "rug", "vase", "sofa", "cone"]
)
"""Classes whose largest objects are about twice as long as their smallest."""

COUNTED = (*AGAINST_WALL, *FREE)
"""What is counted: classes of which a room may have several; none has so many that its name would tell."""

HUNG = frozenset(["window", "door", "picture"])
"""Things on the walls."""

PLURALS = {"box": "boxes", "shelf": "shelves"}

COUNT = ("How many {} are there?", "How many {} can you see?", "Count the {}.")
ABS_DISTANCE = (
    "How far apart are the {} and the {}, in metres?",
    "How many metres are between the {} and the {}?",
    "What is the distance from the {} to the {}, in metres?",
)
REL_DISTANCE = (
    "Which is closest to the {}?",
    "What stands nearest to the {}?",
    "Of these, which is closest to the {}?",
)
DIRECTION = (
    "I stand at the {} and face the {}. Where is the {}?",
    "Standing at the {} and facing the {}, where is the {}?",
    "From the {}, facing the {}, in which direction is the {}?",
)
NAMED_SIZE = (
    "How long is the longest side of the {}, in centimetres?",
    "What is the largest dimension of the {}, in centimetres?",
    "How many centimetres does the longest side of the {} measure?",
)
BOXED_SIZE = tuple(text.replace("the {}", "the object in A") for text in NAMED_SIZE)
ROOM_SIZE = (
    "How large is the floor of this room, in square metres?",
    "What is the area of this room, in square metres?",
    "How many square metres does this room have?",
)
ONE_TURN = (
    "Walk from the {} to the {}, then to the {}. Which turn is needed?",
    "I go from the {} to the {}. Which way do I turn to go to the {}?",
    "Starting at the {}, go to the {}, turn, go to the {}. Which turn?",
)
TWO_TURNS = (
    "Walk from the {} to the {}, the {} and the {}. Which two turns are needed?",
    "I go from the {} to the {}, then the {}, then the {}. Which turns?",
    "Starting at the {}, go to the {}, the {}, the {}. Which turns?",
)


def object_counting(draw: random.Random, seen: Seen) -> Question | None:
    """How many objects of one class, or of two together, the views show.

    Two or three of a class are rare, and wanted as much oftener: what is asked in the end has them nearly as often as one.
    """
    is_single = draw.random() < 0.7
    wanted = draw.choices((1, 2, 3), (2, 5, 24) if is_single else (4, 4, 3))[0]
    clear = [name for name in COUNTED if name in seen.counts]
    if is_single:
        names = [(name,) for name in clear if seen.counts[name] == wanted]
    else:
        names = [pair for pair in combinations(clear, 2) if sum(seen.counts[name] for name in pair) == wanted]
    if not names:
        return None
    chosen = draw.choice(names)
    together = " and ".join(PLURALS.get(name, f"{name}s") for name in draw.sample(chosen, len(chosen)))
    return Question("object_counting", draw.choice(COUNT).format(together), str(wanted))


def object_abs_distance(draw: random.Random, seen: Seen) -> Question | None:
    """Metres between the nearest points of the boxes of two things."""
    wanted = log_uniform(draw, 0.4, 5.0)
    pair = drawn(draw, np.abs(np.log(np.maximum(seen.gaps, 1e-3) / wanted)) < 0.1)
    if pair is None:
        return None
    names = [seen.solid[i].name for i in pair]
    text = draw.choice(ABS_DISTANCE).format(*names)
    return Question("object_abs_distance", text, metres(seen.gaps[pair]), unit="metres")


def object_rel_distance(draw: random.Random, seen: Seen) -> Question | None:
    """Which of two or three things is closest to another one, by the nearest points of their boxes.

    So that none is wrong by being what it is, they are all of one group, and each of them is the closest to something.
    """
    count = draw.choice((2, 3))
    groups = [
        [i for i, thing in enumerate(seen.solid) if thing.class_name in names] for names in (AGAINST_WALL, FREE, HUNG)
    ]
    groups = [group for group in groups if len(group) >= count]
    if not groups:
        return None
    for _ in range(8):
        chosen = draw.sample(draw.choice(groups), count)
        gaps = seen.gaps[:, chosen]
        order = np.sort(gaps, axis=1)
        is_clear = (order[:, 1] > MARGIN * order[:, 0]) & (order[:, 1] > order[:, 0] + 0.2)
        is_clear[chosen] = False
        closest = [np.flatnonzero(is_clear & (gaps.argmin(axis=1) == i)) for i in range(count)]
        if all(len(found) for found in closest):
            right = draw.randrange(count)
            names = [seen.solid[i].name for i in chosen]
            text = draw.choice(REL_DISTANCE).format(seen.solid[draw.choice(closest[right])].name)
            return choice(draw, "object_rel_distance", text, names.pop(right), names)
    return None


def object_rel_direction_easy(draw: random.Random, seen: Seen) -> Question | None:
    angles = directions(seen)
    side = {"left": angles, "right": -angles}
    return direction(draw, seen, "easy", {name: between(angle, 0, 180) for name, angle in side.items()})


def object_rel_direction_medium(draw: random.Random, seen: Seen) -> Question | None:
    angles = directions(seen)
    masks = {
        "left": between(angles, 45, 135), "right": between(-angles, 45, 135), "back": between(np.abs(angles), 135, 225)
    }  # fmt: skip
    return direction(draw, seen, "medium", masks)


def object_rel_direction_hard(draw: random.Random, seen: Seen) -> Question | None:
    angles = directions(seen)
    masks = {
        "front-left": between(angles, 0, 90), "front-right": between(-angles, 0, 90),
        "back-left": between(angles, 90, 180), "back-right": between(-angles, 90, 180),
    }  # fmt: skip
    return direction(draw, seen, "hard", masks)


def directions(seen: Seen) -> np.ndarray:
    """Angle of a third thing for one who stands at the first and faces the second, to the left; nan if any two are near."""
    to = seen.ground[None, :] - seen.ground[:, None]
    return angles_between(to[:, :, None], to[:, None, :], seen)


def turns(seen: Seen) -> np.ndarray:
    """Angle by which one turns to the left at the second thing on the way from the first to the third; nan as above."""
    to = seen.ground[None, :] - seen.ground[:, None]
    return angles_between(to[:, :, None], to[None, :, :], seen)


def angles_between(ahead: np.ndarray, aside: np.ndarray, seen: Seen) -> np.ndarray:
    # seen from above, with x and y as on paper, a positive angle is counterclockwise: to the left
    cross = ahead[..., 0] * aside[..., 1] - ahead[..., 1] * aside[..., 0]
    angles = np.arctan2(cross, (ahead * aside).sum(-1))
    far = np.linalg.norm(seen.ground[None, :] - seen.ground[:, None], axis=-1) >= APART
    return np.where(far[:, :, None] & far[:, None, :] & far[None, :, :], angles, np.nan)


def between(angles: np.ndarray, least: float, most: float) -> np.ndarray:
    """Which angles lie well between two borders in degrees; nan does not."""
    return (angles > math.radians(least) + CLEAR) & (angles < math.radians(most) - CLEAR)


def direction(draw: random.Random, seen: Seen, level: str, masks: dict[str, np.ndarray]) -> Question | None:
    right = draw.choice(list(masks))
    triple = drawn(draw, masks[right])
    if triple is None:
        return None
    text = draw.choice(DIRECTION).format(*(seen.solid[i].name for i in triple))
    wrong = [name for name in masks if name != right]
    return choice(draw, f"object_rel_direction_{level}", text, right, wrong)


def route_planning(draw: random.Random, seen: Seen) -> Question | None:
    """Which turns are needed on a walk past one or two things."""
    angles = turns(seen)
    masks = {
        "left": between(angles, 20, 145), "right": between(-angles, 20, 145), "back": between(np.abs(angles), 145, 215)
    }  # fmt: skip
    if draw.random() < 0.5:
        right = draw.choice(list(masks))
        stops = drawn(draw, masks[right])
        texts, wrong = ONE_TURN, [name for name in masks if name != right]
    else:
        first, second = draw.choice(("left", "right")), draw.choice(("left", "right"))
        right = f"{first}, {second}"
        stops = None
        start = drawn(draw, masks[first])
        if start is not None:
            ends = np.flatnonzero(masks[second][start[1], start[2]])
            ends = [end for end in ends.tolist() if end not in start]
            stops = (*start, draw.choice(ends)) if ends else None
        all_turns = [f"{one}, {other}" for one in ("left", "right") for other in ("left", "right")]
        texts, wrong = TWO_TURNS, [name for name in all_turns if name != right]
    if stops is None:
        return None
    text = draw.choice(texts).format(*(seen.solid[i].name for i in stops))
    return choice(draw, "route_planning", text, right, wrong)


def object_size_estimation(draw: random.Random, seen: Seen) -> Question | None:
    """Centimetres of the longest side of a thing that is named, if its class comes in many sizes, or framed."""
    wanted = log_uniform(draw, 0.25, 2.2)
    is_named = draw.random() < 0.5
    things = [
        thing
        for thing in seen.things
        if abs(math.log(max(thing.object.size) / wanted)) < 0.2 and (thing.class_name in WIDE_CLASSES or not is_named)
    ]
    draw.shuffle(things)
    for thing in things:
        instance = thing.object.instance
        view = int(seen.shares[:, instance].argmax())
        box = seen.box(view, instance, "A")
        if not seen.is_whole(box):
            continue
        text = draw.choice(NAMED_SIZE).format(thing.name) if is_named else draw.choice(BOXED_SIZE)
        answer = f"{100 * max(thing.object.size):.0f}"
        boxes = () if is_named else (box,)
        return Question("object_size_estimation", text, answer, boxes=boxes, unit="centimetres")
    return None


def room_size_estimation(draw: random.Random, seen: Seen) -> Question | None:
    """Square metres of the floor."""
    return Question("room_size_estimation", draw.choice(ROOM_SIZE), f"{seen.floor:.0f}", unit="square metres")


SIDES = (
    "In view {}, is the {} to the left or to the right of the {}?",
    "Is the {1} left or right of the {2} in view {0}?",
    "On which side of the {2} is the {1} in view {0}?",
)
NEARER = (
    "In view {}, is the {} nearer or farther than the {}?",
    "Is the {1} nearer or farther than the {2} in view {0}?",
    "Seen from view {}, is the {} nearer or farther than the {}?",
)


def spatial_relation(draw: random.Random, seen: Seen) -> Question | None:
    """Whether one thing is left or right of another in a view, or nearer or farther, by the middle of what shows of them."""
    view = draw.randrange(seen.num_views)
    things = [thing for thing in seen.things if seen.shares[view, thing.object.instance] >= SEEN]
    if len(things) < 2:
        return None
    middles = seen.centres[view, [thing.object.instance for thing in things]]
    if draw.random() < 0.5:
        texts, answers = SIDES, ("left", "right")
        mask = middles[:, None, 0] < middles[None, :, 0] - 0.12
    else:
        texts, answers = NEARER, ("nearer", "farther")
        mask = MARGIN * middles[:, None, 2] < middles[None, :, 2]
    pair = drawn(draw, mask)
    if pair is None:
        return None
    right = draw.randrange(2)
    names = [things[i].name for i in (pair if right == 0 else pair[::-1])]
    text = draw.choice(texts).format(view, *names)
    return choice(draw, "spatial_relation", text, answers[right], [answers[1 - right]])


def drawn(draw: random.Random, mask: Bool[np.ndarray, "..."]) -> tuple[int, ...] | None:
    """Indices of a random place where a mask is True."""
    places = np.flatnonzero(mask)
    if not len(places):
        return None
    return tuple(int(i) for i in np.unravel_index(places[draw.randrange(len(places))], mask.shape))
