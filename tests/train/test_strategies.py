"""Stage two: what learns moves, what rests does not by a bit, and geometry is what it was."""

from dataclasses import replace

import pytest
import torch

from g2vlm import presets
from g2vlm.data.samples import Pack, Sample
from g2vlm.model import G2VLM
from g2vlm.records import IGNORE, Geometry
from g2vlm.train.freeze import freeze
from g2vlm.train.learner import Learner, Totals
from g2vlm.train.recipe import Strategy
from tests.train.conftest import new_learner, pack_of

BLOCK = 14
"""Tensors of an expert in a block: two norms, three projections with bias, two head norms, an output, three of the MLP."""

BLOCKS = 8
SEMANTIC = BLOCKS * BLOCK + 2  # a final norm, and the embedding, which is the output, too
GEOMETRIC = BLOCKS * (BLOCK + 2) + 1  # LayerScale twice in each block, and a final norm
PROJECTION = 2


def tensors_that_learn(strategy: Strategy) -> dict[str, int]:
    with torch.device("meta"):
        model = G2VLM(presets.tiny())
    freeze(model, strategy)
    owners = {"vision.": "vision", "dino.": "dino", "heads.": "heads", ".geometric": "geometric"}
    counts = dict.fromkeys((*owners.values(), "projection", "semantic"), 0)
    for name, parameter in model.named_parameters():
        owner = next((owner for part, owner in owners.items() if part in name), "semantic")
        counts["projection" if "dino_projection" in name else owner] += parameter.requires_grad
    return counts


def test_the_number_of_tensors_that_learn():
    unread = 11  # what the last block does with a token behind its keys and values, and the final norm
    nothing = {"vision": 0, "dino": 0, "heads": 0, "geometric": 0, "projection": 0, "semantic": SEMANTIC}
    assert tensors_that_learn("ce_only") == nothing
    counts = tensors_that_learn("ce_ce")
    assert counts == nothing | {"geometric": GEOMETRIC - unread, "projection": PROJECTION}
    counts = tensors_that_learn("vg_ce")
    assert counts["heads"] > 0
    assert counts == nothing | {"geometric": GEOMETRIC, "projection": PROJECTION, "heads": counts["heads"]}
    counts = tensors_that_learn("semantic")
    assert counts["vision"] > 0
    assert counts == nothing | {"vision": counts["vision"]}


def steps(learner: Learner, pack: Pack, count: int = 2) -> None:
    optimiser = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    totals = Totals(pack.num_scenes, pack.answer_weight("token"))
    for _ in range(count):
        optimiser.zero_grad()
        learner(pack, totals).total.backward()
        optimiser.step()


@pytest.mark.parametrize("strategy", ["semantic", "ce_only", "ce_ce", "vg_ce"])
def test_what_rests_does_not_move_by_a_bit_and_all_that_learns_moves(strategy, question_sample):
    learner = new_learner(strategy)
    before = {name: x.detach().clone() for name, x in learner.named_parameters()}
    samples = [question_sample(seed) for seed in range(2)]
    if strategy == "semantic":
        samples = [without_views(learner, sample) for sample in samples]
    steps(learner, pack_of(*samples))
    moved = {name for name, x in learner.named_parameters() if not torch.equal(x, before[name])}
    learns = {name for name, x in learner.named_parameters() if x.requires_grad}
    # a translation that all cameras share cancels out of every relative pose
    assert moved == learns - {"model.heads.camera.translation.bias"}


def without_views(learner: Learner, sample: Sample) -> Sample:
    """The same question about pictures alone."""
    tokens = learner.model.config.tokens
    is_view = sample.ids == tokens.view_patch
    is_marker = torch.zeros_like(is_view)
    is_marker[:-1] |= is_view[1:] & ~is_view[:-1]
    is_marker[1:] |= is_view[:-1] & ~is_view[1:]
    kept = ~(is_view | is_marker)
    assert sample.labels is not None
    return replace(sample, ids=sample.ids[kept], labels=sample.labels[kept], views=None)


@torch.no_grad()
def predicted(learner: Learner, sample: Sample) -> Geometry:
    geometry = learner.eval().decode(pack_of(sample), with_geometry=True).geometry
    learner.train()
    assert geometry is not None
    return geometry


def test_ce_only_leaves_every_geometric_prediction_as_it_was(question_sample):
    learner, sample = new_learner("ce_only"), question_sample(0)
    before = predicted(learner, sample)
    steps(learner, pack_of(sample, question_sample(1)), 3)
    after = predicted(learner, sample)
    assert torch.equal(before.poses, after.poses)
    for name in ("local_points", "confidence", "normals"):
        for one, other in zip(getattr(before, name), getattr(after, name), strict=True):
            assert torch.equal(one, other)


def test_ce_ce_changes_geometry(question_sample):
    learner, sample = new_learner("ce_ce"), question_sample(0)
    before = predicted(learner, sample)
    steps(learner, pack_of(sample))
    assert not torch.equal(before.poses, predicted(learner, sample).poses)


@pytest.mark.parametrize(("weighting", "power"), [("token", 0.0), ("square_root", 0.5), ("sample", 1.0)])
def test_an_answer_counts_by_its_length_to_a_power(weighting, power):
    labels = torch.tensor([IGNORE, 5, 6, IGNORE, 7, 8, 9, IGNORE])
    sample = Sample("two answers", torch.zeros(8, dtype=torch.long), labels)
    weights = sample.answer_weights(weighting)
    assert weights.tolist() == pytest.approx([0, *[2**-power] * 2, 0, *[3**-power] * 3, 0])
    assert pack_of(sample, sample).answer_weight(weighting) == pytest.approx(2 * (2 ** (1 - power) + 3 ** (1 - power)))


def test_answers_that_count_alike_have_the_mean_of_their_own_losses(text_sample):
    short, long = text_sample("A?", "Yes."), text_sample("B?", "No, it is not so.")

    def loss(weighting, *samples):
        pack = pack_of(*samples)
        learner = new_learner("ce_only", answer_weighting=weighting)
        return learner(pack, Totals(0, pack.answer_weight(weighting))).total

    both = loss("sample", short, long)
    torch.testing.assert_close(both, (loss("token", short) + loss("token", long)) / 2, atol=1e-5, rtol=1e-5)
