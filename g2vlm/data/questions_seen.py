"""What the views of a procedural room show: its things by unmistakable names, and points that can be marked."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from g2vlm.data.rooms_furniture import AGAINST_WALL, FREE, ON_TOP
from g2vlm.data.rooms_plan import plan_room
from g2vlm.data.scenes import RoomObject, Rooms
from g2vlm.records import Box, Mark

SEEN = 0.005
"""Part of a picture that an object fills, in one view at least, to count as seen."""

HIDDEN = 0.0005
"""Part of a picture below which an object counts as not seen; nothing is asked about what lies between."""

CLASSES = (*dict.fromkeys([*AGAINST_WALL, *FREE, *ON_TOP]), "window", "door", "picture", "rug", "ceiling lamp")

NUM_POINTS = 1600
"""Pixels of a room, in all views together, that are looked at as points to mark."""

FLAT = 1.08
"""Ratio of the greatest to the least depth around a point that is marked, at most."""

AROUND = 0.014
"""How far around a point its depth has to be flat: a part of the picture's longer side."""


class Points(NamedTuple):
    """Pixels that can be marked: around each, one object is seen and depth does not jump.

    depth: metres along the camera's axis. distance: metres from the camera. world: metres, the room's frame.
    """

    view: Int[np.ndarray, " points"]
    column: Int[np.ndarray, " points"]
    row: Int[np.ndarray, " points"]
    depth: Float[np.ndarray, " points"]
    distance: Float[np.ndarray, " points"]
    world: Float[np.ndarray, "points 3"]
    instance: Int[np.ndarray, " points"]

    def mark(self, point: int, name: str) -> Mark:
        return Mark(int(self.view[point]), float(self.column[point]) + 0.5, float(self.row[point]) + 0.5, name)


@dataclass(frozen=True)
class Thing:
    """An object that is clearly seen. name: its class, with its colour where the class alone could mean another one."""

    name: str
    object: RoomObject

    @property
    def class_name(self) -> str:
        return self.object.class_name


