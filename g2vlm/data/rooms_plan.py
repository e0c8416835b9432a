"""What stands where in a procedural room, and where its cameras are: pure Python, one seed, no pixels.

World frame: metres, z up, origin on the floor below the middle of the ceiling. A room is planned without knowing how
many views will be taken of it or how large they are, so that a seed always means the same room.
"""

import itertools
import math
from dataclasses import dataclass
from itertools import islice
from random import Random

from g2vlm.data.rooms_furniture import (
    AGAINST_WALL,
    CEILING_DROP,
    COLOURS,
    FREE,
    ON_TOP,
    WOODS,
    Builder,
    Material,
    Part,
    Triple,
    blend,
    ceiling_lamp,
    colour_name,
    door,
    picture,
    rug,
    scaled,
    varied,
    vase,
    window,
)

BULBS: tuple[Triple, ...] = ((1.0, 0.93, 0.82), (1.0, 1.0, 1.0), (0.94, 0.97, 1.0))

WALL_MARGIN = 0.35
"""Metres between a camera and the nearest wall."""

CAMERA_MARGIN = 0.4
"""Metres between the camera's path and the nearest piece of furniture."""


@dataclass(frozen=True)
class Piece:
    """One placed object: its parts are in a frame with origin at `origin`, turned by `yaw` around z."""

    class_name: str
    colour: str
    parts: tuple[Part, ...]
    size: Triple
    origin: Triple
    yaw: float


@dataclass(frozen=True)
class Path:
    """Where the camera may stand: an arc around a focus, seen under a constant height.

    The camera goes from `azimuths[0]` to `azimuths[1]` (radians, as seen from the focus) while its distance to the
    focus goes from `distances[0]` to `distances[1]` (metres); `jitters` are the largest extra yaw, pitch and roll.
    """

    focus: Triple
    azimuths: tuple[float, float]
    distances: tuple[float, float]
    height: float
    jitters: Triple
    is_wide: bool

    def position(self, s: float) -> tuple[float, float]:
        """Ground position at s in [0, 1]."""
        azimuth = self.azimuths[0] + s * (self.azimuths[1] - self.azimuths[0])
        distance = self.distances[0] + s * (self.distances[1] - self.distances[0])
        return self.focus[0] + distance * math.cos(azimuth), self.focus[1] + distance * math.sin(azimuth)


@dataclass(frozen=True)
class Plan:
    """A whole room: its shell, what stands in it, its lights and the camera's path.

    size: along x, y, z. surfaces: materials of the faces -x, +x, -y, +y, floor, ceiling.
    """

    size: Triple
    surfaces: tuple[Material, ...]
    pieces: tuple[Piece, ...]
    lamp: Triple
    lamp_colour: Triple
    sky_direction: Triple
    sky_colour: Triple
    ambient: float
    path: Path
    field_of_view: float
    view_seed: int


def plan_room(seed: int) -> Plan:
    """The room of one seed."""
    draw = Random(2 * seed)
    size = (draw.uniform(3.0, 7.0), draw.uniform(3.0, 7.0), draw.uniform(2.4, 3.2))
    path = camera_path(draw, size)
    lamp = (draw.uniform(-0.25, 0.25) * size[0], draw.uniform(-0.25, 0.25) * size[1], size[2] - CEILING_DROP)
    return Plan(
        size=size,
        surfaces=shell_surfaces(draw),
        pieces=furnish(draw, size, path, lamp),
        lamp=lamp,
        lamp_colour=scaled(draw.choice(BULBS), draw.uniform(0.7, 1.2)),
        sky_direction=direction(draw.uniform(0, math.tau), draw.uniform(0.1, 0.5)),
        sky_colour=scaled((0.92, 0.96, 1.0), draw.uniform(0.15, 0.45)),
        ambient=draw.uniform(0.28, 0.42),
        path=path,
        field_of_view=math.radians(draw.uniform(50.0, 90.0)),
        view_seed=2 * seed + 1,
    )


def view_poses(plan: Plan, num_views: int) -> list[tuple[Triple, Triple]]:
    """Position and (yaw, pitch, roll) of each camera, evenly spread over the path with some jitter."""
    draw, path = Random(plan.view_seed), plan.path
    poses = []
    for k in range(num_views):
        x, y = path.position((k + draw.random()) / num_views)
        z = path.height + draw.uniform(-0.08, 0.08)
        yaw, pitch, roll = (draw.uniform(-j, j) for j in path.jitters)
        dx, dy, dz = path.focus[0] - x, path.focus[1] - y, path.focus[2] - z
        poses.append(((x, y, z), (math.atan2(dy, dx) + yaw, math.atan2(dz, math.hypot(dx, dy)) + pitch, roll)))
    return poses


