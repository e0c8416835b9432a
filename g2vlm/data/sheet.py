"""One picture that shows what a scene holds: photos, depth in colours, and the cameras seen from above."""

import io
import textwrap

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from g2vlm.data.check import SceneCheck
from g2vlm.data.recon import Frame, Scene, Shot, valid
from g2vlm.drawing import FAINT, INK, PAPER, depth_colours, depth_range, even_colours, panel

PANEL, GAP, LINE = 240, 12, 22
PLAN = 2 * PANEL
POINTS = 64
"""Points of each view that are drawn in the plan, along each side."""


def scene_sheet(scene: Scene, num_views: int, found: SceneCheck) -> bytes:
    """PNG of at most so many views, evenly spread; one range of depth for all, near is bright, grey is unknown."""
    if num_views < 1:
        raise ValueError(f"{num_views} views cannot be drawn; ask for at least 1")
    count = len(scene.frames)
    frames = [scene.frames[i] for i in np.unique(np.linspace(0, count - 1, min(num_views, count)).round().astype(int))]
    shots = [frame.read() for frame in frames]
    known = [shot.depth for shot in shots if shot.depth is not None]
    depths = depth_range(known, [valid(depth) for depth in known]) if known else None
    columns: list[list[Image.Image]] = []
    for shot in shots:
        column = [panel(shot.image, PANEL)]
        if shot.depth is not None and depths is not None:
            column.append(panel(depth_colours(shot.depth, valid(shot.depth), depths), PANEL))
        columns.append(column)
    heights = [
        max(column[row].height for column in columns if len(column) > row) + GAP for row in range(2 if known else 1)
    ]
    plan = _plan(scene, frames, shots)
    width = max(len(columns) * (PANEL + GAP), PLAN + 2 * GAP + 440)
    page = Image.new("RGB", (GAP + width, 2 * GAP + LINE + sum(heights) + plan.height), PAPER)
    draw = ImageDraw.Draw(page)
    for i, (column, frame) in enumerate(zip(columns, frames, strict=True)):
        left, top = GAP + i * (PANEL + GAP), GAP
        draw.text((left, top), _shortened(f"{i}  {frame.name.removeprefix(scene.name + '/')}", 32), INK, _font(14))
        top += LINE
        for image, height in zip(column, heights[: len(column)], strict=True):
            page.paste(image, (left, top))
            top += height
    top = GAP + LINE + sum(heights)
    page.paste(plan, (GAP, top))
    for line in _facts(scene, depths and (depths.near, depths.far), found):
        for piece in textwrap.wrap(line, (width - PLAN) // 8, subsequent_indent="    "):
            draw.text((2 * GAP + PLAN, top), piece, INK if line == scene.name else FAINT, _font(14))
            top += LINE
    stream = io.BytesIO()
    page.save(stream, "PNG")
    return stream.getvalue()


def _facts(scene: Scene, depths: tuple[float, float] | None, found: SceneCheck) -> list[str]:
    unit = " m" if scene.is_metric else ""
    counts = ", ".join(
        f"{sum(getattr(frame, part) is not None for frame in scene.frames)} with {name}"
        for part, name in (("depth", "depth"), ("pose", "poses"), ("intrinsics", "intrinsics"))
    )
    order = "in order of time" if scene.is_sequence else "in no order"
    facts = [
        scene.name,
        f"source: {scene.source}",
        f"licence: {scene.licence}",
        f"{len(scene.frames)} frames {order}: {counts}",
        "lengths in metres" if scene.is_metric else "lengths in a unit of its own",
    ]
    if depths is not None:
        kind = "fine" if scene.has_fine_depth else "sparse or rough"
        facts.append(f"depth: {kind}, {depths[0]:.3g} to {depths[1]:.3g}{unit} (2 to 98 % of the pixels)")
    return [*facts, *found.lines()]


def _plan(scene: Scene, frames: list[Frame], shots: list[Shot]) -> Image.Image:
    """Positions of all cameras from above, the views shown with numbers and their fields of view, points of their depth."""
    page = Image.new("RGB", (PLAN, PLAN), "#f4f4f4")
    draw = ImageDraw.Draw(page)
    poses = [frame.pose for frame in scene.frames if frame.pose is not None]
    if not poses:
        draw.text((GAP, GAP), "poses are not known", FAINT, _font(14))
        return page
    axes = _ground(np.stack(poses))
    cameras = np.stack([pose[:3, 3] @ axes.T for pose in poses])
    clouds = [_cloud(frame, shot, axes) for frame, shot in zip(frames, shots, strict=True)]
    points = np.concatenate([cloud for cloud, _ in clouds])
    low, high = _bounds(cameras, points)
    scale = (PLAN - 4 * GAP) / max((high - low).max(), 1e-9)
    middle = (low + high) / 2

    def place(point: Float[np.ndarray, "2"]) -> tuple[float, float]:
        x, y = (point - middle) * scale
        return PLAN / 2 + float(x), PLAN / 2 + float(y)

    for cloud, colours in clouds:
        for point, colour in zip(cloud, colours, strict=True):
            draw.point(place(point), tuple(int(c) for c in colour))
    for position in cameras:
        x, y = place(position)
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), "#999999")
    for i, frame in enumerate(frames):
        if frame.pose is not None:
            _camera(draw, place, frame.pose, axes, str(i), i / max(len(frames) - 1, 1), 22 / scale)
    _scale_bar(draw, scale, scene.is_metric)
    return page


