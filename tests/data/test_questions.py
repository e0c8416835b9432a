"""Answers of questions about rooms, found anew from the pictures and the objects; and left is left."""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from g2vlm.data import questions_objects, questions_points, questions_views
from g2vlm.data.questions import KINDS, LONGEST, MIN_VIEWS, NUMERIC, Question, Seen, ask, questions, seen_in
from g2vlm.data.questions_seen import CLASSES, HIDDEN, SEEN, Thing, box_gaps
from g2vlm.data.questions_words import LETTERS, with_options
from g2vlm.data.rooms_furniture import COLOURS
from g2vlm.data.scenes import RoomObject, Rooms, pose_rows, rooms
from g2vlm.marks import words_of_marks

NUM_ROOMS = 16
SIDE = 96


@pytest.fixture(scope="module")
def batch() -> list[Rooms]:
    return [rooms([seed], num_views=4, height=SIDE, width=SIDE) for seed in range(NUM_ROOMS)]


@pytest.fixture(scope="module")
def asked(batch: list[Rooms]) -> dict[str, list[tuple[Seen, Question]]]:
    """Many questions of each kind, each with what was seen."""
    found: dict[str, list[tuple[Seen, Question]]] = {kind: [] for kind in KINDS}
    for number, room in enumerate(batch):
        seen = seen_in(room)
        draw = random.Random(f"questions {number}")
        for kind in KINDS:
            found[kind] += [(seen, q) for _ in range(5) if (q := ask(draw, seen, kind)) is not None]
    return found


def right_option(question: Question) -> str:
    return question.options[LETTERS.index(question.answer)]


def named(seen: Seen, text: str) -> list[Thing]:
    """Things whose names stand in a text, in its order."""
    found = {}
    for thing in sorted(seen.things, key=lambda thing: -len(thing.name)):
        for match in re.finditer(rf"\b{thing.name}\b", text):
            text = text[: match.start()] + "#" * len(thing.name) + text[match.end() :]
            found[match.start()] = thing
    return [found[place] for place in sorted(found)]


def world_of(seen: Seen, question: Question) -> list[np.ndarray]:
    """Where the marked points are, one at a time and by hand."""
    points = []
    for mark in question.marks:
        depth = seen.depth[mark.view, int(mark.y), int(mark.x)]
        local = np.linalg.inv(seen.intrinsics[mark.view]) @ [mark.x, mark.y, 1] * depth
        points.append((seen.poses[mark.view] @ [*local, 1])[:3])
    return points


def test_every_kind_is_asked(asked: dict[str, list]):
    assert set(asked) == set(MIN_VIEWS) == set(KINDS)
    assert min(map(len, asked.values())) >= 3, {kind: len(found) for kind, found in asked.items()}
    assert set(KINDS) > NUMERIC


def test_a_choice_ends_with_its_options_and_a_number_is_one(asked: dict[str, list]):
    for kind, found in asked.items():
        for _, question in found:
            assert question.kind == kind
            if kind in NUMERIC:
                assert not question.options
                assert float(question.answer) > 0
            else:
                assert 2 <= len(set(question.options)) == len(question.options) <= 4
                assert question.text.endswith(with_options("", question.options))
                assert question.answer in LETTERS[: len(question.options)]
            assert [mark.name for mark in (*question.marks, *question.boxes)] == list(
                LETTERS[: len(question.marks) + len(question.boxes)]
            )


def test_a_choice_is_learnt_in_words_and_one_of_names_by_its_letter(asked: dict[str, list]):
    """As many words recur as there are sides and marks; names of things are never learnt to be said."""
    said = {kind: {question.lesson for _, question in found} for kind, found in asked.items()}
    for kind in ("object_rel_distance", "obj_appearance_order", "object_in_frame"):
        assert said[kind] <= {"A", "B", "C", "D"}
    assert said["camera_motion"] <= {"left", "right", "forward", "backward"}
    assert said["position_matching"] == {"A", "B", "C"}
    assert {question.lesson for _, question in asked["view_change"]} == {q.answer for _, q in asked["view_change"]}


