"""From a folder or a hub repository to a host and back: our own folders, and SpatialStack and VG-LLM as published.

Our folder is the model's own (config.json, safetensors), which any program for it can read, and beside it:
pathway.json (pathway and encoder), pathway.safetensors, and, where it was asked for, encoder.safetensors.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2VLImageProcessorPil,
)
from transformers.initialization import no_init_weights

from g2vlm.atomic import whole_folder
from g2vlm.convert import add_on, vggt
from g2vlm.convert.add_on import Parts
from g2vlm.convert.names import StateDict, check_fit
from g2vlm.convert.official import read_json
from g2vlm.encoders.vggt import VGGT_1B, Vggt, VggtConfig
from g2vlm.expert_encoder import ExpertEncoder
from g2vlm.host import FAMILIES, NATIVE, Host
from g2vlm.hub import (
    Source,
    check_finite,
    find,
    load_model,
    load_vggt,
    read_checkpoint,
    read_weights,
    stored_weights,
    weight_files,
    write_ours,
    write_tokenizer,
)
from g2vlm.model import G2VLM
from g2vlm.pathway_config import GeoAlign, NoPathway, PathwayConfig, from_fields, to_fields
from g2vlm.pathways.base import MERGE, GeometryEncoder

PATHWAY_FILE = "pathway.json"
PATHWAY_WEIGHTS = "pathway.safetensors"
ENCODER_WEIGHTS = "encoder.safetensors"
PUBLISHED_ENCODER = "facebook/VGGT-1B"
OWN_EXPERT: Literal["own_expert"] = "own_expert"
"""In pathway.json, in place of an encoder's shape: the geometric expert of the G2VLM in the same folder."""
_CURE = f"use the {PATHWAY_FILE} that belongs to them"
_TIED, _EMBEDDING = "lm_head.weight", "model.language_model.embed_tokens.weight"


@dataclass(frozen=True)
class Opened:
    """A checkpoint of a host, its weights taken apart and not yet read into memory; those of a G2VLM stay where they are.

    encoder: the shape of its VGGT, or the model's own geometric expert; None where the host read another encoder, which must
    then be given.
    """

    model: PreTrainedConfig
    pathway: PathwayConfig
    encoder: VggtConfig | Literal["own_expert"] | None
    parts: Parts
    folder: Path


def is_host(folder: Path) -> bool:
    """Whether a folder holds a host, as we save it or as published."""
    config = folder / "config.json"
    return (folder / PATHWAY_FILE).is_file() or (config.is_file() and add_on.is_add_on(read_json(config)))