def walked_poses(plan: Plan, num_views: int) -> list[tuple[Triple, Triple]]:
    """Position and (yaw, pitch, roll) of a camera that goes once around the room and looks across it, swaying a little."""
    reach, height = free_ring(plan)
    poses = []
    for k in range(num_views):
        angle = math.tau * k / num_views
        x, y = ring_position(plan, reach, angle)
        z = height + 0.05 * math.sin(3 * angle)
        ahead = math.atan2(-y, -x) + 0.12 * math.sin(2 * angle + 1)
        poses.append(((x, y, z), (ahead, -0.15 + 0.05 * math.sin(5 * angle), 0.03 * math.sin(4 * angle))))
    return poses


def ring_position(plan: Plan, reach: float, angle: float) -> tuple[float, float]:
    """On the ellipse that fills this part of the room, less the walls' margin."""
    half_x, half_y = (reach * (length / 2 - WALL_MARGIN) for length in plan.size[:2])
    return half_x * math.cos(angle), half_y * math.sin(angle)


def free_ring(plan: Plan) -> tuple[float, float]:
    """(reach, height) of the widest ring that keeps clear of all that is as high as it; ValueError where there is none."""
    for reach, height in itertools.product((0.9, 0.8, 0.7, 0.6, 0.5), (1.5, 1.7, 1.9)):
        level = [p for p in plan.pieces if p.origin[2] - 0.2 < height < p.origin[2] + p.size[2] + 0.2]
        spots = [footprint(p.size, p.origin[0], p.origin[1], p.yaw) for p in level]
        ring = [ring_position(plan, reach, math.tau * i / 72) for i in range(72)]
        if all(spot.gap(*place) > 0.2 for spot in spots for place in ring):
            return reach, height
    raise ValueError("the furniture of this room leaves no way around; take another seed")


def camera_path(draw: Random, size: Triple) -> Path:
    """An arc that looks across the room; wide ones turn by 30 to 65 degrees, narrow ones by 4 to 12."""
    is_wide = draw.random() < 0.6
    back = draw.uniform(0, math.tau)
    room = (size[0] / 2 - WALL_MARGIN, size[1] / 2 - WALL_MARGIN)
    shift = draw.uniform(0.1, 0.5)
    focus_x, focus_y = -shift * room[0] * math.cos(back), -shift * room[1] * math.sin(back)
    turn = math.radians(draw.uniform(30.0, 65.0) if is_wide else draw.uniform(4.0, 12.0)) * draw.choice((-1, 1))
    azimuths = (back - turn / 2, back + turn / 2)
    reach = min(reach_to_wall(focus_x, focus_y, back + turn * s, room) for s in (-0.5, -0.25, 0.0, 0.25, 0.5))
    near, far = sorted((draw.uniform(0.65, 0.98) * reach, draw.uniform(0.8, 0.98) * reach))
    height = draw.uniform(1.0, 1.8)
    yaw, pitch, roll = (draw.uniform(3.0, 13.0), 4.0, 3.0) if is_wide else (draw.uniform(1.0, 4.0), 2.0, 2.0)
    return Path(
        focus=(focus_x, focus_y, height - draw.uniform(0.0, 0.5)),
        azimuths=azimuths,
        distances=(near, far) if draw.random() < 0.5 else (far, near),
        height=height,
        jitters=(math.radians(yaw), math.radians(pitch), math.radians(roll)),
        is_wide=is_wide,
    )


def reach_to_wall(x: float, y: float, azimuth: float, room: tuple[float, float]) -> float:
    """How far one can go from (x, y) before leaving the rectangle |x| <= room[0], |y| <= room[1]."""
    dx, dy = math.cos(azimuth), math.sin(azimuth)
    along_x = (math.copysign(room[0], dx) - x) / dx if dx else math.inf
    along_y = (math.copysign(room[1], dy) - y) / dy if dy else math.inf
    return min(along_x, along_y)


def direction(azimuth: float, height: float) -> Triple:
    flat = math.sqrt(1 - height * height)
    return flat * math.cos(azimuth), flat * math.sin(azimuth), height


