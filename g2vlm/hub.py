"""From a folder or a hub repository to a model and back: strict, and never half-written.

Layouts: our own (config.json + sharded safetensors), the released G2VLM's, and stock Qwen2-VL beside stock DINOv2.
Geometry encoders are loaded by their published names.
"""

import difflib
import hashlib
import json
import logging
import pickle
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate import init_empty_weights
from huggingface_hub import snapshot_download, split_torch_state_dict_into_shards
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.initialization import no_init_weights

from g2vlm.atomic import whole_folder
from g2vlm.config import AttentionBackend, G2VLMConfig, TokenIds
from g2vlm.convert import dinov2, official, qwen2_vl, vggt
from g2vlm.convert.names import Shape, StateDict, check_fit, listing
from g2vlm.convert.tokens import TOKENIZER_FILES
from g2vlm.encoders.vggt import VGGT_1B, Vggt, VggtConfig
from g2vlm.model import G2VLM
from g2vlm.processor import Processor, byte_tokenizer

if TYPE_CHECKING:
    from g2vlm.predictor import Predictor

log = logging.getLogger("g2vlm")

EMBEDDED = "tiny"
"""Name of the weights that come with the package."""

EMBEDDED_NO_GEOMETRY = "tiny_no_geometry"
"""Name of those that learnt the same questions without the geometric expert, to compare with."""

KNOWN = (EMBEDDED, EMBEDDED_NO_GEOMETRY, "InternRobotics/G2VLM-2B-MoT")

Source = str | Path
Layout = Literal["g2vlm", "official", "qwen2_vl"]

BEFORE_OPTIONS = {"view_context": "sequence"}
"""How models were made before there was the option, for configurations that do not say."""

ANSWER_FILE = "known_answer.json"
MAX_SHARD = "5GB"
_DINO = "dino.model."
_TIED = "lm_head.weight"


@dataclass(frozen=True)
class Checkpoint:
    """Weights under the names of our own layout, as they lie in their files (memory-mapped), and what they belong to.

    answer: the file of the known answer, where there is one and nothing was changed that it depends on.
    """

    config: G2VLMConfig
    weights: StateDict
    folder: Path
    files: tuple[Path, ...]
    answer: Path | None = None


def load(
    source: Source | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    attention: AttentionBackend = "sdpa",
) -> "Predictor":
    """A predictor from a folder, a hub repository, or (None or "tiny") the weights that come with the package.

    Of a G2VLM; `loading.load` reads hosts of a pathway, too.

    device: "auto" is cuda, else mps, else cpu. dtype: "auto" is float32, but bfloat16 on cuda for a model of more than
    a billion parameters. Raises ValueError as `load_model` does.
    """
    from g2vlm.predictor import Predictor

    checkpoint = read_checkpoint(source, attention=attention)
    device = device_of(device)
    model = model_of(checkpoint, device=device, dtype=dtype_of(dtype, device, num_parameters(checkpoint.weights)))
    name = EMBEDDED if source is None else str(source)
    return Predictor(model, processor_of(checkpoint), source=name, checkpoint_sha256=sha256_of(checkpoint.files))


def load_model(
    source: Source | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    new: Collection[str] = (),
    tokens: TokenIds | None = None,
    dino: Source | None = None,
    geometric: qwen2_vl.Start = "fresh",
    **options: Any,
) -> G2VLM:
    """A model in evaluation mode with every weight accounted for.

    dtype: None keeps each tensor's own. new: dotted parts of names ("heads.normals", "geometric") whose parameters may
    be absent and then start fresh; they are logged. tokens, dino, geometric, options: as for `read_checkpoint`.

    Raises ValueError with all missing, unexpected and mis-shaped names together, for NaN or infinite weights, and when
    the recorded known answer is not reproduced; that is asked for only if neither `new` nor `options` change the model.
    """
    checkpoint = read_checkpoint(source, tokens=tokens, dino=dino, geometric=geometric, **options)
    return model_of(checkpoint, device=device, dtype=dtype, new=new)


