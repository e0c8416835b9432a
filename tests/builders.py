"""The smallest complete model, and inputs for it: what most tests of the model build on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.models.dinov2_with_registers import Dinov2WithRegistersConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig

from g2vlm.config import G2VLMConfig, HeadsConfig, TokenIds
from g2vlm.convert import official
from g2vlm.data.scenes import rooms
from g2vlm.encoders.vggt import Vggt, VggtConfig
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.points import depth_jumps, normals_from_points
from g2vlm.geometry.pose import in_first_frame, transform
from g2vlm.layout import Grid, Picture, Segment, Text
from g2vlm.model import G2VLM
from g2vlm.records import Provenance, Reconstruction

TOKENS = TokenIds(bos=40, eos=41, vision_start=42, vision_end=43, view_patch=44, image_patch=45, newline=46, pad=47)
NUM_WORDS = 40
"""Ids below this are ordinary words."""


def small_config(
    *, text: dict[str, Any] | None = None, heads: dict[str, Any] | None = None, **options: Any
) -> G2VLMConfig:
    """Two layers at width 32, patches of 4 x 4 pixels, 48 words; options as in G2VLMConfig."""
    shape = {
        "vocab_size": 48,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "bos_token_id": TOKENS.bos,
        "eos_token_id": TOKENS.eos,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
    }
    small_heads: dict[str, Any] = {"depth": 1, "num_heads": 2, "mlp_ratio": 2, "point_width": 24, "camera_width": 16}
    defaults = {
        "text_config": Qwen2VLTextConfig(**(shape | (text or {}))),
        "vision_config": Qwen2VLVisionConfig(
            depth=2, embed_dim=16, num_heads=2, mlp_ratio=2, hidden_size=32, patch_size=4, in_channels=3
        ),
        "dino_config": Dinov2WithRegistersConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=16, patch_size=4
        ),
        "heads": HeadsConfig(**(small_heads | (heads or {}))),
        "tokens": TOKENS,
        "resolution": 16,
    }
    return G2VLMConfig(**(defaults | options))


def released_config(**heads: bool) -> G2VLMConfig:
    """The smallest configuration that the released layout can hold: its heads and patches have fixed sizes."""
    small = small_config()
    return small_config(
        text={
            "hidden_size": 64,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        },
        vision_config=small.vision_config.to_dict() | {"hidden_size": 64},
        dino_config=small.dino_config.to_dict() | {"patch_size": 14, "image_size": 42},
        view_resize="first_view_width",
        resolution=518,
        **official.FAITHFUL,
    ).with_options(heads=HeadsConfig(**({"confidence": False, "normals": False} | heads)))


def small_model(config: G2VLMConfig | None = None, *, seed: int = 0) -> G2VLM:
    """A model in evaluation mode whose weights are large enough for every part to matter."""
    torch.manual_seed(seed)
    model = G2VLM(config or small_config()).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return model


def small_vggt(*, seed: int = 0, **options: Any) -> Vggt:
    """Three layers at width 16, patches of 4 x 4 pixels, weights large enough for every part to matter; options as in VggtConfig."""
    shape: dict[str, Any] = {
        "token_width": 16,
        "depth": 3,
        "num_heads": 2,
        "dino_depth": 1,
        "dino_num_heads": 2,
        "num_registers": 3,
    }
    sizes = {"mlp_ratio": 2, "patch": 4, "image_size": 16}
    torch.manual_seed(seed)
    model = Vggt(VggtConfig(**(shape | sizes | options))).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return model


def prompt(*segments: Segment, seed: int = 0) -> Int[Tensor, "1 tokens"]:
    """Token ids of these segments: random words, and placeholders between markers."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = []
    for segment in segments:
        if isinstance(segment, Text):
            ids += torch.randint(NUM_WORDS, (segment.length,), generator=generator).tolist()
        else:
            is_picture = isinstance(segment, Picture)
            patch = TOKENS.image_patch if is_picture else TOKENS.view_patch
            for rows, columns in [segment.grid] if is_picture else segment.grids:
                ids += [TOKENS.vision_start, *[patch] * (rows * columns), TOKENS.vision_end]
    return torch.tensor([ids])


def left_padded(prompts: Sequence[Int[Tensor, "1 tokens"]]) -> dict[str, Int[Tensor, "samples tokens"]]:
    """`input_ids` and `attention_mask` of a batch."""
    length = max(ids.shape[1] for ids in prompts)
    pads = [length - ids.shape[1] for ids in prompts]
    return {
        "input_ids": torch.cat(
            [torch.nn.functional.pad(ids, (pad, 0), value=TOKENS.pad) for ids, pad in zip(prompts, pads, strict=True)]
        ),
        "attention_mask": torch.stack([(torch.arange(length) >= pad).long() for pad in pads]),
    }


def random_views(*grids: Grid, patch: int = 4, seed: int = 0) -> list[Float[Tensor, "3 height width"]]:
    """One RGB image per grid of patches."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, rows * patch, columns * patch, generator=generator) for rows, columns in grids]


def random_pictures(*grids: Grid, seed: int = 0) -> dict[str, Tensor]:
    """`pixel_values` and `image_grid_thw` of pictures whose merged tokens form these grids."""
    generator = torch.Generator().manual_seed(seed)
    thw = torch.tensor([(1, 2 * rows, 2 * columns) for rows, columns in grids])
    return {
        "pixel_values": torch.randn(int(thw.prod(1).sum()), 3 * 2 * 4 * 4, generator=generator),
        "image_grid_thw": thw,
    }


def true_reconstruction(seed: int = 5, num_views: int = 3, size: int = 84) -> Reconstruction:
    """What a model without errors would say of a procedural room, in metres but called scale-free."""
    views = rooms([seed], num_views=num_views, height=size, width=size).views
    assert views.depth is not None
    assert views.mask is not None
    assert views.poses is not None
    assert views.intrinsics is not None
    local = unproject(views.depth[0], views.intrinsics[0])
    poses = in_first_frame(views.poses[0])
    mask = views.mask[0] & ~depth_jumps(views.depth[0], views.mask[0])

    def maps(values: torch.Tensor) -> tuple[np.ndarray, ...]:
        return tuple(value.numpy() for value in values)

    return Reconstruction(
        names=tuple(f"view_{view}.png" for view in range(num_views)),
        images=maps((255 * views.images[0]).byte().permute(0, 2, 3, 1)),
        depth=maps(views.depth[0]),
        points=maps(transform(poses, local)),
        normals=maps(normals_from_points(local, mask)),
        confidence=maps(torch.ones_like(views.depth[0])),
        mask=maps(mask),
        poses=poses.numpy(),
        intrinsics=views.intrinsics[0].numpy(),
        intrinsics_error=np.zeros(num_views, dtype=np.float32),
        original_sizes=((size, size),) * num_views,
        scale="scale_free",
        provenance=Provenance("truth", "0" * 64),
    )
