"""Procedural furnished rooms with exact truth: pictures, depth, normals, cameras, objects and correspondences.

A room is a function of its integer seed alone. `rooms` plans each one in pure Python and draws all of their views by
analytic ray casting in torch. The world frame of a room has its origin on the floor below the middle of the ceiling,
z up, in metres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from g2vlm.data.rooms_furniture import Material, Part, Triple
from g2vlm.data.rooms_plan import Piece, Plan, plan_room, view_poses, walked_poses
from g2vlm.data.rooms_render import Cameras, Stage, lamp_maps, render
from g2vlm.geometry.camera import project, unproject
from g2vlm.geometry.pose import invert, transform
from g2vlm.records import Views

TRAIN_SEEDS = range(100_000_000)
VALIDATION_SEEDS = range(100_000_000, 101_000_000)
TEST_SEEDS = range(101_000_000, 102_000_000)

SAME_SURFACE = 0.01
"""Metres between a point and the plane seen in its direction below which they are taken to be one."""


@dataclass(frozen=True)
class RoomObject:
    """One object of a room: what it is, and its upright box in the room's world frame (metres, z up).

    size: along the object's own x (width), y (depth) and z (height). position: centre of its box. yaw: radians around z.
    instance: its value in `Rooms.instances`.
    """

    class_name: str
    colour: str
    size: Triple
    position: Triple
    yaw: float
    instance: int


@dataclass(frozen=True)
class Rooms:
    """A batch of rooms; `views` has every field set, with batch dimensions [scenes, views].

    instances: object seen by each pixel; 0 is the room itself (walls, floor, ceiling).
    """

    seeds: tuple[int, ...]
    views: Views
    instances: Int[Tensor, "scenes views height width"]
    objects: tuple[tuple[RoomObject, ...], ...]


@dataclass(frozen=True)
class Correspondences:
    """Pixels (x, y) of two views that show the same point; where `visible` is False the target does not show it."""

    source_pixels: Float[Tensor, "count 2"]
    target_pixels: Float[Tensor, "count 2"]
    visible: Bool[Tensor, " count"]


def rooms(
    seeds: Sequence[int],
    *,
    num_views: int = 4,
    height: int = 112,
    width: int = 112,
    device: torch.device | str = "cpu",
    fields_of_view: Sequence[float] | None = None,
) -> Rooms:
    """Rooms of the given seeds, `num_views` pictures each; the same seed gives the same room in any batch.

    fields_of_view: radians along the longer side of the picture, one per room; by default each room has its own, 50 to
    90 degrees.
    """
    seeds = tuple(index(seed) for seed in seeds)
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds must be one or more integers >= 0, got {seeds}")
    if min(num_views, height, width) < 1:
        raise ValueError(f"num_views, height and width must be at least 1, got {num_views}, {height} and {width}")
    plans = [plan_room(seed) for seed in seeds]
    angles = [plan.field_of_view for plan in plans] if fields_of_view is None else fields_of_view
    if len(angles) != len(plans) or not all(0 < angle < math.pi for angle in angles):
        raise ValueError(f"fields_of_view must be one angle in (0, pi) for each of {len(plans)} rooms, got {angles}")
    poses = floats([[pose_rows(*p) for p in view_poses(plan, num_views)] for plan in plans], device)
    views, instances = drawn(plans, poses, angles, (height, width))
    return Rooms(seeds, views, instances, tuple(objects_of(plan) for plan in plans))


def walk(
    seed: int, *, num_views: int, height: int = 112, width: int = 112, device: torch.device | str = "cpu"
) -> Views:
    """A room as seen by a camera that goes once around it, smoothly, looking across; the last view stands beside the first.

    A long sequence that closes a loop, with its truth, and batch dimensions [views]. Raises ValueError for a room whose
    furniture leaves no way around.
    """
    plan = plan_room(index(seed))
    poses = floats([[pose_rows(*pose) for pose in walked_poses(plan, num_views)]], device)
    views, _ = drawn([plan], poses, [plan.field_of_view], (height, width))
    return Views(**{name: value[0] for name, value in vars(views).items()})


def drawn(
    plans: Sequence[Plan], poses: Float[Tensor, "scenes views 4 4"], angles: Sequence[float], size: tuple[int, int]
) -> tuple[Views, Int[Tensor, "scenes views height width"]]:
    """Views of rooms from these poses, and the object that each pixel shows. angles: fields of view, one per room."""
    device, (height, width), num_views = poses.device, size, poses.shape[1]
    stage = stage_of(plans, device)
    focal = floats([max(height, width) / 2 / math.tan(angle / 2) for angle in angles], device)
    intrinsics = floats([[0, 0, width / 2], [0, 0, height / 2], [0, 0, 1]], device).repeat(len(plans), num_views, 1, 1)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal[:, None]
    room = torch.arange(len(plans), device=device).repeat_interleave(num_views)
    cameras = Cameras(room, poses.flatten(0, 1), intrinsics.flatten(0, 1))
    # A few views at a time keep a CPU's working set in its cache.
    step = max(1, (4 * 112 * 112 if poses.device.type == "cpu" else 1 << 24) // (height * width))
    maps = lamp_maps(stage)
    parts = [
        render(stage, maps, Cameras(*part), (height, width))
        for part in zip(*(x.split(step) for x in cameras), strict=True)
    ]
    images, depth, normals, instances = (
        torch.cat(part).unflatten(0, (len(plans), num_views)) for part in zip(*parts, strict=True)
    )
    return Views(images, intrinsics, poses, depth, torch.ones_like(depth, dtype=torch.bool), normals), instances


def correspondences(
    rooms: Rooms, scene: int, source_view: int, target_view: int, count: int, generator: torch.Generator | None = None
) -> Correspondences:
    """Random pixel centres of the source view and where the same points appear in the target view.

    A point is visible when it lies in the target picture and on the surface of its object that is seen there; that
    surface is taken as the tangent plane at the centre of the pixel hit, which is exact for flat faces.
    """
    views = rooms.views
    assert views.depth is not None
    assert views.intrinsics is not None
    assert views.poses is not None
    assert views.normals is not None
    num_scenes, num_views, height, width = views.depth.shape
    for name, chosen, length in (
        ("scene", scene, num_scenes),
        ("source_view", source_view, num_views),
        ("target_view", target_view, num_views),
    ):
        if not 0 <= chosen < length:
            raise ValueError(f"{name} must be in 0..{length - 1}, got {chosen}")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")

    instances, normals, poses, intrinsics = (
        x[scene] for x in (rooms.instances, views.normals, views.poses, views.intrinsics)
    )
    points = unproject(views.depth[scene], intrinsics)
    picked = torch.randint(height * width, (count,), generator=generator, device=points.device)
    row, column = picked // width, picked % width
    source_pixels = torch.stack([column, row], dim=1).to(points) + 0.5
    source_instances = instances[source_view, row, column]
    world = transform(poses[source_view], points[source_view, row, column])
    seen = transform(invert(poses[target_view]), world)
    target_pixels = project(seen, intrinsics[target_view])

    end = points.new_tensor([width, height])
    is_inside = (seen[:, 2] > 0) & (target_pixels >= 0).all(1) & (target_pixels < end).all(1)
    column, row = target_pixels.nan_to_num().clamp(min=0).minimum(end - 1).long().unbind(1)
    off_plane = ((points[target_view, row, column] - seen) * normals[target_view, row, column]).sum(1).abs()
    is_same = (source_instances == instances[target_view, row, column]) & (off_plane < SAME_SURFACE)
    return Correspondences(source_pixels, target_pixels, is_inside & is_same)


def floats(numbers: Sequence, device: torch.device | str) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device=device)


def pose_rows(position: Triple, angles: Triple) -> list[list[float]]:
    """Camera-to-world matrix from a position and (yaw, pitch, roll); at zero the camera looks along +x, level."""
    yaw, pitch, roll = angles
    cy, sy, cp, sp, cr, sr = *cos_sin(yaw), *cos_sin(pitch), *cos_sin(roll)
    forward = (cp * cy, cp * sy, sp)
    right, down = (sy, -cy, 0.0), (sp * cy, sp * sy, -cp)
    x = [cr * r + sr * d for r, d in zip(right, down, strict=True)]
    y = [cr * d - sr * r for r, d in zip(right, down, strict=True)]
    return [[x[i], y[i], forward[i], position[i]] for i in range(3)] + [[0.0, 0.0, 0.0, 1.0]]


def cos_sin(angle: float) -> tuple[float, float]:
    return math.cos(angle), math.sin(angle)


def objects_of(plan: Plan) -> tuple[RoomObject, ...]:
    def described(instance: int, piece: Piece) -> RoomObject:
        x, y, z = piece.origin
        middle = (x, y, z + piece.size[2] / 2)
        return RoomObject(piece.class_name, piece.colour, piece.size, middle, piece.yaw, instance)

    return tuple(described(i, piece) for i, piece in enumerate(plan.pieces, start=1))


def stage_of(plans: Sequence[Plan], device: torch.device | str) -> Stage:
    """The tables that the renderer reads."""
    solids, materials, material_of, instance_of, room_start, lights = [], [], [], [], [0], []
    for plan in plans:
        half = tuple(length / 2 for length in plan.size)
        solids.append((0.0, 0.0, half[2], *half, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
        material_of.append(len(materials))
        instance_of.append(0)
        materials += [material_row(m) for m in plan.surfaces]
        for i, piece in enumerate(plan.pieces):
            known: dict[Material, int] = {}
            for part in piece.parts:
                if part.material not in known:
                    known[part.material] = len(materials)
                    materials.append(material_row(part.material))
                solids.append(solid_row(part, piece))
                material_of.append(known[part.material])
                instance_of.append(i + 1)
        room_start.append(len(solids))
        lights.append((*plan.lamp, *plan.lamp_colour, *plan.sky_direction, *plan.sky_colour, plan.ambient))
    return Stage(
        solids=floats(solids, device),
        materials=floats(materials, device),
        material_of=torch.tensor(material_of, device=device),
        instance_of=torch.tensor(instance_of, dtype=torch.int32, device=device),
        room_start=torch.tensor(room_start, device=device),
        lights=floats(lights, device),
    )


def solid_row(part: Part, piece: Piece) -> tuple[float, ...]:
    c, s = cos_sin(piece.yaw)
    x, y, z = part.centre
    centre = (piece.origin[0] + c * x - s * y, piece.origin[1] + s * x + c * y, piece.origin[2] + z)
    return (*centre, *part.half, c, s, *quadric(part), 1.0)


def quadric(part: Part) -> tuple[float, float, float, float]:
    """is_box, and the coefficients of z^2, z and 1 beside x^2 + y^2 in unit coordinates."""
    if part.kind == "box":
        return 1.0, 0.0, 0.0, 0.0
    if part.kind == "ellipsoid":
        return 0.0, 1.0, 0.0, -1.0
    middle, slope = (part.bottom + part.top) / 2, (part.top - part.bottom) / 2
    return 0.0, -slope * slope, -2 * middle * slope, -middle * middle


def material_row(m: Material) -> tuple[float, ...]:
    step = (b - a for a, b in zip(m.base, m.other, strict=True))
    return (*m.base, *step, *m.frequency, m.checker, m.seam, m.cell, m.noise, m.seam_width, m.noise_frequency, m.glow)
