"""Compares our pathways with recorded numbers of SpatialStack and VG-LLM: python tests/parity/pathways.py FOLDER.

FOLDER holds sets of recordings (folders with vggt_cases, merger_*, *_layered and vgllm files and their weights), or is one.
Every recorded tensor must be compared, or the run fails.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a script sees its own folder only

from g2vlm.convert import add_on
from g2vlm.convert.add_on import Layout, Parts
from g2vlm.convert.names import StateDict
from g2vlm.encoders.vggt import VggtConfig
from g2vlm.host import Host
from g2vlm.host_hub import Opened, build_host, stock_config
from g2vlm.pathway_config import FusionKind, NoPathway, PathwayConfig, PreDecoder, SpatialStack
from g2vlm.pathways import build_pathway
from g2vlm.pathways.base import Pathway, merge_cells
from tests.parity.run import EXACT, Case, Row, Tolerance, read_case, summary
from tests.parity.vggt import config_of, vggt_rows

# Beside each: the worst seen on the recordings this was written with, on a CPU.
MERGED = Tolerance(1e-5)  # 0
HIDDEN = {"qwen2_5_vl": Tolerance(2e-4), "qwen3_5": Tolerance(1e-3)}  # 1.5e-5, 1.1e-4
LOGITS = {"qwen2_5_vl": Tolerance(2e-4), "qwen3_5": Tolerance(2e-3)}  # 1.1e-5, 6e-5
FEATURES = Tolerance(5e-5)  # 0
LOSS = Tolerance(1e-4)  # 1.9e-6
GRADIENT = Tolerance(0, of_largest=1e-3)  # 0.11 of it
SURE = 0.01
"""Two best logits that differ by more than this are in the same order everywhere."""


def weights_of(path: Path) -> StateDict:
    """Weights are stored in fewer bits, which hold these values exactly."""
    return {name: x.float() for name, x in load_file(path).items()}


def loaded(config: PathwayConfig, width: int, weights: StateDict) -> Pathway:
    """A pathway with weights by their published names."""
    pathway = build_pathway(config, width)
    pathway.load_state_dict(add_on.take_apart(weights, config).pathway, strict=True)
    return pathway


# --- mergers alone ----------------------------------------------------------------------------------------------------


def check_mergers(case: Case, folder: Path) -> None:
    meta = case.meta
    weights = {name.removeprefix("w."): case[name].float() for name in case.tensors if name.startswith("w.")}
    sizes = {"geometry_width": meta["geo_dim"], "hidden_width": meta["hidden_dim"]}
    sizes |= {"norm": "layer" if meta["norm"] == "LayerNorm" else "rms"}
    decoder_layers = tuple(meta["geometry_fusion_layers"])
    config = SpatialStack(decoder_layers, tuple(range(len(decoder_layers))), **sizes)
    stack = loaded(config, meta["out_dim"], of_module(weights, "language_feature_fusion"))
    fresh = build_pathway(config, meta["out_dim"]).mergers
    is_zero = not any(merger.fc2.weight.any() or merger.fc2.bias.any() for merger in fresh)
    case.add("meta.last_linear_zero_at_construction", is_zero, meta["last_linear_zero_at_construction"], EXACT)
    average = loaded(
        PreDecoder((0,), merger="avg", **sizes),
        meta["out_dim"],
        renamed(weights, "geometry_merger_avg", "geometry_merger"),
    )
    for grid in meta["cases"]:
        name, shape = grid["name"], (grid["images"], *grid["merged"], meta["out_dim"])
        cells = {}
        for i in config.encoder_layers:
            patches = case[f"{name}.in.patch_tokens{i}"].float().view(grid["images"], *grid["grid"], -1)
            cells[i] = merge_cells(patches)
        case.compare(f"{name}.regrouped0", cells[0].flatten(1, 2), EXACT)
        features = {i: x.flatten(0, 1) for i, x in cells.items()}
        visual = case[f"{name}.in.visual_tokens"].float()
        nothing = torch.zeros_like(visual)
        case.compare(f"{name}.out.layer0", stack.apply_at(0, nothing, features), MERGED)
        case.compare(f"{name}.out.layer1_two_slots", stack.apply_at(1, nothing, features), MERGED)
        case.compare(f"{name}.out.layer1_slot1_only", stack.mergers[2](features[2]), MERGED)
        case.compare(f"{name}.out.pre_avg", average.mergers[0](features[0]).view(shape), MERGED)
        for fusion in get_args(FusionKind):
            mine = renamed(weights, "geometry_merger_mlp", "geometry_merger")
            mine |= renamed(weights, f"feature_fusion_{fusion}", "feature_fusion")
            pathway = loaded(PreDecoder((0,), fusion=fusion, **sizes), meta["out_dim"], mine)
            case.compare(f"{name}.out.fusion_{fusion}", pathway.apply_at("pre", visual, features).view(shape), MERGED)
            if fusion == "add":
                case.compare(f"{name}.out.pre_mlp", pathway.mergers[0](features[0]).view(shape), MERGED)


def of_module(weights: StateDict, module: str) -> StateDict:
    return {name: x for name, x in weights.items() if name.startswith(f"{module}.")}


def renamed(weights: StateDict, old: str, new: str) -> StateDict:
    return {new + name.removeprefix(old): x for name, x in of_module(weights, old).items()}


# --- whole models -----------------------------------------------------------------------------------------------------


class Recording:
    """One recorded model: its inputs, and hosts made of the weights beside it."""

    def __init__(self, case: Case, folder: Path, model_type: str, weights: StateDict, encoder: VggtConfig):
        fields = case.meta["config"] | {"model_type": model_type}
        self.model_type = model_type
        pathway = add_on.read_config(fields, weights, encoder)
        encoder = add_on.read_encoder_config(fields, encoder)
        parts = add_on.take_apart(weights, pathway)
        self.opened = Opened(stock_config(add_on.stock_fields(fields)), pathway, encoder, parts, folder)
        ids = case["in.input_ids"]
        is_image = ids == self.opened.model.image_token_id
        self.images = case["in.geometry_images_u8"] / 255
        self.inputs = {
            "input_ids": ids,
            "pixel_values": case["in.pixel_values"].float(),
            "image_grid_thw": case["in.image_grid_thw"],
            "mm_token_type_ids": is_image.int(),
        }
        case.compare("in.mm_token_type_ids", self.inputs["mm_token_type_ids"], EXACT)
        case.compare("in.image_mask", is_image, EXACT)

    def host(self, **encoder: Any) -> Host:
        """The recorded model with its geometry; encoder: fields of its configuration to change."""
        assert self.opened.encoder is not None
        return build_host(replace(self.opened, encoder=replace(self.opened.encoder, **encoder)))

    def stock(self) -> Host:
        """The recorded model without geometry."""
        parts = Parts(self.opened.parts.stock, {}, {})
        return build_host(replace(self.opened, pathway=NoPathway(), parts=parts))

    def run(self, host: Host, **options: Any) -> Any:
        images = list(self.images) if host.pathway.sites else None
        ids = self.inputs["input_ids"]
        return host(**self.inputs, geometry_images=images, labels=ids, output_hidden_states=True, **options)

    def compare_positions(self, case: Case, host: Host) -> None:
        names = ("input_ids", "mm_token_type_ids", "image_grid_thw")
        positions = host.model.model.get_rope_index(*(self.inputs[name] for name in names))[0]
        case.compare("position_ids", positions, EXACT)

    def compare_output(self, case: Case, prefix: str, output: Any, loss: float) -> None:
        for i, hidden in enumerate(output.hidden_states):
            case.compare(f"{prefix}.hidden_states{i}", hidden, HIDDEN[self.model_type])
        case.compare(f"{prefix}.logits", output.logits, LOGITS[self.model_type])
        case.add(f"meta.loss.{prefix}", output.loss, loss, LOSS)


def check_layered(case: Case, folder: Path, model_type: str, layout: Layout, prefix: str) -> None:
    encoder = encoder_config(folder)
    weights = weights_of(folder / f"{case_file(case)}_weights.safetensors")
    weights |= {prefix + name: x for name, x in weights_of(folder / "vggt_weights.safetensors").items()}
    recording = Recording(case, folder, model_type, weights, encoder)
    host, config = recording.host(), recording.opened.pathway
    assert isinstance(config, SpatialStack)
    recording.compare_positions(case, host)
    for (decoder_layer, layer), merger in zip(config.pairs, host.pathway.mergers, strict=True):
        cells = merge_cells(host.encoder.encode(recording.images, [layer])[0])
        case.compare(f"geometry_features.llm_layer{decoder_layer}.vggt_layer{layer}", cells.flatten(1, 2), FEATURES)
        case.compare(f"merged_tokens.llm_layer{decoder_layer}", merger(cells.flatten(0, 1)), HIDDEN[model_type])

    seen = watch(host)
    output = recording.run(host)
    compare_seen(case, "with", seen, HIDDEN[model_type])
    recording.compare_output(case, "with", output, case.meta["loss"]["with_"])
    case.compare("inputs_embeds", output.hidden_states[0], HIDDEN[model_type])
    compare_gradients(case, host, output.loss, config, layout)
    with torch.no_grad():
        compare_greedy(case, recording, host)
        stock = recording.stock()
        seen = watch(stock)
        recording.compare_output(case, "without", recording.run(stock), case.meta["loss"]["without"])
        compare_seen(case, "without", seen, HIDDEN[model_type])


def watch(host: Host) -> dict[str, Tensor]:
    """What leaves each decoder layer before geometry is added, and what enters the final norm, once the host has run."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, args: Any, output: Any = None) -> None:
        seen[name] = args[0] if output is None else output

    decoder = host.model.model.language_model
    for i, layer in enumerate(decoder.layers):
        layer.register_forward_hook(partial(keep, f"raw_layer_out{i}"), prepend=True)
    decoder.norm.register_forward_pre_hook(partial(keep, "pre_norm"))
    return seen


