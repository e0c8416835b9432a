"""Where every token of a packed sequence comes from: its expert, its rotary position, and what it sees.

Row = place of a token in the sequence; column = place of a key, counted with what a cache already holds.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from g2vlm.config import PictureAttention, TokenIds, ViewContext, ViewPositions, Visibility

Grid = tuple[int, int]
"""Rows and columns of patches."""

Made = TypeVar("Made")


Range = tuple[int, int]
"""First of consecutive rows, and the one behind the last."""


@dataclass(frozen=True)
class Text:
    """Causal tokens of the semantic expert.

    is_branch: one of several ways to go on from the same context; starts where the context ends, and no other sees it.
    """

    length: int
    is_branch: bool = False


@dataclass(frozen=True)
class ViewBlock:
    """Views of one scene for the geometric expert, each between two markers, which stay semantic.

    grids: DINOv2 patches of each view.
    """

    grids: tuple[Grid, ...]


@dataclass(frozen=True)
class Picture:
    """One picture for the semantic expert, between two markers.

    grid: tokens after the vision tower's 2 x 2 merge. isolated: no token outside it sees it.
    """

    grid: Grid
    isolated: bool = False


Segment = Text | ViewBlock | Picture


@dataclass(frozen=True)
class Split:
    """Consecutive tokens that attend alike: themselves (causally or fully) and everything before them.

    start: first column, counted in the sample. frames: lengths of the views, in a block of views.
    is_closed: patches of a block of views see only patches of that block.
    """

    start: int
    length: int
    is_causal: bool
    frames: tuple[int, ...] = ()
    isolated: bool = False
    is_closed: bool = False

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class Past:
    """What a cache holds of one sample.

    length: columns. seen: those with tokens of the sample; the others are padding. next_position: of the token to come.
    """

    length: int = 0
    seen: tuple[Range, ...] = ()
    next_position: int = 0


@dataclass(frozen=True)
class Sample:
    """One sequence of the layout: its splits, and the row and key row that its column 0 has among all.

    cached: columns of a cache that all its tokens see; its rows then begin behind them.
    """

    splits: tuple[Split, ...]
    first_row: int
    first_key: int
    next_position: int
    cached: tuple[Range, ...] = ()


@dataclass(frozen=True)
class Span:
    """Queries that share their keys: ranges of rows, and of key rows.

    only_patches: patches of views that see nothing but patches.
    """

    rows: tuple[Range, ...]
    keys: tuple[Range, ...]
    is_causal: bool
    only_patches: bool = False

    @property
    def shape(self) -> tuple[int, int, bool]:
        return _total(self.rows), _total(self.keys), self.is_causal


@dataclass(frozen=True)
class SpanGroup:
    """Spans of equal shape, to be attended in one call.

    queries: [spans, query length] rows, in the experts' order. keys: [spans, key length], or None for all in order.
    """

    queries: Int[Tensor, "spans queries"]
    keys: Int[Tensor, "spans keys"] | None
    is_causal: bool


@dataclass(frozen=True)
class Intervals:
    """What each row sees, as two half-open intervals of key rows: `far` before its split, `near` inside it.

    column [keys]: sequence-order key row of each key as it lies in memory. is_patch [keys]: of a view.
    only_patches [tokens]: rows that see nothing but patches of views in their intervals.
    """

    column: Int[Tensor, " keys"]
    is_patch: Bool[Tensor, " keys"]
    only_patches: Bool[Tensor, " tokens"]
    far_start: Int[Tensor, " tokens"]
    far_stop: Int[Tensor, " tokens"]
    near_start: Int[Tensor, " tokens"]
    near_stop: Int[Tensor, " tokens"]


@dataclass(frozen=True)
class Layout:
    """The plan of a packed sequence of T tokens.

    is_geometric [T]: owner of each token. is_image [T]: filled by the semantic vision tower.
    positions [3, T]: rotary position on the temporal, row and column axis.
    num_keys: rows of the keys; T, unless a cache already holds some.
    """

    is_geometric: Bool[Tensor, " tokens"]
    is_image: Bool[Tensor, " tokens"]
    positions: Int[Tensor, "3 tokens"]
    samples: tuple[Sample, ...]
    num_keys: int
    visibility: Visibility = "global"
    _made: dict[tuple[str, str, bool], Any] = field(default_factory=dict, repr=False)

    @cached_property
    def order(self) -> Int[Tensor, " tokens"]:
        """Rows sorted by expert: semantic ones first, each expert's in sequence order."""
        return self.is_geometric.to(torch.int8).argsort(stable=True)

    @cached_property
    def restore(self) -> Int[Tensor, " tokens"]:
        """The order that undoes `order`."""
        return self.order.argsort()

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Tokens of the semantic and of the geometric expert."""
        geometric = int(self.is_geometric.sum())
        return len(self.is_geometric) - geometric, geometric

    def view_at(self, layer: int) -> Visibility:
        """What geometric tokens see in this decoder layer."""
        if self.visibility != "mixed":
            return self.visibility
        return "frame" if layer % 2 == 0 else "global"

    def groups(self, layer: int, *, keys_in_order: bool) -> tuple[SpanGroup, ...]:
        """What to attend in this layer.

        keys_in_order: keys lie in sequence order (a cache), not in the experts' order.
        """
        visibility = self.view_at(layer)
        return self.once("groups", layer, keys_in_order, lambda: self._group(visibility, keys_in_order))

    def once(self, what: str, layer: int, keys_in_order: bool, make: Callable[[], Made]) -> Made:
        """What a kernel needs to know of this layout, made for the first layer of its kind and kept for the others."""
        key = (what, self.view_at(layer), keys_in_order)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def spans(self, visibility: Visibility) -> list[Span]:
        """Who sees what, as ranges of rows and key rows."""
        return [span for sample in self.samples for span in _sample_spans(sample, visibility)]

    def intervals(self, layer: int, *, keys_in_order: bool) -> Intervals:
        """What each row (in the experts' order) sees, for kernels that mask by index.

        Raises ValueError for rows that see more than two intervals (isolated pictures between others).
        """
        bounds = torch.zeros(4, len(self.is_geometric), dtype=torch.long)
        only_patches = torch.zeros(len(self.is_geometric), dtype=torch.bool)
        for span in self.spans(self.view_at(layer)):
            rows = torch.cat([torch.arange(*part) for part in span.rows])
            keys = span.keys
            if span.only_patches:
                only_patches[rows] = True
                keys = ((keys[0][0], keys[-1][1]),)
            if len(keys) > 2:
                raise ValueError(f"attention by intervals allows two per token, but rows {span.rows} see {keys}")
            far, near = ((0, 0), *keys)[-2:]
            bounds[:2, rows] = torch.tensor(far)[:, None]
            bounds[2, rows] = near[0]
            bounds[3, rows] = near[1] - (rows[-1] - rows) if span.is_causal else near[1]
        device = self.order.device
        column = torch.arange(self.num_keys, device=device) if keys_in_order else self.order
        # Views stand in the prompt only: behind a cache every row is text, and no key is asked for being a patch.
        is_patch = (
            self.is_geometric[column] if len(column) == len(self.is_geometric) else torch.zeros_like(column).bool()
        )
        return Intervals(column, is_patch, only_patches.to(device)[self.order], *bounds.to(device)[:, self.order])

    def visible(self, layer: int) -> Bool[Tensor, "tokens keys"]:
        """The dense mask that `groups` never builds: an independent twin for tests and small sequences."""
        visibility = self.view_at(layer)
        mask = self.is_geometric.new_zeros(len(self.is_geometric), self.num_keys)
        for sample in self.samples:
            for row, seen in _seen_by(sample, visibility):
                mask[sample.first_row + row, sample.first_key + torch.tensor(seen, device=mask.device)] = True
        return mask

    def _group(self, visibility: Visibility, keys_in_order: bool) -> tuple[SpanGroup, ...]:
        by_shape: dict[tuple[int, int, bool], list[Span]] = {}
        for span in self.spans(visibility):
            by_shape.setdefault(span.shape, []).append(span)
        device = self.is_geometric.device
        every_key = torch.arange(self.num_keys, device=device)
        groups = []
        for (_, num_seen, is_causal), spans in by_shape.items():
            queries = torch.stack([torch.cat([self.restore[slice(*part)] for part in span.rows]) for span in spans])
            keys = torch.stack([torch.cat([every_key[slice(*part)] for part in span.keys]) for span in spans])
            if not keys_in_order:
                keys = self.restore[keys]
            all_keys = len(spans) == 1 and num_seen == self.num_keys and not is_causal
            groups.append(SpanGroup(queries, None if all_keys else keys, is_causal))
        return tuple(groups)


def lay_out(
    samples: Sequence[Sequence[Segment]],
    *,
    visibility: Visibility = "global",
    view_context: ViewContext = "views",
    view_positions: ViewPositions = "shared",
    picture_attention: PictureAttention = "full",
    padding: Sequence[int] | None = None,
    pasts: Sequence[Past] | None = None,
    device: torch.device | str = "cpu",
) -> Layout:
    """Plan a sequence of several samples, one after the other, none seeing another.

    padding: unused rows before each sample (left-padded batches); they belong to the semantic expert and see nothing.
    pasts: what a cache holds of each sample, which goes on with these segments; views go on from nothing only.
    """
    is_geometric: list[int] = []
    is_image: list[int] = []
    positions: list[tuple[int, int, int]] = []
    placed = []
    num_keys = 0
    pasts = pasts or [Past()] * len(samples)
    for segments, pad, past in zip(samples, padding or [0] * len(samples), pasts, strict=True):
        # Column 0 is the first token of a sample that starts from nothing, and the first in the cache of one that goes on.
        first_row = len(positions) - past.length if past.length else len(positions) + pad
        first_key = num_keys if past.length else num_keys + pad
        is_geometric += [0] * pad
        is_image += [0] * pad
        positions += [(0, 0, 0)] * pad
        splits = []
        position = past.next_position
        for segment in segments:
            start = len(positions) - first_row
            tokens, behind = _tokens(segment, position, view_positions)
            position = position if _is_branch(segment) else behind
            is_geometric += [kind == "view" for kind, _ in tokens]
            is_image += [kind == "image" for kind, _ in tokens]
            positions += [place for _, place in tokens]
            splits.append(_split(segment, start, len(tokens), view_context, picture_attention))
        placed.append(Sample(tuple(splits), first_row, first_key, position, past.seen))
        num_keys = first_key + len(positions) - first_row
    return Layout(
        torch.tensor(is_geometric, dtype=torch.bool, device=device),
        torch.tensor(is_image, dtype=torch.bool, device=device),
        torch.tensor(positions, device=device).T,
        tuple(placed),
        num_keys,
        visibility,
    )


def segments_of(
    ids: Int[Tensor, " tokens"], tokens: TokenIds, view_grids: Sequence[Grid], image_grids: Sequence[Grid]
) -> list[Segment]:
    """Read the segments of one sample back from its token ids.

    A marker followed by `view_patch` opens a view, by `image_patch` a picture; views that touch form one block.
    The grids must be exactly those of the sample, in order; otherwise ValueError names both counts.
    """
    values = ids.tolist()
    views, pictures = iter(view_grids), iter(image_grids)
    segments: list[Segment] = []
    block: list[Grid] = []
    text = at = 0
    while at < len(values):
        following = values[at + 1] if at + 1 < len(values) else None
        is_view = values[at] == tokens.vision_start and following == tokens.view_patch
        is_picture = values[at] == tokens.vision_start and following == tokens.image_patch
        if block and not is_view:
            segments.append(ViewBlock(tuple(block)))
            block = []
        if not (is_view or is_picture):
            text, at = text + 1, at + 1
            continue
        if text:
            segments.append(Text(text))
            text = 0
        grid = next(views if is_view else pictures, None)
        patch = tokens.view_patch if is_view else tokens.image_patch
        length = _run(values, at + 1, patch)
        if (
            grid is None
            or grid[0] * grid[1] != length
            or values[at + 1 + length : at + 2 + length] != [tokens.vision_end]
        ):
            raise ValueError(
                f"{'view' if is_view else 'image'} at token {at} has {length} placeholders of id {patch}, but its grid "
                f"is {grid}; give one grid per {'view' if is_view else 'image'}, in order, and close it with {tokens.vision_end}"
            )
        if is_view:
            block.append(grid)
        else:
            segments.append(Picture(grid))
        at += length + 2
    if block:
        segments.append(ViewBlock(tuple(block)))
    if text:
        segments.append(Text(text))
    if left := len(list(views)) + len(list(pictures)):
        raise ValueError(f"{left} of {len(view_grids) + len(image_grids)} grids have no placeholders in the token ids")
    return segments


def _run(values: list[int], start: int, value: int) -> int:
    """How many times `value` stands in a row from `start` on."""
    stop = start
    while stop < len(values) and values[stop] == value:
        stop += 1
    return stop - start


Kind = Literal["text", "view", "image"]
Tokens = list[tuple[Kind, tuple[int, int, int]]]


def _tokens(segment: Segment, position: int, view_positions: ViewPositions) -> tuple[Tokens, int]:
    """Kind and rotary position of each token, and the first free position after them (Qwen2-VL's M-RoPE)."""
    if isinstance(segment, Text):
        end = position + segment.length
        words: Tokens = [("text", (p, p, p)) for p in range(position, end)]
        return words, end
    if isinstance(segment, Picture):
        return _picture_tokens("image", segment.grid, position)
    tokens: Tokens = []
    furthest = start = position
    for grid in segment.grids:
        view, end = _picture_tokens("view", grid, start)
        tokens += view
        furthest = max(furthest, end)
        start = end if view_positions == "sequential" else position
    return tokens, furthest


def _picture_tokens(kind: Kind, grid: Grid, position: int) -> tuple[Tokens, int]:
    """Start marker, patches in row-major order, end marker one above the largest patch position."""
    base = position + 1
    end = base + max(grid)
    patches: Tokens = [(kind, (base, base + r, base + c)) for r in range(grid[0]) for c in range(grid[1])]
    return [("text", (position, position, position)), *patches, ("text", (end, end, end))], end + 1


def _is_branch(segment: Segment) -> bool:
    return isinstance(segment, Text) and segment.is_branch


def _split(
    segment: Segment, start: int, length: int, view_context: ViewContext, picture_attention: PictureAttention
) -> Split:
    if isinstance(segment, Text):
        return Split(start, length, is_causal=True, isolated=segment.is_branch)
    if isinstance(segment, Picture):
        return Split(start, length, is_causal=picture_attention == "causal", isolated=segment.isolated)
    frames = tuple(r * c + 2 for r, c in segment.grids)
    return Split(start, length, is_causal=False, frames=frames, is_closed=view_context == "views")


def _sample_spans(sample: Sample, visibility: Visibility) -> list[Span]:
    def in_rows(ranges: Iterable[Range]) -> tuple[Range, ...]:
        return tuple((sample.first_row + start, sample.first_row + stop) for start, stop in ranges)

    def in_keys(ranges: Iterable[Range]) -> tuple[Range, ...]:
        return tuple((sample.first_key + start, sample.first_key + stop) for start, stop in ranges)

    spans = []
    for index, split in enumerate(sample.splits):
        before = [*sample.cached, *_ranges(s for s in sample.splits[:index] if not s.isolated)]
        for frames, own in _parts(split, visibility):
            if split.is_closed:
                patches = in_keys(_patches(own))
                spans.append(Span(in_rows(_patches(frames)), patches, is_causal=False, only_patches=True))
                frames = _markers(frames)
            keys = in_keys(_join([*before, (own[0][0], own[-1][1])]))
            spans.append(Span(in_rows(frames), keys, split.is_causal and _total(frames) > 1))
    return spans


def _parts(split: Split, visibility: Visibility) -> list[tuple[list[Range], list[Range]]]:
    """What attends alike inside a split: its frames (or all of it), and the frames these see."""
    if not split.frames:
        whole = [(split.start, split.stop)]
        return [(whole, whole)]
    stops = list(accumulate(split.frames, initial=split.start))
    frames = list(pairwise(stops))
    if visibility == "global":
        return [(frames, frames)]
    return [([frame], frames[: i + 1] if visibility == "block_causal" else [frame]) for i, frame in enumerate(frames)]


def _patches(frames: list[Range]) -> list[Range]:
    """Frames without their markers."""
    return [(start + 1, stop - 1) for start, stop in frames]


def _markers(frames: list[Range]) -> list[Range]:
    return [marker for start, stop in frames for marker in ((start, start + 1), (stop - 1, stop))]


def _ranges(splits: Iterable[Split]) -> list[Range]:
    return [(s.start, s.stop) for s in splits]


def _total(ranges: Iterable[Range]) -> int:
    return sum(stop - start for start, stop in ranges)


def _join(ranges: list[Range]) -> list[Range]:
    """Merge ranges that touch."""
    joined: list[Range] = []
    for start, stop in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _seen_by(sample: Sample, visibility: Visibility) -> list[tuple[int, list[int]]]:
    """(column, columns it sees) of every token of a sample, said token by token."""
    where: list[tuple[int, int, bool]] = []
    columns = range(sample.splits[0].start, sample.splits[-1].stop)
    for index, split in enumerate(sample.splits):
        for frame, length in enumerate(split.frames or (split.length,)):
            where += [(index, frame, bool(split.frames) and 0 < at < length - 1) for at in range(length)]
    place = dict(zip(columns, where, strict=True))

    def sees(query: int, key: int) -> bool:
        if key not in place:
            return any(start <= key < stop for start, stop in sample.cached)
        (own, frame, is_patch), (other, other_frame, is_other_patch) = place[query], place[key]
        if sample.splits[own].is_closed and is_patch and not (other == own and is_other_patch):
            return False
        if own != other:
            return other < own and not sample.splits[other].isolated
        if sample.splits[own].is_causal:
            return key <= query
        return {"global": True, "frame": frame == other_frame, "block_causal": other_frame <= frame}[visibility]

    return [(query, [key for key in range(columns.stop) if sees(query, key)]) for query in columns]
