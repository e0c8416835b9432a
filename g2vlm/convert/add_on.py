"""Published models that add geometry to a stock Qwen-VL, SpatialStack and VG-LLM: their names and configurations."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from g2vlm.convert import vggt
from g2vlm.convert.names import StateDict, Table, inverse, listing, rename, translate
from g2vlm.encoders.vggt import VGGT_1B, VggtConfig
from g2vlm.pathway_config import FusionKind, MergerKind, NoPathway, PathwayConfig, PreDecoder, SpatialStack
from g2vlm.pathways.base import MERGE

Layout = Literal["spatialstack_qwen35", "spatialstack_qwen25", "vgllm"]

FIELDS = (
    *("use_geometry_encoder", "geometry_encoder_type", "geometry_encoder_path", "geometry_encoder_freeze"),
    *("reference_frame", "feature_fusion_method", "fusion_num_layers", "geometry_merger_type"),
    *("geometry_fusion_layers", "geometry_encoder_layers", "include_camera_token", "pos_encoding_type"),
    *("vision_language_fusion_layers", "geometry_merger_hidden_dim", "fusion_attention_heads", "fusion_dropout"),
    *("use_vggt_feature", "vggt_merger_hidden_dim", "use_dense_supervision", "distill_loss_weight"),
    *("add_ground_classifier", "box_3d_token_ids"),
)
"""What these models write into config.json beside the stock model's fields."""

LAYERED = "deepstack_language_add"
"""The feature_fusion_method that is `SpatialStack` here; those of `FusionKind` are `PreDecoder`."""

# --- names ------------------------------------------------------------------------------------------------------------

FLAT: Table = {"visual.*": "model.visual.*", "model.*": "model.language_model.*", "lm_head": "lm_head"}
"""Names of a stock Qwen2-VL or Qwen2.5-VL in files -> those of transformers' modules."""

STOCK: Table = FLAT | {
    "model.visual.*": "model.visual.*",
    "model.language_model.*": "model.language_model.*",
}
"""The same, where files may also hold the modules' own names."""

_LAYERED_ROOTS = {
    "model": "model.language_feature_fusion",
    "flat": "multi_layer_feature_fusion",
    "alias": "language_feature_fusion",
}
_LAYERED_NAMES: Table = {"geo_ln": "norm", "geo_mlp.0": "fc1", "geo_mlp.2": "fc2"}
_MERGER_NAMES: Table = {"ln_q": "norm", "mlp.0": "fc1", "mlp.2": "fc2"}
_FUSION_NAMES: Table = {
    "norm1": "norm_visual",
    "norm2": "norm_geometry",
    "projection": "projection",
    "gate_projection.0": "gate",
    "weight_2d": "visual_weight",
    "weight_3d": "geometry_weight",
}
_STARTS = (
    *("language_feature_fusion.", "multi_layer_feature_fusion.", "feature_fusion."),
    *("geometry_merger.", "geometry_merger_list.", "merger."),
)
_TRAINING_ONLY = ("decompresser.", "dpt_module.")
"""VG-LLM's dense supervision, beside the heads of VGGT that it reads."""

_NEXT_TOKENS = "mtp."
"""Qwen3.5's second head, which guesses the token after the next; transformers' model has none, so published bases hold it unread."""

log = logging.getLogger("g2vlm")

_COPIES: dict[Layout, tuple[tuple[str, str], ...]] = {
    "spatialstack_qwen35": (("model", "model.geometry_encoder.vggt."), ("alias", "geometry_encoder.vggt.")),
    "spatialstack_qwen25": (("flat", "geometry_encoder.vggt."), ("alias", "geometry_encoder.vggt.")),
    "vgllm": (("vgllm", "vggt."),),
}
"""Spelling of the pathway and prefix of the encoder: of what is read first, and of the second copy in the same file."""


@dataclass(frozen=True)
class Parts:
    """The weights of one model, taken apart.

    stock: by the names of the stock class's modules. pathway: by ours. encoder: a VGGT's aggregator by its published
    names, without prefix; empty where the file holds none.
    """

    stock: StateDict
    pathway: StateDict
    encoder: StateDict