def compare_seen(case: Case, prefix: str, seen: dict[str, Tensor], tolerance: Tolerance) -> None:
    for name, x in seen.items():
        case.compare(f"{prefix}.{name}", x, tolerance)


def compare_gradients(case: Case, host: Host, loss: Tensor, config: PathwayConfig, layout: Layout) -> None:
    """Gradients of the mergers, and norms of those of all that was recorded, by their published names."""
    loss.backward()
    stock, pathway = (
        {n: x.grad for n, x in m.named_parameters() if x.grad is not None} for m in (host.model, host.pathway)
    )
    published = add_on.put_together(Parts(stock, pathway, {}), config, layout)
    for name, gradient in published.items():
        case.compare(f"grad.fusion_layers.{name.partition('.fusion_layers.')[2]}", gradient, GRADIENT)
    for name, norm in case.meta.get("grad_norms", {}).items():
        case.add(f"meta.grad_norms.{name}", published[name].norm(), norm, GRADIENT)
    has_gradient = any(x.grad is not None for x in host.encoder.parameters())
    case.add("meta.vggt_gets_gradient", has_gradient, case.meta.get("vggt_gets_gradient", False), EXACT)


def compare_greedy(case: Case, recording: Recording, host: Host) -> None:
    """Each recorded choice after the recorded ones before it, and what `generate` says up to the first close call."""
    is_sure = torch.tensor(case.meta["greedy_margins"]) > SURE
    steps = case["greedy.full_reforward"]
    ids, types = (torch.cat([recording.inputs[name], more], 1) for name, more in (
        ("input_ids", steps[None, :-1]), ("mm_token_type_ids", torch.zeros_like(steps[None, :-1]).int()),
    ))  # fmt: skip
    longer = recording.inputs | {"input_ids": ids, "mm_token_type_ids": types}
    chosen = host(**longer, geometry_images=list(recording.images)).logits[0, -len(steps) :].argmax(-1)
    case.add("greedy.full_reforward", chosen[is_sure], steps[is_sure], EXACT)
    said = case["greedy.reference_generate"]
    num_sure = min(int(is_sure.int().cumprod(0).sum()), len(said))
    generated = host.generate(
        **recording.inputs, geometry_images=list(recording.images), max_new_tokens=len(steps), do_sample=False,
        eos_token_id=STOP,
    )[0, recording.inputs["input_ids"].shape[1] :]  # fmt: skip
    case.add("greedy.reference_generate", generated[:num_sure], said[:num_sure], EXACT)


