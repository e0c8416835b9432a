"""Geometry that meets the visual tokens before the decoder: VG-LLM, the naive multi-layer variant, and none at all."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from g2vlm.pathway_config import FusionKind, NoPathway, PreDecoder
from g2vlm.pathways.base import Cells, GeometryMerger, Pathway, Site, ascending, init_linear


class StockPathway(Pathway):
    """No sites: nothing is asked of an encoder, and nothing changes."""

    def __init__(self, config: NoPathway, width: int):
        super().__init__()

    def apply_at(
        self, site: Site, visual_rows: Float[Tensor, "tokens width"], features: Cells
    ) -> Float[Tensor, "tokens width"]:
        return visual_rows


class PreDecoderPathway(Pathway):
    """One merger per encoder layer, and one fusion that takes their outputs in one after another."""

    sites: tuple[Site, ...] = ("pre",)

    def __init__(self, config: PreDecoder, width: int):
        super().__init__()
        self.order = config.encoder_layers
        self.encoder_layers = ascending(self.order)
        norm = config.norm if config.merger == "mlp" else None
        self.mergers = nn.ModuleList(
            GeometryMerger(config.geometry_width, config.hidden_width, width, norm=norm, zero_init=config.zero_init)
            for _ in self.order
        )
        self.fusion = FUSIONS[config.fusion](width)

    def apply_at(
        self, site: Site, visual_rows: Float[Tensor, "tokens width"], features: Cells
    ) -> Float[Tensor, "tokens width"]:
        for layer, merger in zip(self.order, self.mergers, strict=True):
            visual_rows = self.fusion(visual_rows, merger(features[layer])).to(visual_rows.dtype)
        return visual_rows


class AddFusion(nn.Module):
    """v + g."""

    def __init__(self, width: int):
        super().__init__()

    def forward(
        self, visual: Float[Tensor, "tokens width"], geometry: Float[Tensor, "tokens width"]
    ) -> Float[Tensor, "tokens width"]:
        return visual + geometry


class ConcatFusion(nn.Module):
    """Linear[norm v; norm g]."""

    def __init__(self, width: int):
        super().__init__()
        self.norm_visual = nn.LayerNorm(width)
        self.norm_geometry = nn.LayerNorm(width)
        self.projection = nn.Linear(2 * width, width)
        init_linear(self.projection)

    def forward(
        self, visual: Float[Tensor, "tokens width"], geometry: Float[Tensor, "tokens width"]
    ) -> Float[Tensor, "tokens width"]:
        return self.projection(torch.cat([self.norm_visual(visual), self.norm_geometry(geometry)], -1))


class GatedFusion(nn.Module):
    """s norm v + (1 - s) norm g, where s = sigmoid(Linear[norm v; norm g]) has a value per channel."""

    def __init__(self, width: int):
        super().__init__()
        self.norm_visual = nn.LayerNorm(width)
        self.norm_geometry = nn.LayerNorm(width)
        self.gate = nn.Linear(2 * width, width)
        init_linear(self.gate)

    def forward(
        self, visual: Float[Tensor, "tokens width"], geometry: Float[Tensor, "tokens width"]
    ) -> Float[Tensor, "tokens width"]:
        visual, geometry = self.norm_visual(visual), self.norm_geometry(geometry)
        share = self.gate(torch.cat([visual, geometry], -1)).sigmoid()
        return share * visual + (1 - share) * geometry


class WeightedFusion(nn.Module):
    """(a v + b g) / (a + b) with two learnt numbers that start at one half."""

    def __init__(self, width: int):
        super().__init__()
        self.visual_weight = nn.Parameter(torch.tensor(0.5))
        self.geometry_weight = nn.Parameter(torch.tensor(0.5))

    def forward(
        self, visual: Float[Tensor, "tokens width"], geometry: Float[Tensor, "tokens width"]
    ) -> Float[Tensor, "tokens width"]:
        both = self.visual_weight + self.geometry_weight
        return self.visual_weight / both * visual + self.geometry_weight / both * geometry


FUSIONS: dict[FusionKind, type[nn.Module]] = {
    "add": AddFusion,
    "concat": ConcatFusion,
    "gated": GatedFusion,
    "weighted": WeightedFusion,
}
