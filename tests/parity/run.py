"""Compares g2vlm with recorded numbers of the released G2VLM: python tests/parity/run.py FOLDER.

FOLDER holds weight sets (a folder with weights.safetensors.xz, three configuration files and recon_*, chat_* and
train_* cases) and stand-alone pieces (a folder named unit). Every recorded tensor must be compared, or the run fails.
"""

import argparse
import fnmatch
import json
import lzma
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor
from transformers.models.dinov2_with_registers import Dinov2WithRegistersConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from g2vlm import hub
from g2vlm.attention import attend
from g2vlm.config import G2VLMConfig, TokenIds
from g2vlm.convert import official
from g2vlm.encoders.dino import IMAGENET_MEAN, IMAGENET_STD, DinoEncoder
from g2vlm.encoders.vision import VisionTower
from g2vlm.geometry.align import fit_scale, resample_valid, robust_scale_points
from g2vlm.geometry.points import depth_edges
from g2vlm.geometry.pose import pose_from, transform
from g2vlm.geometry.rotation import rotation_from_nine
from g2vlm.layout import Layout, Picture, Sample, Split, ViewBlock, lay_out, segments_of
from g2vlm.losses.camera import camera_loss, rotation_angle
from g2vlm.losses.normalise import Cloud, Target, normalised_prediction, normalised_truth, target_from_world_points
from g2vlm.losses.normals import point_map_normal_loss
from g2vlm.losses.objective import LossReport, LossWeights, Objective, Prediction
from g2vlm.losses.points import align_scale, inverse_depth_weight
from g2vlm.losses.text import text_loss, token_losses
from g2vlm.model import G2VLM
from g2vlm.pictures import Photo, semantic_patches, to_views, working_size
from g2vlm.records import Geometry
from g2vlm.rope import multimodal_angles, planar_angles, rotate, rotate_planar

VARIANTS = {"ref": "reference", "fix": "per_image"}
"""Prefix of recorded numbers -> the encoder's windows that they were recorded with."""

TRAIN_VISIBILITY = {"": "block_causal", "_oneblock": "global"}

VIEW_PATCH, IMAGE_PATCH = -1, -2
"""Placeholders that no vocabulary contains."""

SINE_OFFSET = 1e-12
"""What the released normal loss adds to |a x b|; ours leaves it out unless asked."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

SMOOTH_DATASETS = (
    *(
        "BlinkVision",
        "Game",
        "GameNew",
        "DynamicStereo",
        "FlyingThings3D",
        "gtasfm",
        "hypersim",
        "matrixcity",
        "MidAir",
    ),
    *("Monkaa", "PointOdyssey", "Sintel", "Spring", "tartanair", "unreal4k", "VirtualKitti", "nav_20w", "BlendedMVG"),
    *("blendedmvs", "DTU", "ETH3D", "scannet", "scannetpp", "taskonomy", "dl3dv", "omniworld", "mapfree", "ariasyn"),
    "arkit_high",
)
"""Data sets whose depth the released training code takes normals from."""

LOSS_NAMES = {
    "local_pts_loss": "local_points",
    "normal_loss": "normals",
    "global_pts_loss": "global_points",
    "trans_loss": "translation",
    "rot_loss": "rotation",
}


WEIGHTS_FILE = "weights.safetensors.xz"


@dataclass(frozen=True)
class Tolerance:
    """An error of `absolute + relative |value| + of_largest max|value|` is allowed."""

    absolute: float
    relative: float = 0.0
    of_largest: float = 0.0

    def allows(self, want: Tensor) -> Tensor:
        return self.absolute + self.relative * want.abs() + self.of_largest * want.abs().max()


# Beside each: the worst seen on the recorded cases this was written with, on a CPU.
EXACT = Tolerance(0)
HIDDEN = Tolerance(1e-4)  # 1.5e-5; poses, hidden states, logits
MAPS = Tolerance(1e-4, 1e-4)  # 0.40 of it; point maps, whose depth goes through exp
LOSSES = Tolerance(3e-7, 1e-5)  # 0.40 of it
ROTATIONS = Tolerance(2e-6, 1e-5)  # 0.07 of it; losses with angles, whose arccos and SVD magnify rounding
GRADIENTS = Tolerance(3e-7, of_largest=3e-3)  # 1e-3 where one L1 residual changes sign, 7e-5 elsewhere
NO_GRADIENT = Tolerance(1e-6)  # 3e-9; key biases, which cancel in the softmax, get rounding errors only
UNIT = Tolerance(1e-5, 1e-5)  # 0.15 of it


@dataclass(frozen=True)
class Row:
    """error: the worst. allowed, used: tolerance of the value that came closest to its own, and the part it used up."""

    tensor: str
    error: float
    allowed: float
    used: float
    note: str = ""

    @property
    def is_ok(self) -> bool:
        return self.used <= 1


@dataclass
class Case:
    """The recorded numbers of one file, and what became of each."""

    name: str
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> Tensor:
        self.used.add(name)
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def compare(self, name: str, got: Tensor | Callable[[], Tensor], tolerance: Tolerance) -> None:
        """Compare with the recorded tensor of this name, where there is one (or a strided part of it)."""
        for recorded, stride in ((name, 1), (f"{name}_stride3", 3)):
            if recorded in self:
                value = got if isinstance(got, Tensor) else got()
                value = value if stride == 1 else value[..., ::stride, ::stride, :]
                self.add(recorded, value, self[recorded], tolerance)

    def add(self, name: str, got: Tensor | Sequence | float | bool, want: Any, tolerance: Tolerance) -> None:
        got, want = (torch.as_tensor(x).detach().double() for x in (got, want))
        if got.shape != want.shape:
            note = f"shape {tuple(got.shape)}, recorded {tuple(want.shape)}"
            self.rows.append(Row(name, torch.inf, 0, torch.inf, note))
            return
        if not want.numel():
            self.rows.append(Row(name, 0, tolerance.absolute, 0, "empty"))
            return
        error = torch.where(got == want, 0, (got - want).abs()).nan_to_num(torch.inf, posinf=torch.inf).flatten()
        allowed = tolerance.allows(want).flatten()
        used = torch.where(error > 0, error / allowed, 0)
        worst = int(used.argmax())
        self.rows.append(Row(name, float(error.max()), float(allowed[worst]), float(used[worst])))

    def finish(self) -> None:
        """Every recorded result must have been looked at."""
        for name in self.tensors.keys() - self.used:
            if not name.startswith("in."):
                self.rows.append(Row(name, torch.inf, 0, torch.inf, "recorded, but not compared"))


class WeightSet:
    """A folder's weights, and models of them in every variant."""

    def __init__(self, folder: Path):
        raw = load(lzma.decompress((folder / WEIGHTS_FILE).read_bytes()))
        released = {name: x.float() for name, x in raw.items()}
        self.folder, self.released_names = folder, released.keys()
        self.weights = official.to_ours(released)

    def config(self, tokens: TokenIds) -> G2VLMConfig:
        return official.read_config(self.folder, self.released_names, tokens)

    def model(self, tokens: TokenIds, windows: str, visibility: str = "global") -> G2VLM:
        config = self.config(tokens).with_options(dino_windows=windows, visibility=visibility)
        return hub.build(hub.Checkpoint(config, self.weights, self.folder, ()))


