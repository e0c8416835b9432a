"""Selectable ways of geometry into a language model; `build_pathway` makes the one that a configuration asks for."""

from g2vlm.pathway_config import GeoAlign, NoPathway, PathwayConfig, PreDecoder, SpatialStack
from g2vlm.pathways.base import Pathway
from g2vlm.pathways.geo_align import GeoAlignPathway
from g2vlm.pathways.single_layer import PreDecoderPathway, StockPathway
from g2vlm.pathways.spatial_stack import SpatialStackPathway

_BUILDERS = {
    NoPathway: StockPathway,
    PreDecoder: PreDecoderPathway,
    SpatialStack: SpatialStackPathway,
    GeoAlign: GeoAlignPathway,
}


def build_pathway(config: PathwayConfig, width: int) -> Pathway:
    """The pathway of a configuration, with start values, for a decoder whose rows have `width` channels."""
    return _BUILDERS[type(config)](config, width)
