"""Procedural rooms are exact, alike in any batch, and hold what they say they hold."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from g2vlm.data import scenes
from g2vlm.data.rooms_furniture import Material, Part
from g2vlm.data.rooms_plan import Piece, Plan, plan_room, view_poses
from g2vlm.data.scenes import TEST_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS, Rooms, correspondences, rooms

SEEDS = range(12)


@pytest.fixture(scope="module")
def batch() -> Rooms:
    return rooms(SEEDS, num_views=3, height=64, width=80)


def camera_rays(batch: Rooms) -> Tensor:
    """Rays (x, y, 1) through the pixel centres, [scenes, views, height, width, 3]."""
    height, width = batch.instances.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    return pixels @ batch.views.intrinsics[..., None, :, :].inverse().mT


def camera_points(batch: Rooms) -> Tensor:
    return camera_rays(batch) * batch.views.depth[..., None]


def world_points(batch: Rooms) -> Tensor:
    poses = batch.views.poses[..., None, :, :]
    return camera_points(batch) @ poses[..., :3, :3].mT + poses[..., None, :3, 3]


def tensors(batch: Rooms) -> dict[str, Tensor]:
    return {**vars(batch.views), "instances": batch.instances}


def test_a_seed_gives_the_same_room_in_any_batch(batch: Rooms):
    alone = rooms([7], num_views=3, height=64, width=80)
    mixed = rooms([90, 7, 3, 4, 5, 6], num_views=3, height=64, width=80)
    for name, value in tensors(batch).items():
        assert torch.equal(value[7], tensors(alone)[name][0]), name
        assert torch.equal(value[7], tensors(mixed)[name][1]), name
    assert batch.objects[7] == alone.objects[0] == mixed.objects[1]


def test_a_room_does_not_depend_on_its_pictures():
    assert rooms([5], num_views=1, height=8, width=8).objects == rooms([5], num_views=6, height=24, width=16).objects


def test_different_seeds_give_different_rooms(batch: Rooms):
    for a, b in itertools.combinations(range(len(SEEDS)), 2):
        assert (batch.views.images[a] - batch.views.images[b]).abs().mean() > 0.02


def test_a_seed_means_the_room_it_always_meant():
    """Measured tables name seeds: a change here, or in Python's `random`, makes them incomparable."""
    plan = plan_room(TEST_SEEDS[0])
    assert plan.size == pytest.approx((6.460255, 5.313062, 3.000036), abs=1e-5)
    names = "door picture picture picture sofa shelf wardrobe sofa drum stool chair"
    assert [piece.class_name for piece in plan.pieces] == [*names.split(), "ceiling lamp"]
    assert plan.pieces[-2].origin == pytest.approx((-1.912089, 1.984356, 0), abs=1e-5)


def test_maps_have_the_promised_shape_type_and_range(batch: Rooms):
    views = batch.views
    assert views.images.shape == (12, 3, 3, 64, 80)
    assert views.normals.shape == (12, 3, 64, 80, 3)
    assert views.images.min() >= 0
    assert views.images.max() <= 1
    assert views.mask.all()
    assert views.depth.min() > 0.3
    assert views.depth.max() < 12
    torch.testing.assert_close(views.normals.norm(dim=-1), torch.ones(12, 3, 64, 80))
    for name in ("images", "depth", "normals", "poses", "intrinsics"):
        assert getattr(views, name).dtype == torch.float32, name


def test_the_default_dtype_does_not_matter(batch: Rooms):
    torch.set_default_dtype(torch.float64)
    try:
        again = rooms([7], num_views=3, height=64, width=80)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in tensors(batch).items():
        assert torch.equal(value[7], tensors(again)[name][0]), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_rooms(batch: Rooms):
    other = rooms(SEEDS, num_views=3, height=64, width=80, device="cuda")
    assert other.views.images.device.type == "cuda"
    near = (other.views.depth.cpu() - batch.views.depth).abs() < 1e-3
    assert near.float().mean() > 0.999