# --- reconstruction ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def check_recon(case: Case, weight_set: WeightSet) -> None:
    meta = case.meta
    tokens = TokenIds(
        bos=meta["bos"], vision_start=meta["start_of_image"], vision_end=meta["end_of_image"],
        eos=0, newline=0, pad=0, view_patch=VIEW_PATCH, image_patch=IMAGE_PATCH,
    )  # fmt: skip
    views = views_of(case)
    prompt = case["in.prompt_ids"].tolist()
    case.add("meta.prompt_ids", prompt, [meta["bos"], *meta["prompt_ids_without_bos"]], EXACT)
    for variant, windows in variants(case):
        model = weight_set.model(tokens, windows)
        ids = torch.tensor([prompt + view_ids(views, model)])
        output = model(
            ids,
            views=views,
            read_geometry=True,
            read_global_points=True,
            output_hidden_states=True,
            logits_to_keep=None,
        )
        layout = model.lay_out(ids, None, views)
        images = slice(len(prompt), None)
        hidden = output.last_hidden_state[0]
        case.compare("seg0.position_ids", layout.positions[:, : len(prompt)], EXACT)
        case.compare("seg1.position_ids", layout.positions[:, images], EXACT)
        case.compare("seg1.geo_indexes", layout.is_geometric[images].nonzero()[:, 0], EXACT)
        case.compare("seg1.text_indexes", (~layout.is_geometric[images]).nonzero()[:, 0], EXACT)
        case.compare("seg0.last_hidden", hidden[: len(prompt)], HIDDEN)
        case.compare(f"{variant}.last_hidden", hidden[images], HIDDEN)
        for i, layer in enumerate(output.hidden_states):
            case.compare(f"{variant}.layer{i}", layer[0, images], HIDDEN)
        check_encoder(case, variant, model, views)
        check_heads(case, variant, model, hidden[layout.is_geometric], views)
        check_geometry(case, f"{variant}.", output.geometry)


def views_of(case: Case) -> list[Tensor]:
    """The recorded photos as our own reader makes views of them."""
    photos = [Photo(str(i), rgb) for i, rgb in enumerate(case["in.images_u8"].numpy())]
    views = to_views(photos, case.meta["new_width"], 14, "first_view_width")
    if "in.pixel_values" in case:
        case.compare("in.pixel_values", normalised(torch.stack(views)), UNIT)
    return views


