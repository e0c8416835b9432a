"""Photograph a room the model never saw, reconstruct it from the photos, and compare with the truth.

    python examples/demo.py [--out DIR] [--seed N]

Everything runs offline with the weights that come with the package.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from g2vlm.data.recon import sample_nearest
from g2vlm.data.scenes import TEST_SEEDS
from g2vlm.eval.geometry import blind, score, summarise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--seed", type=int, default=TEST_SEEDS.start)
    options = parser.parse_args()
    photos, result = options.out / "photos", options.out / "reconstruction"

    print("photographing a procedural room:")
    g2vlm("rooms", photos, "--seed", options.seed, "--overwrite")
    print("\nreconstructing it from the photos alone:")
    g2vlm("predict", f"{photos}/*.png", "--out", result, "--overwrite")

    truth = np.load(photos / "truth.npz")
    depth = [np.load(file)["depth"] for file in sorted((result / "maps").glob("*.npz"))]
    cameras = json.loads((result / "cameras.json").read_text())
    poses = np.array([camera["world_from_camera"] for camera in cameras["cameras"]])
    true_depth = [sample_nearest(t, d.shape) for t, d in zip(truth["depth"], depth, strict=True)]
    masks = [t > 0 for t in true_depth]
    known = (true_depth, masks, truth["world_from_camera"])
    ours = summarise([score(depth, poses, *known)])
    base = summarise([score(*blind(true_depth, len(depth)), *known)])
    print("\nerror against the known truth (one scale for the scene)   model   constant depth, identity poses")
    for name in ("absrel", "delta1", "rotation_deg_median", "auc30"):
        print(f"  {name:40s} {getattr(ours, name):20.3f} {getattr(base, name):12.3f}")
    print(f"\nlook at {result / 'overview.png'} and open {result / 'points.ply'}")


def g2vlm(*arguments: object) -> None:
    """Run the command line as a person would; its failure is ours."""
    done = subprocess.run([sys.executable, "-m", "g2vlm", *map(str, arguments)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
