"""A model that hosts a geometry pathway, a stock Qwen-VL or our own: by hooks on its decoder, never as a subclass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3_5ForConditionalGeneration,
)

from g2vlm.config import G2VLMConfig
from g2vlm.layout import Layout
from g2vlm.model import G2VLM
from g2vlm.mot import Tokens
from g2vlm.pathway_config import NoPathway, PathwayConfig, Site
from g2vlm.pathways import build_pathway
from g2vlm.pathways.base import MERGE, Cells, GeometryEncoder, merge_cells

FAMILIES: dict[str, type[PreTrainedModel]] = {
    "qwen2_vl": Qwen2VLForConditionalGeneration,
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_5": Qwen3_5ForConditionalGeneration,
}
"""Stock models that can be hosts, by the `model_type` of their configurations; all have `model.language_model.layers`."""

NATIVE = G2VLMConfig.model_type

Images = Sequence[Float[Tensor, "3 _height _width"]]
"""RGB in [0, 1], one per image of a batch, in the order of the placeholders."""

WHITE = 1.0


@dataclass(frozen=True)
class Prompt:
    """What a prefill needs of the prompts of a batch.

    rows: for every column of every prompt the visual token that stands there, counted through the batch; -1: none.
    first_column: how many columns a cache already holds of what `rows` does not cover.
    """

    features: Cells
    rows: Int[Tensor, "samples columns"]
    first_column: int

    def rows_at(self, start: int, shape: torch.Size) -> Int[Tensor, "samples columns"]:
        """Visual tokens of the columns from `start` on; samples may have become beams, columns may lie behind the prompt."""
        samples, columns = shape
        start -= self.first_column
        rows = self.rows[:, start : start + columns].repeat_interleave(samples // len(self.rows), 0)
        return F.pad(rows, (0, columns - rows.shape[1]), value=-1)


class Host(nn.Module):
    """A model, a pathway and the frozen encoder that it reads.

    The model is a stock one, or a `G2VLM`, whose pictures for the semantic expert then receive geometry; its own views are
    left alone. The hooks stay on `model` for as long as it lives, and act during calls of the host alone: `model` called by itself is
    refused as soon as its ids hold image placeholders, because it would answer without the geometry it was trained with.
    Images enter as `geometry_images`, one per image of `image_grid_thw` and sized after it (see `pathways.pictures`); a
    sample's images are encoded together, as one scene. Videos are given as images, frame by frame.
    """

    def __init__(self, model: PreTrainedModel, pathway: PathwayConfig, encoder: GeometryEncoder | None = None):
        super().__init__()
        if model.config.model_type not in (known := (*FAMILIES, NATIVE)):
            raise ValueError(f"model_type is {model.config.model_type!r}; a host must be one of {known}")
        self.model = model
        self.config = pathway
        self.pathway = build_pathway(pathway, model.config.text_config.hidden_size)
        self.encoder = encoder
        self._check_layers()
        if isinstance(encoder, nn.Module):
            encoder.requires_grad_(False).eval()
        # The columns of the forward that is running, and the features of its prompts, as long as there are any.
        self._prompt: Prompt | None = None
        self._rows: Tensor | None = None
        self._layout: Layout | None = None
        if isinstance(model, G2VLM):
            self.image_token: int = model.config.tokens.image_patch
            self._hook_native(model)
        else:
            self.image_token = model.config.image_token_id
            self._hook_stock()

    def _hook_stock(self) -> None:
        decoder = self.model.model.language_model
        self.model.model.register_forward_pre_hook(self._begin, with_kwargs=True)
        for site in self.pathway.sites:
            if site == "pre":
                decoder.register_forward_pre_hook(self._before_stock, with_kwargs=True)
            else:
                decoder.layers[site].register_forward_hook(partial(self._behind_stock, site))

    def _hook_native(self, model: G2VLM) -> None:
        decoder = model.decoder
        model.register_forward_pre_hook(self._begin, with_kwargs=True)
        decoder.register_forward_pre_hook(self._before_native)
        for site in self.pathway.sites:
            if site != "pre":
                decoder.outputs[site].register_forward_hook(partial(self._behind_native, site))

    def _check_layers(self) -> None:
        num_layers = self.model.config.text_config.num_hidden_layers
        if beyond := [site for site in self.pathway.sites if site != "pre" and site >= num_layers]:
            raise ValueError(
                f"decoder_layers asks for layer {max(beyond)}, but the host has num_hidden_layers={num_layers}; "
                "choose layers below that, counted from 0"
            )
        if isinstance(self.config, NoPathway):
            return
        if self.encoder is None:
            raise ValueError(f"encoder is None, but {type(self.config).__name__} reads one; give a geometry encoder")
        if (layer := max(self.pathway.encoder_layers)) >= self.encoder.num_layers:
            raise ValueError(
                f"encoder_layers asks for layer {layer}, but the encoder has num_layers={self.encoder.num_layers}; "
                "choose layers below that, counted from 0"
            )
        if self.config.geometry_width != self.encoder.width:
            raise ValueError(
                f"geometry_width is {self.config.geometry_width}, but the encoder's width is {self.encoder.width}; "
                "make them equal"
            )

    def train(self, mode: bool = True) -> "Host":
        """As of any module, but the encoder stays in evaluation mode."""
        super().train(mode)
        if isinstance(self.encoder, nn.Module):
            self.encoder.eval()
        return self

    def forward(
        self, input_ids: Int[Tensor, "samples columns"], *, geometry_images: Images | None = None, **inputs: Any
    ) -> Any:
        """The model's output; inputs: what its forward takes."""
        is_visual = input_ids == self.image_token
        first_column = _length(inputs.get("past_key_values"))
        with self._prefill(is_visual, geometry_images, inputs, first_column=first_column):
            return self.model(input_ids=input_ids, **inputs)

    def generate(
        self, input_ids: Int[Tensor, "samples columns"], *, geometry_images: Images | None = None, **inputs: Any
    ) -> Any:
        """What the model's `generate` gives; beams and several answers per prompt share the prompt's geometry.

        With a cache from an earlier call, ids are those of the whole conversation, and images are not given again.
        """
        is_visual = input_ids == self.image_token
        is_visual[:, : _length(inputs.get("past_key_values"))] = False
        with self._prefill(is_visual, geometry_images, inputs, first_column=0):
            return self.model.generate(input_ids=input_ids, **inputs)  # pyright: ignore[reportCallIssue]

    # --- before a call ------------------------------------------------------------------------------------------------

    @contextmanager
    def _prefill(
        self,
        is_visual: Bool[Tensor, "samples columns"],
        images: Images | None,
        inputs: dict[str, Any],
        *,
        first_column: int,
    ) -> Iterator[None]:
        """Holds the features of a batch's prompts for as long as a call runs."""
        if self.pathway.sites and inputs.get("pixel_values_videos") is not None:
            raise ValueError("pixel_values_videos has no geometry; give the frames as images, one placeholder for each")
        if not self.pathway.sites:
            features: Cells = {}
        elif not is_visual.any() and (images is None or len(images) == 0):
            features = self._no_cells()
        elif images is None:
            raise ValueError(
                f"input_ids hold {int(is_visual.sum())} image tokens, but geometry_images is None; "
                "give one geometry image per image, or host without a pathway"
            )
        else:
            features = self.features(is_visual.sum(1).tolist(), images, inputs.get("image_grid_thw"))
        rows = (is_visual.flatten().cumsum(0) - 1).view_as(is_visual).masked_fill(~is_visual, -1)
        self._prompt = Prompt(features, rows, first_column)
        try:
            yield
        finally:
            self._prompt = self._rows = self._layout = None

    @torch.no_grad()
    def features(
        self, num_tokens: Sequence[int], images: Images, image_grid_thw: Int[Tensor, "images 3"] | None
    ) -> Cells:
        """Cells of the encoder layers that the pathway reads, in the order of the batch's visual tokens.

        num_tokens: visual tokens of each sample, which say whose images are whose.
        """
        grids = [] if image_grid_thw is None else image_grid_thw.tolist()
        if len(images) != len(grids):
            raise ValueError(
                f"geometry_images has {len(images)} images, but image_grid_thw has {len(grids)}; give one for each"
            )
        for i, (image, grid) in enumerate(zip(images, grids, strict=True)):
            self._check_image(i, image, grid)
        layers = self.pathway.encoder_layers
        samples = [self._encode(scene) for scene in _by_sample(images, grids, num_tokens)]
        return {layer: torch.cat([x for sample in samples for x in sample[i]]) for i, layer in enumerate(layers)}

    def _no_cells(self) -> Cells:
        """Features of a batch without images."""
        assert self.encoder is not None
        cells = torch.zeros(0, MERGE**2, self.encoder.width, device=self.model.device)
        return dict.fromkeys(self.pathway.encoder_layers, cells)

    def _check_image(self, index: int, image: Tensor, grid: list[int]) -> None:
        """ValueError unless the cells of a geometry image are those of its grid (an odd last patch is cut off)."""
        assert self.encoder is not None
        patch = self.encoder.patch
        height, width = image.shape[-2:]
        cells = [(side // patch // MERGE) * MERGE for side in (height, width)]
        if height % patch or width % patch or [1, *cells] != grid:
            raise ValueError(
                f"geometry_images[{index}] is {height} x {width} pixels, but image_grid_thw[{index}] is {grid}; "
                f"resize it to {grid[1] * patch} x {grid[2] * patch}, {patch} pixels per patch"
            )

    def _encode(self, images: Images) -> list[list[Float[Tensor, "cells 4 channels"]]]:
        """For every layer, the cells of each image of one scene: encoded at one size, cut back to each image's own grid."""
        assert self.encoder is not None
        if not images:
            return [[] for _ in self.pathway.encoder_layers]
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        padded = [F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1]), value=WHITE) for x in images]
        views = torch.stack(padded).to(self.model.device)
        patch = self.encoder.patch
        return [
            [
                merge_cells(view[None, : image.shape[1] // patch, : image.shape[2] // patch])[0]
                for view, image in zip(features, images, strict=True)
            ]
            for features in self.encoder.encode(views, self.pathway.encoder_layers)
        ]

    # --- during a call ------------------------------------------------------------------------------------------------

    def _begin(self, module: nn.Module, args: tuple, inputs: dict[str, Any]) -> None:
        """Finds the visual rows among the columns that this forward reads."""
        ids: Tensor | None = args[0] if args else inputs.get("input_ids")
        if self._prompt is not None and ids is not None:
            self._rows = self._prompt.rows_at(_length(inputs.get("past_key_values")), ids.shape)
        elif self.pathway.sites and (ids is None or (ids == self.image_token).any()):
            raise ValueError("this model hosts a geometry pathway, which needs ids and images; call its Host instead")

    def _before_stock(self, module: nn.Module, args: tuple, inputs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return args, inputs | {"inputs_embeds": self._applied("pre", inputs["inputs_embeds"], self._rows)}

    def _behind_stock(self, site: Site, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return self._applied(site, output, self._rows)

    def _before_native(self, module: nn.Module, args: tuple[Tensor, Layout]) -> tuple[Tensor, Layout]:
        """Columns of all samples stand in one row here; the layout says in which order the experts take them."""
        x, self._layout = args
        if self._rows is None or "pre" not in self.pathway.sites:
            return args
        return self._applied("pre", x, self._rows.flatten()), self._layout

    def _behind_native(self, site: Site, module: nn.Module, args: tuple, output: Tokens) -> Tokens:
        if self._rows is None:
            return output
        assert self._layout is not None
        semantic = self._layout.order[: len(output.semantic)]
        return output._replace(semantic=self._applied(site, output.semantic, self._rows.flatten()[semantic]))

    def _applied(
        self, site: Site, hidden: Float[Tensor, "*columns width"], rows: Int[Tensor, "*columns"] | None
    ) -> Float[Tensor, "*columns width"]:
        """Hidden states with the pathway's at the visual rows; the very same tensor where there are none.

        While gradients are kept the pathway runs on no rows at all, too: its gradients are then zeros and not None, and processes
        that share its parameters stay in step, whichever of them has a batch without images.
        """
        assert self._prompt is not None
        assert rows is not None
        is_visual: Bool[Tensor, "*columns"] = rows >= 0
        if not is_visual.any() and not torch.is_grad_enabled():
            return hidden
        chosen = rows[is_visual]
        features = {layer: cells[chosen] for layer, cells in self._prompt.features.items()}
        return hidden.masked_scatter(is_visual[..., None], self.pathway.apply_at(site, hidden[is_visual], features))


def _length(cache: Any) -> int:
    """Columns that a cache of transformers holds."""
    return 0 if cache is None else int(cache.get_seq_length())


def _by_sample(images: Images, grids: Sequence[Sequence[int]], num_tokens: Sequence[int]) -> Iterator[Images]:
    """The images of each sample: as many as fill its visual tokens."""
    i = 0
    for sample, wanted in enumerate(num_tokens):
        start, filled = i, 0
        while filled < wanted and i < len(images):
            filled += grids[i][1] * grids[i][2] // MERGE**2
            i += 1
        if filled != wanted:
            raise ValueError(
                f"sample {sample} has {wanted} image tokens, but its images in image_grid_thw fill {filled}; "
                "let one processor make both"
            )
        yield images[start:i]
    if i < len(images):
        raise ValueError(f"geometry_images has {len(images)} images, but the image tokens of the batch take {i}")
