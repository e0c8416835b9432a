"""Our VGGT beside the recorded numbers of a folder of pathway goldens (vggt_weights, vggt_cases, vggt_config.json)."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from g2vlm.convert import vggt
from g2vlm.encoders.vggt import Vggt, VggtConfig
from g2vlm.pathways.base import merge_cells
from tests.parity.run import Tolerance

FEATURES = Tolerance(5e-5)  # 0: bit for bit on the CPU this was written on


class Compared(NamedTuple):
    name: str
    recorded: Tensor
    ours: Tensor
    tolerance: Tolerance


def config_of(sizes: dict[str, Any]) -> VggtConfig:
    """Sizes by the words of the recording."""
    return VggtConfig(
        token_width=sizes["embed"],
        depth=sizes["depth"],
        num_heads=sizes["heads"],
        dino_depth=sizes["dino"]["depth"],
        dino_num_heads=sizes["dino"]["heads"],
        num_registers=sizes["dino"]["registers"],
        patch=sizes["patch_size"],
        image_size=sizes["img_size"],
        rope_base=sizes["rope_freq"],
    )


def vggt_rows(folder: Path) -> Iterator[Compared]:
    """Every recorded result of a folder and ours; ValueError for one that nothing here computes."""
    meta = json.loads((folder / "vggt_config.json").read_text())
    config = config_of(meta["config"])
    # Stored in fewer bits, which hold these values exactly.
    weights = {name: x.float() for name, x in load_file(folder / "vggt_weights.safetensors").items()}
    small = {name: weights[name] / 2**8 for name in meta["eps_variant"]["scaled_by_2_pow_minus_8"]}
    models = {
        "": vggt.build(weights, config),
        "eps_variant.": vggt.build(weights | small, config),
        "_reference_last": vggt.build(weights, replace(config, reference_frame="last")),
    }
    recorded = load_file(folder / "vggt_cases.safetensors")
    for name in recorded.keys() - {name for name in recorded if name.endswith(".images_u8")}:
        case, ours = ours_for(name)
        model = models[next(variant for variant in reversed(models) if variant in name)]
        yield Compared(name, recorded[name], ours(model, recorded[f"{case}.images_u8"] / 255), FEATURES)


def ours_for(name: str) -> tuple[str, Callable[[Vggt, Tensor], Tensor]]:
    """The case of a recorded result, and what computes it from a model and the case's images."""
    parts = re.fullmatch(r"(?:eps_variant\.)?(case\w+)\.([a-z_]*)\.?(?:layer(\d+))?\.?(\w*)", name)
    match parts.groups() if parts else None:
        case case, "dino_patch_tokens", None, "":
            return case, lambda model, images: model.dino(images)
        case case, "", layer, "patch_tokens":
            return case, lambda model, images: model.encode(images, [int(layer)])[0].flatten(1, 2)
        case case, "", layer, "special_tokens":
            return case, lambda model, images: special_tokens(model, images, int(layer))
        case case, "encode_layers" | "encode_layers_reference_last", layer, "":
            return case, lambda model, images: merge_cells(model.encode(images, [int(layer)])[0]).flatten(1, 2)
    raise ValueError(f"{name} is recorded, but not compared")


def special_tokens(model: Vggt, images: Tensor, layer: int) -> Float[Tensor, "views special width"]:
    output = next(islice(model.layer_outputs(images), layer, None))
    return torch.cat(output, dim=-1)[:, : model.num_special]