def normalised(views: Tensor) -> Tensor:
    """What the encoder subtracts and divides by, done outside of it."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    return (views - mean) / std


def variants(case: Case) -> Iterator[tuple[str, str]]:
    for variant, windows in VARIANTS.items():
        if any(name.startswith(f"{variant}.") for name in case.tensors):
            yield variant, windows


def view_ids(views: Sequence[Tensor], model: G2VLM) -> list[int]:
    tokens = model.config.tokens
    grids = [model.grid(view) for view in views]
    return [
        id
        for rows, columns in grids
        for id in (tokens.vision_start, *[tokens.view_patch] * (rows * columns), tokens.vision_end)
    ]


def check_encoder(case: Case, variant: str, model: G2VLM, views: Sequence[Tensor]) -> None:
    case.compare(f"{variant}.dino_tokens", lambda: model.dino(torch.stack(list(views))), HIDDEN)
    case.compare(f"{variant}.dino2llm", lambda: torch.cat(model.encode_views(views)), HIDDEN)


def check_heads(case: Case, variant: str, model: G2VLM, hidden: Tensor, views: Sequence[Tensor]) -> None:
    grid = model.grid(views[0])
    x = hidden.unflatten(0, (len(views), -1))
    camera = model.heads.camera
    camera_hidden = camera.decoder(x, grid)
    rotation, translation = camera.raw(camera_hidden)
    case.compare(f"{variant}.camera_hidden", camera_hidden, HIDDEN)
    case.compare(f"{variant}.camera_rot_raw", rotation, HIDDEN)
    case.compare(f"{variant}.camera_t_raw", translation, HIDDEN)
    case.compare(f"{variant}.point_hidden_first_image", lambda: model.heads.points.decoder(x[:1], grid)[0], HIDDEN)
    head = model.heads.global_points
    if head is not None:
        case.compare(
            f"{variant}.global_hidden_last_image", lambda: head.decoder(x[-1:], grid, (x[:1], grid))[0], HIDDEN
        )


def check_geometry(case: Case, prefix: str, geometry: Geometry) -> None:
    local = torch.stack(geometry.local_points)
    case.compare(f"{prefix}camera_poses", geometry.poses, HIDDEN)
    case.compare(f"{prefix}local_points", local, MAPS)
    case.compare(f"{prefix}points", lambda: transform(geometry.poses, local), MAPS)
    if geometry.global_points is not None:
        case.compare(f"{prefix}global_points", torch.stack(geometry.global_points), MAPS)


# --- chat -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prompt:
    """What the chat path reads before it decodes; `ids` end before the start token."""

    ids: list[int]
    start_token: int
    inputs: dict[str, Any]


@torch.no_grad()
def check_chat(case: Case, weight_set: WeightSet) -> None:
    meta = case.meta
    tokens = TokenIds(
        bos=int(case["in.system_ids"][0]), eos=meta["eos"], newline=meta["start_token"], pad=0,
        vision_start=meta["start_of_image"], vision_end=meta["end_of_image"],
        view_patch=VIEW_PATCH, image_patch=IMAGE_PATCH,
    )  # fmt: skip
    views = views_of(case)
    pixels, grids = pictures_of(case)
    for variant, windows in variants(case):
        model = weight_set.model(tokens, windows)
        merge = model.config.vision_config.spatial_merge_size
        pictures = [
            id
            for grid in grids.tolist()
            for id in (tokens.vision_start, *[IMAGE_PATCH] * (grid[1] * grid[2] // merge**2), tokens.vision_end)
        ]
        ids = [*case["in.system_ids"].tolist(), *view_ids(views, model), *pictures, *case["in.question_ids"].tolist()]
        inputs = {"views": views, "pixel_values": pixels, "image_grid_thw": grids}
        prompt = Prompt(ids, meta["start_token"], inputs)
        check_vision(case, variant, model, pixels, grids)
        check_answers(case, variant, model, prompt)
    case.add(
        "meta.question_suffix_ids",
        case["in.question_ids"].tolist(),
        [*meta["question_ids"], *meta["question_suffix_ids"]],
        EXACT,
    )


def pictures_of(case: Case) -> tuple[Tensor, Tensor]:
    """The recorded photos as our processor cuts them into patches."""
    width, height = case.meta["vit_resize_width_height"]
    photos = [Photo(str(i), rgb) for i, rgb in enumerate(case["in.images_u8"].numpy())]
    pixels, grids = semantic_patches(photos, (height, width))
    case.compare("in.vit_grid_thw", grids, EXACT)
    case.compare("in.vit_pixel_values", pixels.unflatten(0, (len(photos), -1)), UNIT)
    return pixels, grids


def check_vision(case: Case, variant: str, model: G2VLM, pixels: Tensor, grids: Tensor) -> None:
    case.compare(f"{variant}.vit_tokens", lambda: model.vision(pixels, grids).unflatten(0, (len(grids), -1)), HIDDEN)


def check_answers(case: Case, variant: str, model: G2VLM, prompt: Prompt) -> None:
    meta = case.meta
    limit = meta["max_length"]
    answer, logits, hidden = decode_in_steps(model, prompt, limit, meta["eos"])
    whole = torch.tensor([[*prompt.ids, prompt.start_token, *answer[:-1]]])
    layout = model.lay_out(whole, None, prompt.inputs["views"], prompt.inputs["image_grid_thw"])
    start = 0
    for i, segment in enumerate(meta["segments"]):
        stop = start + sum(segment["query_lens"])
        case.compare(f"seg{i}.position_ids", layout.positions[:, start:stop], EXACT)
        if segment["kind"] != "decode":
            case.compare(f"{variant}.seg{i}.last_hidden", hidden[start:stop], HIDDEN)
        start = stop
    case.compare(f"{variant}.logits", logits, HIDDEN)
    case.compare(f"{variant}.greedy_ids", torch.tensor(answer), EXACT)
    prefix = "" if variant == "ref" else f"{variant}_"
    generated, _ = generate(model, prompt, limit, meta["eos"])
    case.add(f"{variant}.greedy_ids by generate", generated, answer, EXACT)
    case.add(f"meta.{prefix}returned_ids", returned(generated), meta[f"{prefix}returned_ids"], EXACT)
    case.add(f"{variant}.logits without cache", logits_at_once(model, whole, prompt, len(answer)), logits, HIDDEN)
    if variant == "ref" and "greedy_ids" in meta:
        case.add("meta.greedy_ids", answer, meta["greedy_ids"], EXACT)
    if variant == "ref":
        for name in [name for name in meta if name == "stop_test" or name.startswith("max_length_")]:
            check_limits(case, name, model, prompt)


def check_limits(case: Case, name: str, model: G2VLM, prompt: Prompt) -> None:
    """Another end token, or another limit: M allows M forward passes, and M - 1 tokens are returned."""
    recorded = case.meta[name]
    eos = recorded.get("eos", case.meta["eos"])
    limit = int(name.rpartition("_")[2]) if name.startswith("max_length_") else case.meta["max_length"]
    stepwise = decode_in_steps(model, prompt, limit, eos)[0]
    generated, num_passes = generate(model, prompt, limit, eos)
    case.add(f"meta.{name}.returned_ids stepwise", returned(stepwise), recorded["returned_ids"], EXACT)
    case.add(f"meta.{name}.returned_ids", returned(generated), recorded["returned_ids"], EXACT)
    case.add(f"meta.{name}.forward_steps", num_passes, recorded["forward_steps"], EXACT)


def returned(produced: list[int]) -> list[int]:
    """The last token is never returned: it is the end token, or the limit was reached with it."""
    return produced[:-1]


def decode_in_steps(model: G2VLM, prompt: Prompt, limit: int, eos: int) -> tuple[list[int], Tensor, Tensor]:
    """Greedy tokens, their logits, and the hidden states of the prompt, token by token behind a cache."""
    ids = torch.tensor([prompt.ids])
    output = model(ids, **prompt.inputs, use_cache=True, logits_to_keep=None)
    hidden, cache = output.last_hidden_state[0], output.past_key_values
    position = (
        model.lay_out(ids, None, prompt.inputs["views"], prompt.inputs["image_grid_thw"]).samples[0].next_position
    )
    token, answer, logits = prompt.start_token, [], []
    while len(answer) < limit and token != eos:
        step = model(
            torch.tensor([[token]]), position_ids=torch.tensor([[position]]), past_key_values=cache, use_cache=True
        )
        logits.append(step.logits[0, -1])
        token, position = int(logits[-1].argmax()), position + 1
        answer.append(token)
    return answer, torch.stack(logits), hidden


def generate(model: G2VLM, prompt: Prompt, limit: int, eos: int) -> tuple[list[int], int]:
    """Greedy tokens by transformers' generation, and how many forward passes it took after the prompt's last token."""
    ids = torch.tensor([[*prompt.ids, prompt.start_token]])
    output = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
        ids,
        **prompt.inputs,
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=eos,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return output.sequences[0, ids.shape[1] :].tolist(), len(output.logits)


def logits_at_once(model: G2VLM, whole: Tensor, prompt: Prompt, count: int) -> Tensor:
    return model(whole, **prompt.inputs, logits_to_keep=count).logits[0]


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pack:
    """A recorded pack of samples as our model reads it."""

    ids: Tensor
    lengths: list[int]
    views: list[Tensor]
    pixel_values: Tensor | None
    grids: Tensor | None
    num_views: int

    @property
    def scenes(self) -> tuple[int, int]:
        return len(self.views) // self.num_views, self.num_views


def check_train(case: Case, weight_set: WeightSet) -> None:
    pack = pack_of(case)
    tokens = tokens_of(case, pack)
    for windows_name, windows in VARIANTS.items():
        for suffix, visibility in TRAIN_VISIBILITY.items():
            variant = windows_name + suffix
            if any(name.startswith(f"{variant}.") for name in (*case.tensors, *case.meta)):
                model = weight_set.model(tokens, windows, visibility)
                check_train_variant(case, variant, model, pack)


def pack_of(case: Case) -> Pack:
    meta = case.meta
    ids = torch.full((meta["sequence_length"],), VIEW_PATCH)
    ids[case["in.packed_text_indexes"]] = case["in.packed_text_ids"]
    pixel_values = grids = None
    if "in.packed_vit_images_u8" in case:
        ids[case["in.packed_vit_token_indexes"]] = IMAGE_PATCH
        pixels = case["in.packed_vit_images_u8"].flatten(0, 1).float() / 255
        mean, std = (torch.tensor(x).repeat_interleave(pixels.shape[1] // 3) for x in (CLIP_MEAN, CLIP_STD))
        pixel_values, grids = (pixels - mean) / std, case["in.packed_image_grid_thw"]
    lengths, total = [], 0
    for length in meta["sample_lens"]:
        if total + length <= len(ids):  # what follows is padding without tokens
            lengths.append(length)
            total += length
    assert total == len(ids), (lengths, len(ids))
    views = list(case["in.packed_dino_images_u8"].float() / 255)
    return Pack(ids, lengths, views, pixel_values, grids, meta["img_per_seq_lens"][0])


def tokens_of(case: Case, pack: Pack) -> TokenIds:
    """The markers are the tokens before and behind the patches of a view."""
    patches = case["in.packed_dino_token_indexes"]
    before, behind = pack.ids[patches[0] - 1].item(), pack.ids[patches[-1] + 1].item()
    return TokenIds(
        bos=0, eos=0, pad=0, newline=0, vision_start=int(before), vision_end=int(behind),
        view_patch=VIEW_PATCH, image_patch=IMAGE_PATCH,
    )  # fmt: skip


def pack_layout(model: G2VLM, pack: Pack) -> Layout:
    """Owner, positions and visibility of the pack, worked out from its token ids."""
    config = model.config
    merge = config.vision_config.spatial_merge_size
    views = [model.grid(view) for view in pack.views]
    pictures = [] if pack.grids is None else [(r // merge, c // merge) for _, r, c in pack.grids.tolist()]
    samples = []
    for ids in pack.ids.split(pack.lengths):
        starts = ids[:-1] == config.tokens.vision_start
        num_views, num_pictures = (int((starts & (ids[1:] == patch)).sum()) for patch in (VIEW_PATCH, IMAGE_PATCH))
        samples.append(segments_of(ids, config.tokens, views[:num_views], pictures[:num_pictures]))
        views, pictures = views[num_views:], pictures[num_pictures:]
    return lay_out(
        samples,
        visibility=config.visibility,
        view_context=config.view_context,
        view_positions=config.view_positions,
    )


def check_train_variant(case: Case, variant: str, model: G2VLM, pack: Pack) -> None:
    layout = pack_layout(model, pack)
    x = model.embed(pack.ids, layout, pack.views, pack.pixel_values, pack.grids)
    hidden, layers = model.decoder(x, layout, keep_layers=True)
    geometry = model.read_geometry(hidden, layout, pack.views, with_global_points=True)
    case.compare("in.packed_position_ids", layout.positions, EXACT)
    check_masks_of_pack(case, variant, layout)
    case.compare(f"{variant}.dino2llm", lambda: torch.cat(model.encode_views(pack.views)), HIDDEN)
    for i, layer in enumerate(layers):
        case.compare(f"{variant}.layer{i}", layer, HIDDEN)
    case.compare(f"{variant}.last_hidden", hidden, HIDDEN)
    total = check_losses(case, variant, geometry, pack)
    if "in.packed_label_ids" in case:
        total = total + check_text_loss(case, variant, model, hidden)
    if f"{variant}.grad_norms" in case.meta:
        check_gradients(case, variant, model, total)


def check_masks_of_pack(case: Case, variant: str, layout: Layout) -> None:
    """What each token of the pack sees, against the recorded splits."""
    prefix = "oneblock_" if variant.endswith("_oneblock") else ""
    lengths, modes = case.meta[f"{prefix}split_lens"], case.meta[f"{prefix}attn_modes"]
    expected = dense_mask(lengths, modes, case.meta["sample_lens"])[
        : len(layout.is_geometric), : len(layout.is_geometric)
    ]
    case.add(f"{variant}.mask from meta.{prefix}split_lens", layout.visible(0), expected, EXACT)


def dense_mask(split_lens: Sequence[int], modes: Sequence[str], sample_lens: Sequence[int]) -> Tensor:
    """The released rule: in one sample, everything before and all of one's own full split; noise only among itself."""
    total = sum(split_lens)
    split = torch.repeat_interleave(torch.arange(len(split_lens)), torch.tensor(split_lens))
    sample = torch.repeat_interleave(torch.arange(len(sample_lens)), torch.tensor(sample_lens))[:total]
    is_full = torch.tensor([mode != "causal" for mode in modes])[split]
    is_noise = torch.tensor([mode == "noise" for mode in modes])[split]
    same_split = split[:, None] == split
    causal = torch.ones(total, total, dtype=torch.bool).tril()
    return (sample[:, None] == sample) & (causal | same_split & is_full) & (same_split | ~is_noise)