def take_apart(weights: Mapping[str, Tensor], config: PathwayConfig) -> Parts:
    """A published checkpoint's weights, each once; what serves training alone (VGGT's heads and others) is left out.

    Left out, too, and logged, is what predicts several tokens at once in a Qwen3.5. ValueError lists mergers that are not those
    of the configuration, and copies of one tensor that differ.
    """
    encoder, pathway, stock, skipped = {}, {}, {}, []
    for name, x in weights.items():
        if vggt.is_vggt(name):
            encoder[name] = x
        elif is_pathway(name):
            pathway[name] = x
        elif name.startswith(_NEXT_TOKENS):
            skipped.append(name)
        elif not name.startswith(_TRAINING_ONLY):
            stock[name] = x
    if skipped:
        log.info("%d weights of multi-token prediction are not used:\n%s", len(skipped), listing(skipped))
    return Parts(rename(stock, STOCK, "a stock Qwen-VL"), _each_once(pathway, config), vggt.aggregator_of(encoder))


def put_together(parts: Parts, config: PathwayConfig, layout: Layout, *, aliases: bool = False) -> StateDict:
    """The inverse of `take_apart`, in one of the published layouts.

    aliases: with the second copy of mergers and encoder that SpatialStack's training code saves.
    """
    is_flat = layout != "spatialstack_qwen35"
    together = rename(parts.stock, inverse(FLAT), "a stock Qwen-VL") if is_flat else dict(parts.stock)
    for spelling, prefix in _COPIES[layout] if aliases else _COPIES[layout][:1]:
        together |= rename(parts.pathway, inverse(_spellings(config)[spelling]), f"{config} in the layout {layout}")
        together |= {prefix + name: x for name, x in parts.encoder.items()}
    return together


def is_pathway(name: str) -> bool:
    """Whether a name, in a checkpoint that holds more, is one of a merger or of a fusion."""
    return name.removeprefix("model.").startswith(_STARTS)


def _each_once(weights: StateDict, config: PathwayConfig) -> StateDict:
    """A pathway's weights by our names, in whichever spellings they come."""
    ours: StateDict = {}
    known: set[str] = set()
    for table in _spellings(config).values():
        for name, x in weights.items():
            if (new := translate(name, table)) is None:
                continue
            known.add(name)
            if not torch.equal(ours.setdefault(new, x), x):
                raise ValueError(
                    f"{name} stands in the weights under another prefix too, and differs; remove one of them"
                )
    if unknown := [name for name in weights if name not in known]:
        raise ValueError(
            f"config.json asks for {config}, but the weights hold {len(unknown)} names of another pathway; "
            f"use the config.json that belongs to them:\n{listing(unknown)}"
        )
    return ours


def _spellings(config: PathwayConfig) -> dict[str, Table]:
    """Each published naming of a pathway's weights -> ours, in the order in which copies are preferred."""
    if isinstance(config, SpatialStack):
        return {
            spelling: {
                f"{root}.fusion_layers.{layer}.{slot}.{old}": f"mergers.{i}.{new}"
                for i, (layer, slot) in enumerate(_slots(config.decoder_layers))
                for old, new in _LAYERED_NAMES.items()
            }
            for spelling, root in _LAYERED_ROOTS.items()
        }
    if isinstance(config, PreDecoder):
        num = len(config.encoder_layers)
        roots = ["geometry_merger"] if num == 1 else [f"geometry_merger_list.{i}" for i in range(num)]
        flat = {f"{root}.{a}": f"mergers.{i}.{b}" for i, root in enumerate(roots) for a, b in _MERGER_NAMES.items()}
        flat |= {f"feature_fusion.{a}": f"fusion.{b}" for a, b in _FUSION_NAMES.items()}
        alone = {f"merger.{a}": f"mergers.0.{b}" for a, b in _MERGER_NAMES.items()} if num == 1 else {}
        return {"model": {f"model.{a}": b for a, b in flat.items()}, "flat": flat, "alias": flat, "vgllm": alone}
    return {}


def _slots(decoder_layers: Sequence[int]) -> list[tuple[int, int]]:
    """(layer, slot) of every merger: a layer that is named several times has several slots, in order."""
    return [(layer, decoder_layers[:i].count(layer)) for i, layer in enumerate(decoder_layers)]


# --- configurations ---------------------------------------------------------------------------------------------------


def is_add_on(fields: Mapping[str, Any]) -> bool:
    """Whether a config.json is of one of these models."""
    return "use_geometry_encoder" in fields or "use_vggt_feature" in fields


