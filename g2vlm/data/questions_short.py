"""Short questions about single points, many to a room: what stands there, and how deep it is.

For training only. Each says its point in words and draws nothing, so that dozens can share a room's pictures; they teach where
things are in pictures and in geometry long before a question about the whole room could.
"""

import random

from g2vlm.data.questions_points import DEPTH
from g2vlm.data.questions_seen import Seen
from g2vlm.data.questions_words import Question, metres
from g2vlm.data.scenes import RoomObject

WHAT = "What is A?"


def short_questions(
    draw: random.Random, seen: Seen, objects: tuple[RoomObject, ...], count: int, depth: float
) -> list[Question]:
    """Questions about `count` random points at most, a part `depth` of them about depth, the others about what is there."""
    by_instance = {thing.instance: thing for thing in objects}
    num_points = len(seen.points.depth)
    asked: list[Question] = []
    for point in draw.sample(range(num_points), min(count, num_points)):
        marks = (seen.points.mark(point, "A"),)
        if draw.random() < depth:
            answer = metres(float(seen.points.depth[point]))
            asked.append(Question("depth_prediction", draw.choice(DEPTH), answer, marks=marks, unit="metres"))
        elif (thing := by_instance.get(int(seen.points.instance[point]))) is not None:
            asked.append(Question("object_at_point", WHAT, f"{thing.colour} {thing.class_name}", marks=marks))
    return asked
