"""SpatialStack: shallow encoder layers into shallow decoder layers, deep ones into deeper, each by its own merger."""

from jaxtyping import Float
from torch import Tensor, nn

from g2vlm.pathway_config import SpatialStack
from g2vlm.pathways.base import Cells, GeometryMerger, Pathway, Site, ascending


class SpatialStackPathway(Pathway):
    """One merger per pair of the configuration, in its order; merged features are added, without scale or gate."""

    def __init__(self, config: SpatialStack, width: int):
        super().__init__()
        self.pairs = config.pairs
        self.sites = ascending(config.decoder_layers)
        self.encoder_layers = ascending(config.encoder_layers)
        self.mergers = nn.ModuleList(
            GeometryMerger(
                config.geometry_width, config.hidden_width, width, norm=config.norm, zero_init=config.zero_init
            )
            for _ in self.pairs
        )

    def apply_at(
        self, site: Site, visual_rows: Float[Tensor, "tokens width"], features: Cells
    ) -> Float[Tensor, "tokens width"]:
        for (decoder_layer, encoder_layer), merger in zip(self.pairs, self.mergers, strict=True):
            if decoder_layer == site:
                visual_rows = visual_rows + merger(features[encoder_layer]).to(visual_rows.dtype)
        return visual_rows
