"""What is measured in the truth of a room is the truth; a prediction as good as the truth says the same; text is read back."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
import roma
import torch

from g2vlm.data.scenes import Rooms, correspondences, rooms
from g2vlm.evidence import Measurable, evidence_text, measurable_from_truth, measurable_of, measure, parse_evidence
from g2vlm.geometry.camera import project, unproject
from g2vlm.geometry.pose import invert, pose_from, transform
from g2vlm.pictures import Photo
from g2vlm.predictor import reconstruction_of
from g2vlm.records import Box, Geometry, Mark, Provenance, Reconstruction, Statement, Views

SEEDS = tuple(range(101_000_000, 101_000_006))
SIZE = 112
EVERYTHING = ("depth", "extent", "distance", "sees", "motion", "room", "floor")

MARKS = (Mark(0, 40.2, 61.7, "A"), Mark(2, 80.5, 30.5, "B"), Mark(1, 20.5, 90.5, "C"))
BOXES = (Box(3, 30, 42, 71, 80, "D"),)


@pytest.fixture(scope="module")
def batch() -> Rooms:
    return rooms(SEEDS, num_views=4, height=SIZE, width=SIZE)


def views_of(batch: Rooms, scene: int) -> Views:
    return Views(**{field.name: getattr(batch.views, field.name)[scene] for field in fields(Views)})


def everything(scene: Measurable, marks=MARKS, boxes=BOXES) -> tuple[Statement, ...]:
    return measure(scene, marks, boxes, kinds=EVERYTHING, max_lines=99)


def only(statements: Sequence[Statement]) -> Statement:
    (statement,) = statements
    return statement


def wall(
    *, depths: Sequence[float] = (2.0, 2.0), poses: Sequence[torch.Tensor] | None = None, scale="metric"
) -> Measurable:
    """Each view sees a wall at its own depth, 20 x 20 pixels under 90 degrees; the cameras coincide unless told."""
    depth = torch.tensor(depths)[:, None, None].expand(-1, 20, 20).contiguous()
    intrinsics = torch.tensor([[10.0, 0, 10], [0, 10, 10], [0, 0, 1]]).expand(len(depths), 3, 3)
    known = torch.stack(list(poses)) if poses is not None else torch.eye(4).expand(len(depths), 4, 4)
    images = torch.zeros(len(depths), 3, 20, 20)
    mask = torch.ones_like(depth, dtype=torch.bool)
    return measurable_from_truth(Views(images, intrinsics, known, depth, mask), scale)


def pose(right: float = 0, down: float = 0, forward: float = 0, *, yaw: float = 0, pitch: float = 0) -> torch.Tensor:
    """Degrees; a positive yaw looks to the right, a positive pitch up."""
    turn = roma.euler_to_rotmat("YX", torch.tensor([yaw, pitch]), degrees=True)
    return pose_from(turn, torch.tensor([right, down, forward], dtype=torch.float32))


def reconstruction_from(views: Views) -> Reconstruction:
    """What a predictor gives whose model is never wrong, up to its scale and world frame."""
    world = pose(1, 2, 3, yaw=40, pitch=20)
    local = unproject(views.depth, views.intrinsics)
    halved = pose_from(views.poses[:, :3, :3], views.poses[:, :3, 3] / 2)
    geometry = Geometry(tuple(local / 2), world @ halved)
    photos = [Photo(str(i), np.zeros((SIZE, SIZE, 3), np.uint8)) for i in range(len(local))]
    return reconstruction_of(geometry, photos, list(views.images), Provenance("truth", "0" * 64))


def test_depth_of_a_mark_is_the_truth(batch):
    for scene in range(len(SEEDS)):
        views = views_of(batch, scene)
        measured = measurable_from_truth(views, "metric")
        for mark in MARKS:
            depth = only(measure(measured, [mark], kinds=["depth"]))
            assert depth.value == pytest.approx(views.depth[mark.view, int(mark.y), int(mark.x)].item(), abs=0.005)
            assert depth.unit == "m"
            assert (depth.views, depth.pixels) == ((mark.view,), ((mark.x, mark.y),))


def test_distance_of_marks_in_two_views_is_the_truth(batch):
    views = views_of(batch, 0)
    world = transform(views.poses, unproject(views.depth, views.intrinsics))
    a, b = (world[mark.view, int(mark.y), int(mark.x)] for mark in MARKS[:2])
    distance = only(measure(measurable_from_truth(views, "metric"), MARKS[:2], kinds=["distance"]))
    assert distance.value == pytest.approx((a - b).norm().item(), abs=0.005)
    assert distance.text == f"distance A B {distance.value:.2f} m"
    assert distance.views == (0, 2)
    assert distance.pixels == ((40.2, 61.7), (80.5, 30.5))


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        (pose(0.5, -0.2, 1, yaw=30), "motion 1 2 turn right 30 forward 1.00 right 0.50 up 0.20 m"),
        (pose(-0.5, 0.2, -1, yaw=-30), "motion 1 2 turn left 30 backward 1.00 left 0.50 down 0.20 m"),
        (pose(yaw=-170, pitch=10), "motion 1 2 turn left 170 right 0.00 up 0.00 forward 0.00 m"),
        (pose(-0.004, 0.004, -0.004, yaw=-0.4), "motion 1 2 turn right 0 right 0.00 up 0.00 forward 0.00 m"),
    ],
)
def test_motion_is_said_in_the_frame_of_the_first_camera(moved, said):
    elsewhere = pose(3, -2, 5, yaw=100, pitch=50)
    scene = wall(depths=[2.0] * 3, poses=[pose(), elsewhere, elsewhere @ moved])
    assert measure(scene, kinds=["motion"])[1].text == said


def test_motion_is_said_of_at_most_four_consecutive_pairs():
    motions = measure(wall(depths=[2.0] * 7), kinds=["motion"])
    assert [motion.views for motion in motions] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert all(motion.pixels == () for motion in motions)


def looking_around(size: tuple[float, float, float], *, broken: float = 0.0, above: float = 0.2) -> Measurable:
    """An empty room (metres) seen in four directions by tilted cameras off its middle; part of the points are far away.

    above: of the cameras, over the middle of the room.
    """
    centre = torch.tensor([0.4, -above, 0.3])
    poses = torch.stack([pose(*centre.tolist(), yaw=25 + 90 * k, pitch=8) for k in range(4)])
    intrinsics = torch.tensor([[24.0, 0, 32], [0, 24, 32], [0, 0, 1]]).expand(4, 3, 3)
    rays = unproject(torch.ones(4, 64, 64), intrinsics)
    directions = transform(poses, rays) - centre
    half = torch.tensor(size) / 2
    depth = ((half * directions.sign() - centre) / directions).min(-1).values
    depth = torch.where(torch.rand(depth.shape, generator=torch.Generator().manual_seed(0)) < broken, 50.0, depth)
    turned = torch.stack([pose(yaw=70, pitch=-30) @ p for p in poses])
    scene = measurable_from_truth(
        Views(torch.zeros(4, 3, 64, 64), intrinsics, turned, depth, torch.ones_like(depth, dtype=torch.bool)), "metric"
    )
    return replace(scene, mask=tuple(np.ones_like(mask) for mask in scene.mask))


@pytest.mark.parametrize("broken", [0.0, 0.01])
def test_a_room_seen_all_around_has_its_length_width_and_height(broken):
    room = only(measure(looking_around((3.0, 2.5, 5.0), broken=broken), kinds=["room"]))
    np.testing.assert_allclose([float(x) for x in room.value.split()], [5.0, 3.0, 2.5], rtol=0.05)
    assert room.views == (0, 1, 2, 3)


def test_the_size_of_a_furnished_room_is_that_of_the_part_that_is_seen(batch):
    for scene in range(len(SEEDS)):
        views = views_of(batch, scene)
        points = transform(views.poses, unproject(views.depth, views.intrinsics)).flatten(0, 2)
        points = torch.cat([points, views.poses[:, :3, 3]])
        seen = points.max(0).values - points.min(0).values
        room = only(measure(measurable_from_truth(views, "metric"), kinds=["room"]))
        one, other, height = seen.tolist()
        said = np.array([float(x) for x in room.value.split()])
        np.testing.assert_allclose(said, [max(one, other), min(one, other), height], rtol=0.15)


def test_evidence_does_not_depend_on_the_scale_of_a_scale_free_scene(batch):
    views = views_of(batch, 1)
    larger = replace(
        views, depth=3.7 * views.depth, poses=pose_from(views.poses[:, :3, :3], 3.7 * views.poses[:, :3, 3])
    )
    small, large = (everything(measurable_from_truth(v)) for v in (views, larger))
    assert evidence_text(small) == evidence_text(large)
    assert {statement.unit for statement in small} == {"u", "u2", ""}


def test_a_length_of_one_is_the_mean_distance_of_the_visible_points():
    scene = wall(depths=[3.0, 3.0], scale="scale_free")
    mean = np.linalg.norm(scene.points[0], axis=-1).mean()
    assert only(measure(scene, [Mark(0, 4.5, 4.5, "A")], kinds=["depth"])).value == round(3 / mean, 2)


@pytest.mark.parametrize("lower", [1.0, 0.4])
def test_a_room_of_usual_height_is_said_in_its_metres(lower):
    """Seen all around from 1.4 m above its floor, whatever the unit of the scene."""
    size = (4.2, 2.8, 5.0)
    scene = looking_around(size, above=0.0)
    scene = replace(
        scene,
        points=tuple(lower * points for points in scene.points),
        depth=tuple(lower * depth for depth in scene.depth),
        poses=scene.poses * np.array([1, 1, 1, lower]) ** np.array([[1], [1], [1], [0]]),
        scale="scale_free",
    )
    assert scene.usual_metres * lower == pytest.approx(1, rel=0.03)
    depth = only(measure(scene, [Mark(0, 32.5, 32.5, "A")], kinds=["depth"]))
    assert depth.about == pytest.approx(scene.depth[0][32, 32] / lower, rel=0.05)
    assert depth.text == f"depth A {depth.value:.2f} u about {depth.about:.1f} m"
    floor = only(measure(scene, kinds=["floor"]))
    assert floor.about == pytest.approx(4.2 * 5.0, rel=0.08)
    assert floor.text == f"floor {floor.value:.2f} u2 about {floor.about:.0f} m2"
    extent = only(measure(scene, boxes=[Box(0, 10, 10, 50, 40, "A")], kinds=["extent"]))
    longer, shorter = map(float, extent.value.split())
    assert longer > shorter
    np.testing.assert_allclose(
        [float(x) / 100 * lower / scene.unit_length for x in extent.about.split()], [longer, shorter], rtol=0.05
    )
    assert extent.text.endswith(f" u about {extent.about} cm")


def test_a_metric_scene_says_nothing_about_usual_rooms(batch):
    assert {s.about for s in everything(measurable_from_truth(views_of(batch, 0), "metric"))} == {None}


def test_truth_and_a_prediction_that_is_right_say_the_same(batch):
    for scene in range(len(SEEDS)):
        views = views_of(batch, scene)
        truth, prediction = measurable_from_truth(views), measurable_of(reconstruction_from(views))
        assert evidence_text(everything(truth)) == evidence_text(everything(prediction))


def test_text_is_read_back_as_it_was_meant(batch):
    scene = measurable_from_truth(views_of(batch, 2))
    hidden = replace(scene, mask=(np.zeros_like(scene.mask[0]), *scene.mask[1:]))
    for statements in (everything(scene), everything(hidden)):
        turn = evidence_text(statements) + "2.4"
        said = parse_evidence(turn)
        assert [(s.kind, s.value, s.unit, s.about, s.about_unit) for s in said] == [
            (s.kind, s.value, s.unit, s.about, s.about_unit) for s in statements
        ]
        assert turn.endswith("\nAnswer:\n2.4")
    assert {("A", "B"), ("A",), ("1", "2"), ()} <= {s.names for s in said}


def test_a_turn_without_evidence_is_only_an_answer():
    assert evidence_text(()) == ""
    assert parse_evidence("2.4") == ()


@pytest.mark.parametrize(
    "line",
    [
        "depth A",
        "depth A 1.2 u",
        "depth 1.20 u",
        "depth A 1.20",
        "sees A",
        "colour A red",
        "room 1.00 2.00 u",
        "",
        "depth A 1.20 m about 1.2 m",
        "depth A 1.20 u about m",
        "floor 1.20 u",
        "floor 1.20 u2 about 20 m",
    ],
)
def test_a_line_outside_the_grammar_is_refused(line):
    with pytest.raises(ValueError, match="is not a line of evidence"):
        parse_evidence(f"Measured:\n{line}\nAnswer:\n")


def test_evidence_that_does_not_end_is_refused():
    with pytest.raises(ValueError, match="Answer:"):
        parse_evidence("Measured:\ndepth A 1.20 u")


def test_nothing_is_said_of_a_mark_where_nothing_is_known():
    scene = wall()
    scene.mask[0][3:6, 3:6] = False
    marks = (Mark(0, 4.5, 4.5, "A"), Mark(1, 9.5, 9.5, "B"))
    said = measure(scene, marks, [Box(0, 3, 3, 6, 6, "C")])
    assert [s.text for s in said] == [
        "depth A unknown",
        "depth B 2.00 m",
        "depth C unknown",
        "extent C unknown",
        "distance A B unknown",
        "distance A C unknown",
        "distance B C unknown",
        "nearest B",
    ]
    assert (said[0].value, said[0].unit, said[0].pixels) == ("unknown", "", ((4.5, 4.5),))


def test_a_mark_beside_known_pixels_is_measured_at_the_nearest():
    scene = wall()
    scene.depth[0][4, 3:6] = [7.0, 8.0, 9.0]
    scene.mask[0][3:6, 3:6] = False
    scene.mask[0][4, 3] = scene.mask[0][4, 5] = True
    depths = [only(measure(scene, [Mark(0, x, 4.5, "A")], kinds=["depth"])).value for x in (4.2, 4.8, 3.5)]
    assert depths == [7.0, 9.0, 7.0]


def test_a_scene_without_a_known_point_says_so():
    scene = wall(scale="scale_free")
    blank = replace(scene, mask=tuple(np.zeros_like(mask) for mask in scene.mask))
    assert [s.text for s in measure(blank)] == ["motion 0 1 unknown", "room unknown", "floor unknown"]


def test_marks_are_found_in_photos_of_another_size_and_shape_than_the_maps():
    scene = wall()
    scene.depth[1][3, 15] = 1.5
    photo = replace(scene, original_sizes=((20, 20), (40, 200)))
    assert only(measure(photo, [Mark(1, 155.0, 7.0, "A")], kinds=["depth"])).value == 1.5
    assert only(measure(photo, [Mark(1, 145.0, 7.0, "A")], kinds=["depth"])).value == 2.0


def test_a_point_is_seen_where_nothing_stands_before_it():
    poses = [pose(), pose(0.5), pose(yaw=180), pose(forward=1.0), pose(-0.5)]
    scene = wall(depths=[2.0, 2.0, 2.0, 0.5, 2.0], poses=poses)
    sees = only(measure(scene, [Mark(0, 9.5, 9.5, "A")], kinds=["sees"]))
    assert sees.text == "sees A 0 1 4"
    assert sees.views == (0, 1, 4)
    np.testing.assert_allclose(sees.pixels, [(9.5, 9.5), (7.0, 9.5), (12.0, 9.5)])


def test_a_point_outside_the_other_picture_is_not_seen_there():
    scene = wall(poses=[pose(), pose(2.5)])
    said = measure(scene, [Mark(0, 2.5, 9.5, "A"), Mark(0, 17.5, 9.5, "B")], kinds=["sees"])
    assert [s.text for s in said] == ["sees A 0", "sees B 0 1"]


def test_visibility_in_furnished_rooms_is_the_truth(batch):
    right = total = 0
    for scene in range(len(SEEDS)):
        found = correspondences(batch, scene, 0, 2, 50, torch.Generator().manual_seed(scene))
        marks = [Mark(0, *pixel, name=f"m{i}") for i, pixel in enumerate(found.source_pixels.tolist())]
        said = measure(measurable_from_truth(views_of(batch, scene)), marks, kinds=["sees"], max_lines=50)
        pairs = zip(said, found.visible.tolist(), found.target_pixels.tolist(), strict=True)
        for sees, visible, pixel in pairs:
            if sees.value != "unknown":
                total += 1
                right += visible == (2 in sees.views)
                if visible and 2 in sees.views:
                    # a mark is measured at the middle of a pixel, up to one beside it
                    assert np.abs(np.array(sees.pixels[sees.views.index(2)]) - pixel).max() < 8
    assert total > 250
    assert right / total > 0.97


def test_a_box_has_the_depth_and_the_extent_of_what_stands_in_it():
    scene = wall(depths=[4.0])
    local = scene.points[0].copy()
    scene.depth[0][5:15, 8:13] = 2.0
    scene.points[0][5:15, 8:13] = local[5:15, 8:13] / 2
    depth, extent = measure(scene, boxes=[Box(0, 7, 4, 14, 16, "table")], kinds=["depth", "extent"])
    assert depth.text == "depth table 2.00 m"
    longer, shorter = (float(x) for x in extent.value.split())
    assert longer == pytest.approx(9 * 2 / 10, rel=0.1)  # between the middles of its outermost pixels
    assert shorter == pytest.approx(4 * 2 / 10, rel=0.1)
    assert (extent.views, extent.pixels) == ((0, 0), ((7, 4), (14, 16)))


def test_a_box_is_measured_between_its_own_middle_and_a_mark():
    scene = wall(depths=[4.0])
    distance = only(measure(scene, [Mark(0, 10.5, 10.5, "A")], [Box(0, 12, 10, 17, 11, "B")], kinds=["distance"]))
    assert distance.value == pytest.approx(4 * 4 / 10, abs=0.01)
    assert distance.views == (0, 0, 0)


def test_marks_are_measured_by_default_and_else_the_views():
    scene = wall()
    assert [s.kind for s in measure(scene)] == ["motion", "room", "floor"]
    marks = (Mark(0, 3.5, 3.5, "A"), Mark(1, 9.5, 9.5, "B"))
    assert [s.kind for s in measure(scene, marks)] == ["depth", "depth", "distance", "same", "nearest"]
    assert [s.kind for s in measure(scene, marks, between=(1, 0))] == ["depth", "depth", "distance", "same", "nearest"]
    assert [s.kind for s in measure(scene, boxes=[Box(0, 1, 1, 5, 5, "A")])] == ["depth", "extent"]


def test_the_motion_of_two_views_is_measured_where_they_are_named():
    scene = wall(depths=(2.0,) * 3, poses=[pose(), pose(right=1.0), pose(right=3.0, forward=0.5)])
    assert only(measure(scene, between=(0, 2))).text == "motion 0 2 turn right 0 right 3.00 forward 0.50 up 0.00 m"
    assert only(measure(scene, between=(2, 1))).text == "motion 2 1 turn right 0 left 2.00 backward 0.50 up 0.00 m"


def test_the_nearest_mark_is_the_one_with_the_least_depth():
    scene = wall(depths=(4.0, 2.0, 3.0))
    marks = [Mark(view, 5.5, 5.5, name) for view, name in enumerate("ABC")]
    said = measure(scene, marks, kinds=["nearest"])
    assert [(s.text, s.views, s.pixels) for s in said] == [("nearest B", (1,), ((5.5, 5.5),))]
    assert measure(scene, marks[:1], kinds=["nearest"]) == ()


def test_names_and_views_stay_words_though_they_are_digits():
    scene = wall(depths=(4.0, 2.0))
    marks = [Mark(0, 5.5, 5.5, "1"), Mark(1, 5.5, 5.5, "2")]
    statements = (*measure(scene, marks, kinds=["nearest"]), *measure(scene, marks[:1], kinds=["sees", "depth"]))
    assert [s.value for s in statements] == ["2", "0", 4.0]
    assert [s.value for s in parse_evidence(evidence_text(statements))] == ["2", "0", 4.0]


def test_marks_of_different_views_are_matched_by_their_distance_in_space():
    scene = wall(depths=(2.0, 2.0))
    marks = [Mark(0, 5.5, 9.5, "A"), Mark(0, 12.5, 9.5, "B"), Mark(1, 13.5, 9.5, "D")]
    same = only(measure(scene, marks, kinds=["same"]))
    assert same.text == "same B D 0.20 m"
    assert same.views == (0, 1)
    assert measure(scene, marks[:2], kinds=["same"]) == ()


def test_kinds_are_measured_in_the_order_that_is_asked_for_and_no_further_than_the_last_line():
    scene = wall()
    marks = [Mark(0, x + 0.5, 3.5, f"m{x}") for x in range(6)]
    said = measure(scene, marks, kinds=["motion", "depth", "room"], max_lines=3)
    assert [s.text.split()[:2] for s in said] == [["motion", "0"], ["depth", "m0"], ["depth", "m1"]]
    assert len(measure(scene, marks)) == 12


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"nothing measures 'smell'; choose from depth, extent, distance, same"):
        measure(wall(), kinds=["smell"])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["the chair", " A", "A\n", ""])
def test_a_name_that_would_break_its_line_is_refused(name):
    with pytest.raises(ValueError, match="is not one word"):
        measure(wall(), [Mark(0, 3.5, 3.5, name)])


def test_truth_that_cannot_be_measured_is_refused(batch):
    with pytest.raises(ValueError, match="without depth, mask, poses or intrinsics"):
        measurable_from_truth(replace(views_of(batch, 0), depth=None))
    with pytest.raises(ValueError, match="views of one scene"):
        measurable_from_truth(batch.views)


def test_the_pixel_of_a_sighting_is_where_the_truth_projects(batch):
    views = views_of(batch, 0)
    mark = Mark(0, 50.5, 60.5, "A")
    sees = only(measure(measurable_from_truth(views), [mark], kinds=["sees"]))
    world = transform(views.poses[0], unproject(views.depth, views.intrinsics)[0, 60, 50])
    for view, pixel in zip(sees.views, sees.pixels, strict=True):
        expected = project(transform(invert(views.poses[view]), world), views.intrinsics[view])
        np.testing.assert_allclose(pixel, expected, atol=0.01)


def test_a_room_holds_the_cameras_that_see_it():
    room = only(measure(wall(depths=[4.0, 4.0]), kinds=["room"]))
    assert "4.00" in room.value.split()
