"""DINOv2-with-registers weights by any of their names: transformers' modules and files, timm, facebook."""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Naming = Literal["modules", "files", "facebook", "timm"]
"""`modules`: the state dict of transformers' `Dinov2WithRegistersModel` (of 5.23; older releases hold `files` in memory
too). `files`: what that class saves and the hub holds. `facebook`: the original release. `timm`: `vit_*_patch14_reg4_dinov2`."""

StateDict = dict[str, Tensor]

# A row: foreign stem -> the module stems whose tensors, stacked along the first axis, are the foreign tensor.
# A stem lacks the ending `.weight` or `.bias`; # is the number of a block.
Table = dict[str, tuple[str, ...]]

_QUERY_KEY_VALUE = tuple(f"encoder.layer.#.attention.{part}_proj" for part in "qkv")
_GATE_UP = ("encoder.layer.#.mlp.gate_proj", "encoder.layer.#.mlp.up_proj")

_MODULES: Table = {
    stem: (stem,)
    for stem in (
        "embeddings.cls_token",
        "embeddings.mask_token",
        "embeddings.register_tokens",
        "embeddings.position_embeddings",
        "embeddings.patch_embeddings.projection",
        "encoder.layer.#.norm1",
        *_QUERY_KEY_VALUE,
        "encoder.layer.#.attention.o_proj",
        "encoder.layer.#.layer_scale1.lambda1",
        "encoder.layer.#.norm2",
        "encoder.layer.#.mlp.fc1",
        "encoder.layer.#.mlp.fc2",
        *_GATE_UP,
        "encoder.layer.#.mlp.down_proj",
        "encoder.layer.#.layer_scale2.lambda1",
        "layernorm",
    )
}

_RENAMED_IN_FILES: Table = {
    "encoder.layer.#.attention.attention.query": (_QUERY_KEY_VALUE[0],),
    "encoder.layer.#.attention.attention.key": (_QUERY_KEY_VALUE[1],),
    "encoder.layer.#.attention.attention.value": (_QUERY_KEY_VALUE[2],),
    "encoder.layer.#.attention.output.dense": ("encoder.layer.#.attention.o_proj",),
    "encoder.layer.#.mlp.weights_in": _GATE_UP,
    "encoder.layer.#.mlp.weights_out": ("encoder.layer.#.mlp.down_proj",),
}
_renamed_modules = {stem for stems in _RENAMED_IN_FILES.values() for stem in stems}
_FILES: Table = {stem: row for stem, row in _MODULES.items() if stem not in _renamed_modules} | _RENAMED_IN_FILES

_SHARED_BY_FACEBOOK_AND_TIMM: Table = {
    "cls_token": ("embeddings.cls_token",),
    "pos_embed": ("embeddings.position_embeddings",),
    "patch_embed.proj": ("embeddings.patch_embeddings.projection",),
    "blocks.#.norm1": ("encoder.layer.#.norm1",),
    "blocks.#.attn.qkv": _QUERY_KEY_VALUE,
    "blocks.#.attn.proj": ("encoder.layer.#.attention.o_proj",),
    "blocks.#.ls1.gamma": ("encoder.layer.#.layer_scale1.lambda1",),
    "blocks.#.norm2": ("encoder.layer.#.norm2",),
    "blocks.#.ls2.gamma": ("encoder.layer.#.layer_scale2.lambda1",),
    "norm": ("layernorm",),
}
_MLP: Table = {
    "blocks.#.mlp.fc1": ("encoder.layer.#.mlp.fc1",),
    "blocks.#.mlp.fc2": ("encoder.layer.#.mlp.fc2",),
}
_FACEBOOK: Table = (
    _SHARED_BY_FACEBOOK_AND_TIMM
    | _MLP
    | {
        "register_tokens": ("embeddings.register_tokens",),
        "mask_token": ("embeddings.mask_token",),
        "blocks.#.mlp.w12": _GATE_UP,
        "blocks.#.mlp.w3": ("encoder.layer.#.mlp.down_proj",),
    }
)
_TIMM: Table = _SHARED_BY_FACEBOOK_AND_TIMM | _MLP | {"reg_token": ("embeddings.register_tokens",)}
_TIMM_GATED: Table = _TIMM | {"blocks.#.mlp.fc1": _GATE_UP, "blocks.#.mlp.fc2": ("encoder.layer.#.mlp.down_proj",)}

_TABLES: dict[Naming, Table] = {"modules": _MODULES, "files": _FILES, "facebook": _FACEBOOK, "timm": _TIMM}


