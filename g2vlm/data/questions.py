"""Questions about procedural rooms whose answers follow from what is in them, and from what can be seen of it."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float

from g2vlm.data.rooms_furniture import AGAINST_WALL, FREE, ON_TOP
from g2vlm.data.scenes import RoomObject, Rooms

SEEN = 0.004
"""Part of a picture that an object fills, in one view at least, to count as seen."""

HIDDEN = 0.0005
"""Part of a picture below which, in every view, an object counts as not seen; nothing is asked about what lies between."""

MARGIN = 1.2
"""Least ratio of two lengths whose order is asked for."""

LONGEST = 120
"""Bytes of a question and its answer, at most."""

CLASSES = (*dict.fromkeys([*AGAINST_WALL, *FREE, *ON_TOP]), "window", "door", "rug", "ceiling lamp")
"""What is asked about; a picture on the wall could be mistaken for a picture of the room."""

PLURALS = {"box": "boxes", "shelf": "shelves"}

COUNT = ("How many {} are there?", "How many {} can you see in these pictures?", "Count the {}.")
COLOUR = ("What colour is the {}?", "Which colour does the {} have?", "The {}: what is its colour?")
TALLER = ("Which is taller, the {} or the {}?", "Of the {} and the {}, which one is taller?")
NEARER = (
    "In the first picture, which is nearer, the {} or the {}?",
    "What is closer to the first camera: the {} or the {}?",
)


class Question(NamedTuple):
    text: str
    answer: str


class Seen(NamedTuple):
    """What can be seen of one room: objects of every class that hides none halfway, and the share of each view they fill.

    nearest: least depth of each object in the first view, infinite where it is not clearly seen there.
    """

    by_class: dict[str, list[RoomObject]]
    nearest: dict[int, float]

    @property
    def single(self) -> list[RoomObject]:
        """Objects that are alone in their class."""
        return [things[0] for things in self.by_class.values() if len(things) == 1]


def ask(draw: random.Random, room: Rooms) -> Question:
    """A random question about the first room of a batch."""
    seen = seen_in(room)
    askers = [ask_count, ask_colour, ask_taller, ask_nearer]
    draw.shuffle(askers)
    # Something can always be counted, if only to zero.
    return next(question for asker in askers if (question := asker(draw, seen)) is not None)


def seen_in(room: Rooms) -> Seen:
    """What the views of the first room show."""
    assert room.views.depth is not None
    objects, instances, depth = room.objects[0], room.instances[0], room.views.depth[0, 0]
    shares = shares_of(instances, len(objects) + 1)
    by_class: dict[str, list[RoomObject]] = {name: [] for name in CLASSES}
    nearest = {}
    for thing in objects:
        share = shares[:, thing.instance]
        if share.amax() >= SEEN and thing.class_name in by_class:
            by_class[thing.class_name].append(thing)
        elif share.amax() >= HIDDEN:
            by_class.pop(thing.class_name, None)
        if share[0] >= SEEN:
            nearest[thing.instance] = float(depth[instances[0] == thing.instance].amin())
    return Seen(by_class, nearest)


def shares_of(instances: torch.Tensor, count: int) -> Float[torch.Tensor, "views instances"]:
    """Part of each view that each instance fills."""
    return torch.stack([torch.bincount(view, minlength=count) / len(view) for view in instances.flatten(1)])


def ask_count(draw: random.Random, seen: Seen) -> Question | None:
    there = [name for name, things in seen.by_class.items() if things]
    absent = [name for name, things in seen.by_class.items() if not things]
    names = absent if not there or (absent and draw.random() < 0.2) else there
    if not names:
        return None
    name = draw.choice(names)
    return Question(draw.choice(COUNT).format(PLURALS.get(name, f"{name}s")), str(len(seen.by_class[name])))


def ask_colour(draw: random.Random, seen: Seen) -> Question | None:
    things = [thing for thing in seen.single if thing.class_name != "window"]  # of which one sees the sky
    if not things:
        return None
    thing = draw.choice(things)
    return Question(draw.choice(COLOUR).format(thing.class_name), thing.colour)


def ask_taller(draw: random.Random, seen: Seen) -> Question | None:
    return compared(draw, TALLER, seen.single, [-thing.size[2] for thing in seen.single])


def ask_nearer(draw: random.Random, seen: Seen) -> Question | None:
    things = [thing for thing in seen.single if thing.instance in seen.nearest]
    return compared(draw, NEARER, things, [seen.nearest[thing.instance] for thing in things])


def compared(
    draw: random.Random, texts: Sequence[str], things: Sequence[RoomObject], values: Sequence[float]
) -> Question | None:
    """A question for the one of two things that has the smaller value, clearly."""
    pairs = [
        (one, other)
        for one in range(len(things))
        for other in range(len(things))
        if values[one] < values[other] and max(ratio := values[one] / values[other], 1 / ratio) > MARGIN
    ]
    if not pairs:
        return None
    least, most = (things[i].class_name for i in draw.choice(pairs))
    names = draw.sample((least, most), 2)
    return Question(draw.choice(texts).format(*names), f"The {least}.")