def load_host(
    source: Source,
    *,
    encoder: GeometryEncoder | Source | None = None,
    encoder_config: VggtConfig | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Host:
    """A host in evaluation mode with every weight accounted for.

    encoder: the geometry encoder itself, or where its published weights lie; None: those beside or among the host's (its own
    geometric expert, if that is what it was trained with), or else VGGT-1B from the hub. encoder_config: shape of the VGGT of a
    published checkpoint, which does not say it; None: as its weights show, or VGGT-1B where they are not in the checkpoint.
    dtype: of model and pathway; None keeps each tensor's own. The encoder always keeps its own.

    Raises ValueError with all missing, unexpected and mis-shaped names together, for NaN or infinite weights, and where
    weights and configuration are of different pathways.
    """
    return build_host(open_host(find(source), encoder_config), encoder=encoder, device=device, dtype=dtype)


def build_host(
    opened: Opened,
    *,
    encoder: GeometryEncoder | Source | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Host:
    """The host of an opened checkpoint; arguments as of `load_host`."""
    if opened.model.model_type == NATIVE:
        model = load_model(opened.folder, device=device, dtype=dtype)
    else:
        model = build_stock(opened, device=device, dtype=dtype)
    _check_pathway(opened.pathway, opened.parts.pathway)
    host = Host(model, opened.pathway, _encoder(opened, encoder, device))
    check_fit(_shapes(host.pathway), opened.parts.pathway, f"the pathway {opened.pathway}")
    host.pathway.load_state_dict({name: x.to(device, dtype) for name, x in opened.parts.pathway.items()}, assign=True)
    return host.eval()


def open_host(folder: Path, encoder_config: VggtConfig | None = None) -> Opened:
    """Configurations and weights of a host's folder."""
    fields = read_json(folder / "config.json")
    is_native = fields.get("model_type") == NATIVE
    weights = {} if is_native else read_weights(weight_files(folder))
    check_finite(weights, folder)
    if (folder / PATHWAY_FILE).is_file():
        pathway, shape = _read_pathway(folder / PATHWAY_FILE)
        beside = [
            read_weights([folder / name]) if (folder / name).is_file() else {}
            for name in (PATHWAY_WEIGHTS, ENCODER_WEIGHTS)
        ]
        for part in beside:
            check_finite(part, folder)
        parts = Parts(add_on.take_apart(weights, NoPathway()).stock, *beside)
    elif add_on.is_add_on(fields):
        if encoder_config is None:
            encoder_config = vggt.config_of(weights) if any(map(vggt.is_vggt, weights)) else VGGT_1B
        shape = add_on.read_encoder_config(fields, encoder_config)
        pathway = add_on.read_config(fields, weights, shape)
        parts = add_on.take_apart(weights, pathway)
    else:
        raise ValueError(
            f"{folder}: neither {PATHWAY_FILE} nor a config.json with use_geometry_encoder; this is not a host's checkpoint"
        )
    config = read_checkpoint(folder).config if is_native else stock_config(add_on.stock_fields(fields))
    return Opened(config, pathway, shape, parts, folder)


def _read_pathway(file: Path) -> tuple[PathwayConfig, VggtConfig | Literal["own_expert"] | None]:
    """What `write_pathway` wrote."""
    stored = read_json(file)
    if absent := {"pathway", "encoder"} - stored.keys():
        raise ValueError(f"{file}: no {', no '.join(sorted(absent))}; copy it again")
    match stored["encoder"]:
        case None | "own_expert" as encoder:
            shape = encoder
        case dict() as fields:
            if unknown := fields.keys() - {field.name for field in dataclass_fields(VggtConfig)}:
                raise ValueError(
                    f"{file}: VggtConfig has no field {', '.join(sorted(unknown))}; remove it, or update g2vlm"
                )
            shape = VggtConfig(**fields)
        case other:
            raise ValueError(
                f"{file}: encoder is {other!r}; it must be null, {OWN_EXPERT!r} or the fields of a VggtConfig"
            )
    return from_fields(stored["pathway"]), shape


def stock_config(fields: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration of a stock model that can be a host."""
    if (kind := fields.get("model_type")) not in FAMILIES:
        raise ValueError(f"model_type is {kind!r}; a host must be one of {tuple(FAMILIES)}")
    return CONFIG_MAPPING[kind].from_dict(dict(fields))


def empty_stock(config: PreTrainedConfig) -> PreTrainedModel:
    """A stock model whose parameters have shapes but no memory yet; buffers are real."""
    with init_empty_weights(include_buffers=False), no_init_weights():
        return FAMILIES[config.model_type](config)


def build_stock(
    opened: Opened, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """The stock model of a checkpoint, in evaluation mode."""
    model = empty_stock(opened.model)
    weights = dict(opened.parts.stock)
    if opened.model.tie_word_embeddings and _EMBEDDING in weights:
        embedding = weights[_EMBEDDING]
        head = weights.setdefault(_TIED, embedding)
        if head is not embedding and not torch.equal(head, embedding):
            raise ValueError(
                "config.json ties lm_head to the embedding, but the weights hold two different ones; "
                "set tie_word_embeddings to false"
            )
    check_fit(_shapes(model), weights, f"a stock {opened.model.model_type}")
    model.load_state_dict({name: x.to(device, dtype) for name, x in weights.items()}, assign=True)
    model.tie_weights()
    nn.Module.to(model, device)  # buffers follow the weights and keep float32
    if (opened.folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(opened.folder)
    return model.eval()


def _encoder(
    opened: Opened, given: GeometryEncoder | Source | None, device: str | torch.device
) -> GeometryEncoder | None:
    if isinstance(opened.pathway, NoPathway):
        return None
    if given is not None and not isinstance(given, str | Path):
        return given
    if opened.encoder is None:
        raise ValueError(f"{opened.folder}: this host read an encoder other than VGGT; pass it as encoder=...")
    if opened.encoder == OWN_EXPERT:
        if given is not None:
            raise ValueError(
                f"encoder is {given}, but {opened.folder} reads its own geometric expert; leave encoder out"
            )
        return ExpertEncoder(load_model(opened.folder, device=device), is_own=True)
    if given is not None:
        return load_vggt(given, opened.encoder, device=device)
    if opened.parts.encoder:
        return vggt.build(opened.parts.encoder, opened.encoder, device=device)
    return load_vggt(_published_encoder(opened.folder), opened.encoder, device=device)


def _published_encoder(host: Path) -> Path:
    """Where VGGT's published weights lie, for a host that comes without them."""
    try:
        return find(PUBLISHED_ENCODER)
    except ValueError as error:
        reason = next(iter(str(error.__cause__).strip().splitlines()), type(error.__cause__).__name__)
        raise ValueError(
            f"{host} comes without the weights of its geometry encoder, and the hub did not give {PUBLISHED_ENCODER} ({reason}); "
            "download that repository and name its folder: --encoder DIR, in Python encoder=DIR"
        ) from error


def _check_pathway(config: PathwayConfig, weights: Mapping[str, Tensor]) -> None:
    """ValueError, in one line, where a field of the configuration differs from what the weights show of it."""
    if isinstance(config, NoPathway) or not weights:
        if isinstance(config, NoPathway) and not weights:
            return
        raise ValueError(
            f"type of the pathway is {type(config).__name__}, but the weights hold {len(weights)} of one; {_CURE}"
        )
    is_bank = any(name.startswith("bank.") for name in weights)
    if is_bank != isinstance(config, GeoAlign):
        seen = "GeoAlign" if is_bank else "SpatialStack or PreDecoder"
        raise ValueError(f"type of the pathway is {type(config).__name__}, but the weights are of {seen}; {_CURE}")
    blocks, norm, linear = (
        ("bank.norms.", "", "bank.projectors.0.fc1") if is_bank else ("mergers.", "norm.", "mergers.0.fc1")
    )
    num_blocks = len({name.removeprefix(blocks).split(".")[0] for name in weights if name.startswith(blocks)})
    if len(config.encoder_layers) != num_blocks:
        raise ValueError(
            f"encoder_layers is {config.encoder_layers}, {len(config.encoder_layers)} in all, but the weights are for {num_blocks}; {_CURE}"
        )
    if f"{linear}.weight" not in weights:
        return  # incomplete; whoever compares all names says what is missing
    hidden, read = weights[f"{linear}.weight"].shape
    is_joined = f"{blocks}0.{norm}weight" in weights
    shown: dict[str, Any] = {"geometry_width": read // MERGE**2 if is_joined else read, "hidden_width": hidden}
    if is_joined:
        shown["norm"] = "layer" if f"{blocks}0.{norm}bias" in weights else "rms"
    for field, seen in shown.items():
        if (told := getattr(config, field)) != seen:
            raise ValueError(f"{field} of the pathway is {told!r}, but the weights are for {seen!r}; {_CURE}")


def save_host(
    host: Host,
    folder: Source,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    image_processor: Qwen2VLImageProcessorPil | None = None,
    with_encoder: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a host's folder, all of it or nothing.

    tokenizer, image_processor: written beside the weights; a stock model answers only with both.
    with_encoder: also the frozen encoder's weights, a copy of published ones as a rule; without them `load_host` asks for
    them again. overwrite: replace a folder that is not empty.
    """
    encoder = host.encoder if isinstance(host.encoder, Vggt) else None
    if with_encoder and encoder is None:
        raise ValueError(
            f"with_encoder is True, but the encoder is {type(host.encoder).__name__}; only a VGGT is written"
        )
    with whole_folder(Path(folder), overwrite=overwrite) as partial:
        write_tokenizer(tokenizer, partial)
        if image_processor is not None:
            image_processor.save_pretrained(partial)
        if isinstance(host.model, G2VLM):
            write_ours(host.model.config, stored_weights(host.model), partial)
        else:
            host.model.save_pretrained(partial)
        write_pathway(host, host.pathway.state_dict(), partial)
        if with_encoder and encoder is not None:
            _write(vggt.from_ours(encoder.state_dict()), partial / ENCODER_WEIGHTS)


def write_pathway(host: Host, weights: StateDict, folder: Path) -> None:
    """Put what makes a host of a model into the model's folder; weights: of the pathway, by the names of its state."""
    encoder = host.encoder
    if isinstance(encoder, ExpertEncoder) and encoder.is_own:
        named: Any = OWN_EXPERT
    else:
        named = asdict(encoder.config) if isinstance(encoder, Vggt) else None
    text = json.dumps({"pathway": to_fields(host.config), "encoder": named}, indent=2)
    (folder / PATHWAY_FILE).write_text(text + "\n")
    _write(weights, folder / PATHWAY_WEIGHTS)


def _write(weights: StateDict, path: Path) -> None:
    save_file({name: x.detach().cpu().contiguous() for name, x in weights.items()}, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors writes for the owner alone


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in module.state_dict().items()}
