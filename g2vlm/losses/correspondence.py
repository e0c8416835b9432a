"""Correspondence supervision (GASP, arXiv 2605.30231): tokens that show the same point must find each other.

Axes: a anchors (each once), v views, p pairs.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from g2vlm.records import Matches

Negatives = Literal["other_views", "target_view"]
"""What a match is told apart from: the tokens of all views but the anchor's, or of the view the match is in alone.

The paper's formula says the second, its implementation section the first. Tokens that show the anchor's point are never among them.
"""

DEPTH_OFFSET = 1e-6
"""Keeps the relative error of depth finite."""


class CorrespondenceLosses(NamedTuple):
    """match: InfoNCE over all pairs. depth: mean of |d - d'| / (d + d'), in [0, 1). Both are zero, but connected, without pairs."""

    match: Float[Tensor, ""]
    depth: Float[Tensor, ""]


def correspondence_losses(
    embeddings: Float[Tensor, "tokens width"],
    matches: Matches,
    *,
    temperature: float = 0.07,
    negatives: Negatives = "other_views",
) -> CorrespondenceLosses:
    """What it costs that the embeddings (of unit length) of a scene's tokens do not yet find their matches.

    match: -log of the part that the right token has among itself, the negatives and the pair's decoys, by
    exp(similarity / temperature). depth: d' is the depth that the anchor expects in the target view: the mean of its tokens'
    depths, weighed by the softmax of the same similarities over that view. d is the point's.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        embeddings = embeddings.float()
        anchors, which = matches.anchor.unique(return_inverse=True)
        similarity = embeddings[anchors] @ embeddings.T / temperature
        least = torch.finfo(similarity.dtype).min
        is_right = torch.zeros_like(similarity, dtype=torch.bool)
        is_right[which, matches.target] = True
        ends = torch.tensor(matches.lengths, device=anchors.device).cumsum(0)
        own, other = (torch.bucketize(tokens, ends, right=True) for tokens in (anchors, matches.target))

        in_view = similarity.masked_fill(is_right, least).split(matches.lengths, dim=1)
        wrong = torch.stack([x.logsumexp(1) for x in in_view], dim=1)
        if negatives == "target_view":
            against = wrong[which, other]
        else:
            against = wrong.scatter(1, own[:, None], least).logsumexp(1)[which]
        if matches.decoys.shape[1]:
            rows = which[:, None]
            decoys = similarity[rows, matches.decoys].masked_fill(is_right[rows, matches.decoys], least)
            against = torch.logaddexp(against, decoys.logsumexp(1))
        match = F.softplus(against - similarity[which, matches.target])

        blind = similarity.masked_fill(matches.token_depth == 0, least).split(matches.lengths, dim=1)
        depths = matches.token_depth.split(matches.lengths)
        expected = torch.stack([x.softmax(1) @ depth for x, depth in zip(blind, depths, strict=True)], dim=1)
        found = expected[which, other]
        depth = (found - matches.depth).abs() / (found + matches.depth + DEPTH_OFFSET)
        count = max(1, len(which))
        return CorrespondenceLosses(match.sum() / count, depth.sum() / count)