# A slow twin of the renderer: double precision, every ray meets every part of every object.


def nearest_hits(plan: Plan, start: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """Depth and instance of what rays [n, 3] from inside the room meet first, [n] each."""
    corner = torch.tensor([plan.size[0] / 2, plan.size[1] / 2, plan.size[2]], dtype=torch.float64)
    floor = corner * torch.tensor([-1.0, -1.0, 0.0])
    depth = torch.maximum((corner - start) / way, (floor - start) / way).amin(1)
    instance = torch.zeros_like(depth, dtype=torch.int32)
    for number, piece in enumerate(plan.pieces, start=1):
        for part in piece.parts:
            hit = part_hits(piece, part, start, way)
            instance[hit < depth] = number
            depth = torch.minimum(depth, hit)
    return depth, instance


def part_hits(piece: Piece, part: Part, start: Tensor, way: Tensor) -> Tensor:
    """Least positive depth at which a point of the surface is reached, infinite if none is."""
    c, s = math.cos(piece.yaw), math.sin(piece.yaw)
    turn = torch.tensor([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    half = torch.tensor(part.half, dtype=torch.float64)
    o = (turn @ (start - torch.tensor(piece.origin, dtype=torch.float64)) - torch.tensor(part.centre)) / half
    d = way @ turn.T / half
    planes = [(side - o[i]) / d[:, i] for i in range(3) for side in (-1, 1)]
    if part.kind == "box":
        return least(o, d, planes, lambda q: q.abs().amax(1) <= 1 + 1e-9)
    if part.kind == "ellipsoid":
        return least(o, d, roots(d.square().sum(1), 2 * d @ o, o.square().sum() - 1), lambda q: q[:, 2].abs() <= 1)
    middle, slope = (part.bottom + part.top) / 2, (part.top - part.bottom) / 2
    radius, growth = middle + slope * o[2], slope * d[:, 2]
    flat_o, flat_d = o[:2], d[:, :2]
    side = roots(
        flat_d.square().sum(1) - growth**2, 2 * (flat_d @ flat_o - radius * growth), flat_o.square().sum() - radius**2
    )
    caps = least(o, d, planes[4:], lambda q: q[:, :2].norm(dim=1) <= middle + slope * q[:, 2].round())
    return torch.minimum(caps, least(o, d, side, lambda q: q[:, 2].abs() <= 1))


def roots(a: Tensor, b: Tensor, c: Tensor) -> list[Tensor]:
    return [(-b + sign * (b * b - 4 * a * c).sqrt()) / (2 * a) for sign in (-1, 1)]


def least(o: Tensor, d: Tensor, depths: list[Tensor], is_on_surface: Callable[[Tensor], Tensor]) -> Tensor:
    kept = [torch.where((t > 0) & is_on_surface(o + t[:, None] * d), t, torch.inf) for t in depths]
    return torch.stack(kept).amin(0)


def count_wrong(batch: Rooms, plan: Plan, scene: int, view: int) -> int:
    """Pixels whose depth or instance differs from the twin's."""
    pose = batch.views.poses[scene, view].double()
    way = camera_rays(batch)[scene, view].double().flatten(0, 1) @ pose[:3, :3].T
    depth, instance = nearest_hits(plan, pose[:3, 3], way)
    is_wrong = (batch.views.depth[scene, view].flatten() / depth - 1).abs() > 1e-4
    return int((is_wrong | (batch.instances[scene, view].flatten() != instance)).sum())


def test_depth_and_instances_equal_those_of_a_slow_twin(batch: Rooms):
    for scene, view in itertools.product(range(len(SEEDS)), range(3)):
        # Of 5120; a ray through the very edge of something may go either way.
        assert count_wrong(batch, plan_room(SEEDS[scene]), scene, view) <= 5


@pytest.mark.parametrize("kind", ["box", "ellipsoid", "cone"])
def test_things_that_reach_behind_the_camera_are_drawn(kind: str, monkeypatch: pytest.MonkeyPatch):
    """A long bar beside and below the camera, from one metre behind it to three metres ahead."""
    plan = plan_room(3)
    (x, y, z), (yaw, _, _) = view_poses(plan, 1)[0]
    bar = Part(kind, (1.0, 0.0, 0.0), (2.0, 0.25, 0.25), Material((1.0, 0.0, 0.0), (1.0, 0.0, 0.0)))
    origin = (x + 0.4 * math.sin(yaw), y - 0.4 * math.cos(yaw), z - 0.5)
    plan = replace(plan, pieces=(Piece("bar", "red", (bar,), (4.0, 0.5, 0.5), origin, yaw),))
    monkeypatch.setattr(scenes, "plan_room", lambda seed: plan)
    batch = scenes.rooms([3], num_views=1, height=64, width=80)
    assert (batch.instances == 1).sum() > 200
    assert count_wrong(batch, plan, 0, 0) <= 5


def test_views_agree_on_where_things_are(batch: Rooms):
    """Points seen by one view lie on, or behind, what another view sees in their direction."""
    height, width = batch.instances.shape[-2:]
    world, depth, focal = world_points(batch), batch.views.depth, batch.views.intrinsics[:, 0, 0, 0]
    for scene, (i, j) in itertools.product(range(len(SEEDS)), itertools.permutations(range(3), 2)):
        pose = batch.views.poses[scene, j]
        seen = (world[scene, i].flatten(0, 1) - pose[:3, 3]) @ pose[:3, :3]
        x = (seen[:, 0] / seen[:, 2] * focal[scene] + width / 2).floor().long()
        y = (seen[:, 1] / seen[:, 2] * focal[scene] + height / 2).floor().long()
        inside = (seen[:, 2] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        relative = seen[inside, 2] / depth[scene, j, y[inside], x[inside]]
        assert (relative > 0.9).float().mean() > 0.97
        assert ((relative - 1).abs() < 0.05).float().mean() > 0.5


def test_normals_are_those_of_the_points_and_look_at_the_camera(batch: Rooms):
    points, normals, instances = camera_points(batch), batch.views.normals, batch.instances
    assert ((normals * camera_rays(batch)).sum(-1) < 1e-4).all()
    right, down = points[..., :-1, 1:, :] - points[..., :-1, :-1, :], points[..., 1:, :-1, :] - points[..., :-1, :-1, :]
    crossed = torch.nn.functional.normalize(torch.linalg.cross(down, right), dim=-1)
    beside = [(slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))]
    whole = torch.ones_like(instances[..., :-1, :-1], dtype=torch.bool)
    for rows, columns in beside:
        whole &= instances[..., :-1, :-1] == instances[..., rows, columns]
        whole &= (normals[..., :-1, :-1, :] * normals[..., rows, columns, :]).sum(-1) > 0.99
    cosine = (crossed * normals[..., :-1, :-1, :]).sum(-1)
    is_shell = instances[..., :-1, :-1] == 0
    assert cosine[whole & is_shell].min() > 0.999
    assert (cosine[whole & ~is_shell] > 0.97).float().mean() > 0.9


def test_objects_are_where_the_list_says(batch: Rooms):
    world = world_points(batch)
    num_seen = 0
    for scene, objects in enumerate(batch.objects):
        assert [thing.instance for thing in objects] == list(range(1, len(objects) + 1))
        for thing in objects:
            points = world[scene][batch.instances[scene] == thing.instance] - torch.tensor(thing.position)
            c, s = math.cos(thing.yaw), math.sin(thing.yaw)
            local = torch.stack(
                [c * points[:, 0] + s * points[:, 1], c * points[:, 1] - s * points[:, 0], points[:, 2]], 1
            )
            assert (local.abs() <= torch.tensor(thing.size) / 2 + 2e-3).all(), thing
            num_seen += len(points) > 0
    assert num_seen > 4 * len(SEEDS)


def test_rooms_are_furnished_with_many_kinds_and_colours():
    plans = [plan_room(seed) for seed in range(40)]
    pieces = [piece for plan in plans for piece in plan.pieces]
    parts = [part for piece in pieces for part in piece.parts]
    assert {part.kind for part in parts} == {"box", "ellipsoid", "cone"}
    assert {part.top for part in parts if part.kind == "cone"} >= {0.0, 1.0}  # cones and cylinders
    assert len({piece.class_name for piece in pieces}) >= 18
    assert len({piece.colour for piece in pieces}) >= 12
    assert all(6 <= len(plan.pieces) <= 20 for plan in plans)


def test_cameras_stand_in_free_space():
    for seed in range(150):
        plan = plan_room(seed)
        for (x, y, z), _ in view_poses(plan, 8):
            assert plan.size[0] / 2 - abs(x) > 0.3
            assert plan.size[1] / 2 - abs(y) > 0.3
            assert 0.9 <= z <= 1.9
            for piece in plan.pieces:
                if piece.origin[2] == 0 and piece.class_name not in ("rug", "door"):
                    c, s = math.cos(piece.yaw), math.sin(piece.yaw)
                    dx, dy = x - piece.origin[0], y - piece.origin[1]
                    across, along = abs(c * dx + s * dy), abs(c * dy - s * dx)
                    assert max(across - piece.size[0] / 2, along - piece.size[1] / 2) > 0.1, (seed, piece.class_name)


def test_views_of_a_room_overlap():
    batch = rooms(range(40, 60), num_views=4, height=32, width=32)
    for scene, (i, j) in itertools.product(range(20), itertools.permutations(range(4), 2)):
        generator = torch.Generator().manual_seed(0)
        assert correspondences(batch, scene, i, j, 300, generator).visible.float().mean() > 0.2


def test_baselines_are_wide_and_narrow():
    batch = rooms(range(40), num_views=4, height=8, width=8)
    rotation = batch.views.poses[:, [0, -1], :3, :3]
    cosine = ((rotation[:, 0].mT @ rotation[:, 1]).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    degrees = torch.rad2deg(cosine.clamp(-1, 1).acos())
    wide = torch.tensor([plan_room(seed).path.is_wide for seed in range(40)])
    assert degrees[wide].median() > 20
    assert degrees[wide].max() < 75
    assert degrees[~wide].max() < 17
    assert 0.3 < wide.float().mean() < 0.9


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 36), (50, 50), (1, 9)])
def test_the_field_of_view_lies_along_the_longer_side(height: int, width: int):
    batch = rooms(range(20), num_views=2, height=height, width=width)
    assert batch.views.images.shape == (20, 2, 3, height, width)
    k = batch.views.intrinsics
    angles = 2 * torch.rad2deg(torch.atan(max(height, width) / 2 / k[..., 0, 0]))
    assert angles.min() >= 50
    assert angles.max() <= 90
    assert angles.max() - angles.min() > 20
    assert torch.equal(k[..., 0, 0], k[..., 1, 1])
    assert torch.equal(k[..., :2, 2], torch.tensor([width / 2, height / 2]).expand(20, 2, 2))


def test_the_field_of_view_can_be_given():
    wide = rooms([1, 2], num_views=1, height=48, width=64, fields_of_view=[math.radians(40), math.radians(100)])
    angles = 2 * torch.rad2deg(torch.atan(64 / 2 / wide.views.intrinsics[:, 0, 0, 0]))
    torch.testing.assert_close(angles, torch.tensor([40.0, 100.0]))
    own = [plan_room(seed).field_of_view for seed in (1, 2)]
    one, same = rooms([1, 2], height=16, width=16), rooms([1, 2], height=16, width=16, fields_of_view=own)
    assert torch.equal(one.views.images, same.views.images)


def test_correspondences_show_the_same_point(batch: Rooms):
    world = world_points(batch)
    for scene in range(len(SEEDS)):
        found = correspondences(batch, scene, 0, 2, 200, torch.Generator().manual_seed(scene))
        source = world[scene, 0][found.source_pixels[:, 1].long(), found.source_pixels[:, 0].long()]
        x, y = found.target_pixels[found.visible].long().unbind(1)
        pixel = batch.views.depth[scene, 2, y, x] / batch.views.intrinsics[scene, 0, 0, 0]
        slant = (batch.views.normals[scene, 2, y, x] * camera_rays(batch)[scene, 2, y, x]).sum(-1).abs()
        gap = (world[scene, 2, y, x] - source[found.visible]).norm(dim=-1)
        assert (gap < 2 * pixel / slant + 0.02).all()


def test_a_view_corresponds_to_itself(batch: Rooms):
    found = correspondences(batch, 3, 1, 1, 100, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.target_pixels, found.source_pixels, atol=1e-3, rtol=0)
    assert found.visible.all()


def test_hidden_points_are_not_called_visible(batch: Rooms):
    """What is in the picture but behind something else is left out, and there is such a thing in these rooms."""
    num_hidden = 0
    for scene in range(len(SEEDS)):
        found = correspondences(batch, scene, 0, 2, 2000, torch.Generator().manual_seed(scene))
        x, y = found.target_pixels.unbind(1)
        inside = (x > 1) & (x < 79) & (y > 1) & (y < 63)
        x, y = x[inside].long(), y[inside].long()
        pose = batch.views.poses[scene, 2]
        row, column = found.source_pixels[inside, 1].long(), found.source_pixels[inside, 0].long()
        depth = ((world_points(batch)[scene, 0, row, column] - pose[:3, 3]) @ pose[:3, :3])[:, 2]
        is_hidden = depth > 1.3 * batch.views.depth[scene, 2, y, x]
        assert not found.visible[inside][is_hidden].any()
        num_hidden += int(is_hidden.sum())
    assert num_hidden > 20


def test_training_validation_and_test_rooms_are_disjoint():
    ranges = sorted((TRAIN_SEEDS, VALIDATION_SEEDS, TEST_SEEDS), key=lambda seeds: seeds.start)
    for one, other in itertools.pairwise(ranges):
        assert one.stop <= other.start


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([],), {}, "seeds"),
        (([3, -1],), {}, "-1"),
        (([1],), {"num_views": 0}, "num_views"),
        (([1],), {"height": 0}, "height"),
        (([1],), {"width": -4}, "-4"),
        (([1],), {"fields_of_view": [1.0, 1.0]}, "fields_of_view"),
        (([1],), {"fields_of_view": [4.0]}, "4.0"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple, options: dict, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        rooms(*arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("where", "name"), [((12, 0, 1), "scene"), ((0, 3, 1), "source"), ((0, 0, -1), "target")])
def test_correspondences_outside_the_batch_are_named(batch: Rooms, where: tuple[int, int, int], name: str):
    with pytest.raises(ValueError, match=name):
        correspondences(batch, *where, count=5)


def test_a_walk_goes_smoothly_around_the_room_and_ends_beside_its_start():
    views = scenes.walk(TEST_SEEDS[0], num_views=40, height=14, width=14)
    assert views.poses is not None
    places = views.poses[:, :3, 3]
    steps = torch.linalg.vector_norm(places.roll(-1, 0) - places, dim=-1)
    assert steps.max() < 3 * steps.median()
    assert torch.linalg.vector_norm(places - places[0], dim=-1).max() > 2
    assert views.depth is not None
    assert views.depth.min() > 0.1


def test_more_views_of_a_walk_are_taken_on_the_same_way():
    few, many = (scenes.walk(TEST_SEEDS[0], num_views=n, height=14, width=14) for n in (3, 6))
    assert few.poses is not None
    assert many.poses is not None
    torch.testing.assert_close(few.poses, many.poses[::2])
    torch.testing.assert_close(few.images, many.images[::2])
