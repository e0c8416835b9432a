"""What can be evaluated: anything with one of two methods. A system answers questions, or reconstructs scenes, or does both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from g2vlm.eval.benchmarks.base import Item, QuestionItem

Setting = str | int | float | None


@dataclass(frozen=True)
class About:
    """What a report says of a system.

    kind: which adapter. source: folder, hub id or file. sha256: of its weights, or of what was recorded; None without either.
    settings: all else that its outputs depend on.
    """

    kind: str
    source: str
    sha256: str | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)


class Absent(ValueError):
    """There is no output for an item, and nothing can be said of how good it would have been: it is not scored, and counted as missing."""


class System(Protocol):
    """Whoever is evaluated; it has `answer`, or `reconstruct`, or both.

    Either raises Absent where it has nothing for an item, and ValueError where what it has is unusable: the item then counts as failed.
    """

    @property
    def about(self) -> About: ...


@runtime_checkable
class Answers(Protocol):
    """A system that answers questions."""

    def answer(self, item: QuestionItem) -> str:
        """The reply to `item.prompt` about `item.seen(...)`, of `item.max_new_tokens` at most, behind `item.system` if there is one."""
        ...


class Reconstructed(Protocol):
    """Depth, points and cameras of the pictures of an item, in their order; None for what was not predicted.

    A `records.Reconstruction` is one. depth: z-depth. points: one world frame for all. normals: unit, camera frame, towards the
    camera. poses: camera-to-world, OpenCV axes. intrinsics: in pixels of the original photos, pixel centres at +0.5.
    """

    @property
    def depth(self) -> Sequence[Float[np.ndarray, "_height _width"]] | None: ...
    @property
    def points(self) -> Sequence[Float[np.ndarray, "_height _width 3"]] | None: ...
    @property
    def normals(self) -> Sequence[Float[np.ndarray, "_height _width 3"]] | None: ...
    @property
    def poses(self) -> Float[np.ndarray, "views 4 4"] | None: ...
    @property
    def intrinsics(self) -> Float[np.ndarray, "views 3 3"] | None: ...


@runtime_checkable
class Reconstructs(Protocol):
    """A system that reconstructs scenes."""

    def reconstruct(self, item: Item) -> Reconstructed:
        """What it sees in the pictures of `item.seen(...)`, which show one static scene."""
        ...


def require_fits(system: System, item: Item) -> None:
    """ValueError for a system without the method that an item asks for."""
    is_question, name = isinstance(item, QuestionItem), system.about.source
    lack = "answers no questions" if is_question else "reconstructs nothing"
    if not isinstance(system, Answers if is_question else Reconstructs):
        raise ValueError(f"{name} {lack}, which this benchmark asks for; choose another system")  # noqa: TRY004, it is not typed


def output_of(system: System, item: Item) -> Any:
    """The answer to a question, the reconstruction of a scene."""
    if isinstance(item, QuestionItem):
        assert isinstance(system, Answers)
        return system.answer(item)
    assert isinstance(system, Reconstructs)
    return system.reconstruct(item)