STOP = 511
"""The token at which the recorded generation would have stopped."""


def check_vgllm(case: Case, folder: Path) -> None:
    encoder = encoder_config(folder)
    base = weights_of(folder / "qwen25_layered_weights.safetensors")
    weights = {name: x for name, x in base.items() if not add_on.is_pathway(name)}
    weights |= weights_of(folder / "vgllm_merger_weights.safetensors")
    weights |= {f"vggt.{name}": x for name, x in weights_of(folder / "vggt_weights.safetensors").items()}
    recording = Recording(case, folder, "qwen2_5_vl", weights, encoder)
    (layer,) = recording.opened.pathway.encoder_layers
    case.add("meta.vggt_layer_used", layer, case.meta["vggt_layer_used"], EXACT)
    for frame, variant in case.meta["variants"].items():
        host = recording.host(reference_frame=frame)
        recording.compare_positions(case, host)
        cells = merge_cells(host.encoder.encode(recording.images, [layer])[0])
        height, width = recording.inputs["image_grid_thw"][0, 1:] // 2
        grid = cells.unflatten(1, (int(height), int(width))).unflatten(3, (2, 2))
        case.compare(f"ref_{frame}.merger_input", grid, FEATURES)
        case.compare(f"ref_{frame}.merged_tokens", host.pathway.mergers[0](cells.flatten(0, 1)), HIDDEN["qwen2_5_vl"])
        visual = host.model.model.get_image_features(
            recording.inputs["pixel_values"], recording.inputs["image_grid_thw"]
        )
        case.compare("vit_merged_tokens", torch.cat(visual.pooler_output), HIDDEN["qwen2_5_vl"])
        output = recording.run(host)
        recording.compare_output(case, f"ref_{frame}", output, variant["loss"])
        case.compare(f"ref_{frame}.inputs_embeds", output.hidden_states[0], HIDDEN["qwen2_5_vl"])


