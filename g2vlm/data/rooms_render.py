"""Analytic ray casting of convex solids in box-shaped rooms: tables in, pixels out, on any device.

Every solid is the unit box, or a unit quadric cut by |z| <= 1, under a yaw, a stretch and a shift. A view is cut into
tiles; a solid meets only the tiles under its outline, the nearest hit per pixel wins, and only winners are shaded.
Everything is element by element, so that a view's pixels do not depend on what else is in the batch.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

TILE = 8
"""Pixels along each side of a tile."""

SHADOW_MAP = 96
"""Pixels along each side of what the lamp sees; a multiple of TILE."""

NEAR = 0.05
"""Metres; nothing closer to a camera is drawn, and rooms are planned so that nothing is."""

FAR = 1e6
"""Depth of a miss, beyond any room."""


class Solid(NamedTuple):
    """Columns of the table of solids (or of a picture's worth of them): centre, half sizes, yaw and shape.

    In unit coordinates the quadric is x^2 + y^2 + quadratic z^2 + linear z + constant <= 0; `is_box` is 1 or 0;
    `facing` is 1 for what is seen from outside and -1 for the room's shell.
    """

    x: Tensor
    y: Tensor
    z: Tensor
    half_x: Tensor
    half_y: Tensor
    half_z: Tensor
    cos: Tensor
    sin: Tensor
    is_box: Tensor
    quadratic: Tensor
    linear: Tensor
    constant: Tensor
    facing: Tensor


class Look(NamedTuple):
    """Columns of the table of materials: a colour, the way to a second colour, and what patterns mix them."""

    red: Tensor
    green: Tensor
    blue: Tensor
    red_step: Tensor
    green_step: Tensor
    blue_step: Tensor
    frequency_x: Tensor
    frequency_y: Tensor
    frequency_z: Tensor
    checker: Tensor
    seam: Tensor
    cell: Tensor
    noise: Tensor
    seam_width: Tensor
    noise_frequency: Tensor
    glow: Tensor


@dataclass(frozen=True)
class Stage:
    """All rooms of a batch as tables; the first solid of each room is its shell.

    material_of: first material of a solid; the shell has six in a row (-x, +x, -y, +y, floor, ceiling).
    room_start: row of each room's shell in `solids`, and one more entry at the end.
    lights: lamp position, lamp colour, sky direction, sky colour (three numbers each) and ambient light.
    """

    solids: Float[Tensor, "solids 13"]
    materials: Float[Tensor, "materials 16"]
    material_of: Int[Tensor, " solids"]
    instance_of: Int[Tensor, " solids"]
    room_start: Int[Tensor, " rooms_and_one"]
    lights: Float[Tensor, "rooms 13"]

    @property
    def shells(self) -> Float[Tensor, "rooms 13"]:
        return self.solids[self.room_start[:-1]]


class Cameras(NamedTuple):
    """Who looks at what: the room of each view, its camera-to-world pose (OpenCV axes) and its intrinsics."""

    room: Int[Tensor, " views"]
    poses: Float[Tensor, "views 4 4"]
    intrinsics: Float[Tensor, "views 3 3"]


class Frames(NamedTuple):
    """What the cameras see: RGB in [0, 1], z-depth, unit normals in the camera's frame towards it, instances."""

    images: Float[Tensor, "views 3 height width"]
    depth: Float[Tensor, "views height width"]
    normals: Float[Tensor, "views height width 3"]
    instances: Int[Tensor, "views height width"]


@dataclass(frozen=True)
class LampMaps:
    """What each room's lamp sees when it looks straight down: depth and solid, and the focal lengths in x and y."""

    depth: Float[Tensor, "rooms rows columns"]
    solid: Int[Tensor, "rooms rows columns"]
    focal: Float[Tensor, "rooms 2"]

    def lit(self, room: Tensor, way: list[Tensor], winner: Tensor) -> Tensor:
        """Share of the lamp's light that reaches points; `way` leads from them to the lamp, all [views, pixels].

        A solid casts no shadow on itself, which convex solids do not need, so that no bias on slopes is needed either.
        """
        below = way[2].clamp(min=0.05)
        x, y = (
            ((side * self.focal[room, i, None] / below) + 0.5 * (SHADOW_MAP - 1)).clamp_(0, SHADOW_MAP - 1.001)
            for i, side in enumerate((-way[0], way[1]))
        )
        column, row = x.floor(), y.floor()
        x, y = x - column, y - row
        corner = (room[:, None] * SHADOW_MAP**2 + row.long() * SHADOW_MAP + column.long()).flatten()
        limit, own = (below - 0.03).flatten(), winner.flatten()

        def blocked(offset: int) -> Tensor:
            tap = corner + offset
            is_above = self.depth.flatten().index_select(0, tap) < limit
            return (is_above & (self.solid.flatten().index_select(0, tap) != own)).float().view_as(x)

        upper = torch.lerp(blocked(0), blocked(1), x)
        lower = torch.lerp(blocked(SHADOW_MAP), blocked(SHADOW_MAP + 1), x)
        return 1 - torch.lerp(upper, lower, y)


def render(stage: Stage, maps: LampMaps, cameras: Cameras, size: tuple[int, int]) -> Frames:
    """One picture of size (height, width) for each camera."""
    rays = tile_rays(cameras.intrinsics, size)
    depth, winner = nearest_solid(stage, cameras, rays, size)
    surface = surface_at(stage, cameras, rays, depth, winner)
    colour = shade(stage, maps, cameras, surface)
    rotation = cameras.poses[:, :3, :3, None]
    normals = [dot(surface.normal, list(rotation[:, :, i].unbind(1))) for i in range(3)]
    return Frames(
        images=untile(torch.stack(colour, dim=1), size),
        depth=untile(depth[:, None], size).squeeze(1),
        normals=untile(torch.stack(normals, dim=1), size).permute(0, 2, 3, 1).contiguous(),
        instances=untile(stage.instance_of[winner][:, None], size).squeeze(1),
    )


# Rays and tiles


def num_tiles(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // TILE), -(-size[1] // TILE)


def tile_rays(intrinsics: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """x and y of camera rays (x, y, 1), [views, pixels] tile by tile; such a ray's parameter is z-depth."""
    rows, columns = num_tiles(size)
    y, x = torch.meshgrid(*(torch.arange(TILE * n).to(intrinsics) + 0.5 for n in (rows, columns)), indexing="ij")
    x, y = (p.view(rows, TILE, columns, TILE).transpose(1, 2).reshape(1, -1) for p in (x, y))
    fx, fy, cx, cy = (intrinsics[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return (x - cx) / fx, (y - cy) / fy


def untile(x: Tensor, size: tuple[int, int]) -> Tensor:
    """[views, channels, pixels] tile by tile -> [views, channels, height, width]."""
    rows, columns = num_tiles(size)
    x = x.view(*x.shape[:2], rows, columns, TILE, TILE).transpose(3, 4)
    return x.reshape(*x.shape[:2], rows * TILE, columns * TILE)[..., : size[0], : size[1]].contiguous()


def candidates(stage: Stage, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Every pair of a view and a solid of its room, the shell left out: two index tensors."""
    start, device = stage.room_start, cameras.room.device
    num = (start[1:] - start[:-1] - 1)[cameras.room]
    view = torch.arange(len(num), device=device).repeat_interleave(num)
    return view, counted(num, view) + (start[cameras.room] + 1)[view]


def counted(num: Tensor, owner: Tensor) -> Tensor:
    """0, 1, 2, ... for each run of equal owners: `num` [3, 2], `owner` [0, 0, 0, 1, 1] -> [0, 1, 2, 0, 1]."""
    return torch.arange(len(owner), device=owner.device) - (num.cumsum(0) - num)[owner]


CORNERS = tuple((x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0))
EDGES = tuple((a, a | bit) for a in range(8) for bit in (1, 2, 4) if not a & bit)


def tile_visits(solids: Tensor, poses: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Which tiles each solid of a view may touch: row of the pair [visits] and number of the tile [visits].

    The outline is that of the solid's box cut at the near plane: its corners in front, and where its edges are cut.
    """
    device, c, s = solids.device, solids[:, 6, None], solids[:, 7, None]
    x, y, z = (solids.new_tensor(CORNERS) * solids[:, None, 3:6]).unbind(2)
    world = torch.stack([c * x - s * y, s * x + c * y, z], dim=2) + (solids[:, :3] - poses[:, :3, 3])[:, None]
    corners = (world[..., None] * poses[:, None, :3, :3]).sum(2)
    a, b = (corners[:, ends] for ends in zip(*EDGES, strict=True))
    cuts = a + ((NEAR - a[..., 2:]) / (b[..., 2:] - a[..., 2:])).clamp(0, 1) * (b - a)
    points = torch.cat([corners, cuts], dim=1)
    is_behind = ~(points[..., 2:] >= 0.99 * NEAR)
    pixels = points[..., :2] / points[..., 2:] * intrinsics[:, None, [0, 1], [0, 1]] + intrinsics[:, None, :2, 2]
    rows, columns = num_tiles(size)
    grid = torch.tensor([columns, rows], device=device)
    first = (pixels.masked_fill(is_behind, torch.inf).amin(1) / TILE).floor().clamp(min=0).minimum(grid).long()
    last = (pixels.masked_fill(is_behind, -torch.inf).amax(1) / TILE).floor().clamp(min=-1).minimum(grid - 1).long()
    wide, high = (last - first + 1).clamp(min=0).unbind(1)
    visit = torch.arange(len(wide), device=device).repeat_interleave(wide * high)
    k = counted(wide * high, visit)
    return visit, (first[:, 1][visit] + k // wide[visit]) * columns + first[:, 0][visit] + k % wide[visit]


# Intersection


def nearest_solid(
    stage: Stage, cameras: Cameras, rays: tuple[Tensor, Tensor], size: tuple[int, int]
) -> tuple[Float[Tensor, "views pixels"], Int[Tensor, "views pixels"]]:
    """Depth of the nearest surface along each ray, and the row of its solid."""
    view, solid = candidates(stage, cameras)
    poses = cameras.poses[view]
    rotation, origin = to_unit(stage.solids[solid], poses)
    visit, tile = tile_visits(stage.solids[solid], poses, cameras.intrinsics[view], size)
    shell = stage.room_start[cameras.room]
    keys = packed(leave_box(*to_unit(stage.solids[shell], cameras.poses), *rays), shell[:, None]).view(-1, TILE**2)
    place = view[visit] * (rays[0].shape[1] // TILE**2) + tile
    tile_x, tile_y = (ray.view(-1, TILE**2) for ray in rays)
    is_box = stage.solids[solid, Solid._fields.index("is_box")] > 0
    for chosen, enter in ((is_box[visit], enter_box), (~is_box[visit], enter_quadric)):
        pair, where = visit[chosen], place[chosen]
        x, y = tile_x.index_select(0, where), tile_y.index_select(0, where)
        depth = enter(rotation[pair], origin[pair], x, y, stage.solids[solid[pair]])
        keys.scatter_reduce_(0, where[:, None].expand_as(depth), packed(depth, solid[pair][:, None]), "amin")
    keys = keys.view(len(cameras.poses), -1)
    return (keys >> 32).int().view(torch.float32), keys & 0xFFFFFFFF


def packed(depth: Tensor, row: Tensor) -> Tensor:
    """Depth and row in one integer; positive floats order like their bits, so the least integer is the nearest hit."""
    return (depth.view(torch.int32).long() << 32) | row


def to_unit(solids: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
    """Camera frame -> unit coordinates of each solid: matrix [n, 3, 3] and the camera's position [n, 3]."""
    half, c, s = solids[:, 3:6, None], solids[:, 6, None], solids[:, 7, None]
    moved = torch.cat([poses[:, :3, :3], poses[:, :3, 3:] - solids[:, :3, None]], dim=2)
    turned = torch.stack([c * moved[:, 0] + s * moved[:, 1], c * moved[:, 1] - s * moved[:, 0], moved[:, 2]], dim=1)
    unit = turned / half
    return unit[:, :, :3], unit[:, :, 3]


def turned_rays(rotation: Tensor, x: Tensor, y: Tensor) -> list[Tensor]:
    """Camera rays (x, y, 1) [n, pixels] under a matrix [n, 3, 3], one tensor per axis."""
    m = rotation[..., None]
    return [torch.addcmul(torch.addcmul(m[:, i, 2], m[:, i, 0], x), m[:, i, 1], y) for i in range(3)]


def slabs(rotation: Tensor, origin: Tensor, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each axis, depth of the middle between the planes at -1 and 1, and half the way between them."""
    # The clamp keeps a ray exactly parallel to the planes from making inf - inf.
    inverses = [(1 / d).clamp_(-1e12, 1e12) for d in turned_rays(rotation, x, y)]
    return [(inverse * -origin[:, i, None], inverse.abs()) for i, inverse in enumerate(inverses)]


def leave_box(rotation: Tensor, origin: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Depth at which rays from inside the unit box reach its surface."""
    a, b, c = (middle + reach for middle, reach in slabs(rotation, origin, x, y))
    return torch.minimum(torch.minimum(a, b), c)


def enter_box(rotation: Tensor, origin: Tensor, x: Tensor, y: Tensor, _: Tensor) -> Tensor:
    """Depth at which rays from outside enter the unit box; FAR or more where they miss it."""
    (m1, r1), (m2, r2), (m3, r3) = slabs(rotation, origin, x, y)
    enter = torch.maximum(torch.maximum(m1 - r1, m2 - r2), m3 - r3)
    leave = torch.minimum(torch.minimum(m1 + r1, m2 + r2), m3 + r3)
    return known_if((enter <= leave) & (enter > NEAR), enter)


def enter_quadric(rotation: Tensor, origin: Tensor, x: Tensor, y: Tensor, solids: Tensor) -> Tensor:
    """Depth at which rays from outside enter the quadric with |z| <= 1; FAR or more where they miss it."""
    dx, dy, dz = turned_rays(rotation, x, y)
    ox, oy, oz = origin[..., None].unbind(1)
    quadratic, linear, constant = solids[:, 9:12, None].unbind(1)
    # Along the ray the quadric is a depth^2 + 2 b depth + c.
    a = torch.addcmul(dx * dx, dy, dy).addcmul_(dz * dz, quadratic)
    b = torch.addcmul(dx * ox, dy, oy).addcmul_(dz, quadratic * oz + linear / 2)
    c = ox * ox + oy * oy + (quadratic * oz + linear) * oz + constant
    root = torch.addcmul(b * b, a, c, value=-1)
    # The entry -(b + sqrt(root)) / a, written so that it stays exact when a vanishes (rays along a cone's slope).
    side = c / (root.clamp(min=0).sqrt_() - b)
    on_side = (root >= 0) & (torch.addcmul(oz, side, dz).abs() <= 1) & (side > NEAR)
    cap = (oz.sign() - oz) / dz
    on_cap = ((a * cap + 2 * b) * cap + c <= 0) & (oz.abs() > 1) & (cap > NEAR)
    return torch.minimum(known_if(on_side, side), known_if(on_cap, cap))


def known_if(hit: Tensor, depth: Tensor) -> Tensor:
    """`depth` where `hit`, FAR or more elsewhere; on a CPU several times faster than `torch.where`."""
    return depth.nan_to_num_(FAR).clamp_(NEAR, FAR).add_(~hit, alpha=FAR)


# Shading: maps are lists of one [views, pixels] tensor per axis or colour channel.


class Surface(NamedTuple):
    """What is seen at each pixel: its place, unit normal towards the camera and solid, in the world frame.

    pattern_point: in the solid's own axes, metres; on flat faces the coordinate across the face is 0.
    face: of a box, 0 to 5 for -x, +x, -y, +y, -z, +z. footprint: metres that a pixel spans there.
    """

    world: list[Tensor]
    normal: list[Tensor]
    pattern_point: list[Tensor]
    face: Tensor
    footprint: Tensor
    winner: Tensor
    facing: Tensor


def dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def columns(table: Tensor, row: Tensor) -> list[Tensor]:
    """The columns of `table[row]`, each contiguous."""
    return [column.index_select(0, row.flatten()).view_as(row) for column in table.t().contiguous()]


def surface_at(stage: Stage, cameras: Cameras, rays: tuple[Tensor, Tensor], depth: Tensor, winner: Tensor) -> Surface:
    pose = cameras.poses[..., None]
    way = turned_rays(cameras.poses, *rays)
    world = [torch.addcmul(pose[:, i, 3], way[i], depth) for i in range(3)]
    solid = Solid(*columns(stage.solids, winner))
    dx, dy, dz = world[0] - solid.x, world[1] - solid.y, world[2] - solid.z
    local = [solid.cos * dx + solid.sin * dy, solid.cos * dy - solid.sin * dx, dz]
    half = (solid.half_x, solid.half_y, solid.half_z)
    unit = [x / h for x, h in zip(local, half, strict=True)]

    # Which of the constraints that bound the solid is met with equality: a box's faces, or a quadric's side or caps.
    is_box, is_quadric = solid.is_box, 1 - solid.is_box
    curve = dot(unit, unit) + ((solid.quadratic - 1) * unit[2] + solid.linear) * unit[2] + solid.constant
    slack = [u.abs() - 1 for u in unit]
    slack[0] = slack[0] * is_box + curve * is_quadric
    slack[1] = slack[1] * is_box - is_quadric
    on_z = (slack[2] > torch.maximum(slack[0], slack[1])).float()
    on_x_or_side = (slack[0] >= slack[1]).float() * (1 - on_z)
    on_side = on_x_or_side * is_quadric
    flat = [on_x_or_side - on_side, 1 - on_x_or_side - on_z, on_z]

    sign = [u.sign() for u in unit]
    slope = [unit[0], unit[1], solid.quadratic * unit[2] + 0.5 * solid.linear]
    nx, ny, nz = (f * s + on_side * g / h for f, s, g, h in zip(flat, sign, slope, half, strict=True))
    normal = [solid.cos * nx - solid.sin * ny, solid.sin * nx + solid.cos * ny, nz]
    length = dot(normal, normal).clamp_(min=1e-20).rsqrt_()
    scale = torch.copysign(length, -dot(normal, way))
    return Surface(
        world=world,
        normal=[n * scale for n in normal],
        pattern_point=[x * (1 - f) for x, f in zip(local, flat, strict=True)],
        face=2 * flat[1] + 4 * flat[2] + 0.5 + 0.5 * dot(flat, sign),
        footprint=depth / cameras.intrinsics[:, 0, 0, None],
        winner=winner,
        facing=solid.facing,
    )


def shade(stage: Stage, maps: LampMaps, cameras: Cameras, surface: Surface) -> list[Tensor]:
    """Red, green and blue of each pixel."""
    is_shell = surface.facing < 0
    material = stage.material_of[surface.winner] + (surface.face * is_shell).long()
    look = Look(*columns(stage.materials, material))
    mix = pattern(look, surface.pattern_point, surface.footprint)
    light = illumination(stage, maps, cameras.room, surface)
    return [
        ((base + mix * step) * torch.lerp(arriving, torch.ones_like(arriving), look.glow)).clamp_(0, 1)
        for base, step, arriving in zip(look[:3], look[3:6], light, strict=True)
    ]


def pattern(look: Look, point: list[Tensor], footprint: Tensor) -> Tensor:
    """Share of the second colour at each point; what is finer than a pixel fades into its mean."""
    frequency = look[6:9]
    # Off the cells' borders, so that an axis without cells, or across a flat face, draws no line.
    scaled = [torch.addcmul(x.new_tensor(0.4), x, f) for x, f in zip(point, frequency, strict=True)]
    cells = [x.floor() for x in scaled]
    i, j, k = cells
    half_sum = (i + j + k) * 0.5
    checker = 2 * (half_sum - half_sum.floor())
    hashed = 0.618034 * i + 0.754878 * j + 0.569840 * k
    hashed = hashed - hashed.floor()
    border = [(x - cell - 0.5).abs_() for x, cell in zip(scaled, cells, strict=True)]
    seam = (torch.maximum(torch.maximum(border[0], border[1]), border[2]) > 0.5 - 0.5 * look.seam_width).float()
    fade = torch.maximum(torch.maximum(frequency[0], frequency[1]), frequency[2])
    fade = (1.5 - 2 * footprint * fade).clamp_(0, 1)
    x, y, z = (p * look.noise_frequency for p in point)
    noise = 0.5 + 0.25 * (torch.sin(x + 1.3 * torch.sin(y + z)) + torch.sin(1.7 * (y - z) + 1.1 * x))
    cut = look.checker * (checker - 0.5) + look.cell * (hashed - 0.5) + look.seam * seam
    return (fade * cut + 0.5 * (look.checker + look.cell) + look.noise * noise).clamp_(0, 1)


def illumination(stage: Stage, maps: LampMaps, room: Tensor, surface: Surface) -> list[Tensor]:
    """Light of each colour arriving at each point: a lamp with shadow and fall-off, and a soft sky, dim in corners."""
    world, normal = surface.world, surface.normal
    lights, shell = stage.lights[room][..., None], stage.shells[room][..., None]
    way = [lights[:, i] - world[i] for i in range(3)]
    squared = dot(way, way)
    lamp = dot(normal, way).clamp_(min=0) * squared.rsqrt() / (1 + 0.12 * squared)
    lamp = lamp * maps.lit(room, way, surface.winner)
    sky = 0.5 + 0.5 * dot(normal, [lights[:, 6], lights[:, 7], lights[:, 8]])
    opening = torch.ones_like(sky)
    for i in range(3):
        gap = shell[:, 3 + i] - (world[i] - shell[:, i]).abs()
        opening = opening * (1 - 0.35 * (1 - normal[i].abs()) * torch.exp(-5 * gap))
    return [(lights[:, 12] + lights[:, 3 + i] * lamp + lights[:, 9 + i] * sky) * opening for i in range(3)]


def lamp_maps(stage: Stage) -> LampMaps:
    """Wide enough to hold the floor and, of the walls, what is lower than a third of the lamp's height."""
    lamp, half = stage.lights[:, :3], stage.shells[:, 3:5]
    focal = 0.5 * SHADOW_MAP * lamp[:, 2:] / (1.5 * (half + lamp[:, :2].abs()))
    # x stays x; the picture's y and the way the lamp looks are the world's -y and -z.
    poses = torch.diag(lamp.new_tensor([1.0, -1.0, -1.0, 1.0])).repeat(len(lamp), 1, 1)
    poses[:, :3, 3] = lamp
    intrinsics = torch.diag(lamp.new_ones(3)).repeat(len(lamp), 1, 1)
    intrinsics[:, [0, 1], [0, 1]] = focal
    intrinsics[:, :2, 2] = 0.5 * SHADOW_MAP
    cameras = Cameras(torch.arange(len(lamp), device=lamp.device), poses, intrinsics)
    size = (SHADOW_MAP, SHADOW_MAP)
    depth, solid = (
        untile(x[:, None], size).squeeze(1) for x in nearest_solid(stage, cameras, tile_rays(intrinsics, size), size)
    )
    return LampMaps(depth, solid, focal)