def test_the_same_draw_asks_the_same(batch: list[Rooms]):
    one, again, other = (questions(random.Random(seed), batch[3], 12) for seed in (5, 5, 6))
    assert one == again != other
    assert len(one) == 12


def test_a_single_view_is_asked_about_itself_only(batch: list[Rooms]):
    room = rooms([3], num_views=1, height=SIDE, width=SIDE)
    kinds = {question.kind for question in questions(random.Random(0), room, 60)}
    assert {MIN_VIEWS[kind] for kind in kinds} == {1}
    assert ask(random.Random(0), seen_in(room), "camera_motion") is None


def test_an_unknown_kind_is_refused(batch: list[Rooms]):
    with pytest.raises(ValueError, match="got 'colour'"):
        ask(random.Random(0), seen_in(batch[0]), "colour")


def test_no_question_is_longer_than_is_allowed_for(asked: dict[str, list]):
    for found in asked.values():
        for _, q in found:
            said = words_of_marks(q.marks, q.boxes, [(SIDE, SIDE)] * 4) + q.text + q.answer
            assert len(said.encode()) <= LONGEST
    thing = f"{max(COLOURS, key=len)} {max((name for name in CLASSES if name != 'ceiling lamp'), key=len)}"
    order = max(map(len, questions_views.ORDER)) + 3 * len(f" A. {thing}, {thing}, {thing}")
    walk = max(len(text.format(*[thing] * 4)) for text in questions_objects.TWO_TURNS) + 4 * len(" A. right, right")
    marks = max(map(len, questions_points.SAME)) + 3 * len(" A. A") + 4 * len("A (yellow) in view 23 at 99 99. ")
    assert max(order, walk, marks) + 1 <= LONGEST


def test_depths_and_distances_are_those_of_the_marked_pixels(asked: dict[str, list]):
    for seen, q in asked["depth_prediction"]:
        (mark,) = q.marks
        assert float(q.answer) == pytest.approx(seen.depth[mark.view, int(mark.y), int(mark.x)], abs=0.051)
    for seen, q in asked["distance_prediction"]:
        one, other = world_of(seen, q)
        assert float(q.answer) == pytest.approx(np.linalg.norm(one - other), abs=0.051)


def test_the_nearest_point_is_clearly_nearest(asked: dict[str, list]):
    for seen, q in asked["depth_comparison"]:
        depths = {mark.name: seen.depth[mark.view, int(mark.y), int(mark.x)] for mark in q.marks}
        nearest = depths.pop(q.answer)
        assert nearest * 1.2 < min(depths.values())
        assert q.options == tuple(mark.name for mark in q.marks)


def test_only_the_right_mark_shows_the_same_point(asked: dict[str, list]):
    for seen, q in asked["position_matching"]:
        *points, query = world_of(seen, q)
        gaps = {mark.name: np.linalg.norm(p - query) for mark, p in zip(q.marks, points, strict=False)}
        assert gaps.pop(q.answer) < 0.05
        assert min(gaps.values()) > 0.2
        assert len({mark.view for mark in q.marks[:3]}) == 1 != len({mark.view for mark in q.marks})


def test_marks_keep_away_from_edges_of_depth(asked: dict[str, list]):
    for kind in ("depth_prediction", "depth_comparison", "distance_prediction", "position_matching"):
        for seen, q in asked[kind]:
            for mark in q.marks:
                x, y = int(mark.x), int(mark.y)
                around = seen.depth[mark.view, y - 1 : y + 2, x - 1 : x + 2]
                assert around.shape == (3, 3)
                assert around.max() < 1.1 * around.min()


def test_counts_are_of_what_is_clearly_seen(asked: dict[str, list]):
    plurals = {questions_objects.PLURALS.get(name, f"{name}s"): name for name in CLASSES}
    for seen, q in asked["object_counting"]:
        names = {plurals[word] for word in re.findall(r"[a-z]+", q.text) if word in plurals}
        assert 1 <= len(names) <= 2
        assert int(q.answer) == sum(seen.counts[name] for name in names)
    room = rooms([8], num_views=2, height=SIDE, width=SIDE)
    shares = [
        max(float((view == thing.instance).float().mean()) for view in room.instances[0]) for thing in room.objects[0]
    ]
    for name, count in seen_in(room).counts.items():
        of = [share for thing, share in zip(room.objects[0], shares, strict=True) if thing.class_name == name]
        assert count == sum(share >= SEEN for share in of)
        assert not any(HIDDEN <= share < SEEN for share in of)


