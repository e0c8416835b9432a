"""7-Scenes: frame-000000.color.png, .depth.png (millimetres, 65535 unknown) and .pose.txt (camera-to-world).

Depth is not registered to colour, and the set has no calibration: the depth camera's nominal focal length is 585 pixels,
the colour camera's 525. We look depth up along the ray of each colour pixel, as if both cameras stood at the same place;
in truth they are 2.5 cm apart, which leaves an error of about 6 pixels at 2 m. Good for depth and poses, not for matching
pixels.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from g2vlm.data.readers.listing import files, holding, numbers
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole

DEPTH_CAMERA = pinhole(585, 585, 320, 240)
COLOUR_CAMERA = pinhole(525, 525, 320, 240)
DEPTH_UNIT = 0.001

COLOUR = ".color.png"


def scenes(src: Path) -> Iterator[Scene]:
    """Every sequence (chess/seq-01, ...) at or below a folder."""
    return map(partial(_scene, src), holding(src, [f"frame-*{COLOUR}"], levels=2))


def _scene(src: Path, folder: Path) -> Scene:
    name = "_".join(folder.resolve().relative_to(src.resolve().parent).parts)
    colours = files(folder, f"frame-*{COLOUR}")
    return Scene(
        name,
        tuple(_frame(f"{name}/{file.name}", file) for file in colours),
        is_metric=True,
        source="7-Scenes",
        licence="Microsoft Research Licence Agreement, non-commercial",
    )


def _frame(name: str, colour: Path) -> Frame:
    def beside(suffix: str) -> Path:
        return colour.with_name(colour.name.removesuffix(COLOUR) + suffix)

    depth = DepthFile(File(beside(".depth.png")), "png16_65535", DEPTH_UNIT, intrinsics=DEPTH_CAMERA)
    return Frame(name, File(colour), COLOUR_CAMERA, numbers(beside(".pose.txt"), 4, 4), depth)
