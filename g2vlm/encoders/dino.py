"""The geometric encoder: DINOv2 with registers, one patch token per 14 x 14 pixels."""

from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.models.dinov2_with_registers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from g2vlm.attention import kernel_attention
from g2vlm.config import DinoWindows

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DinoEncoder(nn.Module):
    """transformers' DINOv2 with registers, without its class and register tokens."""

    def __init__(self, config: Dinov2WithRegistersConfig, windows: DinoWindows):
        super().__init__()
        self.model = Dinov2WithRegistersModel(config)
        self.num_special = 1 + config.num_register_tokens
        AttentionInterface.register(f"g2vlm_dino_{windows}", WINDOWS[windows])
        self.model.set_attn_implementation(f"g2vlm_dino_{windows}")

    def forward(self, images: Float[Tensor, "views 3 height width"]) -> Float[Tensor, "views patches channels"]:
        """Patch tokens, row-major, of RGB images in [0, 1] whose sides are multiples of the patch size."""
        mean, std = (images.new_tensor(numbers).view(3, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
        hidden = self.model((images - mean) / std).last_hidden_state
        return hidden[:, self.num_special :]


def image_windows(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: object
) -> tuple[Tensor, None]:
    """Attention inside each image; query, key and value are [views, heads, tokens, head width]."""
    return rearrange(kernel_attention(query, key, value, scale=scaling), "v n t h -> v t n h"), None


def drifting_windows(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: object
) -> tuple[Tensor, None]:
    """Attention windows as the released G2VLM code lays them, kept for its weights.

    All images' tokens stand in one row, P + 1 + R each (patches, class, registers), but windows are P long: they drift
    against the images, and the last rows lie in none (there the released kernel leaves memory unset; here it is 0).
    """
    images, tokens = query.shape[0], query.shape[2]
    num_patches = tokens - 1 - module.config.num_register_tokens
    q, k, v = (rearrange(x, "v n t h -> n (v t) h") for x in (query, key, value))
    covered = images * num_patches
    q, k, v = (rearrange(x[:, :covered], "n (w p) h -> w n p h", p=num_patches) for x in (q, k, v))
    out = rearrange(kernel_attention(q, k, v, scale=scaling), "w n p h -> (w p) n h")
    out = F.pad(out, (0, 0, 0, 0, 0, images * tokens - covered))
    return rearrange(out, "(v t) n h -> v t n h", v=images), None


WINDOWS = {"per_image": image_windows, "reference": drifting_windows}
