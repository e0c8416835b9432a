"""Training-only heads that bring tokens which show the same point close together (GASP, arXiv 2605.30231).

They know hidden states and masks, no model: any decoder that gives the states of its layers can be trained with them.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class CorrespondenceHeads(nn.Module):
    """For each supervised decoder layer, two linear maps with a GELU between them, onto the unit sphere.

    layers: numbers of decoder layers. out_width: of the embeddings, half of what stands between the two maps. The paper says
    neither the width nor how the maps start from the queries' projection: both are our choice, see `start_from_queries`.
    """

    def __init__(self, width: int, layers: Sequence[int], out_width: int = 64):
        super().__init__()
        self.layers = tuple(layers)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * out_width), nn.GELU(), nn.Linear(2 * out_width, out_width))
            for _ in layers
        )

    def forward(
        self, hidden_states: Sequence[Float[Tensor, "samples tokens width"]], is_visual: Bool[Tensor, "samples tokens"]
    ) -> list[Float[Tensor, "visual out_width"]]:
        """Unit embeddings of the visual tokens in the supervised layers, from what each decoder layer hands on.

        hidden_states: entry i is the output of layer i (transformers puts the embeddings first: leave them out).
        """
        return [
            F.normalize(project(hidden_states[layer][is_visual]).float(), dim=-1)
            for project, layer in zip(self.project, self.layers, strict=True)
        ]

    @torch.no_grad()
    def start_from_queries(self, projections: Mapping[int, Float[Tensor, "queries width"]]) -> None:
        """Start each layer's head as the linear map to the strongest singular directions of its query projection.

        With W = U S V^T the first map is [A; -A], A being the first rows of S V^T (over the largest singular value), and the
        second [I, -I], biases zero: gelu(x) - gelu(-x) = x, so the head is exactly A. If the embeddings are as wide as W has
        rank, their cosine is that of the queries themselves; narrower ones keep the directions in which queries differ most.

        projections: by layer; a gain that a norm applies before the projection belongs into it. Raises ValueError where
        there are fewer singular directions than the embeddings are wide.
        """
        for project, layer in zip(self.project, self.layers, strict=True):
            assert isinstance(project, nn.Sequential)
            first, _, second = project
            assert isinstance(first, nn.Linear)
            assert isinstance(second, nn.Linear)
            weight, out_width = projections[layer], second.out_features
            if out_width > min(weight.shape):
                raise ValueError(
                    f"the embeddings of correspondence heads are {out_width} wide, but the query projection of layer {layer}, "
                    f"{weight.shape[0]} x {weight.shape[1]}, has only {min(weight.shape)} singular directions; make them narrower"
                )
            _, strength, directions = torch.linalg.svd(weight.float(), full_matrices=False)
            kept = (strength[:, None] * directions)[:out_width] / strength[0]
            one = torch.eye(out_width, device=weight.device)
            first.weight.copy_(torch.cat([kept, -kept]))
            second.weight.copy_(torch.cat([one, -one], dim=1))
            for linear in (first, second):
                linear.bias.zero_()