def check_losses(case: Case, variant: str, geometry: Geometry, pack: Pack) -> Tensor:
    local, world = (
        torch.stack(x).unflatten(0, pack.scenes) for x in (geometry.local_points, geometry.global_points or ())
    )
    prediction = Prediction(local, geometry.poses.unflatten(0, pack.scenes), world)
    names = ("in.packed_world_points", "in.packed_extrinsics", "in.packed_point_masks")
    target = target_from_world_points(*(case[name].unflatten(0, pack.scenes) for name in names))
    case.compare(f"{variant}.pred.local_points", local, MAPS)
    case.compare(f"{variant}.pred.global_points", world, MAPS)
    case.compare(f"{variant}.pred.camera_poses", prediction.poses, HIDDEN)
    cloud = Cloud(local.flatten(2, 3), prediction.poses, world.flatten(2, 3))
    compare_normalised(case, f"{variant}.", "gt", cloud, target)
    report = Objective(LossWeights.RELEASED_CODE, sine_offset=SINE_OFFSET)(
        prediction, target, eligible_for_normals=eligible(case.meta)
    )
    compare_report(case, f"meta.{variant}.loss", report, case.meta[f"{variant}.loss"], "dl")
    return report.total


def eligible(meta: dict[str, Any]) -> Tensor:
    return torch.tensor([name in SMOOTH_DATASETS for name in meta["dataset_names"]])


