"""BlendedMVS, BlendedMVS+ and BlendedMVS++ (together BlendedMVG), as unpacked.

PROJECT/blended_images/00000000.jpg, PROJECT/cams/00000000_cam.txt, PROJECT/rendered_depth_maps/00000000.pfm, the text
format of MVSNet: a 4x4 matrix world-to-camera after the word `extrinsic`, 3x3 after `intrinsic`, in pixels whose centres
are at +0.5 (MVSNet's own grid). Depth is along the optical axis, 0 where the mesh has a hole. Lengths are arbitrary.
Pictures `_masked` are copies with black surroundings and are left out. Licence CC BY 4.0.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from g2vlm.data.readers.cameras import check_fits, inverse
from g2vlm.data.readers.listing import files, holding, picture_size, text
from g2vlm.data.recon import DepthFile, File, Frame, Scene
from g2vlm.data.samples import BadSample


def scenes(src: Path) -> Iterator[Scene]:
    """One for every project at, or up to three folders below, `src`."""
    return map(_scene, holding(src, ["blended_images"], levels=3))


def _scene(folder: Path) -> Scene:
    pictures = [file for file in files(folder / "blended_images", "*.jpg") if not file.stem.endswith("_masked")]
    frames = tuple(_frame(folder, file) for file in pictures)
    if frames and frames[0].intrinsics is not None:
        check_fits(frames[0].name, frames[0].intrinsics, picture_size(pictures[0]))
    return Scene(
        name=folder.name,
        frames=frames,
        is_metric=False,
        source="BlendedMVS",
        licence="CC BY 4.0",
        is_sequence=False,
    )


def _frame(folder: Path, picture: Path) -> Frame:
    camera = folder / "cams" / f"{picture.stem}_cam.txt"
    depth = folder / "rendered_depth_maps" / f"{picture.stem}.pfm"
    words = text(camera).split()
    try:
        extrinsic = np.array(words[words.index("extrinsic") + 1 :][:16], dtype=np.float64).reshape(4, 4)
        intrinsics = np.array(words[words.index("intrinsic") + 1 :][:9], dtype=np.float64).reshape(3, 3)
    except ValueError as error:
        raise BadSample(f"{camera}: is not a camera in the format of MVSNet ({error})") from error
    return Frame(
        name=f"{folder.name}/{picture.name}",
        image=File(picture),
        intrinsics=intrinsics,
        pose=inverse(extrinsic),
        depth=DepthFile(File(depth), "pfm") if depth.is_file() else None,
    )
