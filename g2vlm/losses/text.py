"""Next-token cross-entropy that never holds the logits of all tokens at once."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from g2vlm.records import IGNORE


def text_loss(
    hidden: Float[Tensor, "tokens width"],
    lm_head: Float[Tensor, "vocabulary width"],
    labels: Int[Tensor, " tokens"],
    *,
    weights: Float[Tensor, " tokens"] | None = None,
    ignore_index: int = IGNORE,
    chunk: int = 1024,
) -> Float[Tensor, ""]:
    """Weighted mean of `token_losses` over the labelled tokens; zero when there are none.

    `labels[i]` is the token that `hidden[i]` has to predict: shift them before, nothing is shifted here.
    """
    losses = token_losses(hidden, lm_head, labels, ignore_index=ignore_index, chunk=chunk)
    weights = (labels != ignore_index) * (torch.ones_like(losses) if weights is None else weights)
    total = weights.sum()
    return (weights * losses).sum() / torch.where(total > 0, total, 1)


def token_losses(
    hidden: Float[Tensor, "tokens width"],
    lm_head: Float[Tensor, "vocabulary width"],
    labels: Int[Tensor, " tokens"],
    *,
    ignore_index: int = IGNORE,
    chunk: int = 1024,
) -> Float[Tensor, " tokens"]:
    """Cross-entropy of each token, 0 where the label is `ignore_index`.

    Logits of `chunk` tokens exist at a time and are made again for the gradient. They are computed in the dtype of the
    caller (autocast included), as the model's own logits are; the log-softmax is float32 at least.
    """
    pieces = zip(hidden.split(chunk), labels.split(chunk), strict=True)
    return torch.cat(
        [
            checkpoint(
                _losses_of_chunk, rows, lm_head, ids, ignore_index, use_reentrant=False, preserve_rng_state=False
            )
            for rows, ids in pieces
        ]
    )


def _losses_of_chunk(hidden: Tensor, lm_head: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    logits = F.linear(hidden, lm_head)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="none")
