"""What learns in each strategy: parameters that do not are frozen by `requires_grad`, before anything else sees the model."""

from collections.abc import Iterable

from torch import nn

from g2vlm.losses.objective import LossWeights
from g2vlm.model import G2VLM
from g2vlm.train.recipe import GEOMETRIC, Strategy

ALWAYS = ("dino.model.embeddings.mask_token",)
"""Part of DINOv2's own training only; no view ever meets it."""

PARTS: dict[str, tuple[str, ...]] = {
    "semantic": ("dino.", "dino_projection.", ".geometric.", "heads."),
    "geometry": ("vision.", "embed_tokens.", "lm_head.", ".semantic."),
    "ce_only": ("vision.", "dino.", "dino_projection.", ".geometric.", "heads."),
    "ce_ce": ("vision.", "dino.", "heads."),
    "vg_ce": ("vision.", "dino."),
}
AFTER_KEYS = ("q", "q_norm", "out", "scale_attn", "norm_mlp", "mlp", "scale_mlp")
"""What a block does with a token after others have seen its keys and values."""


def frozen_parts(strategy: Strategy) -> tuple[str, ...]:
    """Parts of the names of parameters that a strategy freezes."""
    return ALWAYS + PARTS[strategy]


def freeze(
    model: G2VLM,
    strategy: Strategy,
    extra: Iterable[str] = (),
    *,
    thawed: Iterable[str] = (),
    weights: LossWeights | None = None,
) -> None:
    """Stop everything from learning that the strategy freezes, that `extra` names, or that no loss reaches.

    extra, thawed: parts of names; one that matches nothing raises ValueError; what `thawed` names learns nevertheless. weights: of the geometric losses: a head whose
    loss counts nothing is frozen, for otherwise weight decay would shrink it and its optimiser state cost memory.
    """
    for part in frozen_parts(strategy):
        _freeze_named(model, part)
    if strategy == "ce_ce":
        _freeze_unread(model)
    if weights is not None and strategy in GEOMETRIC:
        for head in unweighted_heads(weights):
            _freeze_named(model, f"heads.{head}.")
    for part in extra:
        _require_named(_freeze_named(model, part), "frozen", part, model)
    for part in thawed:
        _require_named(_freeze_named(model, part, learns=True), "thawed", part, model)


def unweighted_heads(weights: LossWeights) -> tuple[str, ...]:
    """Heads whose every loss has weight 0."""
    counts = {
        "points": weights.local_points + weights.normals,
        "camera": weights.camera * (weights.translation + weights.rotation),
        "global_points": weights.global_points,
        "confidence": weights.confidence,
        "normals": weights.normal_head,
    }
    return tuple(head for head, weight in counts.items() if weight == 0)


def _freeze_named(model: nn.Module, part: str, *, learns: bool = False) -> int:
    """Freeze (or thaw) the parameters whose names contain `part`; returns how many."""
    matches = [parameter for name, parameter in model.named_parameters() if part in name]
    for parameter in matches:
        parameter.requires_grad_(learns)
    return len(matches)


def _require_named(count: int, field: str, part: str, model: nn.Module) -> None:
    if count == 0:
        names = [name for name, _ in model.named_parameters()]
        some = ", ".join(names[:: max(1, len(names) // 4)])
        raise ValueError(f"{field} part {part!r} matches no parameter; names look like {some}")


def _freeze_unread(model: G2VLM) -> None:
    """Without geometric losses nobody reads geometric tokens behind the keys and values of the last block."""
    last = len(model.decoder.layers) - 1
    for name in AFTER_KEYS:
        _freeze_named(model, f"decoder.layers.{last}.geometric.{name}.")
    model.decoder.norm.geometric.requires_grad_(False)