def model_of(
    checkpoint: Checkpoint,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    new: Collection[str] = (),
) -> G2VLM:
    """The model of an opened checkpoint, once its numbers are finite and give the recorded answer; see `load_model`."""
    check_finite(checkpoint.weights, checkpoint.folder)
    if checkpoint.answer is not None and not new:
        plain = replace(checkpoint, config=checkpoint.config.with_options(attention="sdpa"))
        exact = build(plain, dtype=torch.float32)
        check_known_answer(exact, official.read_json(checkpoint.answer), checkpoint.answer)
        if (torch.device(device).type, dtype, checkpoint.config.attention) == ("cpu", torch.float32, "sdpa"):
            return exact
    return build(checkpoint, device=device, dtype=dtype, new=new)


def read_checkpoint(
    source: Source | None = None,
    *,
    tokens: TokenIds | None = None,
    dino: Source | None = None,
    geometric: qwen2_vl.Start = "fresh",
    **options: Any,
) -> Checkpoint:
    """Find, open and rename the weights of any layout; nothing is read into memory yet.

    tokens: for foreign weights with a vocabulary of their own. dino, geometric: for stock Qwen2-VL weights, the DINOv2
    beside them and how the geometric expert starts. options: fields of G2VLMConfig that shall differ from the files'.
    """
    folder = find(source)
    paths = weight_files(folder)
    weights = read_weights(paths)
    layout = layout_of(folder)
    if layout == "official":
        config = official.read_config(folder, weights, tokens).with_options(**options)
        return Checkpoint(config, official.to_ours(weights), folder, paths)
    if layout == "g2vlm":
        config = G2VLMConfig.from_dict(BEFORE_OPTIONS | _config_of(folder)).with_options(**options)
        answer = folder / ANSWER_FILE
        is_unchanged = options.keys() <= {"attention"}
        return Checkpoint(config, weights, folder, paths, answer if is_unchanged and answer.is_file() else None)
    if dino is None:
        raise ValueError(
            f"{folder} holds a stock Qwen2-VL, which has no geometric encoder; "
            f"pass dino={qwen2_vl.DINO!r} (or a folder), and name what may start fresh in new=(...)"
        )
    dino_folder = find(dino)
    dino_paths = weight_files(dino_folder)
    encoder = dinov2.from_transformers(read_weights(dino_paths), "files")
    dino_config = qwen2_vl.dino_config_of(dino_folder, encoder)
    config = qwen2_vl.read_config(_config_of(folder), dino_config, folder, tokens, **options)
    weights = qwen2_vl.to_ours(weights, geometric=geometric, tied=config.tie_word_embeddings)
    weights |= {_DINO + name: tensor for name, tensor in encoder.items()}
    return Checkpoint(config, weights, folder, paths + dino_paths)


