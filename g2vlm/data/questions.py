"""Questions about procedural rooms whose answers follow from what is in them, and from what can be seen of it.

Whoever answers without looking shall not do better than chance: what is right is drawn first, and then a place in the
room where it is right.
"""

import random
from collections.abc import Callable

from g2vlm.data import questions_objects, questions_points, questions_views
from g2vlm.data.questions_seen import Seen, seen_in
from g2vlm.data.questions_words import Question
from g2vlm.data.scenes import Rooms

__all__ = ["KINDS", "LONGEST", "MIN_VIEWS", "NUMERIC", "Question", "Seen", "ask", "questions", "seen_in"]

ASKERS: dict[str, Callable[[random.Random, Seen], Question | None]] = {
    asker.__name__: asker
    for asker in (
        questions_objects.object_counting,
        questions_objects.object_abs_distance,
        questions_objects.object_rel_distance,
        questions_objects.object_rel_direction_easy,
        questions_objects.object_rel_direction_medium,
        questions_objects.object_rel_direction_hard,
        questions_objects.object_size_estimation,
        questions_objects.room_size_estimation,
        questions_objects.route_planning,
        questions_views.obj_appearance_order,
        questions_points.depth_prediction,
        questions_points.depth_comparison,
        questions_points.distance_prediction,
        questions_views.camera_motion,
        questions_views.view_change,
        questions_points.position_matching,
        questions_objects.spatial_relation,
        questions_views.object_in_frame,
    )
}

KINDS: tuple[str, ...] = tuple(ASKERS)

NUMERIC = frozenset(
    [
        "object_counting", "object_abs_distance", "object_size_estimation", "room_size_estimation", "depth_prediction",
        "distance_prediction", "view_change",
    ]
)  # fmt: skip
"""Kinds that are answered with a number; all others are choices."""

MIN_VIEWS: dict[str, int] = dict.fromkeys(KINDS, 1) | dict.fromkeys(
    ("obj_appearance_order", "camera_motion", "view_change", "position_matching", "object_in_frame"), 2
)
"""Views that a room must have for each kind."""

LONGEST = 256
"""Bytes of a question, with the words that say where its marks are, and its answer, at most."""


def ask(draw: random.Random, seen: Seen, kind: str) -> Question | None:
    """One question of a kind about a room, None where the room cannot give the one that was drawn."""
    if kind not in ASKERS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return ASKERS[kind](draw, seen) if seen.num_views >= MIN_VIEWS[kind] else None


def questions(draw: random.Random, room: Rooms, count: int) -> list[Question]:
    """Questions about the first room of a batch, of random kinds among those that its number of views allows."""
    seen = seen_in(room)
    kinds = [kind for kind in KINDS if MIN_VIEWS[kind] <= seen.num_views]
    asked: list[Question] = []
    while len(asked) < count:
        # The size of the room can always be asked for, so this ends.
        question = ask(draw, seen, draw.choice(kinds))
        if question is not None:
            asked.append(question)
    return asked