def naming_of(state_dict: Mapping[str, Tensor]) -> Naming:
    """Whose names these are; ValueError lists the keys that not even the closest naming knows."""
    unknown: dict[Naming, list[str]] = {
        naming: [key for key in state_dict if _split(key)[0] not in table] for naming, table in _TABLES.items()
    }
    closest = min(unknown, key=lambda naming: len(unknown[naming]))
    if unknown[closest] or not state_dict:
        raise ValueError(
            f"these are not the weights of a DINOv2 with registers: {len(unknown[closest])} of {len(state_dict)} names "
            f"are unknown even to the closest naming, {closest}: {', '.join(unknown[closest])}"
        )
    return closest


def to_transformers(state_dict: Mapping[str, Tensor]) -> StateDict:
    """The same weights by the names of transformers' modules, ready for a strict `load_state_dict` where the installed
    release holds those (`from_transformers(weights, naming_of(model.state_dict()))` fits any).

    timm folds the class token's position into the class token and keeps no mask token: position and mask token come
    back as zeros, which changes no output.
    """
    naming = naming_of(state_dict)
    table = _table_for(naming, gated=_is_gated(state_dict))
    result: StateDict = {}
    for key, tensor in state_dict.items():
        stem, block, leaf = _split(key)
        modules = table[stem]
        for module, piece in zip(modules, tensor.chunk(len(modules)), strict=True):
            # A copy, because safetensors does not save two views of one tensor.
            result[_join(module, block, leaf)] = piece.clone() if len(modules) > 1 else piece
    return _unfold_class_position(result) if naming == "timm" else result


def from_transformers(state_dict: Mapping[str, Tensor], naming: Naming) -> StateDict:
    """The inverse of `to_transformers`: weights by transformers' names (modules or files) under another naming.

    To timm, the class token takes its position in and the mask token, which only training uses, is left out.
    """
    modules = to_transformers(state_dict)
    table = _table_for(naming, gated=_is_gated(modules))
    if naming == "timm":
        modules = _fold_class_position(modules)
    place = {module: (stem, stems) for stem, stems in table.items() for module in stems}
    result: StateDict = {}
    for key in modules:
        module, block, leaf = _split(key)
        stem, stems = place[module]
        pieces = [_join(name, block, leaf) for name in stems]
        missing = [name for name in pieces if name not in modules]
        if missing:
            raise ValueError(
                f"{_join(stem, block, leaf)} is made of {', '.join(pieces)}; missing: {', '.join(missing)}"
            )
        tensors = [modules[name] for name in pieces]
        result[_join(stem, block, leaf)] = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
    return result


def _split(key: str) -> tuple[str, str, str]:
    """`blocks.7.attn.qkv.bias` -> `blocks.#.attn.qkv`, `7`, `.bias`."""
    stem = key.removesuffix(".weight").removesuffix(".bias")
    leaf = key[len(stem) :]
    block = re.search(r"\.(\d+)\.", stem)
    return (stem.replace(block[0], ".#.", 1), block[1], leaf) if block else (stem, "", leaf)


def _join(stem: str, block: str, leaf: str) -> str:
    return stem.replace("#", block) + leaf


def _table_for(naming: Naming, *, gated: bool) -> Table:
    return _TIMM_GATED if naming == "timm" and gated else _TABLES[naming]


def _is_gated(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the MLPs are SwiGLU; timm calls both kinds fc1 and fc2, so there only the widths tell."""
    first, second = state_dict.get("blocks.0.mlp.fc1.weight"), state_dict.get("blocks.0.mlp.fc2.weight")
    if first is None or second is None:
        return any(_split(key)[0] in _GATE_UP for key in state_dict)
    return first.shape[0] == 2 * second.shape[1]


def _unfold_class_position(modules: StateDict) -> StateDict:
    positions, cls_token = modules["embeddings.position_embeddings"], modules["embeddings.cls_token"]
    return modules | {
        "embeddings.position_embeddings": torch.cat([torch.zeros_like(cls_token), positions], dim=1),
        "embeddings.mask_token": torch.zeros_like(cls_token[0]),
    }


def _fold_class_position(modules: StateDict) -> StateDict:
    positions = modules["embeddings.position_embeddings"]
    folded = {key: tensor for key, tensor in modules.items() if key != "embeddings.mask_token"}
    return folded | {
        "embeddings.cls_token": modules["embeddings.cls_token"] + positions[:, :1],
        "embeddings.position_embeddings": positions[:, 1:],
    }
