"""G2VLM: pictures and words in; geometry from the geometric tokens, words from the semantic ones.

The forward, read aloud: encode the pictures, lay the tokens out, decode, read the heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.utils.generic import ModelOutput

from g2vlm.blocks import LayerScale
from g2vlm.config import G2VLMConfig
from g2vlm.encoders.dino import DinoEncoder
from g2vlm.encoders.vision import VisionTower
from g2vlm.heads.geometry import GeometryHeads, in_batches
from g2vlm.layout import Grid, Layout, Past, Text, lay_out, segments_of
from g2vlm.mot import MoTDecoder
from g2vlm.records import Geometry

Images = Sequence[Float[Tensor, "3 _height _width"]]
"""RGB in [0, 1]; sides are multiples of the patch size; sizes may differ."""

Branches = Sequence[Sequence[int]]
"""For each sample, the lengths of the texts its ids end with, each of which goes on from what stands before all of them."""


@dataclass
class G2VLMOutput(ModelOutput):
    """logits [samples, tokens or logits_to_keep, vocabulary]; hidden_states after the final norms [samples, tokens, width].

    inputs_embeds: what entered the decoder [samples, tokens, width].
    geometry: what the heads read from all views of the batch, in order; None unless asked for. layout: of the input.
    """

    logits: Tensor | None = None
    past_key_values: Cache | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    inputs_embeds: Tensor | None = None
    geometry: Geometry | None = None
    layout: Layout | None = None


class G2VLM(PreTrainedModel, GenerationMixin):
    """The native Mixture-of-Transformers of G2VLM (arXiv 2511.21688): two experts, one attention, heads on top."""

    config: G2VLMConfig
    config_class = G2VLMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["MoTBlock", "Dinov2WithRegistersLayer", "Qwen2VLVisionBlock"]
    _tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"}
    _supports_sdpa = True

    def __init__(self, config: G2VLMConfig):
        super().__init__(config)
        text = config.text_config
        self.vision = VisionTower(config.vision_config)
        self.dino = DinoEncoder(config.dino_config, config.dino_windows)
        self.dino_projection = nn.Linear(config.dino_config.hidden_size, text.hidden_size)
        self.embed_tokens = nn.Embedding(text.vocab_size, text.hidden_size)
        self.decoder = MoTDecoder(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.heads = GeometryHeads(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LayerScale):
            module.gamma.fill_(self.config.layer_scale_init)

    def recompute_activations(self) -> None:
        """Keep only the inputs of layers for the gradient and compute the rest again (gradient checkpointing).

        What `gradient_checkpointing_enable` does, under one name in all releases of transformers, and without making the frozen
        word embeddings require gradients.
        """
        again = {
            "gradient_checkpointing": True,
            "_gradient_checkpointing_func": partial(checkpoint, use_reentrant=False),
        }
        for module in self.modules():
            if hasattr(module, "gradient_checkpointing"):
                vars(module).update(again)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def forward(
        self,
        input_ids: Int[Tensor, "samples tokens"],
        attention_mask: Int[Tensor, "samples columns"] | None = None,
        *,
        views: Images | None = None,
        pixel_values: Float[Tensor, "patches values"] | None = None,
        image_grid_thw: Int[Tensor, "pictures 3"] | None = None,
        branches: Branches | None = None,
        position_ids: Int[Tensor, "samples tokens"] | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        logits_to_keep: int | None = 0,
        read_geometry: bool = False,
        read_global_points: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> G2VLMOutput:
        """Decode a left-padded batch of samples; placeholders in `input_ids` are filled by views and pictures, in order.

        attention_mask: 0 where a sample is padded: on its left and, behind a cache, on the left of its new tokens; covers
        cached columns too.
        branches: several texts that go on from the same context; with them a sample's context is read once for all.
        position_ids: behind a cache, where each sample goes on: the temporal position of its first new token counts. Without
        a cache all positions come from the ids.
        logits_to_keep: how many last tokens of each sample get logits; 0 is all of them, None is none.
        read_geometry, read_global_points: run the heads on the views (the global point head is for training).
        """
        if (pixel_values is None) != (image_grid_thw is None):
            given = "image_grid_thw" if pixel_values is None else "pixel_values"
            raise ValueError(f"pixel_values and image_grid_thw come together, but only {given} is given")
        if read_geometry and not views:
            raise ValueError("read_geometry is on, but there are no views to read; give views or switch it off")
        if past_key_values is not None and past_key_values.is_compileable:
            raise ValueError(
                f"{type(past_key_values).__name__} has a fixed length; use a cache that grows, DynamicCache"
            )
        num_cached = 0 if past_key_values is None else past_key_values.get_seq_length()
        pasts = None
        if num_cached:
            if views is not None or position_ids is None:
                raise ValueError(
                    "behind a cache only words and pictures with position_ids can follow; start a new cache for views"
                )
            pasts = pasts_of(num_cached, attention_mask, position_ids)
        layout = self.lay_out(input_ids, attention_mask, views, image_grid_thw, branches, pasts)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        x = self.embed(input_ids.flatten(), layout, views, pixel_values, image_grid_thw)
        hidden, layers = self.decoder(x, layout, cache=past_key_values, keep_layers=output_hidden_states)
        geometry = self.read_geometry(hidden, layout, views, read_global_points) if read_geometry and views else None
        samples = hidden.unflatten(0, input_ids.shape)
        return G2VLMOutput(
            logits=None if logits_to_keep is None else self.lm_head(samples[:, -logits_to_keep:]),
            past_key_values=past_key_values,
            last_hidden_state=samples,
            hidden_states=tuple(x.unflatten(0, input_ids.shape) for x in layers) if output_hidden_states else None,
            inputs_embeds=x.unflatten(0, input_ids.shape),
            geometry=geometry,
            layout=layout,
        )

    def lay_out(
        self,
        input_ids: Int[Tensor, "samples tokens"],
        attention_mask: Tensor | None = None,
        views: Images | None = None,
        image_grid_thw: Tensor | None = None,
        branches: Branches | None = None,
        pasts: Sequence[Past] | None = None,
    ) -> Layout:
        """Owner, position and visibility of every token of a batch that starts from nothing, or goes on behind a cache."""
        config = self.config
        padding = _padding(input_ids, attention_mask)
        view_grids = [self.grid(view) for view in views or ()]
        image_grids = _merged_grids(image_grid_thw, config.vision_config.spatial_merge_size)
        samples = []
        for ids, pad, lengths in zip(input_ids, padding, branches or [()] * len(input_ids), strict=True):
            num_views, num_images = self._num_pictures(ids)
            context = ids[pad : len(ids) - sum(lengths)]
            segments = segments_of(context, config.tokens, view_grids[:num_views], image_grids[:num_images])
            del view_grids[:num_views], image_grids[:num_images]
            samples.append([*segments, *(Text(length, is_branch=True) for length in lengths)])
        if view_grids or image_grids:
            raise ValueError(
                f"{len(view_grids)} views and {len(image_grids)} pictures are left without placeholders in input_ids"
            )
        return lay_out(
            samples,
            visibility=config.visibility,
            view_context=config.view_context,
            view_positions=config.view_positions,
            picture_attention=config.picture_attention,
            padding=padding,
            pasts=pasts,
            device=input_ids.device,
        )

    def embed(
        self,
        ids: Int[Tensor, " tokens"],
        layout: Layout,
        views: Images | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
    ) -> Float[Tensor, "tokens width"]:
        """Word embeddings, with placeholders filled by what the two encoders make of the pictures."""
        is_filled = layout.is_geometric | layout.is_image
        x = self.embed_tokens(ids.masked_fill(is_filled, 0))
        if views is not None:
            x = x.index_put(
                (layout.is_geometric.nonzero(as_tuple=True)[0],), torch.cat(self.encode_views(views)).to(x.dtype)
            )
        if pixel_values is not None:
            tokens = self.vision(pixel_values, image_grid_thw)
            x = x.index_put((layout.is_image.nonzero(as_tuple=True)[0],), tokens.to(x.dtype))
        return x

    def encode_views(self, views: Images) -> tuple[Float[Tensor, "_patches width"], ...]:
        """Geometric tokens of each view at the width of the decoder."""
        return in_batches(
            lambda images, grid, _: self.dino_projection(self.dino(images)),
            views,
            [self.grid(view) for view in views],
            is_whole=self.config.dino_windows == "reference",  # those windows reach across images
        )

    def read_geometry(
        self, hidden: Float[Tensor, "tokens width"], layout: Layout, views: Images, with_global_points: bool = False
    ) -> Geometry:
        """What the heads say about every view, from the hidden states after the final norms."""
        grids = [self.grid(view) for view in views]
        dtype = self.heads.points.proj.weight.dtype
        tokens = hidden[layout.is_geometric].to(dtype).split([rows * columns for rows, columns in grids])
        return self.heads(tokens, grids, first_views=_first_views(layout) if with_global_points else None)

    def zero_geometry(self, *, with_heads: bool) -> Float[Tensor, ""]:
        """Zero, by way of the geometric encoder (and the heads), which see one black patch.

        A batch without views adds this to its loss: gradients are then zeros and not None, and processes that share
        weights among them all take the same steps.
        """
        side = self.config.patch_size
        tokens = self.dino_projection(self.dino(self.dino_projection.weight.new_zeros(1, 3, side, side)))
        if not with_heads:
            return 0 * tokens.sum()
        geometry = self.heads(list(tokens.to(self.heads.points.proj.weight.dtype)), [(1, 1)], first_views=[0])
        read = (geometry.local_points, geometry.global_points, geometry.confidence, geometry.normals)
        maps = [maps[0].sum() for maps in read if maps is not None]
        return 0 * (torch.stack(maps).sum() + geometry.poses.sum())

    def zero_picture(self) -> Float[Tensor, ""]:
        """Zero, by way of the vision tower, which sees one merged patch of black; as `zero_geometry`, for batches without pictures."""
        vision = self.config.vision_config
        side = vision.spatial_merge_size
        values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        patches = self.dino_projection.weight.new_zeros(side**2, values)
        return 0 * self.vision(patches, torch.tensor([[1, side, side]], device=patches.device)).sum()

    def grid(self, view: Float[Tensor, "3 height width"]) -> Grid:
        """Rows and columns of patches of a view."""
        return self.config.grid(*view.shape[-2:])

    def _num_pictures(self, ids: Int[Tensor, " tokens"]) -> tuple[int, int]:
        """Views and semantic pictures of one sample: start markers that a placeholder follows."""
        tokens = self.config.tokens
        follows_start = ids[1:][ids[:-1] == tokens.vision_start]
        return int((follows_start == tokens.view_patch).sum()), int((follows_start == tokens.image_patch).sum())

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        layout = self.lay_out(
            inputs_tensor,
            model_kwargs.get("attention_mask"),
            model_kwargs.get("views"),
            model_kwargs.get("image_grid_thw"),
        )
        return layout.positions[0].view(inputs_tensor.shape)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Pictures enter with the prompt only; later steps find them in the cache, if there is one."""
        prepare = super().prepare_inputs_for_generation  # pyright: ignore[reportAttributeAccessIssue]
        inputs = prepare(input_ids, is_first_iteration=is_first_iteration, **kwargs)
        if not is_first_iteration and kwargs["use_cache"]:
            inputs |= {"views": None, "pixel_values": None, "image_grid_thw": None}
        return inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, *, input_ids: Tensor, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """Copies of every sample next to each other, each with its own run of views and pictures."""
        views, pixels, grids = (kwargs.pop(name, None) for name in ("views", "pixel_values", "image_grid_thw"))
        cache: Cache | None = kwargs.get("past_key_values")
        num_cached = 0 if cache is None else cache.get_seq_length()
        num_views, num_images = zip(*(self._num_pictures(ids[num_cached:]) for ids in input_ids), strict=True)
        if cache is not None and num_cached:
            cache.batch_repeat_interleave(expand_size)
        expand = super()._expand_inputs_for_generation  # pyright: ignore[reportAttributeAccessIssue]
        input_ids, kwargs = expand(expand_size, input_ids=input_ids, **kwargs)
        if views is not None:
            kwargs["views"] = _repeat_each(views, num_views, expand_size)
        if pixels is not None:
            pictures = pixels.split(grids.prod(1).tolist())
            kwargs["pixel_values"] = torch.cat(_repeat_each(pictures, num_images, expand_size))
            kwargs["image_grid_thw"] = torch.stack(_repeat_each(list(grids), num_images, expand_size))
        return input_ids, kwargs


