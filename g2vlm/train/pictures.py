"""Sheets for people: what the model says of a few fixed samples at some step, beside the truth."""

import io
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from g2vlm.data.packs import Packs
from g2vlm.data.samples import Pack, to_device
from g2vlm.data.scenes import VALIDATION_SEEDS
from g2vlm.data.sources import RoomQuestionSource, RoomSource
from g2vlm.drawing import FAINT, INK, PAPER, depth_colours, depth_range, panel
from g2vlm.geometry.align import robust_scale
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import in_first_frame, pose_from, transform
from g2vlm.model import G2VLMOutput
from g2vlm.records import Geometry, Views
from g2vlm.train.learner import Totals
from g2vlm.train.parallel import Engine

NUM_SAMPLES = 2
MOST_VIEWS = 3
SEARCHED = 50
"""Packs of a run that are looked through for samples with a truth."""

PANEL, SQUARE, GAP, HEADER, CAPTION = 160, 400, 8, 52, 22
BACKGROUND = 245


def fixed_samples(packs: Packs) -> tuple[Pack, ...]:
    """Packs of one sample each: rooms that nothing learns from, or else the first samples with geometry of the run."""
    rooms = [source for source in packs.sources if isinstance(source, RoomSource | RoomQuestionSource)]
    if not rooms:
        found = (
            replace(pack, samples=(sample,))
            for pack in map(packs.__getitem__, range(SEARCHED))
            for sample in pack.samples
            if sample.has_geometry
        )
        return tuple(itertools.islice(found, NUM_SAMPLES))
    source = replace(rooms[0], seeds=VALIDATION_SEEDS, colour=0.0)
    height, width = packs.shapes.side(sum(packs.shapes.aspects) / 2), packs.shapes.resolution
    _, most = packs.shapes.views_of(source.num_views)
    bucket = replace(packs.plan(0).bucket, num_views=min(most, MOST_VIEWS), height=height, width=width)
    draws = (random.Random(f"picture {number}") for number in range(NUM_SAMPLES))
    return tuple(Pack(0, source.name, (source.sample(draw, bucket),)) for draw in draws)


@torch.no_grad()
def predict(engine: Engine, pack: Pack) -> Geometry:
    """The geometry of the only sample of a pack.

    By way of the whole module, as in a step, for engines gather weights when it is called; so every process has to call this.
    """
    outputs: list[G2VLMOutput] = []

    def keep(_model: nn.Module, _inputs: tuple, output: G2VLMOutput) -> None:
        outputs.append(output)

    handle = engine.learner.model.register_forward_hook(keep)
    engine.module.eval()
    with handle, engine.precision():
        engine.module(to_device(pack, engine.device), Totals(scenes=1, answers=1))
    engine.module.train()
    assert outputs[0].geometry is not None
    return outputs[0].geometry


def draw(engine: Engine, packs: Sequence[Pack], out: Path, step: int) -> None:
    """Write `out/step_N.png`; every process predicts, the first one draws."""
    scenes = [(pack.samples[0].name, _truth(pack), predict(engine, pack)) for pack in packs]
    if engine.rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        sheet(f"step {step}", scenes).save(buffer, "PNG")
        (out / f"step_{step:07d}.png").write_bytes(buffer.getvalue())


def _truth(pack: Pack) -> Views:
    views = pack.samples[0].views
    assert views is not None
    return views


# --- one scene as arrays ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cloud:
    """Points on the floor below them, right and ahead of the first camera, the highest first; with their colours.

    cameras: where each camera is, and a point ahead of it.
    """

    points: Float[np.ndarray, "points 2"]
    colours: UInt8[np.ndarray, "points 3"]
    cameras: Float[np.ndarray, "views 2 2"]


@dataclass(frozen=True)
class Compared:
    """Prediction and truth of a scene under one scale, the one that is best for the relative error of depth.

    absrel: NaN where no depth is known.
    """

    images: UInt8[np.ndarray, "views height width 3"]
    depth: Float[np.ndarray, "views height width"]
    true_depth: Float[np.ndarray, "views height width"]
    mask: Bool[np.ndarray, "views height width"]
    absrel: float
    cloud: Cloud
    true_cloud: Cloud | None


