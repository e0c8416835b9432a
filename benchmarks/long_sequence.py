"""Drift, time and memory of long sequences: `python benchmarks/long_sequence.py [--views 300] [--seeds 3] [--scenes FOLDER ...]`.

Procedural walks once around a room, and folders with a scene.json. ATE: root mean square distance of the cameras from their true
places after the best similarity, in metres (or units of the scene) and in percent of the way's extent. Four ways to join the
same windows: chained by the pose of the last shared frame without scale (naive), by Sim(3) on shared points and cameras, with
loops closed, and, where it fits, one forward of all views. Every sequence runs in a process of its own; the last line is JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import g2vlm
from g2vlm.data import scenes
from g2vlm.data.readers.scene_json import read_scene
from g2vlm.geometry.align import similarity
from g2vlm.geometry.pose import invert
from g2vlm.pictures import Photo
from g2vlm.windows import Joiner


@dataclass(frozen=True)
class Row:
    """ates in the unit of the truth; extent: of the true way. mib: of the whole process at its peak."""

    name: str
    views: int
    windows: int
    loops: int
    naive: float
    sim3: float
    closed: float
    whole: float | None
    extent: float
    mib: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, nargs="+", default=[300])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenes", nargs="*", default=[])
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--overlap", type=int, default=4)
    parser.add_argument("--whole", type=int, default=32, help="one forward of all views, too, up to so many")
    parser.add_argument("--one", nargs=2, metavar=("SCENE", "VIEWS"), help="measure this alone")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(asdict(measured(options.one[0], int(options.one[1]), options))))
        return
    works = [(str(101_000_000 + seed), views) for views in options.views for seed in range(options.seeds)]
    works += [(scene, 0) for scene in options.scenes]
    print(
        f"{'sequence':<22}{'views':>6}{'windows':>9}{'loops':>7}{'extent':>8}  ATE: naive   sim3  closed  whole{'MiB':>8}{'s':>7}"
    )
    rows = []
    for scene, views in works:
        command = [sys.executable, __file__, "--one", scene, str(views), "--whole", str(options.whole)]
        command += ["--window", str(options.window), "--overlap", str(options.overlap)]
        row = Row(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        whole = "     -" if row.whole is None else f"{row.whole:6.3f}"
        print(
            f"{row.name:<22}{row.views:6}{row.windows:9}{row.loops:7}{row.extent:8.2f}{row.naive:12.3f}{row.sim3:7.3f}"
            f"{row.closed:8.3f} {whole}{row.mib:8.0f}{row.seconds:7.0f}",
            flush=True,
        )
        rows.append(asdict(row))
    print(json.dumps({"window": options.window, "overlap": options.overlap, "rows": rows}))


def measured(scene: str, views: int, options: argparse.Namespace) -> Row:
    photos, truth = walk(int(scene), views) if scene.isdigit() else real(Path(scene))
    predictor = g2vlm.load()
    joiner = predictor.joiner(window=options.window, overlap=options.overlap)
    started = time.perf_counter()
    for _ in joiner.run(photos):
        pass
    opened = joiner.joined(close_loops=False).reconstruction.poses
    joined = joiner.joined()
    seconds = time.perf_counter() - started
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    is_small = len(photos) <= options.whole
    return Row(
        Path(scene).name,
        len(photos),
        len(joiner.windows),
        len(joined.loops),
        ate(chained(joiner), truth),
        ate(opened, truth),
        ate(joined.reconstruction.poses, truth),
        ate(predictor.reconstruct(photos).poses, truth) if is_small else None,
        float(np.linalg.norm(np.ptp(truth, axis=0))),
        mib,
        seconds,
    )


def walk(seed: int, views: int) -> tuple[list[Photo], np.ndarray]:
    drawn = scenes.walk(seed, num_views=views, height=168, width=168)
    assert drawn.poses is not None
    pictures = (255 * drawn.images).round().byte().permute(0, 2, 3, 1).numpy()
    return [Photo(f"{i:04d}", picture) for i, picture in enumerate(pictures)], drawn.poses[:, :3, 3].numpy()


def real(folder: Path) -> tuple[list[Photo], np.ndarray]:
    """The frames whose pose is known."""
    frames = [frame for frame in read_scene(folder).frames if frame.pose is not None]
    photos = [Photo(frame.name, np.array(Image.open(frame.image.path).convert("RGB"))) for frame in frames]
    return photos, np.stack([frame.pose[:3, 3] for frame in frames if frame.pose is not None])


def chained(joiner: Joiner) -> np.ndarray:
    """Poses as they are without a fit: each window is hung up at the camera of its last shared frame, at whatever scale it has."""
    worlds = [torch.eye(4)]
    for before, after in pairwise(joiner.windows):
        there = torch.from_numpy(before.poses[before.stop - 1 - before.start])
        here = torch.from_numpy(after.poses[before.stop - 1 - after.start])
        worlds.append(worlds[-1] @ there @ invert(here))
    owners = joiner.owners()
    windows = joiner.windows
    return np.stack(
        [(worlds[o] @ torch.from_numpy(windows[o].poses[i - windows[o].start])).numpy() for i, o in enumerate(owners)]
    )


def ate(poses: np.ndarray, truth: np.ndarray) -> float:
    found, there = (torch.from_numpy(places).double() for places in (poses[:, :3, 3], truth))
    scale, rotation, translation = similarity(found, there)
    off = scale * found @ rotation.mT + translation - there
    return float(off.square().sum(-1).mean().sqrt())


if __name__ == "__main__":
    main()