def test_a_name_means_one_thing(batch: list[Rooms]):
    for room in batch:
        seen = seen_in(room)
        names = [thing.name for thing in seen.things]
        assert len(set(names)) == len(names)
        showing = [
            thing
            for thing in room.objects[0]
            if max(float((view == thing.instance).float().mean()) for view in room.instances[0]) >= HIDDEN
        ]
        for thing in seen.things:
            like = [o for o in showing if o.class_name == thing.class_name]
            assert len(like) == 1 or thing.name == f"{thing.object.colour} {thing.class_name}"


def test_sizes_are_longest_sides_in_centimetres(asked: dict[str, list]):
    for seen, q in asked["object_size_estimation"]:
        if q.boxes:
            (box,) = q.boxes
            inside = seen.instances[box.view, int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
            lengths = [100 * max(t.object.size) for t in seen.things if t.object.instance in inside]
        else:
            lengths = [100 * max(thing.object.size) for thing in named(seen, q.text)]
        assert min(abs(float(q.answer) - length) for length in lengths) <= 0.51


def test_sides_in_a_view_are_those_of_its_pixels(asked: dict[str, list]):
    for seen, q in asked["spatial_relation"]:
        view = int(re.findall(r"view (\d+)", q.text)[0])
        one, other = named(seen, q.text.split(" A. ")[0])
        if q.text.startswith("On which side of"):
            one, other = other, one
        masks = [seen.instances[view] == thing.object.instance for thing in (one, other)]
        if right_option(q) in ("left", "right"):
            middles = [np.nonzero(mask)[1].mean() for mask in masks]
            assert right_option(q) == ("left" if middles[0] < middles[1] else "right")
        else:
            depths = [seen.depth[view][mask].mean() for mask in masks]
            assert right_option(q) == ("nearer" if depths[0] < depths[1] else "farther")


def test_the_view_named_shows_most(asked: dict[str, list]):
    for seen, q in asked["object_in_frame"]:
        (thing,) = named(seen, q.text)
        pixels = {option: (seen.instances[int(option[5:])] == thing.object.instance).sum() for option in q.options}
        assert max(pixels, key=lambda option: pixels[option]) == right_option(q)


def test_first_appearances_follow_each_other(asked: dict[str, list]):
    for seen, q in asked["obj_appearance_order"]:
        things = named(seen, right_option(q))
        first = [int((seen.shares[:, thing.object.instance] >= SEEN).argmax()) for thing in things]
        assert all(one < other for one, other in pairwise(first))
        assert {frozenset(option.split(", ")) for option in q.options} == {frozenset(right_option(q).split(", "))}


def test_the_closest_thing_is_closest(asked: dict[str, list]):
    for seen, q in asked["object_rel_distance"]:
        (to,) = named(seen, q.text.split(" A. ")[0])
        by_name = {thing.name: i for i, thing in enumerate(seen.solid)}
        gaps = {name: seen.gaps[by_name[to.name], by_name[name]] for name in q.options}
        assert min(gaps, key=lambda name: gaps[name]) == right_option(q)


# by hand


def placed(*things: tuple[str, float, float], poses: Sequence | None = None) -> Seen:
    """Cubes of 20 centimetres that stand at places on the floor, x to the right and y to the top of a map."""
    objects = [
        RoomObject(name, "red", (0.2, 0.2, 0.2), (float(x), float(y), 0.1), 0.0, number)
        for number, (name, x, y) in enumerate(things, start=1)
    ]
    return Seen(
        depth=np.ones((2, 8, 8), np.float32),
        instances=np.zeros((2, 8, 8), np.int32),
        poses=np.array(poses if poses is not None else [np.eye(4)] * 2, dtype=np.float64),
        intrinsics=np.array([np.eye(3)] * 2),
        shares=np.full((2, len(objects) + 1), 0.1),
        things=tuple(Thing(thing.class_name, thing) for thing in objects),
        counts={},
        floor=9.0,
        seed=0,
    )


def answers(seen: Seen, kind: str, count: int = 200) -> dict[str, str]:
    """Right options of many questions of a kind by the names in them."""
    found = {}
    for number in range(count):
        question = ask(random.Random(f"{kind} {number}"), seen, kind)
        if question is not None:
            found[" ".join(thing.name for thing in named(seen, question.text.split(" A. ")[0]))] = right_option(
                question
            )
    return found


def test_left_is_counterclockwise_on_the_map():
    # one stands at the door, in the south, and faces the bed in the north
    seen = placed(("door", 0, 0), ("bed", 0, 3), ("sofa", -2, 1.5), ("lamp", 2, 1.5), ("ball", 1, -2))
    easy = answers(seen, "object_rel_direction_easy")
    assert easy["door bed sofa"] == "left"
    assert easy["door bed lamp"] == "right"
    assert easy["bed door sofa"] == "right"
    hard = answers(seen, "object_rel_direction_hard")
    assert hard["door bed sofa"] == "front-left"
    assert hard["door bed ball"] == "back-right"
    assert answers(seen, "object_rel_direction_medium")["door bed ball"] == "back"


def test_a_route_turns_as_one_walks():
    seen = placed(("door", 0, 0), ("bed", 0, 3), ("sofa", -2, 3), ("lamp", 2, 3), ("ball", 2, 5))
    route = answers(seen, "route_planning", 600)
    assert route["door bed sofa"] == "left"
    assert route["door bed lamp"] == "right"
    assert route["sofa lamp bed"] == "back"
    assert route["door bed lamp ball"] == "right, left"


def test_a_camera_that_steps_to_its_right_moved_right():
    ahead = (0.0, 0.0, 0.0)
    seen = placed(poses=[pose_rows((0, 0, 1), ahead), pose_rows((0, -1, 1), ahead)])
    found = {
        q.text.split("?")[0][-1] if "view 1?" in q.text or "view 0?" in q.text else q.text[10:16]: right_option(q)
        for number in range(300)
        if (q := ask(random.Random(number), seen, "camera_motion")) is not None and q.text.startswith("How did")
    }
    assert found == {"1": "right", "0": "left"}


def test_a_camera_that_yaws_clockwise_turned_right():
    seen = placed(poses=[pose_rows((0, 0, 1), (0.0, 0.0, 0.0)), pose_rows((0, 0, 1), (-math.radians(30), 0.0, 0.0))])
    turned = [ask(random.Random(number), seen, "camera_motion") for number in range(100)]
    found = {(q.text.index("view 0") < q.text.index("view 1"), right_option(q)) for q in turned if q is not None}
    assert found == {(True, "right"), (False, "left")}
    angles = [ask(random.Random(number), seen, "view_change") for number in range(100)]
    assert {q.answer for q in angles if q is not None} == {"30"}


def test_gaps_are_between_the_nearest_points_of_boxes():
    seen = placed(("door", 0, 0), ("bed", 3, 4), ("sofa", 1, 0))
    assert seen.gaps[0, 2] == pytest.approx(0.8)
    assert seen.gaps[0, 1] == pytest.approx(math.hypot(2.8, 3.8))
    turned = replace(seen.things[2].object, yaw=math.pi / 4)
    raised = replace(seen.things[2].object, position=(1.0, 0.0, 1.1))
    first = seen.things[0].object
    assert box_gaps([first, turned])[0, 1] == pytest.approx(0.9 - 0.1 * math.sqrt(2))
    assert box_gaps([first, raised])[0, 1] == pytest.approx(math.hypot(0.8, 0.8))


def test_the_floor_is_that_of_the_walls():
    room = rooms([21], num_views=4, height=48, width=48)
    seen = seen_in(room)
    assert room.views.poses is not None
    inside = room.views.poses[0, :, :2, 3].abs().amax(0)
    assert seen.floor > float(4 * torch.prod(inside))
    question = ask(random.Random(0), seen, "room_size_estimation")
    assert question is not None
    assert abs(float(question.answer) - seen.floor) <= 0.5
