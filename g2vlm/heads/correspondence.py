"""Training-only heads that bring patches which show the same point close together (GASP, arXiv 2605.30231)."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class CorrespondenceHeads(nn.Module):
    """For each supervised decoder layer, two linear maps with a GELU between them, onto the unit sphere."""

    def __init__(self, width: int, layers: Sequence[int], out_width: int = 64):
        super().__init__()
        self.layers = tuple(layers)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * out_width), nn.GELU(), nn.Linear(2 * out_width, out_width))
            for _ in layers
        )

    def forward(
        self, hidden_states: Sequence[Float[Tensor, "samples tokens width"]], is_patch: Bool[Tensor, "samples tokens"]
    ) -> list[Float[Tensor, "patches out_width"]]:
        """Unit embeddings of the patches in the supervised layers, from the hidden states of all layers."""
        return [
            F.normalize(project(hidden_states[layer][is_patch]).float(), dim=-1)
            for project, layer in zip(self.project, self.layers, strict=True)
        ]