def compare_normalised(case: Case, prefix: str, truth_name: str, prediction: Cloud, target: Target) -> None:
    """Truth and prediction in the units of the loss, and the robust scale between them."""
    height, width = target.mask.shape[2:]
    mask = target.mask.flatten(2)
    truth, _ = normalised_truth(target.local_points.flatten(2, 3), target.poses, mask)
    cloud, _ = normalised_prediction(prediction, mask)
    weight = inverse_depth_weight(truth.local_points[..., 2], mask)
    for name, side in ((truth_name, truth), ("npred", cloud)):
        case.compare(f"{prefix}{name}.camera_poses", side.poses, HIDDEN)
        for field_name in ("local_points", "global_points"):
            maps = getattr(side, field_name).unflatten(2, (height, width))
            case.compare(f"{prefix}{name}.{field_name}", maps, MAPS)
    scale = align_scale(cloud.local_points, truth.local_points, weight, mask)
    case.compare(f"{prefix}align_scale", scale, LOSSES)


def compare_report(case: Case, name: str, report: LossReport, recorded: dict[str, float], total: str) -> None:
    case.add(f"{name}.{total}", report.total, recorded[total], ROTATIONS)
    for key, part in LOSS_NAMES.items():
        if key in recorded:
            case.add(f"{name}.{key}", report.parts[part], recorded[key], ROTATIONS if part == "rotation" else LOSSES)


def check_text_loss(case: Case, variant: str, model: G2VLM, hidden: Tensor) -> Tensor:
    rows, labels = hidden[case["in.ce_loss_indexes"]], case["in.packed_label_ids"]
    losses = token_losses(rows, model.lm_head.weight, labels)
    mean = text_loss(rows, model.lm_head.weight, labels)
    case.compare(f"{variant}.ce_per_token", losses, HIDDEN)
    recorded = case.meta[f"{variant}.loss"]
    if "ce_mean" in recorded:
        weighted = text_loss(rows, model.lm_head.weight, labels, weights=case["in.ce_loss_weights"])
        case.add(f"meta.{variant}.loss.ce_mean", mean, recorded["ce_mean"], LOSSES)
        case.add(f"meta.{variant}.loss.ce_weighted_mean", weighted, recorded["ce_weighted_mean"], LOSSES)
    return mean


def check_gradients(case: Case, variant: str, model: G2VLM, loss: Tensor) -> None:
    model.requires_grad_(True)
    loss.backward()
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}
    released = official.from_ours(hub.dino_named(gradients, "files"))
    norms = case.meta[f"{variant}.grad_norms"]
    for name, want in norms.items():
        tolerance = NO_GRADIENT if name.endswith("attention.key.bias") else GRADIENTS
        case.add(f"meta.{variant}.grad_norms.{name}", released[name].norm(), want, tolerance)
    for name in case.meta["params_without_grad"]:
        case.add(f"meta.params_without_grad.{name}", released[name].norm(), 0.0, EXACT)
    for name in released:
        case.compare(f"{variant}.grad.{name}", released[name], GRADIENTS)


# --- stand-alone pieces -----------------------------------------------------------------------------------------------


def check_svd(case: Case) -> None:
    rotation = rotation_from_nine(case["in"])
    case.compare("out", rotation, UNIT)
    case.compare("pose", pose_from(rotation, case["t_in"]), UNIT)
    case.add("det_in", torch.linalg.det(case["in"].unflatten(-1, (3, 3))), case["det_in"], Tolerance(1e-4, 1e-4))


