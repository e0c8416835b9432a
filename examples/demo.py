"""Photograph a room the model never saw, reconstruct it from the photos, ask about it, and compare with the truth.

    python examples/demo.py [--out DIR] [--seed N]

Everything runs offline with the weights that come with the package.
"""

import argparse
import json
import random
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np

from g2vlm.data.questions import Question, seen_in
from g2vlm.data.questions import ask as ask_about
from g2vlm.data.recon import sample_nearest
from g2vlm.data.scenes import TEST_SEEDS, rooms
from g2vlm.eval.geometry import blind, score, summarise

ASKED = ("depth_comparison", "view_change", "distance_prediction")
"""Kinds of the three questions."""


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
    print("\nasking about it (--reasoning geometry: what was measured is stated first):")
    for question in asked_about(options.seed, len(depth), truth["depth"].shape[1:]):
        ask(photos, question)
    print(f"\nlook at {result / 'overview.png'} and open {result / 'points.ply'}")


def asked_about(seed: int, num_views: int, size: tuple[int, int]) -> list[Question]:
    """One question of each kind about the room, with its answer."""
    height, width = size
    seen = seen_in(rooms([seed], num_views=num_views, height=height, width=width))
    draw = random.Random(seed)
    found = ((ask_about(draw, seen, kind) for _ in range(50)) for kind in ASKED)
    return [question for tries in found if (question := next(filter(None, tries), None)) is not None]


def ask(photos: Path, question: Question) -> None:
    """Ask as a person would, and print the truth beside the answer."""
    options = [("--point", f"{mark.view}:{mark.x:g},{mark.y:g}={mark.name}") for mark in question.marks]
    if question.between is not None:
        options.append(("--between", "{},{}".format(*question.between)))
    print(f"\n? {words_of_places(question)}{question.text}")
    g2vlm("ask", photos, "--question", question.text, *chain(*options), "--reasoning", "geometry")
    print(f"truth: {f'{question.answer}. {question.right}' if question.options else question.right}")


def words_of_places(question: Question) -> str:
    return "".join(f"[{mark.name}: view {mark.view}, x {mark.x:g}, y {mark.y:g}] " for mark in question.marks)


def g2vlm(*arguments: object) -> None:
    """Run the command line as a person would; its failure is ours."""
    done = subprocess.run([sys.executable, "-m", "g2vlm", *map(str, arguments)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