def load_vggt(
    source: Source = "facebook/VGGT-1B",
    config: VggtConfig = VGGT_1B,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Vggt:
    """A frozen VGGT from a folder or a hub repository with its published weights; those of its heads are not read.

    config: must be the shape of these weights. dtype: None keeps each tensor's own, which are float32 on the hub.
    Raises ValueError with all missing, unexpected and mis-shaped names together, and for NaN or infinite weights.
    """
    folder = find(source)
    weights = vggt.aggregator_of(read_weights(weight_files(folder)))
    check_finite(weights, folder)
    return vggt.build(weights, config, device=device_of(device), dtype=dtype)


def layout_of(folder: Path) -> Layout:
    """Which naming and configuration files a folder uses."""
    if official.is_released(folder):
        return "official"
    kind = _config_of(folder).get("model_type")
    if kind not in ("g2vlm", "qwen2_vl"):
        raise ValueError(
            f"{folder}: config.json is of type {kind!r}; wanted is 'g2vlm', 'qwen2_vl', or the released layout"
        )
    return kind


def _config_of(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no config.json and no text_config.json; this is not a checkpoint")
    return official.read_json(path)


# --- finding and reading files ----------------------------------------------------------------------------------------


def find(source: Source | None) -> Path:
    """The folder of a checkpoint; a hub repository is downloaded (or found in the cache)."""
    if source is None or str(source) in (EMBEDDED, EMBEDDED_NO_GEOMETRY):
        folder = Path(str(files("g2vlm"))) / "weights" / str(source or EMBEDDED)
        if not folder.is_dir():
            raise ValueError(
                f"this copy of g2vlm comes without its embedded weights ({folder}); pass a folder or a hub id"
            )
        return folder
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ValueError(f"{source} is a file; pass the folder it lies in")
    if isinstance(source, Path) or source.count("/") != 1 or source.startswith((".", "~", "/")):
        raise ValueError(f"{source}: no such folder{_did_you_mean(str(source))}")
    try:
        return Path(snapshot_download(source, allow_patterns=["*.safetensors", "*.json", *TOKENIZER_FILES]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(
            f"{source}: no such folder, and the hub did not give it ({reason}){_did_you_mean(source)}"
        ) from error


def _did_you_mean(name: str) -> str:
    """Close names among the known ones and the folders beside the one that was meant."""
    if name in KNOWN:
        return "; check the connection, or copy the repository and pass its folder"
    parent = Path(name).expanduser().parent
    beside = [str(path) for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    by_lower = {candidate.lower(): candidate for candidate in (*KNOWN, *beside)}
    close = difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.7)
    if close:
        return f"; did you mean {' or '.join(by_lower[match] for match in close)}?"
    return f"; pass an existing folder, a hub id, or one of the known names: {', '.join(KNOWN)}"


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold a folder's weights; safetensors before pickles, which are read for tensors only."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if index.is_file():
            paths = sorted({folder / shard for shard in official.read_json(index)["weight_map"].values()})
            if missing := [path.name for path in paths if not path.is_file()]:
                raise ValueError(f"{index} names files that are not there: {', '.join(missing)}; copy the folder again")
            return tuple(paths)
        if (folder / name).is_file():
            return (folder / name,)
    single = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pt", ".pth"))
    if len(single) != 1:
        found = ", ".join(path.name for path in single) or "none"
        raise ValueError(f"{folder}: wanted is model.safetensors or its index; weight files found: {found}")
    return tuple(single)


def read_weights(paths: Sequence[Path]) -> StateDict:
    """All tensors of some files, memory-mapped where the format allows; a name in two files is refused."""
    weights: StateDict = {}
    for path in paths:
        tensors = _read_file(path)
        if twice := weights.keys() & tensors.keys():
            raise ValueError(f"{path}: these weights are in an earlier file too:\n{listing(sorted(twice))}")
        weights |= tensors
    return weights


def _read_file(path: Path) -> StateDict:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a whole file of weights ({error}); copy it again") from error
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: holds more than tensors, which could run code; convert it to safetensors") from error
    if not (isinstance(weights, dict) and all(isinstance(x, Tensor) for x in weights.values())):
        raise ValueError(f"{path}: holds something else than named tensors; save the model's state dict alone")
    return weights


def sha256_of(paths: Sequence[Path]) -> str:
    """SHA-256 of the weight files' content: of one file its own, of several that of what `sha256sum *` prints."""
    digests = {}
    for path in paths:
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    if len(digests) == 1:
        return next(iter(digests.values()))
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()).hexdigest()


# --- building a model -------------------------------------------------------------------------------------------------


def build(
    checkpoint: Checkpoint,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    new: Collection[str] = (),
) -> G2VLM:
    """The model of a checkpoint, in evaluation mode; weights that stay on the CPU in their own dtype are not copied."""
    model = empty(checkpoint.config)
    weights = names_in_memory(checkpoint.weights, model)
    fresh = check_names(model, weights, new)
    cast = {name: x.to(device, _kept_as(name, x, dtype)) for name, x in weights.items()}
    model.load_state_dict(model.state_dict() | cast, strict=True, assign=True)
    _initialise(model, fresh, device, dtype)
    if checkpoint.config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    if fresh:
        log.warning("%d parameters are new and start fresh:\n%s", len(fresh), listing(sorted(fresh)))
    nn.Module.to(model, device)  # buffers follow the weights, and keep float32, which angles and means need
    return model.eval()


def _kept_as(name: str, x: Tensor, dtype: torch.dtype | None) -> torch.dtype | None:
    """What a weight is cast to (None: nothing). Heads are never below float32: depth through exp needs its digits."""
    if dtype is None or not x.is_floating_point():
        return None
    return torch.promote_types(dtype, torch.float32) if name.startswith("heads.") else dtype


def empty(config: G2VLMConfig) -> G2VLM:
    """A model whose parameters have shapes but no memory yet; buffers are real."""
    with init_empty_weights(include_buffers=False), no_init_weights():
        return G2VLM(config)


def check_names(model: nn.Module, weights: Mapping[str, Tensor], new: Collection[str]) -> set[str]:
    """The names of `model` that are absent and asked for in `new`; ValueError reports everything else that differs."""
    expected = expected_shapes(model)
    absent = expected.keys() - weights.keys()
    fresh = {name for name in absent if any(f".{part}." in f".{name}." for part in new)}
    wanted = {name: shape for name, shape in expected.items() if name not in fresh}
    check_fit(wanted, weights, "the model", cure=" (name them in new=(...) to start them fresh)")
    return fresh


def expected_shapes(model: nn.Module) -> dict[str, Shape]:
    """Shapes of what a checkpoint of this model holds; a tied output head is not stored twice."""
    is_tied = isinstance(model, G2VLM) and model.config.tie_word_embeddings
    return {n: tuple(x.shape) for n, x in model.state_dict().items() if not (is_tied and n == _TIED)}


def names_in_memory(weights: StateDict, model: G2VLM) -> StateDict:
    """Stored names to those of this version's modules: transformers has renamed DINOv2's in memory, never in files."""
    return dino_named(weights, dinov2.naming_of(model.dino.model.state_dict()))


def dino_named(weights: StateDict, naming: dinov2.Naming) -> StateDict:
    """The same tensors with those of the geometric encoder in another naming of transformers."""
    encoder = {name.removeprefix(_DINO): x for name, x in weights.items() if name.startswith(_DINO)}
    renamed = dinov2.from_transformers(encoder, naming) if encoder else {}
    others = {name: x for name, x in weights.items() if not name.startswith(_DINO)}
    return others | {_DINO + name: x for name, x in renamed.items()}


def stored_weights(model: G2VLM, state: StateDict | None = None) -> StateDict:
    """The state of a model (or a whole state by its names that was gathered elsewhere) under the names of our files."""
    state = model.state_dict() if state is None else state
    return dino_named({name: state[name] for name in expected_shapes(model)}, "files")


@torch.no_grad()
def _initialise(model: G2VLM, names: set[str], device: str | torch.device, dtype: torch.dtype | None) -> None:
    """Give absent parameters memory and the start values of the (sub)model they belong to."""
    by_module: dict[str, list[str]] = {}
    for name in names:
        owner, _, parameter = name.rpartition(".")
        by_module.setdefault(owner, []).append(parameter)
    for owner, parameters in by_module.items():
        module = model.get_submodule(owner)
        loaded = {n: p.clone() for n, p in module.named_parameters(recurse=False) if n not in parameters}
        for name in parameters:
            empty = torch.empty_like(module.get_parameter(name), device=device, dtype=dtype)
            setattr(module, name, nn.Parameter(empty))
        _nearest_model(model, owner)._init_weights(module)
        for name, tensor in loaded.items():
            module.get_parameter(name).copy_(tensor)


def _nearest_model(model: G2VLM, name: str) -> PreTrainedModel:
    """The innermost model that holds a module: it knows the module's start values."""
    pieces = name.split(".")
    owners = (model.get_submodule(".".join(pieces[:n])) for n in range(len(pieces), -1, -1))
    return next(owner for owner in owners if isinstance(owner, PreTrainedModel))


def check_finite(weights: StateDict, folder: Path) -> None:
    """ValueError lists the weights that hold NaN or infinity."""
    bad = [n for n, x in weights.items() if x.is_floating_point() and not _is_finite(x)]
    if bad:
        raise ValueError(f"{folder}: {len(bad)} weights hold NaN or infinity; use another checkpoint:\n{listing(bad)}")


def _is_finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x if x.dtype.itemsize > 1 else x.float()).all())


def device_of(device: str | torch.device) -> torch.device:
    """A device by its name; "auto" is cuda, else mps, else cpu."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, is_there in available.items() if is_there))
    chosen = torch.device(device)
    if not available.get(chosen.type, True):
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise ValueError(f"device is {str(device)!r}, but this torch finds none here; use one of: auto, {there}")
    return chosen


def num_parameters(weights: StateDict) -> int:
    return sum(x.numel() for x in weights.values())


def dtype_of(dtype: str | torch.dtype, device: torch.device, num_parameters: int) -> torch.dtype:
    """A number format by its name; "auto" is float32, but bfloat16 on cuda for a model of more than a billion parameters."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.bfloat16 if num_parameters > 1_000_000_000 and device.type == "cuda" else torch.float32
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in choices:
        raise ValueError(f"dtype is {dtype!r}; it must be 'auto' or one of {', '.join(choices)}")
    return choices[dtype]


def processor_of(checkpoint: Checkpoint) -> Processor:
    """The words of a checkpoint, as ids."""
    return Processor(_tokenizer(checkpoint), checkpoint.config.tokens)


def _tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """From the files beside the weights; a vocabulary whose newline is 10 begins with the 256 bytes, and needs none."""
    tokens, tokenizer = checkpoint.config.tokens, tokenizer_at(checkpoint.folder)
    if isinstance(tokenizer, NoTokenizer) and tokens.newline == ord("\n"):
        return byte_tokenizer(tokens)
    return tokenizer


def tokenizer_at(source: Source) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint; where it has none, one that raises ValueError at the first word."""
    folder = find(source)
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return Qwen2Tokenizer.from_pretrained(folder)
    return NoTokenizer(folder)


class NoTokenizer(PreTrainedTokenizerBase):
    """Stands where a checkpoint has no tokenizer: the model takes ids, and the first word raises ValueError."""

    def __init__(self, folder: Path) -> None:
        object.__setattr__(self, "folder", folder)

    def encode(self, *args: Any, **kwargs: Any) -> list[int]:
        raise ValueError(
            f"{self.folder}: no tokenizer.json, so words cannot be read; "
            "copy it from the checkpoint that these weights come from"
        )

    __call__ = apply_chat_template = decode = encode  # type: ignore[assignment]


# --- known answer -----------------------------------------------------------------------------------------------------


@torch.no_grad()  # not inference_mode: roma keeps a table from its first call, which training must be able to use
def record_known_answer(model: G2VLM) -> dict[str, Any]:
    """What a model in float32 makes of two fixed pictures and a few fixed tokens: about forty numbers of every head.

    The pictures are made of integers, so they are the same on every machine.
    """
    config, tokens = model.config, model.config.tokens
    rows, columns, merge = 3, 4, config.vision_config.spatial_merge_size
    views = _pattern(2, 3, rows * config.patch_size, columns * config.patch_size)
    vision = config.vision_config
    patch_values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    patches = _pattern(4 * merge**2, patch_values) * 2 - 1
    view = [tokens.vision_start, *[tokens.view_patch] * (rows * columns), tokens.vision_end]
    picture = [tokens.vision_start, *[tokens.image_patch] * 4, tokens.vision_end]
    words = [(37 * i) % min(config.text_config.vocab_size, 200) for i in range(1, 6)]
    output = model(
        torch.tensor([[tokens.bos, *view, *view, *picture, *words]]),
        views=list(views),
        pixel_values=patches,
        image_grid_thw=torch.tensor([[1, 2 * merge, 2 * merge]]),
        logits_to_keep=1,
        read_geometry=True,
        read_global_points=True,
    )
    assert output.geometry is not None
    assert output.logits is not None
    maps = {
        "local_points": output.geometry.local_points,
        "global_points": output.geometry.global_points,
        "confidence": output.geometry.confidence,
        "normals": output.geometry.normals,
    }
    numbers = {name: _few(torch.stack(values)) for name, values in maps.items() if values is not None}
    return {"numbers": numbers | {"poses": _few(output.geometry.poses[:, :3]), "logits": _few(output.logits)}}


def _pattern(*shape: int) -> Tensor:
    """Numbers in [0, 1] that look random and are exact multiples of 1 / 256."""
    count = torch.arange(torch.Size(shape).numel())
    return ((count * 7919 + count**2 * 104729) % 257 / 256).view(shape)


def _few(x: Tensor) -> list[float]:
    """Eight numbers spread over a tensor."""
    flat = x.flatten()
    return [round(v, 6) for v in flat[torch.linspace(0, len(flat) - 1, 8).long()].tolist()]


def check_known_answer(model: G2VLM, recorded: dict[str, Any], path: Path, *, tolerance: float = 1e-3) -> None:
    """ValueError where a model does not reproduce its recorded numbers within `tolerance` (1 + |number|)."""
    computed, expected = record_known_answer(model)["numbers"], recorded["numbers"]
    if computed.keys() != expected.keys():
        raise ValueError(f"{path} records {sorted(expected)}, but the model computes {sorted(computed)}")
    for name, numbers in expected.items():
        for i, (want, got) in enumerate(zip(numbers, computed[name], strict=True)):
            if not abs(got - want) <= tolerance * (1 + abs(want)):
                raise ValueError(
                    f"{path}: {name}[{i}] should be {want}, but the model computes {got}; "
                    "the weights are damaged, or this version of g2vlm computes something else"
                )


# --- writing ----------------------------------------------------------------------------------------------------------


def save(
    model: G2VLM,
    folder: Source,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | None = None,
    known_answer: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a model in our own layout: config.json and sharded safetensors, all of it or nothing.

    tokenizer: written beside the weights. dtype: what floating weights are rounded to; None keeps them. known_answer: record what the written weights make of
    fixed inputs, which every `load` then verifies. overwrite: replace a folder that is not empty.
    """
    weights = {name: x.detach().to("cpu", dtype) for name, x in stored_weights(model).items()}
    with whole_folder(Path(folder), overwrite=overwrite) as partial:
        write_tokenizer(tokenizer, partial)
        write_ours(model.config, weights, partial)
        if known_answer:
            written = Checkpoint(model.config, weights, partial, ())
            answer = record_known_answer(build(written, dtype=torch.float32))
            (partial / ANSWER_FILE).write_text(json.dumps(answer, indent=1) + "\n")


def save_state(
    model: G2VLM, state: StateDict, folder: Path, *, tokenizer: PreTrainedTokenizerBase | None = None
) -> None:
    """Write a whole state by the names of a model's own `state_dict`, as `save` writes the model's; the folder must be new.

    tokenizer: written beside the weights, so that whoever loads them has the words they were trained with.
    """
    with whole_folder(folder) as partial:
        write_tokenizer(tokenizer, partial)
        write_ours(model.config, {name: x.detach().cpu() for name, x in stored_weights(model, state).items()}, partial)


def convert(
    source: Source, out: Source, to: Literal["g2vlm", "official"] = "g2vlm", *, overwrite: bool = False, **options: Any
) -> None:
    """Write any checkpoint in our own or the released layout; tensors keep their bytes and dtype.

    options: as for `read_checkpoint`. Raises ValueError for what the other layout cannot express.
    """
    checkpoint = read_checkpoint(source, **options)
    model = empty(checkpoint.config)
    check_names(model, names_in_memory(checkpoint.weights, model), ())
    with whole_folder(Path(out), overwrite=overwrite) as partial:
        if to == "official":
            official.write_config(checkpoint.config, partial)
            weights = checkpoint.weights
            if checkpoint.config.tie_word_embeddings:
                weights = weights | {_TIED: weights["embed_tokens.weight"].clone()}
            _write_file(official.from_ours(weights), partial / official.WEIGHTS_FILE)
        else:
            write_ours(checkpoint.config, checkpoint.weights, partial)
        beside = TOKENIZER_FILES if to == "official" else (*TOKENIZER_FILES, ANSWER_FILE)
        for name in beside:
            if (checkpoint.folder / name).is_file():
                shutil.copy(checkpoint.folder / name, partial / name)


def write_tokenizer(tokenizer: PreTrainedTokenizerBase | None, folder: Path) -> None:
    """Put the words of a model beside its weights, if it has any."""
    if tokenizer is not None and not isinstance(tokenizer, NoTokenizer):
        tokenizer.save_pretrained(folder)


def write_ours(config: G2VLMConfig, weights: StateDict, folder: Path) -> None:
    """Put a configuration and weights by the names of our layout into a folder."""
    config.to_json_file(folder / "config.json", use_diff=False)
    plan = split_torch_state_dict_into_shards(weights, max_shard_size=MAX_SHARD)
    for file, names in plan.filename_to_tensors.items():
        _write_file({name: weights[name] for name in names}, folder / file)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write_file(weights: StateDict, path: Path) -> None:
    try:
        save_file({name: x.contiguous() for name, x in weights.items()}, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise ValueError(f"{path.name} could not be written ({error}); make room on the disk") from error
    path.chmod(0o644)  # safetensors writes for the owner alone
