"""Furniture of procedural rooms: what each kind of object is made of, drawn at random; pure Python.

A builder returns the parts of an object in its own frame (x right, y back, z up, metres, origin on the floor in the
middle; the front looks to -y) and the object's size along these axes.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

Triple = tuple[float, float, float]

COLOURS: dict[str, Triple] = {
    "red": (0.76, 0.13, 0.12),
    "orange": (0.92, 0.48, 0.12),
    "yellow": (0.93, 0.80, 0.22),
    "green": (0.20, 0.52, 0.22),
    "teal": (0.10, 0.55, 0.56),
    "blue": (0.14, 0.30, 0.70),
    "purple": (0.45, 0.22, 0.58),
    "pink": (0.92, 0.55, 0.66),
    "brown": (0.42, 0.26, 0.14),
    "beige": (0.82, 0.72, 0.56),
    "white": (0.93, 0.93, 0.91),
    "gray": (0.50, 0.51, 0.53),
    "black": (0.10, 0.10, 0.11),
}
WOODS: tuple[Triple, ...] = ((0.55, 0.36, 0.20), (0.72, 0.53, 0.33), (0.36, 0.22, 0.13), (0.80, 0.66, 0.46))
METALS: tuple[Triple, ...] = ((0.15, 0.15, 0.16), (0.62, 0.63, 0.65), (0.85, 0.85, 0.84))


class Material(NamedTuple):
    """Two colours mixed by a pattern; the four weights say how much each pattern moves from `base` to `other`.

    frequency: cells per metre along the primitive's own axes. A seam is a line of relative width `seam_width` at each
    cell's border; 0 cells per metre switch an axis off.
    """

    base: Triple
    other: Triple
    frequency: Triple = (1.0, 1.0, 1.0)
    checker: float = 0.0
    seam: float = 0.0
    cell: float = 0.0
    noise: float = 0.0
    seam_width: float = 0.05
    noise_frequency: float = 3.0
    glow: float = 0.0


class Part(NamedTuple):
    """A convex primitive inside the axis-aligned box `centre` +- `half` of its object.

    kind: "box", "ellipsoid" or "cone"; a cone has relative radius `bottom` below and `top` above (1, 1: a cylinder).
    """

    kind: str
    centre: Triple
    half: Triple
    material: Material
    bottom: float = 1.0
    top: float = 1.0


# Materials


def scaled(colour: Triple, factor: float) -> Triple:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def blend(a: Triple, b: Triple, share: float) -> Triple:
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2])


def varied(draw: Random, colour: Triple) -> Triple:
    return tuple(min(1.0, max(0.02, c * draw.uniform(0.88, 1.12))) for c in colour)  # type: ignore[return-value]


def plain(draw: Random, colour: Triple) -> Material:
    colour = varied(draw, colour)
    return Material(colour, scaled(colour, 0.8), noise=draw.uniform(0.0, 0.4), noise_frequency=draw.uniform(3.0, 9.0))


def wood(draw: Random, colour: Triple, *, is_upright: bool = False) -> Material:
    """Grain along the width, or along the height of what stands upright."""
    colour = varied(draw, colour)
    grain = (12.0, 12.0, 0.7) if is_upright else (0.7, 12.0, 12.0)
    return Material(colour, scaled(colour, 0.62), grain, seam=0.25, cell=0.4, noise=0.3, seam_width=0.08)


def fabric(draw: Random, colour: Triple) -> Material:
    colour = varied(draw, colour)
    kind = draw.random()
    if kind < 0.45:
        return plain(draw, colour)
    other = blend(colour, draw.choice(((1.0, 1.0, 1.0), (0.1, 0.1, 0.1))), 0.45)
    f = draw.uniform(4.0, 9.0)
    if kind < 0.7:
        return Material(colour, other, (f, f, f), checker=0.8)
    return Material(colour, other, (f, 0.0, 0.0), checker=0.9)


def metal(draw: Random) -> Material:
    colour = draw.choice(METALS)
    return Material(colour, colour)


# Builders

Built = tuple[list[Part], Triple]
Builder = Callable[[Random, Triple], Built]


def box(x: float, y: float, z: float, width: float, depth: float, height: float, material: Material) -> Part:
    """Middle of the base at (x, y, z)."""
    return Part("box", (x, y, z + height / 2), (width / 2, depth / 2, height / 2), material)


def cone(
    x: float,
    y: float,
    z: float,
    radius: float,
    height: float,
    material: Material,
    bottom: float = 1.0,
    top: float = 1.0,
) -> Part:
    """Middle of the base at (x, y, z); a cylinder unless `bottom` or `top` is below 1."""
    return Part("cone", (x, y, z + height / 2), (radius, radius, height / 2), material, bottom, top)


def ellipsoid(x: float, y: float, z: float, width: float, depth: float, height: float, material: Material) -> Part:
    """Lowest point at (x, y, z)."""
    return Part("ellipsoid", (x, y, z + height / 2), (width / 2, depth / 2, height / 2), material)


def four_legs(width: float, depth: float, height: float, thickness: float, material: Material) -> list[Part]:
    x, y = (width - thickness) / 2, (depth - thickness) / 2
    return [box(i * x, j * y, 0, thickness, thickness, height, material) for i in (-1, 1) for j in (-1, 1)]


def table(draw: Random, colour: Triple) -> Built:
    top = wood(draw, colour) if draw.random() < 0.4 else plain(draw, colour)
    height = draw.choice((draw.uniform(0.38, 0.5), draw.uniform(0.68, 0.78)))
    if draw.random() < 0.35:
        radius = draw.uniform(0.35, 0.6)
        leg = metal(draw)
        return [
            cone(0, 0, height - 0.05, radius, 0.05, top),
            cone(0, 0, 0.03, 0.05, height - 0.08, leg),
            cone(0, 0, 0, radius * 0.6, 0.08, leg, top=0.15),
        ], (2 * radius, 2 * radius, height)
    width, depth = draw.uniform(0.8, 1.6), draw.uniform(0.55, 0.9)
    leg = metal(draw) if draw.random() < 0.3 else top
    legs = four_legs(width - 0.06, depth - 0.06, height - 0.05, draw.uniform(0.04, 0.09), leg)
    return [box(0, 0, height - 0.05, width, depth, 0.05, top), *legs], (width, depth, height)


def chair(draw: Random, colour: Triple) -> Built:
    seat, frame = fabric(draw, colour), wood(draw, draw.choice(WOODS)) if draw.random() < 0.5 else metal(draw)
    width, depth, sit, height = draw.uniform(0.4, 0.5), draw.uniform(0.4, 0.5), 0.45, draw.uniform(0.8, 1.0)
    return [
        box(0, 0, sit - 0.06, width, depth, 0.06, seat),
        box(0, depth / 2 - 0.025, sit + 0.12, width, 0.05, height - sit - 0.12, seat),
        *four_legs(width, depth, sit - 0.06, 0.045, frame),
        box(-width / 2 + 0.02, depth / 2 - 0.025, sit, 0.04, 0.04, 0.12, frame),
        box(width / 2 - 0.02, depth / 2 - 0.025, sit, 0.04, 0.04, 0.12, frame),
    ], (width, depth, height)


def stool(draw: Random, colour: Triple) -> Built:
    radius, height = draw.uniform(0.17, 0.24), draw.uniform(0.42, 0.75)
    leg = metal(draw)
    return [
        cone(0, 0, height - 0.07, radius, 0.07, fabric(draw, colour)),
        cone(0, 0, 0.02, 0.035, height - 0.09, leg),
        cone(0, 0, 0, radius * 0.95, 0.05, leg, top=0.3),
    ], (2 * radius, 2 * radius, height)


def sofa(draw: Random, colour: Triple) -> Built:
    cloth, width, depth = fabric(draw, colour), draw.uniform(1.4, 2.2), draw.uniform(0.8, 0.95)
    height, arm, sit = draw.uniform(0.75, 0.9), draw.uniform(0.14, 0.22), draw.uniform(0.38, 0.45)
    cushion = fabric(draw, draw.choice(list(COLOURS.values())))
    return [
        box(0, 0, 0.06, width - 2 * arm, depth, sit - 0.06, cloth),
        box(0, depth / 2 - 0.11, sit, width - 2 * arm, 0.22, height - sit, cloth),
        box(-(width - arm) / 2, 0, 0.06, arm, depth, sit + 0.12, cloth),
        box((width - arm) / 2, 0, 0.06, arm, depth, sit + 0.12, cloth),
        ellipsoid(draw.uniform(-0.3, 0.3) * width, depth / 2 - 0.3, sit, 0.42, 0.18, 0.36, cushion),
    ], (width, depth, height)


def bed(draw: Random, colour: Triple) -> Built:
    frame, width, length = wood(draw, draw.choice(WOODS)), draw.uniform(0.9, 1.6), draw.uniform(1.9, 2.1)
    white = plain(draw, COLOURS["white"])
    head = draw.uniform(0.75, 1.1)
    parts = [
        box(0, 0, 0.05, width, length, 0.25, frame),
        box(0, -0.02, 0.3, width - 0.06, length - 0.1, 0.18, white),
        box(0, -0.25, 0.31, width - 0.02, length - 0.52, 0.2, fabric(draw, colour)),
        box(0, length / 2 - 0.03, 0.3, width, 0.06, head - 0.3, frame),
    ]
    pillows = (0.0,) if width < 1.2 else (-width / 4, width / 4)
    parts += [ellipsoid(x, length / 2 - 0.3, 0.46, 0.55, 0.36, 0.16, white) for x in pillows]
    return parts, (width, length, head)


def shelf(draw: Random, colour: Triple) -> Built:
    board = wood(draw, colour) if draw.random() < 0.5 else plain(draw, colour)
    width, depth, height = draw.uniform(0.7, 1.3), draw.uniform(0.28, 0.4), draw.uniform(1.0, 2.1)
    levels = max(2, round(height / 0.42))
    step = (height - 0.03) / levels
    parts = [
        box(0, depth / 2 - 0.01, 0, width, 0.02, height, board),
        box(-width / 2 + 0.015, 0, 0, 0.03, depth, height, board),
        box(width / 2 - 0.015, 0, 0, 0.03, depth, height, board),
        *(box(0, 0, i * step, width - 0.06, depth, 0.03, board) for i in range(levels + 1)),
    ]
    for i in range(levels):
        if draw.random() < 0.75:
            one, other = draw.sample(list(COLOURS.values()), 2)
            books = Material(one, other, (draw.uniform(14.0, 24.0), 0.0, 0.0), cell=1.0, seam=0.2)
            span = draw.uniform(0.3, 0.85) * (width - 0.08)
            shift = draw.uniform(-0.5, 0.5) * (width - 0.08 - span)
            parts.append(box(shift, 0.02, i * step + 0.03, span, depth * 0.65, step * draw.uniform(0.5, 0.8), books))
    return parts, (width, depth, height)


def cabinet(draw: Random, colour: Triple) -> Built:
    body = wood(draw, colour, is_upright=draw.random() < 0.5) if draw.random() < 0.4 else plain(draw, colour)
    width, depth, height = draw.uniform(0.6, 1.4), draw.uniform(0.38, 0.5), draw.uniform(0.5, 1.3)
    knob, num_doors = metal(draw), draw.choice((1, 2, 2, 3))
    door = width / num_doors
    front = body._replace(base=blend(body.base, (1.0, 1.0, 1.0), 0.15))
    parts = [box(0, 0.035, 0, width, depth - 0.03, height, body)]
    for i in range(num_doors):
        x = (i - (num_doors - 1) / 2) * door
        parts.append(box(x, -depth / 2 + 0.035, 0.05, door - 0.03, 0.03, height - 0.08, front))
        parts.append(ellipsoid(x + door * 0.32, -depth / 2 + 0.01, height * 0.55, 0.05, 0.05, 0.05, knob))
    return parts, (width, depth + 0.04, height)


def wardrobe(draw: Random, colour: Triple) -> Built:
    body = wood(draw, colour, is_upright=True) if draw.random() < 0.5 else plain(draw, colour)
    width, depth, height = draw.uniform(0.9, 1.6), draw.uniform(0.5, 0.62), draw.uniform(1.8, 2.15)
    knob = metal(draw)
    front = body._replace(base=blend(body.base, (1.0, 1.0, 1.0), 0.12))
    return [
        box(0, 0.035, 0, width, depth - 0.03, height, body),
        *(box(i * width / 4, -depth / 2 + 0.035, 0.06, width / 2 - 0.03, 0.03, height - 0.1, front) for i in (-1, 1)),
        *(box(i * 0.06, -depth / 2 + 0.01, height * 0.45, 0.02, 0.02, 0.2, knob) for i in (-1, 1)),
    ], (width, depth + 0.04, height)


def lamp(draw: Random, colour: Triple) -> Built:
    stand, radius, height = metal(draw), draw.uniform(0.17, 0.26), draw.uniform(1.3, 1.75)
    shade = Material(varied(draw, blend(colour, (1.0, 0.95, 0.85), 0.35)), colour, glow=0.5)
    return [
        cone(0, 0, 0, radius * 0.8, 0.04, stand),
        cone(0, 0, 0.04, 0.02, height - 0.3, stand),
        cone(0, 0, height - 0.32, radius, 0.32, shade, top=draw.uniform(0.4, 0.8)),
    ], (2 * radius, 2 * radius, height)


def plant(draw: Random, colour: Triple) -> Built:
    radius, height = draw.uniform(0.14, 0.22), draw.uniform(0.7, 1.5)
    leaf, pot = blend(colour, (0.35, 0.6, 0.2), draw.random()), plain(draw, draw.choice(list(COLOURS.values())))
    leaves = Material(leaf, scaled(leaf, 0.45), noise=1.0, noise_frequency=draw.uniform(12.0, 20.0))
    crown = radius * draw.uniform(1.2, 1.8)
    parts = [cone(0, 0, 0, radius, 0.32, pot, bottom=0.7)]
    if draw.random() < 0.5:
        parts.append(cone(0, 0, 0.3, crown, height - 0.3, leaves, top=0.0))
    else:
        parts.append(cone(0, 0, 0.3, 0.03, height - 0.3 - crown, plain(draw, COLOURS["brown"])))
        parts.append(ellipsoid(0, 0, height - 2 * crown * 0.9, 2 * crown, 2 * crown, 2 * crown * 0.9, leaves))
    widest = max(radius, crown)
    return parts, (2 * widest, 2 * widest, height)


def crate(draw: Random, colour: Triple) -> Built:
    size = (draw.uniform(0.25, 0.6), draw.uniform(0.25, 0.6), draw.uniform(0.2, 0.6))
    f = draw.uniform(4.0, 8.0)
    stripes = Material(varied(draw, colour), scaled(colour, 0.6), (0.0, 0.0, f), seam=0.7, cell=0.3, seam_width=0.12)
    return [box(0, 0, 0, *size, draw.choice((stripes, fabric(draw, colour))))], size


def ball(draw: Random, colour: Triple) -> Built:
    d = draw.uniform(0.25, 0.6)
    f = draw.uniform(2.0, 5.0)
    material = Material(varied(draw, colour), (0.93, 0.93, 0.9), (f, f, f), checker=draw.choice((0.0, 0.9)))
    return [ellipsoid(0, 0, 0, d, d, d, material)], (d, d, d)


def pouf(draw: Random, colour: Triple) -> Built:
    width, height = draw.uniform(0.5, 0.9), draw.uniform(0.35, 0.5)
    return [ellipsoid(0, 0, 0, width, width, height, fabric(draw, colour))], (width, width, height)


def drum(draw: Random, colour: Triple) -> Built:
    radius, height = draw.uniform(0.15, 0.32), draw.uniform(0.35, 0.65)
    return [cone(0, 0, 0, radius, height, fabric(draw, colour))], (2 * radius, 2 * radius, height)


def traffic_cone(draw: Random, colour: Triple) -> Built:
    radius, height = draw.uniform(0.15, 0.25), draw.uniform(0.4, 0.75)
    bands = Material(varied(draw, colour), (0.95, 0.95, 0.93), (0.0, 0.0, 2.2 / height), checker=1.0)
    return [
        box(0, 0, 0, 2 * radius, 2 * radius, 0.03, plain(draw, colour)),
        cone(0, 0, 0.03, radius * 0.85, height - 0.03, bands, top=0.1),
    ], (2 * radius, 2 * radius, height)


def vase(draw: Random, colour: Triple) -> Built:
    radius, height = draw.uniform(0.06, 0.12), draw.uniform(0.2, 0.4)
    clay = plain(draw, colour)
    return [
        ellipsoid(0, 0, 0, 2 * radius, 2 * radius, height * 0.75, clay),
        cone(0, 0, height * 0.65, radius * 0.6, height * 0.35, clay, bottom=0.6),
    ], (2 * radius, 2 * radius, height)


def television(draw: Random, colour: Triple) -> Built:
    width = draw.uniform(0.8, 1.3)
    height, black = width * 0.58, plain(draw, colour)
    screen = Material((0.1, 0.16, 0.26), (0.05, 0.06, 0.1), noise=1.0, noise_frequency=2.0, glow=0.3)
    return [
        box(0, 0, 0.08, width, 0.06, height, black),
        box(0, -0.032, 0.1, width - 0.05, 0.01, height - 0.05, screen),
        box(0, 0, 0, width * 0.4, 0.2, 0.08, black),
    ], (width, 0.2, height + 0.08)


def picture(draw: Random, colour: Triple) -> Built:
    width, height = draw.uniform(0.4, 1.1), draw.uniform(0.4, 0.9)
    art = Material(varied(draw, colour), draw.choice(list(COLOURS.values())), (4.0, 4.0, 5.0))
    art = art._replace(**draw.choice(({"noise": 1.0, "noise_frequency": 5.0}, {"checker": 1.0}, {"cell": 1.0})))
    return [
        box(0, 0.005, 0, width, 0.03, height, draw.choice((wood(draw, draw.choice(WOODS)), metal(draw)))),
        box(0, -0.01, 0.05, width - 0.1, 0.02, height - 0.1, art),
    ], (width, 0.04, height)


def window(draw: Random, colour: Triple) -> Built:
    width, height = draw.uniform(0.8, 1.8), draw.uniform(0.9, 1.3)
    frame = plain(draw, colour)
    sky = Material((0.75, 0.87, 1.0), (0.95, 0.97, 1.0), noise=1.0, noise_frequency=1.5, glow=0.75)
    return [
        box(0, 0.055, 0, width, 0.03, height, sky),
        *(box(0, 0.045, z, width, 0.05, 0.07, frame) for z in (0.0, height - 0.07)),
        *(box(x, 0.045, 0, 0.06, 0.05, height, frame) for x in (-width / 2 + 0.03, 0.0, width / 2 - 0.03)),
        box(0, 0, 0, width + 0.1, 0.14, 0.04, frame),
    ], (width + 0.1, 0.14, height)


def door(draw: Random, colour: Triple) -> Built:
    width, height = draw.uniform(0.8, 1.0), draw.uniform(1.98, 2.15)
    leaf = plain(draw, colour) if draw.random() < 0.5 else wood(draw, colour, is_upright=True)
    frame = plain(draw, COLOURS["white"])
    return [
        box(0, 0.03, 0, width + 0.14, 0.04, height + 0.07, frame),
        box(0, 0.015, 0, width, 0.03, height, leaf),
        *(box(0, 0, z * height, width * 0.65, 0.012, height * 0.36, leaf) for z in (0.1, 0.55)),
        ellipsoid(width * 0.4, -0.02, 1.0, 0.06, 0.06, 0.06, metal(draw)),
    ], (width + 0.14, 0.1, height + 0.07)


def ceiling_lamp(draw: Random, colour: Triple) -> Built:
    """A bulb around the origin, on a rod up to the ceiling CEILING_DROP above."""
    width, height = draw.uniform(0.25, 0.4), draw.uniform(0.14, 0.2)
    shine = Material(blend(colour, (1.0, 0.97, 0.9), 0.8), (1.0, 1.0, 1.0), glow=1.0)
    rod = CEILING_DROP - height / 2
    return [
        ellipsoid(0, 0, 0, width, width, height, shine),
        cone(0, 0, height, 0.012, rod, metal(draw)),
    ], (width, width, height + rod)


CEILING_DROP = 0.3
"""Metres from the middle of a ceiling lamp to the ceiling."""


def rug(draw: Random, colour: Triple) -> Built:
    cloth = fabric(draw, colour)
    if draw.random() < 0.35:
        radius = draw.uniform(0.6, 1.1)
        return [cone(0, 0, 0, radius, 0.015, cloth)], (2 * radius, 2 * radius, 0.015)
    width, depth = draw.uniform(1.2, 2.4), draw.uniform(0.9, 1.6)
    border = plain(draw, blend(colour, (0.1, 0.1, 0.1), 0.4))
    return [
        box(0, 0, 0, width, depth, 0.012, border),
        box(0, 0, 0.012, width - 0.2, depth - 0.2, 0.004, cloth),
    ], (width, depth, 0.016)


AGAINST_WALL: dict[str, Builder] = {
    "sofa": sofa, "bed": bed, "shelf": shelf, "cabinet": cabinet, "wardrobe": wardrobe
}  # fmt: skip
FREE: dict[str, Builder] = {
    "table": table, "chair": chair, "stool": stool, "lamp": lamp, "plant": plant, "box": crate, "ball": ball,
    "pouf": pouf, "drum": drum, "cone": traffic_cone,
}  # fmt: skip
ON_TOP: dict[str, Builder] = {"vase": vase, "television": television, "ball": ball, "box": crate}

OWN_COLOUR = {"window": "white", "television": "black", "plant": "green", "ceiling lamp": "white"}


def colour_name(draw: Random, class_name: str) -> str:
    """The colour of a new object; a quarter of them is brown, as furniture is."""
    chosen = draw.choice(list(COLOURS)) if draw.random() < 0.75 else "brown"
    return OWN_COLOUR.get(class_name, chosen)
