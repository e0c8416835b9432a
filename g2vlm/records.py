"""What is passed between the parts of g2vlm: pictures with their truth, what the heads read, what a user gets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

Scale = Literal["scale_free", "metric"]
"""`scale_free`: true up to one positive factor common to all points and poses. `metric`: metres."""

World = Literal["view_0", "gravity", "known"]
"""`view_0`: camera frame of the first view. `gravity`: y down along gravity, floor at y = 0, the first camera above the origin and facing
along z. `known`: that of poses that were given."""

IGNORE = -100
"""The label of a token that is not to be learnt."""


@dataclass(frozen=True)
class Views:
    """Pictures of one static scene (or a batch of scenes), with whatever truth is known about them.

    images: RGB in [0, 1].
    intrinsics: 3x3, in pixels of `images`, pixel centres at +0.5.
    poses: camera-to-world, OpenCV axes (x right, y down, z forward).
    depth: z-depth in scene units; meaningless where `mask` is False.
    mask: True where depth is known.
    normals: unit, in the camera's frame, pointing towards the camera.
    """

    images: Float[Tensor, "*batch views 3 height width"]
    intrinsics: Float[Tensor, "*batch views 3 3"] | None = None
    poses: Float[Tensor, "*batch views 4 4"] | None = None
    depth: Float[Tensor, "*batch views height width"] | None = None
    mask: Bool[Tensor, "*batch views height width"] | None = None
    normals: Float[Tensor, "*batch views height width 3"] | None = None


@dataclass(frozen=True)
class Matches:
    """Pairs of visual tokens of one scene that show the same point.

    Tokens are numbered through all views, row by row within each; `lengths` says how many each view has.

    anchor, target: tokens of two different views. depth: of the point, along the axis of the target's camera.
    decoys: tokens of the target's view near the right one, which may by chance be right for another of the anchor's pairs.
    token_depth: mean known z-depth of what each token shows; 0 where none is known.
    """

    anchor: Int[Tensor, " pairs"]
    target: Int[Tensor, " pairs"]
    depth: Float[Tensor, " pairs"]
    decoys: Int[Tensor, "pairs decoys"]
    token_depth: Float[Tensor, " tokens"]
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Geometry:
    """What the heads read from the geometric tokens; scale-free, world frame arbitrary but common to all views.

    Maps are one tensor per view, because views of one scene may differ in size (hence the underscored axes).

    local_points: in each view's own camera frame.
    poses: camera-to-world; `points = R @ local_points + t`.
    global_points: in the camera frame of view 0 (training only; None when the head is absent or switched off).
    confidence: logits; sigmoid gives the probability that a point is right. None when the head is absent.
    normals: unit, camera frame. None when the head is absent.
    """

    local_points: tuple[Float[Tensor, "_height _width 3"], ...]
    poses: Float[Tensor, "views 4 4"]
    global_points: tuple[Float[Tensor, "_height _width 3"], ...] | None = None
    confidence: tuple[Float[Tensor, "_height _width"], ...] | None = None
    normals: tuple[Float[Tensor, "_height _width 3"], ...] | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from, so that it can be repeated."""

    model: str
    checkpoint_sha256: str
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str | int | float | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reconstruction:
    """Depth, points and cameras of a few photos; the world frame is the camera frame of view 0 unless `world` says another.

    Every map has the working resolution of its view (height, width), which `images` shows; `intrinsics` are in pixels
    of the original photo, whose size is `original_sizes` (height, width).

    depth: z-depth. points: world frame. normals: unit, camera frame, towards the camera.
    confidence: in [0, 1]. mask: False where depth jumps and where nothing finite was predicted.
    intrinsics_error: relative residual of the focal length fitted to each view's point map.
    scale: `scale_free` until a metric scale is applied, which moves points and poses alike.
    """

    names: tuple[str, ...]
    images: tuple[UInt8[np.ndarray, "_height _width 3"], ...]
    depth: tuple[Float[np.ndarray, "_height _width"], ...]
    points: tuple[Float[np.ndarray, "_height _width 3"], ...]
    normals: tuple[Float[np.ndarray, "_height _width 3"], ...]
    confidence: tuple[Float[np.ndarray, "_height _width"], ...]
    mask: tuple[Bool[np.ndarray, "_height _width"], ...]
    poses: Float[np.ndarray, "views 4 4"]
    intrinsics: Float[np.ndarray, "views 3 3"]
    intrinsics_error: Float[np.ndarray, " views"]
    original_sizes: tuple[tuple[int, int], ...]
    scale: Scale
    provenance: Provenance
    world: World = "view_0"

    def save(self, folder: str | Path, formats: Sequence[str] = (), **options: Any) -> list[Path]:
        """Write a folder that `load` reads again exactly, with further formats beside; see `g2vlm.export.save`."""
        from g2vlm.export.save import save_reconstruction

        return save_reconstruction(self, folder, formats, **options)

    @classmethod
    def load(cls, folder: str | Path) -> "Reconstruction":
        """What `save` or `g2vlm predict` wrote; see `g2vlm.export.load`."""
        from g2vlm.export.load import load_reconstruction

        return load_reconstruction(folder)


@dataclass(frozen=True)
class Mark:
    """A point that a question is about: `view` counts from 0; x and y are pixels of that view's photo, centres at +0.5."""

    view: int
    x: float
    y: float
    name: str


@dataclass(frozen=True)
class Box:
    """A rectangle that a question is about: `view` counts from 0; its sides are pixels of that view's photo."""

    view: int
    left: float
    top: float
    right: float
    bottom: float
    name: str


@dataclass(frozen=True)
class Statement:
    """One thing that was measured in the predicted geometry before a question was answered.

    kind: what was measured. text: the line that stands in the model's context. value, unit: the number in it.
    about, about_unit: the same if the scene is a room of usual height; None where the scale is known, or no length is said.
    views: which views it came from; pixels: (x, y) in those views' photos, none where whole views were measured.
    """

    kind: str
    text: str
    value: float | str
    unit: str
    views: tuple[int, ...]
    pixels: tuple[tuple[float, float], ...] = ()
    about: float | str | None = None
    about_unit: str = ""


@dataclass(frozen=True)
class Answer:
    """What the model said to a question.

    evidence: what was measured and stated before the answer. reconstruction: from the same forward, where it was asked for.
    thinking: what the model wrote before its answer where it was told to think first.
    num_prompt_tokens, num_reused_tokens, num_new_tokens: length of the prompt, how much of it a session had already
    read, and of the answer. seconds: "first_token" and "all".
    """

    text: str
    evidence: tuple[Statement, ...]
    reconstruction: Reconstruction | None
    num_prompt_tokens: int
    num_reused_tokens: int
    num_new_tokens: int
    seconds: dict[str, float]
    thinking: str = ""
