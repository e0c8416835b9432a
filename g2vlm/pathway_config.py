"""Which geometry pathway a model has: one frozen type per pathway; every choice is checked where it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

NormKind = Literal["layer", "rms"]
"""Norm of geometry features before they are merged: LayerNorm with bias, or RMSNorm without."""

MergerKind = Literal["mlp", "avg"]
"""Before the decoder: norm and both linears over the 2 x 2 patches of a cell, or both linears over their mean."""

FusionKind = Literal["add", "concat", "gated", "weighted"]
"""Before the decoder: how merged geometry enters the visual tokens."""

Site = int | Literal["pre"]
"""Where a host calls a pathway: before the decoder, or behind the decoder layer of this index."""

Usage = Literal["routed", "mean"]
"""What a visual token takes of a bank of layers: the few that a router chooses for it, or the mean of all."""

ProjectorKind = Literal["shared", "split"]
"""Two linear maps for all layers of a bank, or two for each."""

RoutedFusion = Literal["add", "film", "gated", "gated_both"]
"""How what was taken of a bank enters the visual tokens; gates see the visual token alone, or what was taken, too."""

GateKind = Literal["channel", "token"]
"""A gate for each channel of a token, or one for the whole token."""

BankKind = Literal["uniform", "former", "latter"]


@dataclass(frozen=True)
class NoPathway:
    """The stock model: no geometry anywhere."""


@dataclass(frozen=True, kw_only=True)
class _Merged:
    """What pathways that merge the cells of a frozen encoder share.

    geometry_width: channels of the encoder's features. hidden_width: between the merger's two linears.
    zero_init: fresh mergers give zeros, so that a pathway which adds them begins as the stock model.
    """

    geometry_width: int = 2048
    hidden_width: int = 4096
    norm: NormKind = "layer"
    zero_init: bool = True

    def __post_init__(self) -> None:
        check_positive(self, "geometry_width", "hidden_width")
        check_choice(self, "norm", NormKind)


@dataclass(frozen=True)
class SpatialStack(_Merged):
    """Encoder layers merged, each by its own merger, and added to the output of decoder layers at visual rows.

    The i-th encoder layer goes to the i-th decoder layer. A decoder layer may be named several times and then takes
    several features, in order.
    """

    decoder_layers: tuple[int, ...] = (0, 1, 2)
    encoder_layers: tuple[int, ...] = (11, 17, 23)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers(self, "decoder_layers")
        check_layers(self, "encoder_layers")
        if len(self.decoder_layers) != len(self.encoder_layers):
            raise ValueError(
                f"decoder_layers {self.decoder_layers} and encoder_layers {self.encoder_layers} go in pairs, but there "
                f"are {len(self.decoder_layers)} and {len(self.encoder_layers)}; name as many of one as of the other"
            )

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(decoder layer, encoder layer), in the order in which they are added."""
        return tuple(zip(self.decoder_layers, self.encoder_layers, strict=True))


@dataclass(frozen=True)
class PreDecoder(_Merged):
    """Encoder layers merged and fused with the visual tokens before the decoder.

    One layer, added, is VG-LLM; several, one after another, are the naive multi-layer variant. Only `add` begins as the
    stock model: the other fusions change the tokens whatever the merger gives.
    """

    encoder_layers: tuple[int, ...] = (22,)
    merger: MergerKind = "mlp"
    fusion: FusionKind = "add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers(self, "encoder_layers")
        check_choice(self, "merger", MergerKind)
        check_choice(self, "fusion", FusionKind)


@dataclass(frozen=True)
class GeoAlign(_Merged):
    """A bank of encoder layers of which a router chooses a few for every visual token, in the manner of GeoAlign.

    decoder_layers: where what was chosen enters: behind these, or, as "pre", before the first. encoder_layers: the bank.
    top_k: layers for each token; as many as the bank has is the dense softmax. router_width: between the router's linears.
    gate: of the gated fusions. Fresh weights begin as the stock model with every fusion, if zero_init is on.
    """

    decoder_layers: tuple[Site, ...] = ("pre",)
    encoder_layers: tuple[int, ...] = (12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)
    top_k: int = 2
    router_width: int = 512
    usage: Usage = "routed"
    projector: ProjectorKind = "shared"
    fusion: RoutedFusion = "add"
    gate: GateKind = "channel"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers(self, "encoder_layers")
        check_positive(self, "top_k", "router_width")
        for field, choices in (
            ("usage", Usage),
            ("projector", ProjectorKind),
            ("fusion", RoutedFusion),
            ("gate", GateKind),
        ):
            check_choice(self, field, choices)
        sites = self.decoder_layers
        if (
            not isinstance(sites, tuple)
            or not sites
            or len(set(sites)) < len(sites)
            or not all(site == "pre" or _is_layer(site) for site in sites)
        ):
            raise ValueError(f"decoder_layers is {sites}; name each layer once, counted from 0, or 'pre'")
        if self.usage == "routed" and self.top_k > len(self.encoder_layers):
            raise ValueError(
                f"top_k is {self.top_k}, but encoder_layers are {len(self.encoder_layers)}; choose no more than there are"
            )


