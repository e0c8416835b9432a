"""A model ready for use: photos in, depth, cameras and points out, in the units and frames a person expects."""

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from g2vlm.geometry.camera import intrinsics_from_points, rescale_intrinsics
from g2vlm.geometry.points import depth_jumps, normals_from_points
from g2vlm.geometry.pose import in_first_frame, transform
from g2vlm.model import G2VLM
from g2vlm.pictures import Photo, read_photo, to_views
from g2vlm.processor import Processor
from g2vlm.records import Geometry, Provenance, Reconstruction

PhotoLike = Photo | str | Path | Image.Image


class Predictor:
    """A model with its processor, on one device.

    source: where the weights came from. checkpoint_sha256: of the weight files.
    """

    def __init__(self, model: G2VLM, processor: Processor, *, source: str, checkpoint_sha256: str) -> None:
        self.model = model.eval()
        self.processor = processor
        self.source = source
        self.checkpoint_sha256 = checkpoint_sha256

    @torch.no_grad()  # not inference_mode: roma keeps a table from its first call, which training must be able to use
    def reconstruct(
        self, photos: Sequence[PhotoLike], *, resolution: int | None = None, seed: int = 0
    ) -> Reconstruction:
        """Depth, points and cameras of photos of one static scene, in one forward pass.

        photos: paths, PIL images or Photo records; the first one's camera is the world frame. They may differ in size.
        resolution: working size in pixels (a multiple of the patch size); the model's own unless given.
        seed: of whatever is random; the released models draw nothing, so it only marks the result.
        """
        started = time.perf_counter()
        config = self.model.config
        torch.manual_seed(seed)
        photos = [_photo(photo, index) for index, photo in enumerate(photos)]
        if not photos:
            raise ValueError("no photo was given; at least one is needed")
        resolution = config.resolution if resolution is None else resolution
        views = to_views(photos, resolution, config.patch_size, config.view_resize)
        read = time.perf_counter()
        geometry = self.geometry(views)
        done = time.perf_counter()
        provenance = Provenance(
            model=self.source,
            checkpoint_sha256=self.checkpoint_sha256,
            versions={name: version(name) for name in ("g2vlm", "torch", "transformers")},
            settings={
                "resolution": resolution,
                "seed": seed,
                "device": str(self.model.device),
                "dtype": str(self.model.dtype).removeprefix("torch."),
            },
            seconds={"resize": read - started, "model": done - read},
        )
        return reconstruction_of(geometry, photos, views, provenance)

    @torch.no_grad()  # not inference_mode: roma keeps a table from its first call, which training must be able to use
    def geometry(self, views: Sequence[Float[Tensor, "3 _height _width"]]) -> Geometry:
        """What the heads read from these views (RGB in [0, 1], sides multiples of the patch size), in float32."""
        model = self.model
        views = [view.to(model.device, model.dtype) for view in views]
        ids = self.processor.reconstruction_ids([model.grid(view) for view in views]).to(model.device)
        return model(ids, views=views, logits_to_keep=None, read_geometry=True).geometry


def reconstruction_of(
    geometry: Geometry,
    photos: Sequence[Photo],
    views: Sequence[Float[Tensor, "3 _height _width"]],
    provenance: Provenance,
) -> Reconstruction:
    """What the heads said, for a person: world frame at view 0, intrinsics in the photos' own pixels, NumPy arrays."""
    poses = in_first_frame(geometry.poses.float())
    maps = [_view_maps(geometry, index) for index in range(len(views))]
    fits = [intrinsics_from_points(m["local"][None], m["confidence"][None] * m["mask"][None]) for m in maps]
    intrinsics = [
        rescale_intrinsics(fit.intrinsics[0], (view.shape[1], view.shape[2]), photo.size)
        for fit, view, photo in zip(fits, views, photos, strict=True)
    ]
    return Reconstruction(
        names=tuple(photo.name for photo in photos),
        images=tuple((255 * view.permute(1, 2, 0)).round().byte().cpu().numpy() for view in views),
        depth=tuple(_array(m["local"][..., 2]) for m in maps),
        points=tuple(_array(transform(pose, m["local"])) for pose, m in zip(poses, maps, strict=True)),
        normals=tuple(_array(m["normals"]) for m in maps),
        confidence=tuple(_array(m["confidence"]) for m in maps),
        mask=tuple(m["mask"].cpu().numpy() for m in maps),
        poses=_array(poses),
        intrinsics=_array(torch.stack(intrinsics)),
        intrinsics_error=_array(torch.cat([fit.relative_error for fit in fits])),
        original_sizes=tuple(photo.size for photo in photos),
        scale="scale_free",
        provenance=provenance,
    )


def _view_maps(geometry: Geometry, index: int) -> dict[str, Tensor]:
    """One view's camera-frame points, normals, confidence, and which pixels are finite and off depth edges."""
    local = geometry.local_points[index].float()
    mask = _is_usable(local)
    logits = None if geometry.confidence is None else geometry.confidence[index].float()
    return {
        "local": local,
        "mask": mask,
        "confidence": torch.ones_like(local[..., 2]) if logits is None else logits.sigmoid(),
        "normals": normals_from_points(local, mask) if geometry.normals is None else geometry.normals[index].float(),
    }


def _is_usable(local: Float[Tensor, "height width 3"]) -> Bool[Tensor, "height width"]:
    finite = local.isfinite().all(-1)
    return finite & ~depth_jumps(local[..., 2], finite)


def _photo(photo: PhotoLike, index: int) -> Photo:
    if isinstance(photo, Photo):
        return photo
    if isinstance(photo, Image.Image):
        return Photo(f"view_{index:03d}", np.asarray(photo.convert("RGB")))
    return read_photo(photo)


def _array(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
