"""Where every token of a packed sequence comes from: its expert, its rotary position, and what it sees.

Row = place of a token in the sequence; column = place of a key, counted with what a cache already holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from g2vlm.config import PictureAttention, TokenIds, ViewPositions, Visibility

Grid = tuple[int, int]
"""Rows and columns of patches."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Text:
    """Causal tokens of the semantic expert."""

    length: int


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
    """

    start: int
    length: int
    is_causal: bool
    frames: tuple[int, ...] = ()
    isolated: bool = False

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class Sample:
    """One sequence of the layout: its splits, and the first row and key row it has among all."""

    splits: tuple[Split, ...]
    first_row: int
    first_key: int
    next_position: int


@dataclass(frozen=True)
class Span:
    """Queries that share their keys. Ranges are (start, stop) of rows and of key rows."""

    rows: tuple[int, int]
    keys: tuple[tuple[int, int], ...]
    is_causal: bool

    @property
    def shape(self) -> tuple[int, int, bool]:
        return self.rows[1] - self.rows[0], sum(stop - start for start, stop in self.keys), self.is_causal


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

    column [keys]: sequence-order key row of each key as it lies in memory.
    """

    column: Int[Tensor, " keys"]
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
        for span in self.spans(self.view_at(layer)):
            if len(span.keys) > 2:
                raise ValueError(f"attention by intervals allows two per token, but rows {span.rows} see {span.keys}")
            far, near = ((0, 0), *span.keys)[-2:]
            rows = torch.arange(*span.rows)
            bounds[:2, rows] = torch.tensor(far)[:, None]
            bounds[2, rows] = near[0]
            bounds[3, rows] = near[1] - (rows.flip(0) - rows[0]) if span.is_causal else near[1]
        bounds = bounds.to(self.order.device)[:, self.order]
        column = torch.arange(self.num_keys, device=self.order.device) if keys_in_order else self.order
        return Intervals(column, *bounds)

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
            queries = torch.stack([self.restore[slice(*span.rows)] for span in spans])
            keys = torch.stack([torch.cat([every_key[slice(*k)] for k in span.keys]) for span in spans])
            if not keys_in_order:
                keys = self.restore[keys]
            all_keys = len(spans) == 1 and num_seen == self.num_keys and not is_causal
            groups.append(SpanGroup(queries, None if all_keys else keys, is_causal))
        return tuple(groups)


def lay_out(
    samples: Sequence[Sequence[Segment]],
    *,
    visibility: Visibility = "global",
    view_positions: ViewPositions = "shared",
    picture_attention: PictureAttention = "full",
    padding: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> Layout:
    """Plan a sequence of several samples, one after the other, none seeing another.

    padding: unused rows before each sample (left-padded batches); they belong to the semantic expert and see nothing.
    """
    is_geometric: list[int] = []
    is_image: list[int] = []
    positions: list[tuple[int, int, int]] = []
    placed = []
    for segments, pad in zip(samples, padding or [0] * len(samples), strict=True):
        is_geometric += [0] * pad
        is_image += [0] * pad
        positions += [(0, 0, 0)] * pad
        first_row = len(positions)
        splits = []
        position = 0
        for segment in segments:
            start = len(positions) - first_row
            tokens, position = _tokens(segment, position, view_positions)
            is_geometric += [kind == "view" for kind, _ in tokens]
            is_image += [kind == "image" for kind, _ in tokens]
            positions += [place for _, place in tokens]
            splits.append(_split(segment, start, len(tokens), picture_attention))
        placed.append(Sample(tuple(splits), first_row, first_row, position))
    return Layout(
        torch.tensor(is_geometric, dtype=torch.bool, device=device),
        torch.tensor(is_image, dtype=torch.bool, device=device),
        torch.tensor(positions, device=device).T,
        tuple(placed),
        len(positions),
        visibility,
    )


def lay_out_step(positions: Int[Tensor, "samples new"], padding: Sequence[int], num_columns: int) -> Layout:
    """Plan new text tokens of samples whose earlier tokens are cached.

    positions: rotary position of each new token. padding: unused leading columns of each sample in the cache.
    num_columns: columns of the cache once the new tokens are in it.
    """
    num_samples, num_new = positions.shape
    samples = [
        Sample(
            (Split(num_columns - num_new - pad, num_new, is_causal=True),),
            first_row=i * num_new - (num_columns - num_new - pad),
            first_key=i * num_columns + pad,
            next_position=int(positions[i, -1]) + 1,
        )
        for i, pad in enumerate(padding)
    ]
    none = torch.zeros(num_samples * num_new, dtype=torch.bool, device=positions.device)
    return Layout(none, none, positions.flatten().expand(3, -1), tuple(samples), num_samples * num_columns)


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


def _split(segment: Segment, start: int, length: int, picture_attention: PictureAttention) -> Split:
    if isinstance(segment, Text):
        return Split(start, length, is_causal=True)
    if isinstance(segment, Picture):
        return Split(start, length, is_causal=picture_attention == "causal", isolated=segment.isolated)
    return Split(start, length, is_causal=False, frames=tuple(r * c + 2 for r, c in segment.grids))


def _sample_spans(sample: Sample, visibility: Visibility) -> list[Span]:
    spans = []
    for index, split in enumerate(sample.splits):
        before = _ranges(s for s in sample.splits[:index] if not s.isolated)
        if split.is_causal and index == 0 and split.start > 0:
            before = [(0, split.start)]
        for start, stop, own in _parts(split, visibility):
            keys = tuple((a + sample.first_key, b + sample.first_key) for a, b in _join([*before, *own]))
            is_causal = split.is_causal and stop - start > 1
            spans.append(Span((sample.first_row + start, sample.first_row + stop), keys, is_causal))
    return spans


def _parts(split: Split, visibility: Visibility) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """(start, stop, columns seen inside the split) for each part of a split that attends alike."""
    if visibility == "global" or not split.frames:
        return [(split.start, split.stop, [(split.start, split.stop)])]
    parts = []
    start = split.start
    for length in split.frames:
        stop = start + length
        parts.append((start, stop, [(split.start if visibility == "block_causal" else start, stop)]))
        start = stop
    return parts


def _ranges(splits) -> list[tuple[int, int]]:
    return [(s.start, s.stop) for s in splits]


def _join(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge ranges that touch."""
    joined: list[tuple[int, int]] = []
    for start, stop in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _seen_by(sample: Sample, visibility: Visibility) -> list[tuple[int, list[int]]]:
    """(column, columns it sees) of every token of a sample, said token by token."""
    where: list[tuple[int, int]] = []
    columns = range(sample.splits[0].start, sample.splits[-1].stop)
    for index, split in enumerate(sample.splits):
        frames = split.frames or (split.length,)
        where += [(index, frame) for frame, length in enumerate(frames) for _ in range(length)]
    place = dict(zip(columns, where, strict=True))

    def sees(query: int, key: int) -> bool:
        if key not in place:
            return True
        (own, frame), (other, other_frame) = place[query], place[key]
        if own != other:
            return other < own and not sample.splits[other].isolated
        if sample.splits[own].is_causal:
            return key <= query
        return {"global": True, "frame": frame == other_frame, "block_causal": other_frame <= frame}[visibility]

    return [(query, [key for key in range(columns.stop) if sees(query, key)]) for query in columns]