PathwayConfig = NoPathway | SpatialStack | PreDecoder | GeoAlign


def orders(encoder_layers: Sequence[int] = (11, 17, 23), **options: Any) -> dict[str, PathwayConfig]:
    """The ablations of SpatialStack's paper over layers that go from shallow to deep; the first n decoder layers take them.

    options: further fields, common to all. `single` is the deepest layer alone, `naive` all of them before the decoder.
    """
    forward = SpatialStack(tuple(range(len(encoder_layers))), tuple(encoder_layers), **options)
    return {
        "forward": forward,
        "reverse": replace(forward, encoder_layers=forward.encoder_layers[::-1]),
        "single": PreDecoder(forward.encoder_layers[-1:], **options),
        "naive": PreDecoder(forward.encoder_layers, **options),
    }


def bank(kind: BankKind, num_layers: int = 24, size: int = 12) -> tuple[int, ...]:
    """Encoder layers of a bank: the first `size`, the last, or evenly spaced ones that end with the last.

    >>> bank("uniform", 8, 4)
    (1, 3, 5, 7)
    """
    if not 1 <= size <= num_layers:
        raise ValueError(
            f"size of the bank is {size}, but the encoder has num_layers={num_layers}; choose 1 to that many"
        )
    ends = {
        "uniform": range(1, size + 1),
        "former": range(1, size + 1),
        "latter": range(num_layers - size + 1, num_layers + 1),
    }
    if kind not in ends:
        raise ValueError(f"bank is {kind!r}; it must be one of {get_args(BankKind)}")
    factor = num_layers / size if kind == "uniform" else 1
    return tuple(round(factor * end) - 1 for end in ends[kind])


def usages(
    encoder_layers: Sequence[int] | None = None, single: int | None = None, **options: Any
) -> dict[str, PathwayConfig]:
    """The ablations of GeoAlign's paper over what is made of a bank, which ends with the encoder's last layer.

    encoder_layers: the bank; by default the published one. single: the only layer of its baseline; by default the last but
    one of the bank. options: further fields, common to all. `top_K` are K choices for each token, `dense` weighs all layers.
    """
    routed = (
        GeoAlign(**options) if encoder_layers is None else GeoAlign(encoder_layers=tuple(encoder_layers), **options)
    )
    layers = routed.encoder_layers
    mean = replace(routed, usage="mean")
    return {
        "none": NoPathway(),
        "single": replace(mean, encoder_layers=(layers[-2:][0] if single is None else single,)),
        "mean": mean,
        **{f"top_{k}": replace(routed, top_k=k) for k in range(1, min(3, len(layers)) + 1)},
        "dense": replace(routed, top_k=len(layers)),
    }


# --- as JSON ----------------------------------------------------------------------------------------------------------

_TYPES = {kind.__name__: kind for kind in get_args(PathwayConfig)}


def to_fields(config: PathwayConfig) -> dict[str, Any]:
    """The configuration as JSON holds it: `type`, and the fields of that type."""
    return {"type": type(config).__name__} | asdict(config)


def from_fields(stored: Mapping[str, Any]) -> PathwayConfig:
    """The inverse of `to_fields`; ValueError for a type or field that no pathway has."""
    kind = _TYPES.get(stored.get("type", ""))
    if kind is None:
        raise ValueError(f"type of the pathway is {stored.get('type')!r}; it must be one of {tuple(_TYPES)}")
    given = {name: tuple(x) if isinstance(x, list) else x for name, x in stored.items() if name != "type"}
    if unknown := given.keys() - {field.name for field in fields(kind)}:
        raise ValueError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}; remove it, or update g2vlm")
    return kind(**given)


# --- checks -----------------------------------------------------------------------------------------------------------


def check_choice(config: Any, field: str, choices: Any) -> None:
    """ValueError unless the field holds one of a Literal's values."""
    if getattr(config, field) not in get_args(choices):
        raise ValueError(f"{field} is {getattr(config, field)!r}; it must be one of {get_args(choices)}")


def check_positive(config: Any, *names: str) -> None:
    """ValueError unless these fields are whole numbers of 1 or more."""
    for field in names:
        value = getattr(config, field)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{field} is {value!r}; it must be 1 or more")


def check_layers(config: Any, field: str) -> None:
    """ValueError unless the field names one layer at least, counted from 0."""
    layers = getattr(config, field)
    if not isinstance(layers, tuple) or not layers or not all(map(_is_layer, layers)):
        raise ValueError(f"{field} is {layers!r}; name at least one layer, counted from 0")


def _is_layer(value: Any) -> bool:
    return isinstance(value, int) and value >= 0
