"""GeoAlign-style: of a bank of encoder layers every visual token takes the few that a router chooses for it.

After arXiv 2604.12630, which publishes no code. What its text leaves open is decided here, and may differ from what its
authors did: the four patches of a cell are joined before the shared projector; both networks have GELU between their linears,
which are 4 x 4096 wide inside the projector and 512 inside the router; the router reads visual tokens without a norm; all linears
have biases; those that write into the visual tokens start at zero; a gate has a value per channel; inside the decoder, geometry
enters behind the layer; and several places share the bank, but each has a router and a fusion of its own.

Axes: t visual tokens, m layers of the bank, d channels.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

from g2vlm.blocks import Mlp
from g2vlm.pathway_config import GeoAlign, RoutedFusion, Site
from g2vlm.pathways.base import EPS, MERGE, NORMS, Cells, Pathway, ascending, init_linear


class GeoAlignPathway(Pathway):
    """A bank, and for every place where it enters a router and a fusion."""

    def __init__(self, config: GeoAlign, width: int):
        super().__init__()
        self.sites = config.decoder_layers
        self.encoder_layers = ascending(config.encoder_layers)
        self.bank = FeatureBank(config, width)
        self.routers = nn.ModuleList(_router_of(config, width) for _ in self.sites)
        self.fusions = nn.ModuleList(FUSIONS[config.fusion](config, width) for _ in self.sites)

    def apply_at(
        self, site: Site, visual_rows: Float[Tensor, "tokens width"], features: Cells
    ) -> Float[Tensor, "tokens width"]:
        bank = self.bank(features)
        rows = visual_rows.to(bank.dtype)
        i = self.sites.index(site)
        taken = einsum(self.routers[i](rows), bank, "t m, t m d -> t d")
        return self.fusions[i](rows, taken).to(visual_rows.dtype)


@contextmanager
def recorded_routing(pathway: GeoAlignPathway) -> Iterator[dict[Site, Float[Tensor, "tokens layers"]]]:
    """What each visual token took of each layer of the bank, by site, of the last call that was made inside this context.

    Layers stand in the order of the configuration; the weights of a token sum to 1.

    >>> with recorded_routing(host.pathway) as routing:
    ...     host(**inputs)
    >>> routing["pre"].mean(0)
    """
    taken: dict[Site, Tensor] = {}

    def keeper(site: Site):
        return lambda _router, _rows, weights: taken.update({site: weights.detach()})

    with ExitStack() as hooks:
        for site, router in zip(pathway.sites, pathway.routers, strict=True):
            hooks.enter_context(router.register_forward_hook(keeper(site)))
        yield taken


class FeatureBank(nn.Module):
    """Encoder layers at the width of the decoder: each patch normed by a norm of its layer, cells joined and projected."""

    def __init__(self, config: GeoAlign, width: int):
        super().__init__()
        self.layers = config.encoder_layers
        self.norms = nn.ModuleList(NORMS[config.norm](config.geometry_width, eps=EPS) for _ in self.layers)
        num_projectors = 1 if config.projector == "shared" else len(self.layers)
        self.projectors = nn.ModuleList(
            _mlp(MERGE**2 * config.geometry_width, config.hidden_width, width) for _ in range(num_projectors)
        )

    def forward(self, features: Cells) -> Float[Tensor, "tokens layers width"]:
        dtype = next(self.parameters()).dtype
        joined = [
            norm(features[layer].to(dtype)).flatten(1) for layer, norm in zip(self.layers, self.norms, strict=True)
        ]
        if len(self.projectors) == 1:
            return self.projectors[0](torch.stack(joined, 1))
        return torch.stack([project(x) for project, x in zip(self.projectors, joined, strict=True)], 1)


class Router(nn.Module):
    """For each token the weights of the layers it likes best, by softmax over their scores; all others weigh nothing.

    Only what was chosen gets a gradient: nothing keeps the choices balanced.
    """

    def __init__(self, width: int, hidden: int, num_layers: int, top_k: int):
        super().__init__()
        self.top_k = top_k
        self.scores = _mlp(width, hidden, num_layers)

    def forward(self, rows: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens layers"]:
        scores = self.scores(rows)
        is_chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(self.top_k).indices, True)
        return scores.masked_fill(~is_chosen, -torch.inf).softmax(1)


class EvenRouter(nn.Module):
    """Every layer weighs the same for every token."""

    def __init__(self, num_layers: int):
        super().__init__()
        self.num_layers = num_layers

    def forward(self, rows: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens layers"]:
        return rows.new_full((len(rows), self.num_layers), 1 / self.num_layers)


def _router_of(config: GeoAlign, width: int) -> nn.Module:
    num_layers = len(config.encoder_layers)
    if config.usage == "mean":
        return EvenRouter(num_layers)
    return Router(width, config.router_width, num_layers, config.top_k)


def _mlp(width: int, hidden: int, out: int) -> Mlp:
    mlp = Mlp(width, hidden, out)
    init_linear(mlp.fc1)
    init_linear(mlp.fc2)
    return mlp


# --- fusions: v of the visual tokens, g what they took of the bank ----------------------------------------------------


class ResidualFusion(nn.Module):
    """v + Linear g."""

    def __init__(self, config: GeoAlign, width: int):
        super().__init__()
        self.out = nn.Linear(width, width)
        init_linear(self.out, zero=config.zero_init)

    def forward(
        self, visual: Float[Tensor, "tokens width"], geometry: Float[Tensor, "tokens width"]
    ) -> Float[Tensor, "tokens width"]:
        return visual + self.out(geometry)


class FilmFusion(nn.Module):
    """v (1 + Linear g) + Linear g."""

    def __init__(self, config: GeoAlign, width: int):
        super().__init__()
        self.scale = nn.Linear(width, width)
        self.shift = nn.Linear(width, width)
        init_linear(self.scale, zero=config.zero_init)
        init_linear(self.shift, zero=config.zero_init)

    def forward(
        self, visual: Float[Tensor, "tokens width"], geometry: Float[Tensor, "tokens width"]
    ) -> Float[Tensor, "tokens width"]:
        return visual * (1 + self.scale(geometry)) + self.shift(geometry)


class GatedFusion(ResidualFusion):
    """v + Linear(sigmoid(Linear v) g)."""

    def __init__(self, config: GeoAlign, width: int):
        super().__init__(config, width)
        self.gate = _gate(config, width, width)

    def forward(
        self, visual: Float[Tensor, "tokens width"], geometry: Float[Tensor, "tokens width"]
    ) -> Float[Tensor, "tokens width"]:
        return super().forward(visual, self.gate(visual).sigmoid() * geometry)


class GatedBothFusion(ResidualFusion):
    """v + Linear(sigmoid(Linear[v; g]) g)."""

    def __init__(self, config: GeoAlign, width: int):
        super().__init__(config, width)
        self.gate = _gate(config, 2 * width, width)

    def forward(
        self, visual: Float[Tensor, "tokens width"], geometry: Float[Tensor, "tokens width"]
    ) -> Float[Tensor, "tokens width"]:
        return super().forward(visual, self.gate(torch.cat([visual, geometry], -1)).sigmoid() * geometry)


def _gate(config: GeoAlign, seen: int, width: int) -> nn.Linear:
    gate = nn.Linear(seen, width if config.gate == "channel" else 1)
    init_linear(gate)
    return gate


FUSIONS: dict[RoutedFusion, type[nn.Module]] = {
    "add": ResidualFusion,
    "film": FilmFusion,
    "gated": GatedFusion,
    "gated_both": GatedBothFusion,
}
