"""The semantic encoder: Qwen2-VL's vision tower, one token per 2 x 2 patches."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel


class VisionTower(nn.Module):
    """transformers' Qwen2-VL vision tower."""

    def __init__(self, config: Qwen2VLVisionConfig):
        super().__init__()
        self.model = Qwen2VisionTransformerPretrainedModel(config)
        self.model.add_module("patch_embed", PatchProjection(self.model.patch_embed.proj))

    def forward(
        self, patches: Float[Tensor, "patches values"], grids: Int[Tensor, "pictures 3"]
    ) -> Float[Tensor, "tokens width"]:
        """Merged tokens of all pictures in order; grids are (frames, rows, columns) of patches before the merge."""
        return self.model(patches, grid_thw=grids).pooler_output


class PatchProjection(nn.Module):
    """The tower's first layer: patches come cut already, so that its convolution is a matrix product, and much faster as one."""

    def __init__(self, proj: nn.Conv3d):
        super().__init__()
        self.proj = proj

    def forward(self, patches: Float[Tensor, "patches values"]) -> Float[Tensor, "patches width"]:
        weight = self.proj.weight.flatten(1)
        return F.linear(patches.to(weight.dtype), weight)