def encoder_config(folder: Path) -> VggtConfig:
    return config_of(json.loads((folder / "vggt_config.json").read_text())["config"])


def case_file(case: Case) -> str:
    return case.name.rpartition("/")[2]


# --- folders ----------------------------------------------------------------------------------------------------------


def check_encoder(case: Case, folder: Path) -> None:
    for name, recorded, ours, tolerance in vggt_rows(folder):
        assert torch.equal(recorded, case[name])
        case.add(name, ours, recorded, tolerance)
    for name in case.tensors:
        if name.endswith(".images_u8"):
            case.used.add(name)


CHECKS: dict[str, Callable[[Case, Path], None]] = {
    "vggt_cases": check_encoder,
    "merger_rmsnorm": check_mergers,
    "merger_layernorm": check_mergers,
    "qwen25_layered": partial(
        check_layered, model_type="qwen2_5_vl", layout="spatialstack_qwen25", prefix="geometry_encoder.vggt."
    ),
    "qwen35_layered": partial(
        check_layered, model_type="qwen3_5", layout="spatialstack_qwen35", prefix="model.geometry_encoder.vggt."
    ),
    "vgllm": check_vgllm,
}
"""What to do with a file, by its name; files of weights are read by the checks of their results."""


def run(folder: Path, say: Callable[[str], None] = print) -> bool:
    """Check every set of recordings below a folder; True if something was compared and all of it agrees."""
    cases = []
    for case in check_folder(folder):
        say(f"\n{case.name}")
        for row in case.rows:
            say(f"  {row.tensor:<58} {row.error:10.2e} {row.allowed:10.2e}  {'ok' if row.is_ok else 'FAIL'} {row.note}")
        cases.append(case)
    say(summary(cases))
    return any(case.rows for case in cases) and all(row.is_ok for case in cases for row in case.rows)


def check_folder(folder: Path) -> Iterator[Case]:
    """Every file of results, checked; one that has no check is a miss."""
    for path in sorted(folder.rglob("*.safetensors")):
        if path.stem.endswith("_weights"):
            continue
        case = read_case(path, folder)
        try:
            if (check := CHECKS.get(path.stem)) is not None:
                check(case, path.parent)
            case.finish()
        except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:  # the other cases still count
            case.rows.append(Row("(the case)", torch.inf, 0, torch.inf, f"{type(error).__name__}: {error}"))
        yield case


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder}: no such folder")
    return 0 if run(options.folder) else 1


if __name__ == "__main__":
    sys.exit(main())
