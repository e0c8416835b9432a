"""How a prompt is read and gone on with: both encoders look once, then words follow, chosen by transformers' `generate`.

A prompt is read in two parts. The context, up to the last picture, is read in one forward, whose geometric tokens also give
the reconstruction. What follows it, a question and the opening of the answer, is read behind the cache of the context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from time import perf_counter
from typing import Any, Literal, TypedDict, get_args

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from g2vlm.host import Host
from g2vlm.layout import Grid, Layout
from g2vlm.model import G2VLM, pasts_of
from g2vlm.pathways.base import cells_size
from g2vlm.pictures import MERGED_PATCH, Photo, picture_size, semantic_patches, to_views, view_at
from g2vlm.processor import Processor
from g2vlm.records import Geometry

GeometryInput = Literal["on", "off", "blank", "shuffled"]
"""What the geometric encoder sees: the views; nothing, there being no block of views; views of mid-grey; or the views with
all their patches dealt out anew over all places of all views, which keeps colours and destroys geometry."""

MAX_NEW_TOKENS = 128

KeysAndValues = tuple[Float[Tensor, "samples heads columns width"], Float[Tensor, "samples heads columns width"]]


class Decoding(TypedDict, total=False):
    """How words are chosen, by the names of transformers' `generate`; greedily, if nothing is said."""

    max_new_tokens: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    num_beams: int
    repetition_penalty: float
    streamer: BaseStreamer
    stopping_criteria: StoppingCriteriaList


