"""What learns, and from what: the model with its training-only heads, whose forward is the loss of one pack."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from g2vlm.data.samples import AnswerWeighting, Pack, Sample, left_padded
from g2vlm.heads.correspondence import CorrespondenceHeads
from g2vlm.host import Host
from g2vlm.losses.objective import LossWeights, Objective, Prediction
from g2vlm.losses.text import token_losses
from g2vlm.model import G2VLM, G2VLMOutput
from g2vlm.records import IGNORE, Geometry, Views
from g2vlm.train.correspondence import losses_of_samples
from g2vlm.train.recipe import GASP, CorrespondenceRecipe

MATCHING = ("correspondence", "correspondence_depth")
PARTS = (*(field.name for field in fields(LossWeights) if field.name != "camera"), *MATCHING, "text")
"""Names that a loss may have in a report."""


@dataclass(frozen=True)
class Totals:
    """What the losses of a step are means over, of all packs in all processes: scenes, the weight of all answers, and
    samples whose visual tokens are known to match or not."""

    scenes: float
    answers: float
    matchable: float = 0.0


@dataclass(frozen=True)
class PackLoss:
    """The share of one pack in the loss of a step; the shares of all packs add up to the mean over its samples.

    total: with its graph. parts: each loss before weighing, detached. excluded: index of each sample that was left out
    because its loss is not finite or above the limit; one that is not finite makes `total` so, too.
    """

    total: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]
    excluded: tuple[int, ...]


class Learner(nn.Module):
    """The model, the heads it is trained with and the losses of its strategy; call it with a pack.

    objective: geometric losses, or None where the strategy has none. ce: weight of the cross-entropy of answers, 0 for none.
    correspondence: heads that are dropped after training; matching: what they are to learn, and how much it counts.
    host: of the model, where geometry enters its pictures by a pathway, which then learns, too.
    answer_weighting: what counts alike in the cross-entropy.
    max_loss: scenes with a greater geometric loss are left out.
    seed: with a sample's place, decides which of its pixels are looked at.
    """

    def __init__(
        self,
        model: G2VLM,
        objective: Objective | None,
        *,
        vg: float = 1.0,
        ce: float = 0.0,
        answer_weighting: AnswerWeighting = "token",
        correspondence: CorrespondenceHeads | None = None,
        matching: CorrespondenceRecipe = GASP,
        max_loss: float | None = None,
        seed: int = 0,
        host: Host | None = None,
    ):
        super().__init__()
        self.model = model
        self.host = host
        self.correspondence = correspondence
        self.objective, self.vg, self.ce = objective, vg, ce
        self.answer_weighting: AnswerWeighting = answer_weighting
        self.matching = matching
        self.max_loss, self.seed = max_loss, seed

    def forward(self, pack: Pack, totals: Totals) -> PackLoss:
        """The share of a pack in the loss of its step."""
        with_geometry = self.objective is not None and pack.num_scenes > 0
        output = self.decode(pack, with_geometry=with_geometry)
        sums: list[Tensor] = []
        parts: dict[str, Tensor] = {}
        excluded: tuple[int, ...] = ()
        if with_geometry:
            geometry, excluded = self.geometric_losses(output, pack)
            parts = {name: values.sum() / totals.scenes for name, values in geometry.items()}
            sums.append(self.vg * parts.pop("total"))
            parts = {name: value.detach() for name, value in parts.items()}
        has_views = any(sample.views is not None for sample in pack.samples)
        if not (with_geometry or (has_views and self.objective is None)):
            sums.append(self.model.zero_geometry(with_heads=self.objective is not None))
        if self.correspondence is not None and pack.num_matchable(self.matching.tokens) == 0:
            sums.append(self.zero_of_heads(self.correspondence))
        elif self.correspondence is not None:
            matching, unsound = self.matching_losses(self.correspondence, output, pack, left_out=excluded)
            excluded = tuple(sorted({*excluded, *unsound}))
            for name, weight in zip(MATCHING, (self.matching.weight, self.matching.depth_weight), strict=True):
                share = matching[name].sum() / totals.matchable
                sums.append(weight * share)
                parts[name] = share.detach()
        learns_pictures = any(parameter.requires_grad for parameter in self.model.vision.parameters())
        if learns_pictures and all(sample.pixel_values is None for sample in pack.samples):
            sums.append(self.model.zero_picture())
        if not (with_geometry or self.ce):  # nothing is learnt, but all that learns still needs a gradient
            assert output.last_hidden_state is not None
            sums.append(0 * output.last_hidden_state.sum())
        if self.ce:
            losses = self.text_losses(output, pack.samples)
            text = losses.sum() / (totals.answers or 1)
            sums.append(self.ce * text)
            parts["text"] = text.detach()
        return PackLoss(torch.stack(sums).sum(), parts, excluded)

    def decode(self, pack: Pack, *, with_geometry: bool) -> G2VLMOutput:
        """One forward for all samples of a pack, padded on the left."""
        samples = pack.samples
        tokens = self.model.config.tokens
        has_global_points = self.objective is not None and self.objective.weights.global_points > 0
        views = [view for sample in samples if sample.views is not None for view in sample.views.images]
        pictures = [sample for sample in samples if sample.pixel_values is not None]
        inputs: dict[str, Any] = {}
        if self.host is not None:
            inputs["geometry_images"] = [image for sample in samples for image in sample.geometry_images] or None
        return (self.host or self.model)(
            input_ids=left_padded([sample.ids for sample in samples], tokens.pad),
            attention_mask=left_padded([torch.ones_like(sample.ids) for sample in samples], 0),
            views=views or None,
            pixel_values=torch.cat([_given(s.pixel_values) for s in pictures]) if pictures else None,
            image_grid_thw=torch.cat([_given(s.image_grid_thw) for s in pictures]) if pictures else None,
            branches=[sample.branches for sample in samples],
            logits_to_keep=None,
            read_geometry=with_geometry,
            read_global_points=with_geometry and has_global_points,
            output_hidden_states=self.correspondence is not None,
            **inputs,
        )

    def geometric_losses(
        self, output: G2VLMOutput, pack: Pack
    ) -> tuple[dict[str, Float[Tensor, " scenes"]], tuple[int, ...]]:
        """Each loss of each sample that has a truth, and "total", their weighted sum; and which samples were left out.

        Every scene is judged on its own, so that a step's loss is the same however its scenes are shared out.
        """
        assert self.objective is not None
        assert output.geometry is not None
        rows: list[dict[str, Tensor]] = []
        owners: list[int] = []
        first = 0
        for index, sample in enumerate(pack.samples):
            if sample.views is None:
                continue
            views, stop = sample.views, first + len(sample.views.images)
            if sample.has_geometry:
                generator = torch.Generator().manual_seed(self.seed_of(pack, index))
                report = self.objective(
                    stacked(output.geometry, first, stop),
                    batched(views),
                    eligible_for_normals=torch.tensor([sample.has_fine_depth], device=views.images.device),
                    generator=generator,
                )
                rows.append({"total": report.total} | report.parts)
                owners.append(index)
            first = stop
        losses = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        kept = self._kept(losses["total"].detach())
        excluded = tuple(owners[i] for i in (~kept).nonzero().flatten().tolist())
        return {
            name: torch.where(kept | ~values.isfinite(), values, 0 * values) for name, values in losses.items()
        }, excluded

    def _kept(self, losses: Float[Tensor, " scenes"]) -> Bool[Tensor, " scenes"]:
        return losses.isfinite() if self.max_loss is None else losses <= self.max_loss

    def matching_losses(
        self, heads: CorrespondenceHeads, output: G2VLMOutput, pack: Pack, *, left_out: Sequence[int]
    ) -> tuple[dict[str, Float[Tensor, " samples"]], tuple[int, ...]]:
        """Both losses of each sample whose matches are known, and which samples have one that is not finite.

        Samples that are left out, because their geometry cost too much, count nothing here, too.
        """
        seeds = [self.seed_of(pack, index) for index in range(len(pack.samples))]
        found = losses_of_samples(heads, self.matching, self.model, output, pack.samples, seeds)
        for index in found.keys() & set(left_out):
            found[index] = found[index]._make(torch.where(x.isfinite(), 0 * x, x) for x in found[index])
        unsound = tuple(i for i, losses in found.items() if not all(x.isfinite() for x in losses))
        columns = zip(*found.values(), strict=True)
        return {name: torch.stack(column) for name, column in zip(MATCHING, columns, strict=True)}, unsound

    def seed_of(self, pack: Pack, index: int) -> int:
        """What is drawn for a sample depends on the seed of the run and its place alone."""
        return hash((self.seed, pack.position, index)) % 2**63

    def text_losses(self, output: G2VLMOutput, samples: Sequence[Sample]) -> Float[Tensor, " labels"]:
        """Cross-entropy of every labelled token of a pack, times what the token counts."""
        assert output.last_hidden_state is not None
        empty = [torch.full_like(sample.ids, IGNORE) if sample.labels is None else sample.labels for sample in samples]
        labels = left_padded(empty, IGNORE)
        weights = left_padded([sample.answer_weights(self.answer_weighting) for sample in samples], 0).to(labels.device)
        is_learnt = labels != IGNORE
        losses = token_losses(output.last_hidden_state[is_learnt], self.model.lm_head.weight, labels[is_learnt])
        return weights[is_learnt] * losses

    def zero_of_heads(self, heads: CorrespondenceHeads) -> Float[Tensor, ""]:
        """Zero, by way of the heads, where a pack has nothing for them to learn from."""
        token = self.model.dino_projection.weight.new_zeros(1, 1, self.model.config.text_config.hidden_size)
        layers = heads([token] * (1 + max(heads.layers)), token[..., 0] == 0)
        return 0 * torch.stack([layer.sum() for layer in layers]).sum()


def stacked(geometry: Geometry, start: int, stop: int) -> Prediction:
    """The maps of one scene's equally sized views [start, stop), as a batch of one scene."""

    def stack(maps: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(maps[start:stop])[None]

    optional = {name: getattr(geometry, name) for name in ("global_points", "confidence", "normals")}
    return Prediction(
        local_points=stack(geometry.local_points),
        poses=geometry.poses[None, start:stop],
        **{name: stack(maps) for name, maps in optional.items() if maps is not None},
    )


def batched(views: Views) -> Views:
    """The views of one scene as a batch of one scene."""
    known = {name: x[None] for name, x in vars(views).items() if x is not None}
    return Views(**known)


def _given(x: Tensor | None) -> Tensor:
    assert x is not None
    return x