def wall_material(draw: Random, colour: Triple, kind: float) -> Material:
    colour = varied(draw, colour)
    if kind < 0.5:
        return Material(colour, scaled(colour, 0.85), noise=0.5, noise_frequency=draw.uniform(1.0, 3.0))
    if kind < 0.7:
        f = draw.uniform(2.0, 5.0)
        return Material(colour, scaled(colour, 0.8), (f, f, 0.0), checker=0.8)
    if kind < 0.85:
        f = draw.uniform(2.5, 5.0)
        return Material(colour, scaled(colour, 0.65), (f, f, 2 * f), seam=0.9, cell=0.35, seam_width=0.06)
    return Material(colour, scaled(colour, 0.8), noise=0.9, noise_frequency=draw.uniform(5.0, 9.0))


def floor_material(draw: Random) -> Material:
    kind = draw.random()
    if kind < 0.45:
        colour = varied(draw, draw.choice(WOODS))
        across, along = draw.uniform(4.0, 8.0), draw.uniform(0.5, 1.0)
        frequency = (across, along, 0.0) if draw.random() < 0.5 else (along, across, 0.0)
        return Material(colour, scaled(colour, 0.55), frequency, seam=0.7, cell=0.5, noise=0.2, seam_width=0.05)
    colour = varied(draw, draw.choice([COLOURS[c] for c in ("beige", "gray", "white", "brown", "teal", "blue")]))
    f = draw.uniform(1.5, 3.5)
    if kind < 0.7:
        return Material(colour, scaled(colour, 0.5), (f, f, 0.0), seam=0.8, cell=0.3, seam_width=0.04)
    if kind < 0.9:
        other = draw.choice(((0.92, 0.92, 0.9), (0.15, 0.15, 0.16)))
        return Material(colour, other, (f, f, 0.0), checker=0.7)
    return Material(colour, scaled(colour, 0.6), noise=0.9, noise_frequency=draw.uniform(4.0, 8.0))


def shell_surfaces(draw: Random) -> tuple[Material, ...]:
    pale = [blend(c, (0.95, 0.94, 0.92), draw.uniform(0.35, 0.8)) for c in COLOURS.values()]
    colour, kind = draw.choice(pale), draw.random()
    walls = [wall_material(draw, colour, kind) for _ in range(4)]
    if draw.random() < 0.5:
        walls[draw.randrange(4)] = wall_material(draw, blend(draw.choice(pale), (0.3, 0.3, 0.3), 0.25), draw.random())
    ceiling = varied(draw, (0.92, 0.92, 0.9))
    tiles = (1.6, 1.6, 0.0) if draw.random() < 0.3 else (0.0, 0.0, 0.0)
    return (*walls, floor_material(draw), Material(ceiling, scaled(ceiling, 0.8), tiles, seam=0.8, seam_width=0.03))


@dataclass(frozen=True)
class Rectangle:
    """An upright rectangle on the floor, as wide as a turned object's shadow from above."""

    x: float
    y: float
    half_x: float
    half_y: float

    def gap(self, x: float, y: float, half_x: float = 0.0, half_y: float = 0.0) -> float:
        """Metres between this and another rectangle (or point); negative where they overlap along both axes."""
        return max(abs(x - self.x) - half_x - self.half_x, abs(y - self.y) - half_y - self.half_y)


def footprint(size: Triple, x: float, y: float, yaw: float) -> Rectangle:
    c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
    return Rectangle(x, y, (c * size[0] + s * size[1]) / 2, (s * size[0] + c * size[1]) / 2)


