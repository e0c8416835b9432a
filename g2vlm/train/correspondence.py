"""Correspondence supervision of a model's decoder: its heads, and what the samples of a pack cost."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from g2vlm.data.correspondences import matches_of, most_visible, tracks
from g2vlm.data.samples import Sample, VisualTokens
from g2vlm.heads.correspondence import CorrespondenceHeads
from g2vlm.layout import Grid, Layout
from g2vlm.losses.correspondence import CorrespondenceLosses, correspondence_losses
from g2vlm.model import G2VLM, G2VLMOutput
from g2vlm.mot import ExpertLayer
from g2vlm.records import Matches
from g2vlm.train.recipe import CorrespondenceRecipe


def heads_of(recipe: CorrespondenceRecipe, model: G2VLM) -> CorrespondenceHeads:
    """The heads of a recipe for a model's decoder. Raises ValueError for layers that it does not have."""
    blocks = model.decoder.layers
    layers = range(len(blocks)) if recipe.layers is None else recipe.layers
    if max(layers) >= len(blocks):
        raise ValueError(
            f"objective.correspondence.layers is {list(layers)}, but the model has {len(blocks)} layers: 0 to {len(blocks) - 1}"
        )
    heads = CorrespondenceHeads(model.config.text_config.hidden_size, layers, recipe.width).to(model.device)
    if recipe.start == "queries":
        heads.start_from_queries({layer: query_projection(blocks[layer], recipe.tokens) for layer in layers})
    return heads


def query_projection(block: nn.Module, tokens: VisualTokens) -> Float[Tensor, "queries width"]:
    """What a block makes of the visual tokens of an expert, up to their length, when it asks for others."""
    expert = block.get_submodule(tokens)
    assert isinstance(expert, ExpertLayer)
    return expert.q.weight * expert.norm_attn.weight


def visual_tokens(layout: Layout, tokens: VisualTokens, num_samples: int) -> Bool[Tensor, "samples tokens"]:
    """Which tokens of a batch are supervised."""
    return (layout.is_geometric if tokens == "geometric" else layout.is_image).view(num_samples, -1)


def losses_of_samples(
    heads: CorrespondenceHeads,
    recipe: CorrespondenceRecipe,
    model: G2VLM,
    output: G2VLMOutput,
    samples: Sequence[Sample],
    seeds: Sequence[int],
) -> dict[int, CorrespondenceLosses]:
    """The losses, means over layers, of the samples whose matches are known, by index; seeds: of what is drawn for each."""
    assert output.hidden_states is not None
    assert output.layout is not None
    is_visual = visual_tokens(output.layout, recipe.tokens, len(samples))
    found = {}
    for index, (sample, seed) in enumerate(zip(samples, seeds, strict=True)):
        matches = known_matches(recipe, model, sample, seed)
        if matches is None:
            continue
        hidden = [x[index : index + 1] for x in output.hidden_states]
        layers = [
            correspondence_losses(x, matches, temperature=recipe.temperature, negatives=recipe.negatives)
            for x in heads(hidden, is_visual[index : index + 1])
        ]
        found[index] = CorrespondenceLosses(*(torch.stack(losses).mean() for losses in zip(*layers, strict=True)))
    return found


def known_matches(recipe: CorrespondenceRecipe, model: G2VLM, sample: Sample, seed: int) -> Matches | None:
    """Which of a sample's visual tokens show the same points; None where that is unknown."""
    views = sample.matchable(recipe.tokens)
    if views is None:
        return None
    grid = model.grid(views.images[0]) if recipe.tokens == "geometric" else picture_grid_of(sample, model)
    grids = [(points, points) for points in recipe.grids] or [grid]
    generator = torch.Generator().manual_seed(seed)
    best = most_visible(tracks(views, grids, margin=recipe.margin), recipe.best_part, generator)
    return matches_of(best, views, grid, decoys=recipe.decoys, generator=generator)


def picture_grid_of(sample: Sample, model: G2VLM) -> Grid:
    """Rows and columns of tokens that the vision tower makes of each of a sample's pictures, which have one size."""
    assert sample.image_grid_thw is not None
    merge = model.config.vision_config.spatial_merge_size
    _, rows, columns = sample.image_grid_thw[0].tolist()
    return rows // merge, columns // merge