def _camera(draw: ImageDraw.ImageDraw, place, pose, axes, label: str, share: float, length: float) -> None:
    """A wedge from where the camera stands to where it looks."""
    colour = tuple(int(c) for c in even_colours(np.array(0.75 * share)))
    corners = [np.array([0.0, 0, 0]), np.array([-0.35, 0, 1]) * length, np.array([0.35, 0, 1]) * length]
    places = [place((pose[:3, :3] @ corner + pose[:3, 3]) @ axes.T) for corner in corners]
    draw.polygon(places, outline=colour, width=2)
    draw.text(places[0], label, colour, _font(14), anchor="mm", stroke_width=2, stroke_fill=PAPER)


def _scale_bar(draw: ImageDraw.ImageDraw, scale: float, is_metric: bool) -> None:
    """Of a round length near a fifth of the plan."""
    wanted = PLAN / 5 / scale
    power = 10.0 ** np.floor(np.log10(wanted))
    length = power * max(step for step in (1, 2, 5) if step * power <= wanted)
    bottom = PLAN - GAP
    draw.line((GAP, bottom, GAP + length * scale, bottom), INK, 2)
    draw.text((GAP, bottom - LINE), f"{length:g}" + (" m" if is_metric else " units"), INK, _font(14))


def _ground(poses: Float[np.ndarray, "frames 4 4"]) -> Float[np.ndarray, "2 3"]:
    """Two axes of the plane on which the cameras stand upright, on average; the first view looks upwards in the plan."""
    up = -poses[:, :3, 1].mean(0)
    up = up / max(np.linalg.norm(up), 1e-9)
    ahead = poses[0, :3, 2] - up * (poses[0, :3, 2] @ up)
    if np.linalg.norm(ahead) < 1e-3:  # it looks straight down or up
        ahead = poses[0, :3, 0]
    ahead = ahead / np.linalg.norm(ahead)
    return np.stack([np.cross(ahead, up), -ahead])


def _cloud(
    frame: Frame, shot: Shot, axes: Float[np.ndarray, "2 3"]
) -> tuple[Float[np.ndarray, "points 2"], np.ndarray]:
    """Points of a view on the ground plane, and their colours, lightened."""
    if shot.depth is None or frame.pose is None or frame.intrinsics is None:
        return np.zeros((0, 2)), np.zeros((0, 3))
    height, width = shot.depth.shape
    rows, columns = (np.linspace(0, n - 1, min(n, POINTS)).astype(int) for n in (height, width))
    rows, columns = (index.ravel() for index in np.meshgrid(rows, columns, indexing="ij"))
    depth = shot.depth[rows, columns]
    rows, columns, depth = (values[depth > 0] for values in (rows, columns, depth))
    x = (columns + 0.5 - frame.intrinsics[0, 2]) / frame.intrinsics[0, 0]
    y = (rows + 0.5 - frame.intrinsics[1, 2]) / frame.intrinsics[1, 1]
    local = np.stack([x, y, np.ones_like(x)], axis=1) * depth[:, None]
    world = local @ frame.pose[:3, :3].T + frame.pose[:3, 3]
    return world @ axes.T, shot.image[rows, columns]


def _bounds(cameras: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of all cameras and most points."""
    everything = cameras
    if len(points):
        everything = np.concatenate([cameras, np.percentile(points, [2, 98], axis=0)])
    return everything.min(0), everything.max(0)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 16]}...{text[-13:]}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