def furnish(draw: Random, size: Triple, path: Path, lamp: Triple) -> tuple[Piece, ...]:
    """Things on the walls, furniture along them and in the middle, things on top of it, a rug and the lamp."""
    pieces = wall_pieces(draw, size)
    walked = [path.position(i / 12) for i in range(13)]
    spaciousness = (size[0] * size[1] > 16) + (size[0] * size[1] > 28)
    taken: list[Rectangle] = []

    def place(name: str, build: Builder, is_at_wall: bool) -> Piece | None:
        colour = colour_name(draw, name)
        parts, extent = build(draw, COLOURS[colour])
        margin = CAMERA_MARGIN + (0.6 if extent[2] > path.height - 0.3 else 0.0)
        for _ in range(10):
            x, y, yaw = wall_spot(draw, size, extent) if is_at_wall else floor_spot(draw, size)
            spot = footprint(extent, x, y, yaw)
            is_inside = abs(x) + spot.half_x < size[0] / 2 and abs(y) + spot.half_y < size[1] / 2
            is_free = all(other.gap(x, y, spot.half_x, spot.half_y) > 0.06 for other in taken)
            if is_inside and is_free and all(spot.gap(*point) > margin for point in walked):
                taken.append(spot)
                return Piece(name, colour, tuple(parts), extent, (x, y, 0.0), yaw)
        return None

    standing: list[Piece] = []
    for builders, is_at_wall, wanted in (
        (AGAINST_WALL, True, draw.randint(1, 2 + spaciousness)),
        (FREE, False, draw.randint(3, 4 + spaciousness)),
    ):
        names = [draw.choice(list(builders)) for _ in range(2 * wanted)]
        placed = (place(name, builders[name], is_at_wall) for name in names)
        standing += islice((piece for piece in placed if piece is not None), wanted)
    pieces += standing
    supports = [p for p in standing if p.class_name in ("table", "cabinet")]
    pieces += [topped(draw, support) for support in supports[:2] if draw.random() < 0.8]
    if draw.random() < 0.45:
        colour = colour_name(draw, "rug")
        parts, extent = rug(draw, COLOURS[colour])
        shift_x, shift_y = (max(0.0, (length - 2.6) / 2) for length in size[:2])
        x, y = draw.uniform(-shift_x, shift_x), draw.uniform(-shift_y, shift_y)
        pieces.append(Piece("rug", colour, tuple(parts), extent, (x, y, 0.0), draw.choice((0.0, math.pi / 2))))
    parts, extent = ceiling_lamp(draw, COLOURS["white"])
    base = (lamp[0], lamp[1], lamp[2] - parts[0].half[2])
    pieces.append(Piece("ceiling lamp", "white", tuple(parts), extent, base, 0.0))
    return tuple(pieces)


def floor_spot(draw: Random, size: Triple) -> tuple[float, float, float]:
    """Ground position and yaw of something that stands anywhere; it is turned freely or along the walls."""
    x, y = (draw.uniform(-1, 1) * (length / 2 - 0.3) for length in size[:2])
    return x, y, draw.uniform(0, math.tau) if draw.random() < 0.6 else draw.randrange(4) * math.pi / 2


def wall_spot(draw: Random, size: Triple, extent: Triple) -> tuple[float, float, float]:
    """Ground position and yaw of an object whose back (+y) touches one of the four walls."""
    wall = draw.randrange(4)
    yaw = (math.pi / 2, -math.pi / 2, math.pi, 0.0)[wall]
    along, across = (size[1], size[0]) if wall < 2 else (size[0], size[1])
    slide = draw.uniform(-1, 1) * max(0.0, (along - extent[0]) / 2 - 0.02)
    back = (across - extent[1]) / 2 - 0.003
    sign = 1 if wall % 2 else -1
    return (sign * back, slide, yaw) if wall < 2 else (slide, sign * back, yaw)


def wall_pieces(draw: Random, size: Triple) -> list[Piece]:
    """A door, windows and pictures that do not cross each other."""
    wishes = [("door", door, 0.0), *[("window", window, 0.85)] * draw.randint(0, 2)]
    wishes += [("picture", picture, 1.3)] * draw.randint(1, 3)
    pieces, taken = [], []
    for name, build, height in wishes:
        colour = colour_name(draw, name)
        parts, extent = build(draw, COLOURS[colour])
        z = height + (draw.uniform(-0.05, 0.15) if height else 0.0)
        for _ in range(4):
            x, y, yaw = wall_spot(draw, size, extent)
            spot = footprint(extent, x, y, yaw)
            if z + extent[2] < size[2] and all(other.gap(x, y, spot.half_x, spot.half_y) > 0.1 for other in taken):
                taken.append(spot)
                pieces.append(Piece(name, colour, tuple(parts), extent, (x, y, z), yaw))
                break
    return pieces


def topped(draw: Random, support: Piece) -> Piece:
    """Something small that stands on a table or a cabinet."""
    name = draw.choice(list(ON_TOP))
    colour = colour_name(draw, name)
    parts, extent = ON_TOP[name](draw, COLOURS[colour])
    room = min(support.size[0], support.size[1])
    if extent[1] > room or extent[0] > support.size[0]:
        name, colour = "vase", colour_name(draw, "vase")
        parts, extent = vase(draw, COLOURS[colour])
    slide = draw.uniform(-1, 1) * max(0.0, (support.size[0] - max(extent[0], room)) / 2)
    x = support.origin[0] + slide * math.cos(support.yaw)
    y = support.origin[1] + slide * math.sin(support.yaw)
    return Piece(name, colour, tuple(parts), extent, (x, y, support.size[2]), support.yaw)
