"""What training is fed with: samples, and packs of samples that fit into one forward."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from g2vlm.data.correspondences import has_matches
from g2vlm.records import IGNORE, Views

Record = TypeVar("Record")

AnswerWeighting = Literal["token", "sample", "square_root"]
"""What counts alike: every token of an answer, every answer, or something between: a token of an answer of n counts n ** -0.5."""

VisualTokens = Literal["geometric", "semantic"]
"""Patches of views, which the geometric expert owns, or merged patches of pictures, which the semantic one does."""

LENGTH_POWERS: dict[AnswerWeighting, float] = {"token": 0.0, "square_root": 0.5, "sample": 1.0}


class BadSample(ValueError):
    """A sample that cannot be used: its name and what is wrong. It is left out, counted and logged, and another drawn."""


@dataclass(frozen=True)
class Bucket:
    """What all samples of a pack share: number of views and their size in pixels (multiples of the patch size)."""

    num_views: int
    height: int
    width: int


@dataclass(frozen=True)
class Sample:
    """One sequence of tokens, and the truth about what it shows.

    name: where it comes from, so that a log can point at it.
    ids: the whole sequence; placeholders stand for the patches of views and pictures.
    branches: lengths of the texts at its end that go on from the same context and do not see each other: questions
    about the same views, which are then encoded once for all of them.
    labels: the token that has to follow each token, `IGNORE` where nothing is to be learnt; None without any.
    views: of one scene [views, 3, height, width], for the geometric expert; they carry whatever truth is known.
    pixel_values, image_grid_thw: pictures for the semantic vision tower. geometry_images: the same for the encoder of a
    pathway, RGB in [0, 1], sized so that its cells are the pictures' tokens.
    pictured: what is known of the scene that the pictures show, one view for each, of any size; None where nothing is.
    has_fine_depth: depth good enough for the normals of point maps.
    """

    name: str
    ids: Int[Tensor, " tokens"]
    labels: Int[Tensor, " tokens"] | None = None
    views: Views | None = None
    pixel_values: Float[Tensor, "patches values"] | None = None
    image_grid_thw: Int[Tensor, "pictures 3"] | None = None
    geometry_images: tuple[Float[Tensor, "3 _height _width"], ...] = ()
    has_fine_depth: bool = True
    branches: tuple[int, ...] = ()
    pictured: Views | None = None

    def matchable(self, tokens: VisualTokens) -> Views | None:
        """The views whose visual tokens of this kind are known to show the same points, or not; None where that is unknown."""
        views = self.views if tokens == "geometric" else self.pictured
        return views if views is not None and has_matches(views) else None

    @property
    def has_geometry(self) -> bool:
        """Whether the geometric losses have something to go by: poses, and either depth or a second view.

        The pose of a single view is arbitrary, so that it always has one: the identity.
        """
        views = self.views
        return views is not None and views.poses is not None and (views.depth is not None or len(views.images) > 1)

    def answer_weights(self, weighting: AnswerWeighting) -> Float[Tensor, " tokens"]:
        """How much each token counts in the text loss: 0 where nothing is to be learnt."""
        if self.labels is None:
            return torch.zeros(len(self.ids))
        is_learnt = self.labels != IGNORE
        begins = is_learnt & ~torch.nn.functional.pad(is_learnt[:-1], (1, 0))
        answer = torch.where(is_learnt, begins.cumsum(0), 0)
        lengths = answer.bincount()[answer].float()
        return is_learnt / lengths ** LENGTH_POWERS[weighting]


@dataclass(frozen=True)
class Pack:
    """Samples of one source that run through the model together.

    position: its number in the endless row of packs, of which it is a pure function. skipped: bad samples, by what was
    wrong with each.
    """

    position: int
    source: str
    samples: tuple[Sample, ...]
    skipped: tuple[str, ...] = ()

    @property
    def num_tokens(self) -> int:
        return sum(len(sample.ids) for sample in self.samples)

    @property
    def num_scenes(self) -> int:
        """Samples that the geometric losses can use."""
        return sum(sample.has_geometry for sample in self.samples)

    def num_matchable(self, tokens: VisualTokens) -> int:
        """Samples that correspondence supervision of these tokens can use."""
        return sum(sample.matchable(tokens) is not None for sample in self.samples)

    def answer_weight(self, weighting: AnswerWeighting) -> float:
        """What the text loss of all samples is divided by, together with that of other packs."""
        return sum(float(sample.answer_weights(weighting).sum()) for sample in self.samples)


class Source(Protocol):
    """A set of samples without end: what it gives depends on the state of `draw` and the bucket alone."""

    @property
    def name(self) -> str: ...

    @property
    def num_views(self) -> tuple[int, int]:
        """Least and most views of a sample; (0, 0) for text."""
        ...

    def num_tokens(self, bucket: Bucket) -> int:
        """Tokens of the longest sample of this shape; 0 where only the sample can tell."""
        ...

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        """Draw one sample; raises BadSample, saying which file is at fault."""
        ...


def to_device(record: Record, device: torch.device) -> Record:
    """A copy of a record of tensors, records and tuples of them whose tensors lie on a device."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, non_blocking=True)
        if isinstance(value, tuple):
            return tuple(moved(item) for item in value)
        return to_device(value, device) if is_dataclass(value) else value

    whole: Any = record
    return replace(whole, **{field.name: moved(getattr(whole, field.name)) for field in fields(whole)})


def left_padded(sequences: Iterable[Shaped[Tensor, " _tokens"]], value: int) -> Shaped[Tensor, "samples tokens"]:
    """Sequences of different lengths as one matrix, filled up on the left."""
    rows = list(sequences)
    longest = max(len(row) for row in rows)
    return torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0), value=value) for row in rows])
