"""What all geometry pathways share: the frozen encoder they read, its cells, the merger, and how a host calls them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from g2vlm.blocks import Mlp
from g2vlm.pathway_config import NormKind, Site

MERGE = 2
"""Patches along each side of the cell that one visual token stands for."""

EPS = 1e-6
INIT_STD = 0.02

Cells = Mapping[int, Float[Tensor, "tokens 4 channels"]]
"""Features by encoder layer: for every visual token of a batch the four patches it covers, row-major."""


class GeometryEncoder(Protocol):
    """A frozen encoder of several views of one scene: features of its layers, which count from 0."""

    @property
    def num_layers(self) -> int:
        """Layers that can be asked for."""
        ...

    @property
    def width(self) -> int:
        """Channels of a feature."""
        ...

    @property
    def patch(self) -> int:
        """Side of a patch, pixels."""
        ...

    def encode(
        self, images: Float[Tensor, "views 3 height width"], layers: Sequence[int]
    ) -> list[Float[Tensor, "views rows columns channels"]]:
        """Patch features of each of `layers`, in the order asked for; RGB in [0, 1], sides multiples of the patch."""
        ...


class Pathway(nn.Module, ABC):
    """Geometry on its way into the visual rows of a decoder.

    sites: where the host calls `apply_at`. encoder_layers: what it then has to bring along, each once, ascending.
    """

    sites: tuple[Site, ...] = ()
    encoder_layers: tuple[int, ...] = ()

    @abstractmethod
    def apply_at(
        self, site: Site, visual_rows: Float[Tensor, "tokens width"], features: Cells
    ) -> Float[Tensor, "tokens width"]:
        """The visual rows as they go on from this site; `features` covers the same tokens in the same order."""


def merge_cells(features: Float[Tensor, "views rows columns channels"]) -> Float[Tensor, "views cells 4 channels"]:
    """Patches of one visual token together; a last odd row or column is left out.

    Cells are row-major, and so are the four patches of each. A grid of 2 x 4 patches, numbered along its rows, gives
    [[0, 1, 4, 5], [2, 3, 6, 7]].
    """
    rows, columns = (size - size % MERGE for size in features.shape[1:3])
    even = features[:, :rows, :columns]
    return rearrange(even, "v (r i) (c j) d -> v (r c) (i j) d", i=MERGE, j=MERGE)


def cells_size(cells: tuple[int, int], patch: int) -> tuple[int, int]:
    """(height, width) in pixels of the geometry image whose cells are these rows and columns of visual tokens."""
    rows, columns = cells
    return MERGE * patch * rows, MERGE * patch * columns


class GeometryMerger(Mlp):
    """The four patches of a cell as one token of the decoder: norm, 2 x 2 concat, linear, GELU, linear.

    norm: of each patch. None: no norm, and the mean of the four patches in place of their concat.
    zero_init: the last linear starts at zero, and with it the output.
    """

    def __init__(self, channels: int, hidden: int, width: int, *, norm: NormKind | None, zero_init: bool):
        super().__init__(channels * MERGE**2 if norm else channels, hidden, width)
        self.norm = NORMS[norm](channels, eps=EPS) if norm else None
        init_linear(self.fc1)
        init_linear(self.fc2, zero=zero_init)

    def forward(self, cells: Float[Tensor, "tokens 4 channels"]) -> Float[Tensor, "tokens width"]:
        cells = cells.to(self.fc1.weight.dtype)
        joined = cells.mean(1) if self.norm is None else self.norm(cells).flatten(1)
        return super().forward(joined)


NORMS: dict[NormKind, type[nn.LayerNorm] | type[nn.RMSNorm]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


def init_linear(linear: nn.Linear, *, zero: bool = False) -> None:
    """Start values of every new linear of a pathway: a normal distribution, or zeros; biases are zero."""
    nn.init.normal_(linear.weight, std=0.0 if zero else INIT_STD)
    nn.init.zeros_(linear.bias)


def ascending(layers: Iterable[int]) -> tuple[int, ...]:
    """Each layer once, ascending: what an encoder is asked for."""
    return tuple(sorted(set(layers)))