def stock_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json without what belongs to the pathway and its encoder."""
    return {name: x for name, x in fields.items() if name not in (*FIELDS, "architectures")}


def read_encoder_config(fields: Mapping[str, Any], encoder: VggtConfig = VGGT_1B) -> VggtConfig:
    """The shape `encoder` with the reference frame of a config.json, which is the last one unless it is the first."""
    return replace(encoder, reference_frame="first" if fields.get("reference_frame", "first") == "first" else "last")


def read_config(
    fields: Mapping[str, Any], weights: Mapping[str, Tensor], encoder: VggtConfig = VGGT_1B
) -> PathwayConfig:
    """The pathway of a config.json; what it does not say (kind of norm, width of the mergers) is read off the weights.

    SpatialStack's one merger before the decoder reads the layer that is named, or else, like VG-LLM, the last but one.
    ValueError where fields ask for what is not supported, contradict each other, or are not those of the weights.
    """
    found = {name.removeprefix("model."): x for name, x in weights.items() if is_pathway(name)}
    if not (fields.get("use_geometry_encoder") or fields.get("use_vggt_feature")):
        if found:
            raise ValueError(
                f"use_geometry_encoder is false in config.json, but the weights hold a pathway ({min(found)} and {len(found) - 1} "
                "more); use the config.json that belongs to them"
            )
        return NoPathway()
    options = _options(found, encoder)
    last_but_one = encoder.depth - 2
    if fields.get("use_vggt_feature"):
        return PreDecoder((last_but_one,), **options)
    _check_supported(fields)
    method = fields.get("feature_fusion_method", "add")
    if (method == LAYERED) != any(".fusion_layers." in name for name in found):
        of = "before the decoder" if method == LAYERED else f"of {LAYERED!r}"
        raise ValueError(
            f"feature_fusion_method is {method!r} in config.json, but the weights hold mergers {of} ({min(found)} and "
            f"{len(found) - 1} more); use the config.json that belongs to them"
        )
    encoder_layers = tuple(fields.get("geometry_encoder_layers") or (last_but_one,))
    if method != LAYERED:
        merger = fields.get("geometry_merger_type", "mlp")
        return PreDecoder(encoder_layers, merger=merger, fusion=method, **options)
    decoder_layers = tuple(fields.get("geometry_fusion_layers") or ())
    if len(decoder_layers) != len(encoder_layers):
        raise ValueError(
            f"geometry_fusion_layers {decoder_layers} and geometry_encoder_layers {encoder_layers} go in pairs, but there "
            f"are {len(decoder_layers)} and {len(encoder_layers)}; name as many of one as of the other"
        )
    held = {tuple(map(int, name.split(".")[2:4])) for name in found if ".fusion_layers." in name}
    if held != set(_slots(decoder_layers)):
        raise ValueError(
            f"geometry_fusion_layers is {decoder_layers}, but the weights hold mergers of the decoder layers "
            f"{tuple(layer for layer, _ in sorted(held))}; use the config.json that belongs to them"
        )
    return SpatialStack(decoder_layers, encoder_layers, **options)


def _options(found: Mapping[str, Tensor], encoder: VggtConfig) -> dict[str, Any]:
    """Fields of any pathway that the weights of its mergers show."""
    firsts = [x for name, x in found.items() if name.endswith("mlp.0.weight")]
    if not firsts:
        raise ValueError(
            "config.json asks for geometry, but the weights hold no merger; use the weights that belong to it"
        )
    norm = "layer" if any(name.endswith(("geo_ln.bias", "ln_q.bias")) for name in found) else "rms"
    hidden, read = firsts[0].shape
    width = 2 * encoder.token_width
    if read not in (width, MERGE**2 * width):
        raise ValueError(
            f"the encoder's features have {width} channels (2 x token_width {encoder.token_width}), but the mergers in the weights "
            f"read {read} numbers, {MERGE**2} x {read // MERGE**2}; give the encoder that they were trained with"
        )
    return {"geometry_width": width, "hidden_width": hidden, "norm": norm}


def _check_supported(fields: Mapping[str, Any]) -> None:
    """ValueError for parts of SpatialStack's code base that are not there here."""
    supported = {
        "geometry_encoder_type": ("vggt",),
        "feature_fusion_method": (LAYERED, *get_args(FusionKind)),
        "geometry_merger_type": get_args(MergerKind),
        "include_camera_token": (False,),
        "vision_language_fusion_layers": (None, []),
    }
    for field, choices in supported.items():
        if field in fields and fields[field] not in choices:
            raise ValueError(
                f"{field} is {fields[field]!r} in config.json; supported is {' or '.join(map(repr, choices))}"
            )