def compare(truth: Views, geometry: Geometry) -> Compared:
    """The truth may lack depth, intrinsics or poses; what is then unknown is left grey."""
    truth = to_device(truth, torch.device("cpu"))
    local = torch.stack([points.float().cpu() for points in geometry.local_points])
    true_depth = torch.zeros(local.shape[:3]) if truth.depth is None else truth.depth
    mask = true_depth > 0 if truth.mask is None else truth.mask & (true_depth > 0)
    d, t = local[..., 2][mask], true_depth[mask]
    is_finite = d.isfinite()
    scale = robust_scale(d[is_finite], t[is_finite], 1 / t[is_finite]) if is_finite.any() else torch.ones(())
    images = (truth.images * 255).round().byte().permute(0, 2, 3, 1)
    poses = in_first_frame(geometry.poses.float().cpu())
    poses = pose_from(poses[:, :3, :3], scale * poses[:, :3, 3])
    true_poses = None if truth.poses is None else in_first_frame(truth.poses)
    directions = upright(poses if true_poses is None else true_poses)
    true_cloud = None
    if true_poses is not None and truth.intrinsics is not None and mask.any():
        true_cloud = cloud(unproject(true_depth, truth.intrinsics), mask, true_poses, images, directions)
    return Compared(
        images=images.numpy(),
        depth=(scale * local[..., 2]).numpy(),
        true_depth=true_depth.numpy(),
        mask=mask.numpy(),
        absrel=((scale * d - t).abs() / t)[is_finite].mean().item(),
        cloud=cloud(scale * local, mask if mask.any() else torch.ones_like(mask), poses, images, directions),
        true_cloud=true_cloud,
    )


def upright(poses: Float[Tensor, "views 4 4"]) -> Float[Tensor, "3 3"]:
    """Directions right of the first camera, ahead of it, and up, if cameras are held upright on average."""
    up = torch.nn.functional.normalize(-poses[:, :3, 1].mean(0), dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(poses[0, :3, 2], up), dim=0)
    return torch.stack([right, torch.linalg.cross(up, right), up])


def cloud(
    local: Float[Tensor, "views height width 3"],
    mask: Bool[Tensor, "views height width"],
    poses: Float[Tensor, "views 4 4"],
    images: UInt8[Tensor, "views height width 3"],
    directions: Float[Tensor, "3 3"],
) -> Cloud:
    """Point maps in their cameras' frames, from above."""
    mask = mask & local.isfinite().all(-1)
    points = transform(poses, local)[mask] @ directions.mT
    order = points[:, 2].argsort(descending=True)
    ends = torch.stack([poses[:, :3, 3], poses[:, :3, 3] + poses[:, :3, 2]], dim=1) @ directions.mT
    return Cloud(points[order, :2].numpy(), images[mask][order].numpy(), ends[..., :2].numpy())


# --- the sheet -------------------------------------------------------------------------------------------------------

TITLES = ("photo", "true depth", "predicted depth", "true points from above", "predicted points from above")
WIDTHS = (PANEL, PANEL, PANEL, SQUARE, SQUARE)
LEFTS = tuple(GAP + sum(WIDTHS[:column]) + column * GAP for column in range(len(WIDTHS)))


