"""VGGT by the names of its publication (facebook/VGGT-1B, and inside SpatialStack and VG-LLM), in both directions."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from g2vlm.convert import dinov2
from g2vlm.convert.names import Shape, StateDict, Table, check_fit, inverse, listing, rename
from g2vlm.encoders.vggt import Vggt, VggtConfig

PREFIXES = ("model.geometry_encoder.vggt.", "geometry_encoder.vggt.", "vggt.", "")
"""What stands before the names: in SpatialStack on Qwen3.5, on Qwen2.5, in VG-LLM, and in VGGT's own files. Where a
checkpoint holds the same weights twice, the first of these counts."""

HEADS = ("camera_head.", "point_head.", "depth_head.", "track_head.")
"""Published beside the aggregator; no part of an encoder."""

_AGGREGATOR = "aggregator."
_DINO, _OUR_DINO = "aggregator.patch_embed.", "dino.model."

_BLOCK: Table = {
    "norm1": "norm_attn",
    "attn.qkv": "attn.qkv",
    "attn.q_norm": "attn.q_norm",
    "attn.k_norm": "attn.k_norm",
    "attn.proj": "attn.proj",
    "ls1.gamma": "scale_attn.gamma",
    "norm2": "norm_mlp",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "ls2.gamma": "scale_mlp.gamma",
}
NAMES: Table = {
    "aggregator.camera_token": "camera_token",
    "aggregator.register_token": "register_tokens",
    **{
        f"aggregator.{kind}.{{i}}.{old}": f"{kind}.{{i}}.{new}"
        for kind in ("frame_blocks", "global_blocks")
        for old, new in _BLOCK.items()
    },
}
"""Published names without prefix and ours, of all but DINOv2, for which `dinov2` has a table (`facebook`)."""


def is_vggt(name: str) -> bool:
    """Whether a name, in a checkpoint that holds more than a VGGT, is one of a VGGT (or of its heads)."""
    return _split(name)[1].startswith((_AGGREGATOR, *HEADS))


def aggregator_of(weights: Mapping[str, Tensor]) -> StateDict:
    """The weights of a VGGT by its own names, whatever stands before them, without those of the heads.

    A name that is none of VGGT's stays as it is. ValueError where the same weights come twice and differ.
    """
    copies: dict[str, StateDict] = {}
    strangers: StateDict = {}
    for name, tensor in weights.items():
        prefix, own = _split(name)
        if own.startswith(_AGGREGATOR):
            copies.setdefault(prefix, {})[own] = tensor
        elif not own.startswith(HEADS):
            strangers[name] = tensor
    first, *others = sorted(copies, key=PREFIXES.index) or [""]
    for other in others:
        compared = copies[first].keys() | copies[other].keys()
        if differ := [name for name in sorted(compared) if not _is_same(name, copies[first], copies[other])]:
            raise ValueError(
                f"the weights hold {first}aggregator and {other}aggregator, which differ; remove one of them:\n"
                + listing(differ)
            )
    return copies.get(first, {}) | strangers


def _split(name: str) -> tuple[str, str]:
    """A prefix of PREFIXES, and the name behind it."""
    prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
    return prefix, name.removeprefix(prefix)


def _is_same(name: str, left: StateDict, right: StateDict) -> bool:
    return name in left and name in right and torch.equal(left[name], right[name])


def to_ours(weights: Mapping[str, Tensor], dino: dinov2.Naming) -> StateDict:
    """Published weights, with any prefix and with or without heads, by our names.

    dino: whose names DINOv2's get behind `dino.model.`. ValueError lists every name that is not one of VGGT.
    """
    aggregator = aggregator_of(weights)
    theirs = {name.removeprefix(_DINO): x for name, x in aggregator.items() if name.startswith(_DINO)}
    others = {name: x for name, x in aggregator.items() if not name.startswith(_DINO)}
    encoder = dinov2.from_transformers(dinov2.to_transformers(theirs), dino)
    return rename(others, NAMES, "VGGT's aggregator") | {_OUR_DINO + name: x for name, x in encoder.items()}


def from_ours(weights: Mapping[str, Tensor], prefix: str = "") -> StateDict:
    """The inverse of `to_ours`: the aggregator by its published names behind one of PREFIXES."""
    encoder = {name.removeprefix(_OUR_DINO): x for name, x in weights.items() if name.startswith(_OUR_DINO)}
    dino = dinov2.from_transformers(encoder, "facebook")
    others = {name: x for name, x in weights.items() if not name.startswith(_OUR_DINO)}
    published = rename(others, inverse(NAMES), "our VGGT") | {_DINO + name: x for name, x in dino.items()}
    return {prefix + name: x for name, x in published.items()}


def published_shapes(config: VggtConfig) -> dict[str, Shape]:
    """Names, without prefix, and shapes of all that a published aggregator of this size holds."""
    with torch.device("meta"):
        return {name: tuple(x.shape) for name, x in from_ours(Vggt(config).state_dict()).items()}


def config_of(weights: Mapping[str, Tensor]) -> VggtConfig:
    """The shape of a VGGT as its published weights show it, behind any prefix and beside any others.

    DINOv2's attention has nothing that tells its heads apart; they are as wide as those of the blocks, as in VGGT-1B.
    """
    own = {_split(name)[1]: x for name, x in weights.items() if is_vggt(name)}
    shapes = {
        part: own[name].shape
        for part, name in {
            "camera": "aggregator.camera_token",
            "registers": "aggregator.register_token",
            "head": "aggregator.frame_blocks.0.attn.q_norm.weight",
            "mlp": "aggregator.frame_blocks.0.mlp.fc1.weight",
            "patch": "aggregator.patch_embed.patch_embed.proj.weight",
            "positions": "aggregator.patch_embed.pos_embed",
        }.items()
        if name in own
    }
    if len(shapes) < 6:
        raise ValueError(f"the weights hold {len(own)} names of a VGGT, too few to see its shape; copy them again")
    token_width, patch = shapes["camera"][-1], shapes["patch"][-1]
    num_heads = token_width // shapes["head"][0]
    return VggtConfig(
        token_width=token_width,
        depth=_count(own, "aggregator.frame_blocks."),
        num_heads=num_heads,
        dino_depth=_count(own, "aggregator.patch_embed.blocks."),
        dino_num_heads=num_heads,
        num_registers=shapes["registers"][2],
        mlp_ratio=shapes["mlp"][0] // token_width,
        patch=patch,
        image_size=math.isqrt(shapes["positions"][1] - 1) * patch,
    )


def _count(names: Mapping[str, Tensor], start: str) -> int:
    """Blocks whose names begin like this."""
    return len({name.removeprefix(start).split(".")[0] for name in names if name.startswith(start)})


def build(
    weights: Mapping[str, Tensor],
    config: VggtConfig,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Vggt:
    """An encoder of published weights, in evaluation mode; those that stay on the CPU in their own dtype are not copied.

    dtype: None keeps each tensor's own. Raises ValueError with all missing, unexpected and mis-shaped published names.
    """
    token = weights.get("aggregator.camera_token")
    if token is not None and token.shape[-1] != config.token_width:
        raise ValueError(
            f"token_width is {config.token_width}, but the encoder's weights are {token.shape[-1]} wide; "
            "give the weights of the encoder that is asked for"
        )
    check_fit(published_shapes(config), aggregator_of(weights), f"a VGGT of {config}")
    with torch.device("meta"):
        model = Vggt(config)
    ours = to_ours(weights, dinov2.naming_of(model.dino.model.state_dict()))
    model.load_state_dict({name: x.to(device, dtype) for name, x in ours.items()}, strict=True, assign=True)
    return model.eval()