def check_rope2d(case: Case) -> None:
    for name in [name.removesuffix(".in") for name in case.tensors if name.endswith(".in")]:
        x = case[f"{name}.in"].transpose(1, 2)
        places = case[
            f"{name}.pos"
            if f"{name}.pos" in case
            else next(n for n in case.tensors if n.startswith("grid") and n.endswith(".pos"))
        ]
        quarter = x.shape[-1] // 4
        frequencies = case.meta["freq"] ** (-torch.arange(quarter) / quarter)
        case.compare(f"{name}.out", rotate_planar(x, planar_angles(places, frequencies)).transpose(1, 2), UNIT)


def check_mrope(case: Case) -> None:
    for name in case.tensors:
        if name.startswith(("dino_", "vit_1x")):
            check_image_positions(case, name)
        elif name.endswith((".q", ".k")):
            prefix = name.rpartition(".")[0]
            angles = multimodal_angles(case[f"{prefix}.pos"], case.meta[f"{prefix}.section"], 1e6)
            case.compare(f"{name}_out", rotate(case[name].transpose(0, 1), angles).transpose(0, 1), UNIT)
            case.used.add(name)
        elif name.startswith("vit_rotary_"):
            check_vision_angles(case, name)


def check_image_positions(case: Case, name: str) -> None:
    """vit_1x4x6_base11: patches of a 4 x 6 grid whose first position is 11."""
    kind, grid, base = name.split("_")
    _, rows, columns = (int(n) for n in grid.split("x"))
    segment = ViewBlock(((rows, columns),)) if kind == "dino" else Picture((rows // 2, columns // 2))
    positions = lay_out([[segment]], view_positions="sequential").positions[:, 1:-1]
    positions = positions - positions.min() + int(base.removeprefix("base"))
    case.compare(name, positions, EXACT)
    case.add(f"meta.{name}_delta", positions.max() - positions.min(), case.meta[f"{name}_delta"], EXACT)


def check_vision_angles(case: Case, name: str) -> None:
    """The angles that the vision tower's blocks get, seen as their cosines and sines."""
    grid = [int(n) for n in name.rpartition("_")[2].split("x")]
    half = case[name].shape[1]
    config = Qwen2VLVisionConfig(depth=1, embed_dim=2 * half, hidden_size=8, num_heads=1)
    seen: dict[str, Any] = {}
    tower = VisionTower(config)
    tower.model.blocks[0].register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    tower(torch.zeros(grid[1] * grid[2], 1176), torch.tensor([grid]))
    for function, got in zip((torch.cos, torch.sin), seen["position_embeddings"], strict=True):
        case.add(f"{name} ({function.__name__})", got, function(case[name]).repeat(1, 2), UNIT)


def check_masks(case: Case) -> None:
    for name, meta in case.meta.items():
        layout = layout_of_splits(meta["split_lens"], meta["attn_modes"], meta["sample_lens"])
        mask = layout.visible(0)
        case.compare(name, mask, EXACT)
        case.compare(f"{name}_per_sample", mask, EXACT)
        case.add(f"{name} by attention", mask_of_attention(layout), mask, EXACT)


def layout_of_splits(split_lens: Sequence[int], modes: Sequence[str], sample_lens: Sequence[int]) -> Layout:
    """A layout of bare splits, which need not be pictures; noise is an isolated full split."""
    samples, first = [], 0
    lengths = iter(zip(split_lens, modes, strict=True))
    for sample_length in sample_lens:
        splits, start = [], 0
        while start < sample_length:
            length, mode = next(lengths)
            splits.append(Split(start, length, is_causal=mode == "causal", isolated=mode == "noise"))
            start += length
        samples.append(Sample(tuple(splits), first, first, next_position=0))
        first += sample_length
    none = torch.zeros(first, dtype=torch.bool)
    return Layout(none, none, torch.zeros(3, first, dtype=torch.long), tuple(samples), first)


def mask_of_attention(layout: Layout) -> Tensor:
    """What `attend` lets each row see: with zero queries and unit values, the columns that have weight."""
    count = len(layout.is_geometric)
    values = torch.eye(count)[:, None]
    return attend(torch.zeros_like(values), torch.zeros_like(values), values, layout, 0)[:, 0] > 0


def check_roe(case: Case) -> None:
    x, y, w = (case[f"align.{name}"] for name in "xyw")
    for name in sorted(
        {name.rpartition(".")[0] for name in case.tensors if name.startswith("align.") and name.count(".") > 1}
    ):
        fit = fit_scale(x, y, w, truncation_of(name))
        case.compare(f"{name}.a", fit.scale, UNIT)
        case.compare(f"{name}.loss", fit.objective, UNIT)
        case.compare(f"{name}.index", fit.index, EXACT)
    source, target, weight = (case[f"points.{name}"] for name in ("src", "tgt", "w"))
    for name in [name for name in case.tensors if name.startswith("points.scale_")]:
        case.compare(name, robust_scale_points(source, target, weight, truncation_of(name)), UNIT)
    points, mask = case["resample.pts"].flatten(1, -2), case["resample.mask"].flatten(1)
    case.add("meta.resample.valid_counts", mask.sum(1), case.meta["resample.valid_counts"], EXACT)
    for name in [name for name in case.tensors if name.startswith("resample.out")]:
        case.compare(name, resample_valid(points, mask, int(name.removeprefix("resample.out"))), EXACT)


def truncation_of(name: str) -> float | None:
    """align.trunc0.05 -> 0.05, points.scale_notrunc -> None."""
    number = name.rpartition("trunc")[2]
    return float(number) if number else None


def check_preprocess(case: Case) -> None:
    photos = {name: Photo(name, case[name].numpy()) for name in ("a", "b", "c")}
    for name in [name for name in case.tensors if name.startswith("dino")]:
        check_views(case, name, photos)
    for size, (height, width) in case.meta["dino518_output_hw_for_input_wxh"].items():
        columns, rows = (int(n) for n in size.split("x"))
        case.add(
            f"meta.dino518 size of {size}",
            working_size(rows, columns, 518, 14, "first_view_width"),
            (height, width),
            EXACT,
        )
    check_pictures(case, photos)
    check_processor_sizes(case)
    check_position_table(case)


def check_views(case: Case, name: str, photos: dict[str, Photo]) -> None:
    """dino518_ab.strided13: the views of photos a and b at width 518, every 13th row and column; not yet normalised."""
    which, part = name.split(".")
    width, letters = which.removeprefix("dino").split("_")
    views = torch.stack(to_views([photos[letter] for letter in letters], int(width), 14, "first_view_width"))
    if part == "normalised":
        views = normalised(views)
    case.add(f"meta.{which}.shape", list(views.shape), case.meta[f"{which}.shape"], EXACT)
    if f"{which}.sum" in case.meta:
        case.add(f"meta.{which}.sum", views.double().sum(), case.meta[f"{which}.sum"], Tolerance(0, 1e-6))
    stride = int(part.removeprefix("strided")) if part.startswith("strided") else 1
    case.compare(name, views[..., ::stride, ::stride], UNIT)


def check_pictures(case: Case, photos: dict[str, Photo]) -> None:
    """The semantic side: of one photo stretched to 768 x 768, and of one to 56 rows and 84 columns."""
    meta = case.meta
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for letter, photo in photos.items():
        for name, size in (("vit768", (768, 768)), ("vit_84w_56h", (56, 84))):
            found[f"{name} {letter}"] = semantic_patches([photo], size)
    for name, tensor in (("vit768", "vit768.rows_every_324"), ("vit_84w_56h", "vit_84w_56h")):
        want = case[tensor]
        stride = 324 if tensor.endswith("324") else 1
        error = {
            key: (patches[::stride] - want).abs().max() for key, (patches, _) in found.items() if key.startswith(name)
        }
        patches, grid = found[min(error, key=lambda key: error[key])]
        case.add(f"meta.{name}.grid", grid, meta[f"{name}.grid"], EXACT)
        case.compare(tensor, patches[::stride], UNIT)
        if f"{name}.sum" in meta:
            case.add(f"meta.{name}.shape", list(patches.shape), meta[f"{name}.shape"], EXACT)
            case.add(f"meta.{name}.sum", patches.double().sum(), meta[f"{name}.sum"], Tolerance(0, 1e-6))


def check_processor_sizes(case: Case) -> None:
    """Sides after the processor's rounding, under two limits; photos of less than a million pixels go all the way."""
    key = next(key for key in case.meta if key.startswith("smart_resize"))
    for height, width, *expected in case.meta[key]:
        limits = (1003520, 12845056)
        sizes = [side for limit in limits for side in smart_resize(height, width, 28, 3136, limit)]
        case.add(f"meta.smart_resize of {height} x {width}", sizes, expected, EXACT)
        if height * width < 1_000_000:
            _, grid = semantic_patches([Photo("blank", np.zeros((height, width, 3), np.uint8))])
            case.add(f"meta.smart_resize of {height} x {width} (patches)", 14 * grid[0, 1:], expected[:2], EXACT)


def check_position_table(case: Case) -> None:
    """DINOv2's position table at other grids; every 5th row of the result was recorded."""
    table = case["pos.table"]
    side = int((table.shape[1] - 1) ** 0.5)
    config = Dinov2WithRegistersConfig(
        hidden_size=table.shape[2], num_hidden_layers=0, num_attention_heads=1, image_size=14 * side, patch_size=14
    )
    embeddings = DinoEncoder(config, "per_image").model.embeddings
    embeddings.position_embeddings.data = table
    for name in [name for name in case.tensors if name.startswith("pos.") and "x" in name]:
        rows, columns = (int(n) for n in name.removeprefix("pos.").split("x"))
        blank = torch.zeros(1, 1 + rows * columns, table.shape[2])
        positions = embeddings.interpolate_pos_encoding(blank, 14 * rows, 14 * columns)
        case.compare(name, positions[:, ::5], UNIT)


def check_loss_parts(case: Case) -> None:
    points, target, mask = case["normal.points"].requires_grad_(), case["normal.gt"], case["normal.mask"]
    edges = depth_edges(target[..., 2])
    loss = point_map_normal_loss(points, target, mask & ~edges, sine_offset=SINE_OFFSET)
    (gradient,) = torch.autograd.grad(loss, points)
    case.compare("normal.depth_edge", edges, EXACT)
    case.add("meta.normal.loss", loss, case.meta["normal.loss"], LOSSES)
    case.compare("normal.grad", gradient, GRADIENTS)
    angles = rotation_angle(case["rot.pred"], case["rot.gt"])
    case.compare("rot.per_pair", angles, ROTATIONS)
    case.add("meta.rot.loss", angles.mean(), case.meta["rot.loss"], ROTATIONS)
    for name in [name.removesuffix(".gt") for name in case.tensors if name.startswith("cam.") and name.endswith(".gt")]:
        cloud = Cloud(torch.zeros(*case["cam.pred"].shape[:2], 1, 3), case["cam.pred"]).scaled(case["cam.scale"])
        loss = camera_loss(cloud.poses, case[f"{name}.gt"])
        recorded = case.meta[name]
        case.add(f"meta.{name}.trans_loss", loss.translation, recorded["trans_loss"], LOSSES)
        case.add(f"meta.{name}.rot_loss", loss.rotation, recorded["rot_loss"], ROTATIONS)
        total = LossWeights.RELEASED_CODE.translation * loss.translation + loss.rotation
        case.add(f"meta.{name}.total", total, recorded["total"], ROTATIONS)


def check_pi3_loss(case: Case) -> None:
    maps = {name: case[f"pred.{name}"].requires_grad_() for name in ("local_points", "camera_poses", "global_points")}
    prediction = Prediction(maps["local_points"], maps["camera_poses"], maps["global_points"])
    target = target_from_world_points(case["gt.world_points"], case["gt.extrinsics"], case["gt.point_masks"])
    flat = {name: maps[name].flatten(2, 3) for name in ("local_points", "global_points")}
    compare_normalised(
        case, "", "prep", Cloud(flat["local_points"], maps["camera_poses"], flat["global_points"]), target
    )
    meta = case.meta
    weights = LossWeights.RELEASED_CODE
    report = Objective(weights, sine_offset=SINE_OFFSET)(prediction, target, eligible_for_normals=eligible(meta))
    compare_report(case, "meta.details", report, meta["details"] | {"total": meta["total"]}, "total")
    cameras = LossWeights(local_points=0, global_points=0, normals=0, camera=1).total(report.parts)
    case.add("meta.camera_loss", cameras, meta["camera_loss"], ROTATIONS)
    points = replace(weights, camera=0).total(report.parts)
    case.add("meta.point_loss", points, meta["point_loss"], LOSSES)
    gradients = dict(zip(maps, torch.autograd.grad(report.total, list(maps.values())), strict=True))
    case.add(
        "grad.camera_poses (rows of the motion)",
        gradients["camera_poses"][..., :3, :],
        case["grad.camera_poses"][..., :3, :],
        GRADIENTS,
    )
    for name in ("local_points", "global_points"):
        case.compare(f"grad.{name}", gradients[name], GRADIENTS)
    plain = Objective(replace(weights, normals=0))(
        replace(prediction, global_points=None), target, eligible_for_normals=eligible(meta)
    )
    recorded = {key: value for key, value in meta["no_normal_no_global"].items() if key != "normal_loss"}
    compare_report(case, "meta.no_normal_no_global", plain, recorded, "total")


UNIT_CHECKS: dict[str, Callable[[Case], None]] = {
    "svd": check_svd,
    "rope2d": check_rope2d,
    "mrope": check_mrope,
    "masks": check_masks,
    "roe": check_roe,
    "preprocess": check_preprocess,
    "loss_parts": check_loss_parts,
    "pi3_loss": check_pi3_loss,
}
CASE_CHECKS: dict[str, Callable[[Case, WeightSet], None]] = {
    "recon": check_recon,
    "chat": check_chat,
    "train": check_train,
}


# --- the run ----------------------------------------------------------------------------------------------------------


def read_case(path: Path, root: Path) -> Case:
    with safe_open(str(path), "pt") as file:
        names = file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
        meta = json.loads((file.metadata() or {}).get("json", "{}"))
    return Case(str(path.relative_to(root).with_suffix("")), tensors, meta)


def run(folder: Path, pattern: str = "*", *, verbose: bool = False, say: Callable[[str], None] = print) -> bool:
    """Check everything under a folder; True if something was compared and all of it agrees.

    pattern: cases to look at, by name ("*/recon_*"). verbose: one line for every gradient norm, too.
    """
    cases = []
    for case in check_folder(folder, pattern, say):
        say(f"\n{case.name}")
        for row in case.rows if verbose else fold(case.rows):
            say(f"  {row.tensor:<58} {row.error:10.2e} {row.allowed:10.2e}  {'ok' if row.is_ok else 'FAIL'} {row.note}")
        cases.append(case)
    say(summary(cases))
    return any(case.rows for case in cases) and all(row.is_ok for case in cases for row in case.rows)


def check_folder(folder: Path, pattern: str, say: Callable[[str], None]) -> Iterator[Case]:
    """Every case below a folder, checked; what is not a case of this model is named and passed over."""
    weight_sets: dict[Path, WeightSet] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        case = read_case(path, folder)
        if "pathways" in path.relative_to(folder).parts:
            say(f"{case.name}: passed over, belongs to the pathways")
            continue
        if not fnmatch.fnmatch(case.name, pattern):
            continue
        check = check_for(path, weight_sets)
        if check is None:
            say(f"{case.name}: passed over, no check of this name")
            continue
        try:
            check(case)
            case.finish()
        except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:  # the other cases still count
            case.rows.append(Row("(the case)", torch.inf, 0, torch.inf, f"{type(error).__name__}: {error}"))
        yield case


def check_for(path: Path, weight_sets: dict[Path, WeightSet]) -> Callable[[Case], None] | None:
    """What to do with a file, by its name and the folder it lies in."""
    if path.parent.name == "unit":
        return UNIT_CHECKS.get(path.stem)
    check = CASE_CHECKS.get(path.stem.partition("_")[0])
    if check is None or not (path.parent / WEIGHTS_FILE).is_file():
        return None
    if path.parent not in weight_sets:
        weight_sets[path.parent] = WeightSet(path.parent)
    return lambda case: check(case, weight_sets[path.parent])


def fold(rows: Sequence[Row]) -> list[Row]:
    """One line, the worst, for all gradient norms of a case that agree."""
    is_folded = [".grad_norms." in row.tensor and row.is_ok for row in rows]
    norms = [row for row, folded in zip(rows, is_folded, strict=True) if folded]
    others = [row for row, folded in zip(rows, is_folded, strict=True) if not folded]
    if not norms:
        return others
    worst = max(norms, key=lambda row: row.used)
    return [*others, replace(worst, tensor="meta.grad_norms", note=f"worst of {len(norms)}")]


def summary(cases: Sequence[Case]) -> str:
    lines = [f"\n{'case':<36} {'compared':>8} {'failed':>7}   largest part of its tolerance used"]
    for case in cases:
        failed = sum(not row.is_ok for row in case.rows)
        inexact = [row for row in case.rows if row.allowed > 0 and row.is_ok]
        worst = max(inexact, key=lambda row: row.used, default=None)
        used = f"{worst.used:6.1%} {worst.tensor}" if worst else "all exact"
        lines.append(f"{case.name:<36} {len(case.rows):>8} {failed:>7}   {used}")
    total, failed = (
        sum(f(row) for case in cases for row in case.rows) for f in (lambda _: 1, lambda row: not row.is_ok)
    )
    lines.append(f"{total} compared, {failed} failed" if total else "nothing was compared: no case found")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--case", default="*", metavar="GLOB", help="only the cases of this name, such as '*/recon_*'")
    parser.add_argument("--verbose", action="store_true", help="a line for every gradient norm")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder}: no such folder")
    return 0 if run(options.folder, options.case, verbose=options.verbose) else 1


if __name__ == "__main__":
    sys.exit(main())
