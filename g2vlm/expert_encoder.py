"""The project's own geometric expert as a frozen geometry encoder, beside VGGT: what it makes of photos, layer by layer."""

import copy
from collections.abc import Sequence
from itertools import islice

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from g2vlm.layout import ViewBlock, lay_out
from g2vlm.model import G2VLM
from g2vlm.mot import Tokens


class ExpertEncoder(nn.Module):
    """The geometric side of a G2VLM: DINOv2, its projection and the decoder, taken over from the model and frozen.

    Features are the hidden states of the patches behind decoder layers, before the final norm. The model's views must see
    nothing but each other (`view_context` "views"): only then are they a function of the photos alone.

    is_own: the model is the one that hosts the pathway, whose geometric side rests; its weights then need no second place in files.
    """

    def __init__(self, model: G2VLM, *, is_own: bool = False):
        super().__init__()
        self.is_own = is_own
        config = model.config
        if config.view_context != "views":
            raise ValueError(
                f"view_context is {config.view_context!r}: what this model makes of its views depends on the words before "
                "them; as a geometry encoder, open it with view_context='views'"
            )
        self.config = config
        self.dino, self.projection, self.decoder = model.dino, model.dino_projection, model.decoder
        self.requires_grad_(False).eval()

    @classmethod
    def beside(cls, model: G2VLM) -> "ExpertEncoder":
        """The expert of a model that is to host its pathway: a copy, for the decoder of the model itself goes on learning."""
        return cls(copy.deepcopy(model), is_own=True)

    @property
    def num_layers(self) -> int:
        return len(self.decoder.layers)

    @property
    def width(self) -> int:
        """Channels of a feature."""
        return self.config.text_config.hidden_size

    @property
    def patch(self) -> int:
        """Side of a patch, pixels."""
        return self.config.patch_size

    @torch.no_grad()  # not inference_mode: whoever learns from features keeps them for the backward pass
    def encode(
        self, images: Float[Tensor, "views 3 height width"], layers: Sequence[int]
    ) -> list[Float[Tensor, "views rows columns channels"]]:
        """Hidden states of every patch behind each of `layers` (numbers from 0, in any order).

        images: RGB in [0, 1], the views of one scene. Layers behind the last of those asked for do not run.
        """
        if missing := [layer for layer in layers if not 0 <= layer < self.num_layers]:
            raise ValueError(
                f"layers has {', '.join(map(str, missing))}, but this expert has {self.num_layers} layers; "
                f"name some of 0 to {self.num_layers - 1}"
            )
        grid = self.config.grid(images.shape[2], images.shape[3])
        layout = lay_out(
            [[ViewBlock((grid,) * len(images))]],
            visibility=self.config.visibility,
            view_positions=self.config.view_positions,
            device=images.device,
        )
        patches = self.projection(self.dino(images.to(self.projection.weight.dtype))).flatten(0, 1)
        markers = patches.new_zeros(layout.counts[0], self.width)  # which no patch sees
        outputs = self.decoder.block_outputs(Tokens(markers, patches), layout)
        features = {
            layer: rearrange(x.geometric, "(v r c) d -> v r c d", r=grid[0], c=grid[1])
            for layer, x in enumerate(islice(outputs, max(layers, default=-1) + 1))
            if layer in layers
        }
        return [features[layer] for layer in layers]
