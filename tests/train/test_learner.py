import random
from dataclasses import replace

import pytest
import torch

from g2vlm.data.samples import Pack
from g2vlm.data.sources import RoomQuestionSource
from g2vlm.records import Views
from g2vlm.train.learner import PARTS, Totals, stacked
from tests.train.conftest import BUCKET, MATCHING, PATCH, new_learner, pack_of


def totals_of(*packs: Pack) -> Totals:
    scenes, matchable = (sum(map(float, counts)) for counts in zip(*map(counts_of, packs), strict=True))
    return Totals(scenes, sum(pack.answer_weight("token") for pack in packs), matchable)


def counts_of(pack: Pack) -> tuple[int, int]:
    return pack.num_scenes, pack.num_matchable("geometric")


def gradients(learner) -> dict[str, torch.Tensor | None]:
    return {name: weight.grad for name, weight in learner.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("strategy", ["geometry", "ce_only", "ce_ce", "vg_ce"])
def test_the_shares_of_two_packs_add_up_to_the_loss_of_one(strategy, question_sample):
    """Losses and gradients of a step do not depend on how its samples are shared out."""
    samples = [question_sample(seed) for seed in range(3)]
    together, apart = new_learner(strategy), new_learner(strategy)
    whole = pack_of(*samples)
    loss = together(whole, totals_of(whole))
    loss.total.backward()
    pieces = [pack_of(samples[0]), pack_of(*samples[1:])]
    shares = [apart(pack, totals_of(*pieces)) for pack in pieces]
    for share in shares:
        share.total.backward()
    torch.testing.assert_close(sum(share.total for share in shares), loss.total, atol=1e-5, rtol=1e-5)
    for name, value in loss.parts.items():
        torch.testing.assert_close(sum(share.parts[name] for share in shares), value, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients(apart), gradients(together), atol=2e-4, rtol=1e-3)


def test_every_loss_has_a_name_of_the_list(question_sample):
    pack = pack_of(question_sample(0))
    assert set(new_learner("vg_ce", layers=(0, 1))(pack, totals_of(pack)).parts) == set(PARTS)


@pytest.mark.parametrize("strategy", ["semantic", "ce_only", "ce_ce", "vg_ce"])
def test_a_pack_without_views_gives_everything_that_learns_a_gradient(strategy, text_sample):
    layers = (1,) if strategy == "vg_ce" else ()
    learner = new_learner(strategy, layers=layers)
    pack = pack_of(text_sample("Who?", "I."), text_sample("What is it that you see?", "Nothing."))
    learner(pack, totals_of(pack)).total.backward()
    assert [name for name, grad in gradients(learner).items() if grad is None] == []
    learnt = [name for name, grad in gradients(learner).items() if grad is not None and grad.any()]
    assert any(".semantic." in name for name in learnt)
    assert not any(part in name for name in learnt for part in ("geometric", "dino", "heads", "correspondence"))


@pytest.mark.parametrize("strategy", ["geometry", "vg_ce"])
def test_a_pack_without_words_to_learn_gives_everything_that_learns_a_gradient(strategy, room_sample):
    learner = new_learner(strategy, layers=(0,))
    pack = pack_of(room_sample(0), room_sample(1))
    learner(pack, totals_of(pack)).total.backward()
    assert [name for name, grad in gradients(learner).items() if grad is None] == []


def test_views_without_truth_teach_no_geometry(question_sample):
    learner = new_learner("vg_ce")
    sample = question_sample(0)
    blind = pack_of(replace(sample, views=Views(sample.views.images)))
    loss = learner(blind, totals_of(blind))
    loss.total.backward()
    assert set(loss.parts) == {"text"}
    assert not any(grad.any() for name, grad in gradients(learner).items() if name.startswith("model.heads"))


def test_scenes_without_depth_teach_cameras_and_single_views_with_depth_teach_points(room_sample):
    views = room_sample(0).views
    posed = replace(room_sample(0), views=replace(views, depth=None, mask=None, normals=None))
    single = replace(
        room_sample(0),
        ids=room_sample(0).ids[: -(4 * 5 + 2)],
        views=Views(*(None if x is None else x[:1] for x in vars(views).values())),
    )
    for sample, learnt, not_learnt in ((posed, "rotation", "local_points"), (single, "local_points", "rotation")):
        pack = pack_of(sample)
        parts = new_learner()(pack, totals_of(pack)).parts
        assert parts[learnt] > 0
        assert parts[not_learnt] == 0


def test_a_sample_above_the_limit_is_left_out_and_named(room_sample):
    samples = [room_sample(seed) for seed in range(3)]
    pack = pack_of(*samples)
    alone = [float(new_learner()(pack_of(s), totals_of(pack)).total.detach()) * 3 for s in samples]
    worst = max(range(3), key=lambda i: alone[i])
    limit = sorted(alone)[1] + 1e-3
    loss = new_learner(max_loss=limit)(pack, totals_of(pack))
    assert loss.excluded == (worst,)
    rest = sum(alone[i] for i in range(3) if i != worst) / 3
    assert float(loss.total.detach()) == pytest.approx(rest, abs=1e-4)


def test_a_sample_that_is_not_finite_is_named(room_sample):
    good, bad = room_sample(0), room_sample(1)
    bad = replace(bad, views=replace(bad.views, images=torch.full_like(bad.views.images, torch.nan)))
    pack = pack_of(good, bad)
    loss = new_learner()(pack, totals_of(pack))
    assert not loss.total.isfinite()
    assert loss.excluded == (1,)


def test_the_prediction_keeps_scenes_apart(room_sample):
    learner = new_learner().eval()
    samples = [room_sample(seed) for seed in range(3)]
    together = stacked(learner.decode(pack_of(*samples), with_geometry=True).geometry, 2, 4)
    alone = stacked(learner.decode(pack_of(samples[1]), with_geometry=True).geometry, 0, 2)
    torch.testing.assert_close(together.local_points, alone.local_points, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.poses, alone.poses, atol=1e-4, rtol=1e-4)


def test_correspondence_supervision_is_an_addition(room_sample):
    pack = pack_of(room_sample(0), room_sample(1))
    plain = new_learner()(pack, totals_of(pack))
    more = new_learner(layers=(0, 1), matching=replace(MATCHING, weight=0.3, depth_weight=0.5))(pack, totals_of(pack))
    added = 0.3 * more.parts["correspondence"] + 0.5 * more.parts["correspondence_depth"]
    torch.testing.assert_close(more.total - plain.total, added, atol=1e-5, rtol=1e-5, check_dtype=False)
    assert more.parts["correspondence"] > 0
    assert more.parts["correspondence_depth"] > 0
    assert not any(name.startswith("correspondence") for name in plain.parts)


def test_pictures_of_the_vision_tower_teach_correspondence_beside_words(question_sample, text_sample):
    """GASP on the semantic expert: no geometric loss, and a sample of words alone takes no part."""
    pack = pack_of(question_sample(0), question_sample(1), text_sample("Who?", "I."))
    matching = replace(MATCHING, tokens="semantic", margin=0.0)
    totals = replace(totals_of(pack), matchable=pack.num_matchable("semantic"))
    learner = new_learner("semantic", layers=(0, 1), matching=matching)
    loss = learner(pack, totals)
    loss.total.backward()
    assert totals.matchable == 2
    assert set(loss.parts) == {"text", "correspondence", "correspondence_depth"}
    assert [name for name, grad in gradients(learner).items() if grad is None] == []
    plain = new_learner("semantic")(pack, totals).total
    added = 0.3 * loss.parts["correspondence"] + loss.parts["correspondence_depth"]
    torch.testing.assert_close(loss.total - plain, added, atol=1e-5, rtol=1e-5)


def test_the_same_matches_are_drawn_for_a_sample_again(room_sample):
    pack = pack_of(room_sample(0), position=3)
    matching = replace(MATCHING, decoys=2)
    first, second = (new_learner(layers=(0,), matching=matching)(pack, totals_of(pack)).parts for _ in range(2))
    elsewhere = new_learner(layers=(0,), matching=matching)(pack_of(room_sample(0), position=4), totals_of(pack)).parts
    assert first["correspondence"] == second["correspondence"] != elsewhere["correspondence"]


def test_padding_changes_nothing(text_sample):
    """Answers in a padded pack are judged as they are alone."""
    short, long = text_sample("A?", "Yes."), text_sample("A much longer question than that?", "No, it is not.")
    pack = pack_of(short, long)
    together = new_learner("ce_only")(pack, totals_of(pack)).total
    alone = sum(new_learner("ce_only")(pack_of(sample), totals_of(pack)).total for sample in (short, long))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_questions_that_share_a_context_are_judged_as_each_alone(processor):
    """Branches of one sequence have the loss, and the gradients, of as many sequences."""
    sample = RoomQuestionSource(processor, PATCH, questions=3).sample(random.Random(3), BUCKET)
    start = len(sample.ids) - sum(sample.branches)
    alone, at = [], start
    for length in sample.branches:
        rows = torch.cat([torch.arange(start), torch.arange(at, at + length)])
        alone.append(replace(sample, ids=sample.ids[rows], labels=sample.labels[rows], branches=()))
        at += length
    shared, apart = new_learner("ce_ce"), new_learner("ce_ce")
    totals = totals_of(pack_of(sample))
    losses = [shared(pack_of(sample), totals).total, apart(pack_of(*alone), totals).total]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients(shared), gradients(apart), atol=2e-5, rtol=1e-3)