def sheet(title: str, scenes: Sequence[tuple[str, Views, Geometry]]) -> Image.Image:
    """One block per scene: a row per view with photo and depth, and both point maps from above on the same square."""
    blocks = [_block(name, compare(_few(truth), _few_maps(geometry))) for name, truth, geometry in scenes]
    page = Image.new("RGB", (blocks[0].width, HEADER + sum(block.height for block in blocks)), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((GAP, 6), title, INK, ImageFont.load_default(18))
    for left, text in zip(LEFTS, TITLES, strict=True):
        pen.text((left, 32), text, FAINT, ImageFont.load_default(13))
    top = HEADER
    for block in blocks:
        page.paste(block, (0, top))
        top += block.height
    return page


def _few(truth: Views) -> Views:
    few: dict[str, Any] = {name: x if x is None else x[:MOST_VIEWS] for name, x in vars(truth).items()}
    return Views(**few)


def _few_maps(geometry: Geometry) -> Geometry:
    return Geometry(geometry.local_points[:MOST_VIEWS], geometry.poses[:MOST_VIEWS])


def _block(name: str, scene: Compared) -> Image.Image:
    everywhere = [np.isfinite(depth) & (depth > 0) for depth in scene.depth]
    shown = (scene.true_depth, scene.mask) if scene.mask.any() else (scene.depth, everywhere)
    depths = depth_range(*map(list, shown))
    rows = [
        [
            panel(scene.images[view], PANEL),
            panel(depth_colours(scene.true_depth[view], scene.mask[view], depths), PANEL),
            panel(depth_colours(scene.depth[view], everywhere[view], depths), PANEL),
        ]
        for view in range(len(scene.images))
    ]
    height = max(sum(row[0].height + GAP for row in rows), SQUARE + GAP)
    page = Image.new("RGB", (LEFTS[-1] + SQUARE + GAP, CAPTION + height), PAPER)
    error = "no true depth" if math.isnan(scene.absrel) else f"AbsRel {scene.absrel:.3f}"
    text = f"{error}   depth {depths.near:.3g} to {depths.far:.3g}   {name}"
    ImageDraw.Draw(page).text((GAP, 2), text, INK, ImageFont.load_default(13))
    top = CAPTION
    for row in rows:
        for left, image in zip(LEFTS[:3], row, strict=True):
            page.paste(image, (left, top))
        top += row[0].height + GAP
    square = Square.around(scene.cloud if scene.true_cloud is None else scene.true_cloud)
    for left, seen in zip(LEFTS[3:], (scene.true_cloud, scene.cloud), strict=True):
        page.paste(from_above(seen, square), (left, CAPTION))
    return page


@dataclass(frozen=True)
class Square:
    """A part of the floor: its middle and the length of its sides."""

    middle: Float[np.ndarray, "2"]
    side: float

    @classmethod
    def around(cls, seen: Cloud) -> "Square":
        """Holds 96 of 100 points in each direction, and all cameras."""
        places = seen.cameras[:, 0]
        low, high = np.percentile(seen.points if len(seen.points) else places, [2, 98], axis=0)
        low, high = np.minimum(low, places.min(0)), np.maximum(high, places.max(0))
        return cls((low + high) / 2, float(max((high - low).max() * 1.15, 1e-6)))

    def pixels(self, points: Float[np.ndarray, "*shape 2"]) -> Float[np.ndarray, "*shape 2"]:
        """Columns and rows; ahead is up."""
        return ((points - self.middle) / self.side * [1, -1] + 0.5) * SQUARE


def from_above(seen: Cloud | None, square: Square) -> Image.Image:
    """Points in the colours of their photos, and a red tick for each camera."""
    pixels = np.full((SQUARE, SQUARE, 3), BACKGROUND, np.uint8)
    if seen is not None:
        at = square.pixels(seen.points)
        inside = ((at >= 0) & (at < SQUARE - 1)).all(-1)
        column, row = at[inside].astype(int).T
        for down, right in itertools.product((0, 1), repeat=2):  # the lowest come last: a ceiling hides nothing
            pixels[row + down, column + right] = seen.colours[inside]
    image = Image.fromarray(pixels)
    if seen is not None:
        pen = ImageDraw.Draw(image)
        for place, ahead in square.pixels(seen.cameras):
            towards = (ahead - place) / max(float(np.linalg.norm(ahead - place)), 1e-6)
            pen.line([tuple(place), tuple(place + 14 * towards)], "red", 2)
            pen.ellipse([tuple(place - 4), tuple(place + 4)], "red")
    return image