@dataclass(frozen=True)
class Scene:
    """Photos as the encoders see them.

    views: for the geometric encoder; none where geometry is off. view_grids: of views that stand in the prompt, which those
    of a pathway's encoder do not. picture_sizes: (height, width) for the vision tower.
    square: pixels of the square that pictures are stretched to first, if they are.
    """

    photos: tuple[Photo, ...]
    views: tuple[Float[Tensor, "3 _height _width"], ...]
    view_grids: tuple[Grid, ...]
    picture_sizes: tuple[tuple[int, int], ...]
    square: int | None

    @property
    def picture_grids(self) -> list[Grid]:
        return [(height // MERGED_PATCH, width // MERGED_PATCH) for height, width in self.picture_sizes]

    @property
    def num_tokens(self) -> list[int]:
        """Of each photo in a prompt: its view and its picture, with their markers."""
        views = [rows * columns + 2 for rows, columns in self.view_grids] or [0] * len(self.photos)
        return [view + rows * columns + 2 for view, (rows, columns) in zip(views, self.picture_grids, strict=True)]

    def patches(self, index: int, photo: Photo) -> Float[Tensor, "patches values"]:
        """The photo with this number, perhaps drawn on, as the vision tower reads it."""
        height, width = self.picture_sizes[index]
        stretched = (height, width) if self.square is None else (self.square, self.square)
        return semantic_patches([photo], stretched, max_pixels=height * width)[0]


@dataclass(frozen=True)
class Pictures:
    """What the vision tower reads of a batch: pixel_values and image_grid_thw of the model; geometry: of a pathway's host."""

    values: Float[Tensor, "patches values"]
    sizes: Int[Tensor, "pictures 3"]
    geometry: tuple[Float[Tensor, "3 _height _width"], ...]


def pictures_of(patches: Sequence[Tensor], scenes: Sequence[Scene], merge: int) -> Pictures:
    grids = [grid for scene in scenes for grid in scene.picture_grids]
    return Pictures(
        torch.cat(list(patches)),
        torch.tensor([(1, rows * merge, columns * merge) for rows, columns in grids]),
        tuple(view for scene in scenes for view in scene.views),
    )


@dataclass(frozen=True)
class Context:
    """The beginning of one prompt or several, as the model remembers it.

    layers: keys and values of each. mask: 1 where a column holds a token. next_positions: of each prompt's next token.
    """

    layers: tuple[KeysAndValues, ...]
    ids: Int[Tensor, "samples columns"]
    mask: Int[Tensor, "samples columns"]
    next_positions: Int[Tensor, " samples"]

    def cache(self) -> DynamicCache:
        """A cache that begins with this, and may grow: what is remembered here stays as it is."""
        return DynamicCache(self.layers)

    def copies(self, count: int) -> "Context":
        """A single prompt's beginning, so many times."""
        layers = tuple((k.expand(count, -1, -1, -1), v.expand(count, -1, -1, -1)) for k, v in self.layers)
        ids, mask = (x.expand(count, -1) for x in (self.ids, self.mask))
        return Context(layers, ids, mask, self.next_positions.expand(count))

    def until(self, column: int, next_position: int) -> "Context":
        """What stands before a column of a single prompt."""
        layers = tuple((k[:, :, :column], v[:, :, :column]) for k, v in self.layers)
        positions = torch.full_like(self.next_positions, next_position)
        return Context(layers, self.ids[:, :column], self.mask[:, :column], positions)


@dataclass(frozen=True)
class Reading:
    """Contexts that were read in one forward, and what their geometric tokens hold.

    positions: the temporal position of each column.
    """

    context: Context
    positions: Int[Tensor, "samples columns"]
    hidden: Float[Tensor, "tokens width"]
    layout: Layout
    scenes: tuple[Scene, ...]
    seconds: float

    @torch.no_grad()
    def geometries(self, model: G2VLM) -> list[Geometry]:
        """What the heads say about the views of each prompt."""
        if not self.layout.counts[1]:
            raise ValueError(
                "no views stand in this prompt, so nothing can be reconstructed or measured: this model's geometry enters by "
                "a pathway; ask without reasoning and with_reconstruction"
            )
        read = model.read_geometry(self.hidden, self.layout, [view for scene in self.scenes for view in scene.views])
        stops = list(accumulate(len(scene.views) for scene in self.scenes))
        starts = [0, *stops[:-1]]
        return [_views_of(read, start, stop) for start, stop in zip(starts, stops, strict=True)]


def _views_of(geometry: Geometry, start: int, stop: int) -> Geometry:
    return Geometry(
        local_points=geometry.local_points[start:stop],
        poses=geometry.poses[start:stop],
        confidence=None if geometry.confidence is None else geometry.confidence[start:stop],
        normals=None if geometry.normals is None else geometry.normals[start:stop],
    )


@dataclass(frozen=True)
class Said:
    """What the model said to each question. first_token: when its first word was there, by `perf_counter`."""

    texts: list[str]
    num_tokens: list[int]
    first_token: float


class FirstToken(StoppingCriteria):
    """Stops nothing; remembers when the first token was there."""

    def __init__(self):
        self.at: float | None = None

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        self.at = self.at or perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@dataclass(frozen=True)
class Speaker:
    """A model that answers, with its processor. host: of the model, where its geometry enters by a pathway."""

    model: G2VLM
    processor: Processor
    host: Host | None = None

    def scene(self, photos: Sequence[Photo], geometry: GeometryInput, resolution: int | None, seed: int) -> Scene:
        """What the encoders are to see of these photos; seed: of the shuffle."""
        if geometry not in get_args(GeometryInput):
            raise ValueError(f"geometry is {geometry!r}; it must be one of {', '.join(get_args(GeometryInput))}")
        if not photos:
            raise ValueError("no image was given; a question needs at least one to look at")
        config = self.model.config
        resolution = config.resolution if resolution is None else resolution
        views = to_views(photos, resolution, config.patch_size, config.view_resize)
        square = config.picture_size
        sizes = [picture_size((view.shape[1], view.shape[2]) if square is None else (square, square)) for view in views]
        if self.host is not None:
            return self._hosted(photos, sizes, square, geometry, seed)
        shown = seen_views(views, geometry, config.patch_size, seed)
        return Scene(tuple(photos), tuple(shown), tuple(map(self.model.grid, shown)), tuple(sizes), square)

    def _hosted(
        self,
        photos: Sequence[Photo],
        sizes: Sequence[tuple[int, int]],
        square: int | None,
        geometry: GeometryInput,
        seed: int,
    ) -> Scene:
        """Photos for the encoder of a pathway, whose cells are the tokens of the pictures."""
        assert self.host is not None
        if self.host.encoder is None:
            return Scene(tuple(photos), (), (), tuple(sizes), square)
        if geometry == "off":
            raise ValueError(
                "geometry is 'off', but this model's pathway needs it; set it to 'on', 'blank' or 'shuffled'"
            )
        patch = self.host.encoder.patch
        grids = [(height // MERGED_PATCH, width // MERGED_PATCH) for height, width in sizes]
        views = [view_at(x, cells_size(grid, patch)) for x, grid in zip(photos, grids, strict=True)]
        return Scene(tuple(photos), tuple(seen_views(views, geometry, patch, seed)), (), tuple(sizes), square)

    def require_room(self, scene: Scene, num_tokens: int, decoding: Decoding) -> None:
        """ValueError where a prompt and its answer are longer than the context."""
        most = self.model.config.text_config.max_position_embeddings
        require_room(scene.num_tokens, num_tokens, decoding, most, smaller="the resolution")

    @torch.no_grad()
    def read(
        self, prompts: Sequence[Int[Tensor, " _tokens"]], scenes: Sequence[Scene], patches: Sequence[Tensor]
    ) -> Reading:
        """Read contexts that end with their last picture, in one forward.

        patches: of each picture, of all contexts.
        """
        started = perf_counter()
        model = self.model
        ids, mask = self._left_padded(prompts)
        inputs = self._vision_inputs(self.pictures(patches, scenes))
        if self.host is None:
            inputs["views"] = [view.to(model.device, model.dtype) for scene in scenes for view in scene.views] or None
        reader = model if self.host is None else self.host
        out = reader(input_ids=ids, attention_mask=mask, logits_to_keep=None, use_cache=True, **inputs)
        positions = out.layout.positions[0].view(ids.shape)
        next_positions = torch.tensor([sample.next_position for sample in out.layout.samples], device=ids.device)
        remembered: Any = out.past_key_values
        layers = tuple((layer.keys, layer.values) for layer in remembered.layers)
        context = Context(layers, ids, mask, next_positions)
        hidden = out.last_hidden_state.flatten(0, 1)
        return Reading(context, positions, hidden, out.layout, tuple(scenes), perf_counter() - started)

    @torch.no_grad()
    def say(
        self,
        context: Context,
        tails: Sequence[Int[Tensor, " _tokens"]],
        pictures: Pictures | None,
        decoding: Decoding,
        seed: int,
    ) -> Said:
        """Go on from each context with its tail, in which pictures may stand, and then with an answer."""
        model, t = self.model, self.processor.tokens
        if len(tails) > 1 and "streamer" in decoding:
            raise ValueError(
                f"a streamer follows one answer, but there are {len(tails)} questions; ask them one by one"
            )
        new_ids, new_mask = self._left_padded(tails)
        num_cached = context.ids.shape[1]
        ids, mask = torch.cat([context.ids, new_ids], 1), torch.cat([context.mask, new_mask], 1)
        starts = context.next_positions[:, None].expand(-1, new_ids.shape[1])
        inputs = self._vision_inputs(pictures)
        layout = model.lay_out(
            new_ids, mask, image_grid_thw=inputs.get("image_grid_thw"), pasts=pasts_of(num_cached, mask, starts)
        )
        positions = layout.positions[0].view(new_ids.shape)
        first = FirstToken()
        options: dict[str, Any] = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, **decoding}
        criteria = StoppingCriteriaList([first, *options.pop("stopping_criteria", ())])
        with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(seed)
            out = (self.host or model).generate(  # pyright: ignore[reportAttributeAccessIssue]
                input_ids=ids,
                attention_mask=mask,
                position_ids=torch.cat([torch.zeros_like(context.ids), positions], 1),
                past_key_values=context.cache(),
                eos_token_id=t.eos,
                pad_token_id=t.pad,
                stopping_criteria=criteria,
                **inputs,
                **options,
            )
        answers = [until_end(row, (t.eos, t.pad)) for row in out[:, ids.shape[1] :].tolist()]
        texts = self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
        assert first.at is not None
        return Said([text.strip() for text in texts], [len(answer) for answer in answers], first.at)

    def _left_padded(self, rows: Sequence[Int[Tensor, " _tokens"]]) -> tuple[Tensor, Tensor]:
        """ids and mask of a batch."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.processor.tokens.pad)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, width - len(row) :] = row
            mask[i, width - len(row) :] = 1
        return ids.to(self.model.device), mask.to(self.model.device)

    def pictures(self, patches: Sequence[Tensor], scenes: Sequence[Scene]) -> Pictures:
        return pictures_of(patches, scenes, self.model.config.vision_config.spatial_merge_size)

    def _vision_inputs(self, pictures: Pictures | None) -> dict[str, Any]:
        """Arguments of the model's forward, or its host's; none without pictures."""
        if pictures is None:
            return {}
        device, dtype = self.model.device, self.model.dtype
        inputs = {"pixel_values": pictures.values.to(device, dtype), "image_grid_thw": pictures.sizes.to(device)}
        return inputs if self.host is None else inputs | {"geometry_images": pictures.geometry}


def seen_views(
    views: Sequence[Float[Tensor, "3 _height _width"]], geometry: GeometryInput, patch: int, seed: int
) -> list[Float[Tensor, "3 _height _width"]]:
    """What the geometric encoder sees instead of these views, see `GeometryInput`."""
    if geometry == "off":
        return []
    if geometry == "blank":
        return [torch.full_like(view, 0.5) for view in views]
    return list(views) if geometry == "on" else shuffled(views, patch, seed)


def shuffled(
    views: Sequence[Float[Tensor, "3 _height _width"]], patch: int, seed: int
) -> list[Float[Tensor, "3 _height _width"]]:
    """The patches of all views, dealt out anew over all places."""
    cut = [rearrange(view, "c (h p) (w q) -> (h w) c p q", p=patch, q=patch) for view in views]
    patches = torch.cat(cut)
    order = torch.randperm(len(patches), generator=torch.Generator().manual_seed(seed))
    dealt = patches[order.to(patches.device)].split([len(places) for places in cut])
    return [
        rearrange(places, "(h w) c p q -> c (h p) (w q)", h=view.shape[1] // patch)
        for places, view in zip(dealt, views, strict=True)
    ]


def require_room(photos: Sequence[int], num_tokens: int, decoding: Decoding, most: int, *, smaller: str) -> None:
    """ValueError where a prompt and its answer are longer than a context of `most` tokens.

    photos: tokens of each in the prompt. smaller: what makes a photo take fewer.
    """
    num_new = decoding.get("max_new_tokens", MAX_NEW_TOKENS)
    if num_new < 1:
        raise ValueError(f"max_new_tokens is {num_new}; an answer needs at least 1")
    if num_tokens + num_new > most:
        raise ValueError(_too_long(photos, num_tokens, num_new, most, smaller))


def _too_long(photos: Sequence[int], num_tokens: int, num_new: int, most: int, smaller: str) -> str:
    """What does not fit and what would."""
    num_words, left = num_tokens - sum(photos), most - num_tokens
    parts = f"{len(photos)} photos need {sum(photos)} tokens, the words {num_words}, the answer up to {num_new}"
    if num_new > num_tokens and left > 0:
        cure = f"lower max_new_tokens to {left}"
    elif num_words > sum(photos):
        cure = (
            f"shorten the words to {most - num_new - sum(photos)} tokens"
            if sum(photos) < most - num_new
            else "shorten them"
        )
    else:
        fitting = sum(total <= most - num_new - num_words for total in accumulate(photos))
        cure = f"give at most {fitting} photos" if fitting else f"lower {smaller}"
    return f"{parts}, but the context holds {most}: {cure}"


def until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """Tokens of an answer before the one that ends it."""
    return ids[: next((i for i, id in enumerate(ids) if id in ends), len(ids))]
