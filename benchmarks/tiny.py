"""The embedded model on rooms it never saw, beside two baselines; the last line is JSON.

    python benchmarks/tiny.py [--scenes 64] [--views 4] [--model FOLDER] [--real FOLDER_OF_SCENES]

absrel and delta1: one scale per scene, the best for AbsRel. rotation_deg_median: over all pairs of views. auc30: AUC@30,
percent, mean over scenes. Baselines: the best constant depth of each scene; identity poses.
With --real, also every folder with a scene.json below the given one (at most 8 views of each), scene by scene.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from g2vlm import hub
from g2vlm.data.readers.scene_json import read_scene
from g2vlm.data.recon import sample_nearest, valid
from g2vlm.data.scenes import TEST_SEEDS, rooms
from g2vlm.eval.geometry import SceneScores, Summary, blind, score, summarise
from g2vlm.predictor import Predictor

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--model", default=None)
    parser.add_argument("--real", type=Path, default=None)
    options = parser.parse_args()
    predictor = hub.load(options.model)

    started = time.perf_counter()
    pairs = list(room_scores(predictor, options.scenes, options.views))
    seconds = time.perf_counter() - started
    model, baseline = (summarise(column) for column in zip(*pairs, strict=True))
    size = predictor.model.config.resolution
    print(f"{options.scenes} held-out rooms, {options.views} views of {size} x {size}")
    table({"model": model, "constant depth, identity poses": baseline})
    if options.real is not None:
        real(predictor, options.real)
    print(
        json.dumps(
            {
                **picked(model),
                "baselines": {
                    "constant_depth": {name: picked(baseline)[name] for name in ("absrel", "delta1")},
                    "identity_poses": {name: picked(baseline)[name] for name in ("rotation_deg_median", "auc30")},
                },
                "scenes": options.scenes,
                "views": options.views,
                "seconds": round(seconds, 2),
                "checkpoint_sha256": predictor.checkpoint_sha256,
            }
        )
    )


def room_scores(predictor: Predictor, scenes: int, views: int) -> Iterator[tuple[SceneScores, SceneScores]]:
    """(model, baseline) for each held-out room, photographed at the model's own resolution."""
    size = predictor.model.config.resolution
    for first in range(0, scenes, BATCH):
        seeds = TEST_SEEDS[first : min(first + BATCH, scenes)]
        truth = rooms(seeds, num_views=views, height=size, width=size).views
        assert truth.depth is not None
        assert truth.mask is not None
        assert truth.poses is not None
        for index in range(len(seeds)):
            geometry = predictor.geometry(list(truth.images[index]))
            depth = [points[..., 2].numpy() for points in geometry.local_points]
            true_depth, masks = list(truth.depth[index].numpy()), list(truth.mask[index].numpy())
            true_poses = truth.poses[index].numpy()
            known = (true_depth, masks, true_poses)
            yield score(depth, geometry.poses.numpy(), *known), score(*blind(true_depth, views), *known)


def real(predictor: Predictor, folder: Path) -> None:
    """Print each real scene's row, and the means; the pictures never leave their folder."""
    rows: dict[str, tuple[SceneScores, SceneScores]] = {}
    for file in sorted(folder.glob("*/scene.json")):
        scene = read_scene(file.parent, max_frames=8)
        shots = [frame.read() for frame in scene.frames]
        result = predictor.reconstruct([Image.fromarray(shot.image) for shot in shots])
        depths = [shot.depth for shot in shots if shot.depth is not None]
        poses = [frame.pose for frame in scene.frames if frame.pose is not None]
        true_depth = masks = None
        if len(depths) == len(scene.frames):
            sizes = [(depth.shape[0], depth.shape[1]) for depth in result.depth]
            true_depth = [sample_nearest(depth, size) for depth, size in zip(depths, sizes, strict=True)]
            masks = [valid(depth) for depth in true_depth]
        known = (true_depth, masks, np.stack(poses) if len(poses) == len(scene.frames) else None)
        rows[scene.name] = (
            score(result.depth, result.poses, *known),
            score(*blind(true_depth, len(scene.frames)), *known),
        )
    print(f"\n{len(rows)} real scenes: model | baseline")
    for name, (ours, base) in rows.items():
        print(f"  {name:30s} {cells(summarise([ours]))} | {cells(summarise([base]))}")
    ours, base = (summarise(column) for column in zip(*rows.values(), strict=True))
    print(f"  {'mean':30s} {cells(ours)} | {cells(base)}\n")


def table(rows: dict[str, Summary]) -> None:
    print(f"{'':32s}   absrel  delta1  rot deg  auc@30")
    for name, row in rows.items():
        print(f"{name:32s} {cells(row)}")


def cells(row: Summary) -> str:
    return f"{row.absrel:8.3f}{row.delta1:8.3f}{row.rotation_deg_median:9.2f}{row.auc30:8.1f}"


def picked(row: Summary) -> dict[str, float]:
    return {name: round(getattr(row, name), 4) for name in ("absrel", "delta1", "rotation_deg_median", "auc30")}


if __name__ == "__main__":
    main()