def _padding(input_ids: Tensor, attention_mask: Tensor | None) -> list[int]:
    """Padded columns on the left of each sample's ids; padding elsewhere among them is refused."""
    if attention_mask is None:
        return [0] * len(input_ids)
    is_token = attention_mask[:, -input_ids.shape[1] :] != 0
    padding = (~is_token).sum(1)
    columns = torch.arange(input_ids.shape[1], device=attention_mask.device)
    if not torch.equal(is_token, columns >= padding[:, None]):
        raise ValueError("attention_mask has zeros behind a one; pad on the left (tokenizer.padding_side = 'left')")
    return padding.tolist()


def pasts_of(num_cached: int, attention_mask: Tensor | None, position_ids: Int[Tensor, "samples new"]) -> list[Past]:
    """What a cache holds of each sample, and where the sample goes on; arguments as of `G2VLM.forward`."""
    num_samples, num_new = position_ids.shape
    num_columns = num_cached + num_new
    if attention_mask is not None and attention_mask.shape[1] != num_columns:
        raise ValueError(
            f"attention_mask has {attention_mask.shape[1]} columns; it must cover {num_cached} cached and {num_new} new ones"
        )
    is_token = torch.ones(num_samples, num_columns, dtype=torch.bool)
    if attention_mask is not None:
        is_token = attention_mask.cpu() != 0
    first = is_token[:, num_cached:].int().argmax(1)
    starts = position_ids.cpu().gather(1, first[:, None])[:, 0].tolist()
    # A column of zeros at either end, so that every run of ones begins and ends with a change.
    edges = torch.nn.functional.pad(is_token[:, :num_cached].int(), (1, 1)).diff()
    runs = [row.nonzero()[:, 0].view(-1, 2).tolist() for row in edges]
    return [
        Past(num_cached, tuple((start, stop) for start, stop in seen), position)
        for seen, position in zip(runs, starts, strict=True)
    ]


def _repeat_each(items: Sequence[Tensor], counts: Sequence[int], times: int) -> list[Tensor]:
    """Items of several samples, each sample's run `times` over: a b | c becomes a b a b | c c."""
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return [item for start, n in zip(starts, counts, strict=True) for item in [*items[start : start + n]] * times]


def _merged_grids(image_grid_thw: Tensor | None, merge: int) -> list[Grid]:
    if image_grid_thw is None:
        return []
    return [(height // merge, width // merge) for _, height, width in image_grid_thw.tolist()]


def _first_views(layout: Layout) -> list[int]:
    """For every view, the index of view 0 of its sample."""
    counts = [sum(len(split.frames) for split in sample.splits) for sample in layout.samples]
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return [start for start, count in zip(starts, counts, strict=True) for _ in range(count)]