@dataclass(frozen=True)
class Seen:
    """What the views of one room show; whatever takes time is computed once, when it is first asked for.

    shares: part of each view that each instance fills. counts: how many objects of each class are seen, for classes
    of which none is half hidden. floor: square metres.
    """

    depth: Float[np.ndarray, "views height width"]
    instances: Int[np.ndarray, "views height width"]
    poses: Float[np.ndarray, "views 4 4"]
    intrinsics: Float[np.ndarray, "views 3 3"]
    shares: Float[np.ndarray, "views instances"]
    things: tuple[Thing, ...]
    counts: dict[str, int]
    floor: float
    seed: int

    @property
    def num_views(self) -> int:
        return len(self.depth)

    @cached_property
    def solid(self) -> tuple[Thing, ...]:
        """Things between which one can walk and measure: all but rugs, which lie under others."""
        return tuple(thing for thing in self.things if thing.class_name != "rug")

    @cached_property
    def gaps(self) -> Float[np.ndarray, "solid solid"]:
        """Metres between the nearest points of the boxes of two solid things."""
        return box_gaps([thing.object for thing in self.solid])

    @cached_property
    def ground(self) -> Float[np.ndarray, "solid 2"]:
        """Where solid things stand."""
        return np.array([thing.object.position[:2] for thing in self.solid]).reshape(-1, 2)

    @cached_property
    def centres(self) -> Float[np.ndarray, "views instances 3"]:
        """Mean column, row (parts of the picture) and depth of what shows of each instance; nan where nothing does."""
        num_views, height, width = self.depth.shape
        count = self.shares.shape[1]
        every = 2  # pixels along each side: the mean of a quarter of them will do
        rows, columns = np.mgrid[0:height:every, 0:width:every]
        weights = [(columns.ravel() + 0.5) / width, (rows.ravel() + 0.5) / height]
        means = np.full((num_views, count, 3), np.nan)
        for view in range(num_views):
            of = self.instances[view, ::every, ::every].ravel()
            total = np.bincount(of, minlength=count)
            for axis, weight in enumerate([*weights, self.depth[view, ::every, ::every].ravel()]):
                np.divide(np.bincount(of, weight, count), total, out=means[view, :, axis], where=total > 0)
        return means

    @cached_property
    def points(self) -> Points:
        """Random pixels, the same whenever the room is looked at, that can be marked."""
        num_views, height, width = self.depth.shape
        generator = np.random.default_rng(self.seed)
        each = -(-NUM_POINTS // num_views)
        view = np.repeat(np.arange(num_views), each)
        row, column = (generator.integers(side, size=num_views * each) for side in (height, width))
        good = self.can_be_marked(view, column, row)
        return self.points_at(view[good], column[good], row[good])

    def can_be_marked(
        self, view: Int[np.ndarray, " points"], column: Int[np.ndarray, " points"], row: Int[np.ndarray, " points"]
    ) -> Bool[np.ndarray, " points"]:
        """Whether around each pixel one object is seen, depth does not jump, and the picture goes on."""
        height, width = self.depth.shape[1:]
        reach = max(1, round(AROUND * max(height, width)))
        margin = 2 * reach
        is_inside = (column >= margin) & (column < width - margin) & (row >= margin) & (row < height - margin)
        step = np.arange(-reach, reach + 1)
        rows = (row[:, None, None] + step[:, None]).clip(0, height - 1)
        columns = (column[:, None, None] + step).clip(0, width - 1)
        at = (((view * height)[:, None, None] + rows) * width + columns).reshape(len(view), -1)
        around, of = self.depth.ravel()[at], self.instances.ravel()[at]
        return is_inside & (around.max(1) < FLAT * around.min(1)) & (of == of[:, :1]).all(1)

    def points_at(self, view: np.ndarray, column: np.ndarray, row: np.ndarray) -> Points:
        depth = self.depth[view, row, column].astype(np.float64)
        focal, centre = self.intrinsics[view][:, [0, 1], [0, 1]], self.intrinsics[view][:, :2, 2]
        ray = (np.stack([column, row], 1) + 0.5 - centre) / focal
        local = np.concatenate([ray, np.ones((len(ray), 1))], 1) * depth[:, None]
        world = np.einsum("nij,nj->ni", self.poses[view][:, :3, :3], local) + self.poses[view][:, :3, 3]
        instance = self.instances[view, row, column]
        return Points(view, column, row, depth, np.linalg.norm(local, axis=1), world, instance)

    def box(self, view: int, instance: int, name: str) -> Box:
        """Around all pixels of an object in a view."""
        rows, columns = np.nonzero(self.instances[view] == instance)
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        return Box(view, float(left), float(top), float(right), float(bottom), name)

    def is_whole(self, box: Box) -> bool:
        """Whether a box keeps clear of the picture's border."""
        height, width = self.depth.shape[1:]
        return box.left > 1 and box.top > 1 and box.right < width - 1 and box.bottom < height - 1


def seen_in(room: Rooms) -> Seen:
    """What the views of the first room of a batch show."""
    views = room.views
    assert views.depth is not None
    assert views.poses is not None
    assert views.intrinsics is not None
    instances, objects = room.instances[0].cpu().numpy(), room.objects[0]
    pixels = instances.shape[1] * instances.shape[2]
    shares = np.stack([np.bincount(view.ravel(), minlength=len(objects) + 1) / pixels for view in instances])
    most = shares.max(axis=0)
    width, depth, _ = plan_room(room.seeds[0]).size
    return Seen(
        depth=views.depth[0].cpu().numpy(),
        instances=instances,
        poses=views.poses[0].double().cpu().numpy(),
        intrinsics=views.intrinsics[0].double().cpu().numpy(),
        shares=shares,
        things=named([thing for thing in objects if most[thing.instance] >= HIDDEN], most),
        counts=counted(objects, most),
        floor=width * depth,
        seed=room.seeds[0],
    )


def named(showing: list[RoomObject], most: np.ndarray) -> tuple[Thing, ...]:
    """Things that are clearly seen and have a name of their own among all that shows at all."""
    classes = Counter(thing.class_name for thing in showing)
    coloured = Counter((thing.colour, thing.class_name) for thing in showing)
    things = []
    for thing in showing:
        if most[thing.instance] < SEEN:
            continue
        if classes[thing.class_name] == 1:
            things.append(Thing(thing.class_name, thing))
        elif coloured[thing.colour, thing.class_name] == 1:
            things.append(Thing(f"{thing.colour} {thing.class_name}", thing))
    return tuple(things)


def counted(objects: tuple[RoomObject, ...], most: np.ndarray) -> dict[str, int]:
    """How many objects of each class are seen, 0 included; without the classes of which one is half hidden."""
    counts = dict.fromkeys(CLASSES, 0)
    for thing in objects:
        counts[thing.class_name] += most[thing.instance] >= SEEN
    unclear = {thing.class_name for thing in objects if HIDDEN <= most[thing.instance] < SEEN}
    return {name: count for name, count in counts.items() if name not in unclear}


def box_gaps(objects: list[RoomObject]) -> Float[np.ndarray, "objects objects"]:
    """Metres between the nearest points of upright boxes; right as long as no two of them cross like a plus seen from above."""
    if not objects:
        return np.zeros((0, 0))
    centre, size = np.array([thing.position for thing in objects]), np.array([thing.size for thing in objects])
    yaw = np.array([thing.yaw for thing in objects])
    cos, sin = np.cos(yaw), np.sin(yaw)
    axes = np.stack([np.stack([cos, sin], 1), np.stack([-sin, cos], 1)], 1)  # object, axis, world
    signs = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)]) / 2
    corners = centre[:, None, :2] + np.einsum("kc,nc,ncw->nkw", signs, size[:, :2], axes)
    # from the corners of object i to the rectangle of object j
    local = np.einsum("ijkw,jaw->ijka", corners[:, None] - centre[None, :, None, :2], axes)
    beyond = (np.abs(local) - size[None, :, None, :2] / 2).clip(min=0)
    flat = np.linalg.norm(beyond, axis=-1).min(axis=-1)
    flat = np.minimum(flat, flat.T)
    upright = np.abs(centre[:, None, 2] - centre[None, :, 2]) - (size[:, None, 2] + size[None, :, 2]) / 2
    return np.hypot(flat, upright.clip(min=0))
