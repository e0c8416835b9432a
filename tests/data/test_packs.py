import json
import random
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch

from g2vlm import presets
from g2vlm.data.packs import MAX_BAD, Packs, packed, position_loader, positions, unpacked
from g2vlm.data.samples import BadSample, Bucket, Pack, Sample
from g2vlm.data.sampling import Shapes
from g2vlm.data.sources import RoomQuestionSource, RoomSource, TextSource
from g2vlm.processor import Processor, byte_tokenizer

TOKENS = presets.tiny().tokens
PROCESSOR = Processor(byte_tokenizer(TOKENS), TOKENS)
SHAPES = Shapes(views=(1, 4), resolution=28)


class Numbers:
    """Samples without pictures: each holds its own random number, `length` times."""

    num_views = (0, 0)

    def __init__(self, name: str, lengths: tuple[int, int] = (1, 9), bad: float = 0.0):
        self.name, self.lengths, self.bad = name, lengths, bad

    def num_tokens(self, bucket: Bucket) -> int:
        return 0

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        number = draw.randrange(10**9)
        if draw.random() < self.bad:
            raise BadSample(f"{self.name} {number}: is unlucky")
        return Sample(f"{self.name} {number}", torch.full((draw.randint(*self.lengths),), number))


@pytest.fixture
def mixture(tmp_path: Path) -> Packs:
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps({"question": f"{i}?", "answer": "yes" * i}) + "\n" for i in range(20)))
    sources = [
        (RoomSource(PROCESSOR, 14), 2.0),
        (RoomQuestionSource(PROCESSOR, 14), 1.0),
        (TextSource("text", lines, PROCESSOR), 1.0),
    ]
    return Packs(sources, SHAPES, tokens_per_pack=400, seed=3)


def leaves(value: object) -> list:
    """Everything in a pack that can be compared, in order."""
    if isinstance(value, torch.Tensor):
        return [value.dtype, value.shape, value.numpy().tobytes()]
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in leaves(item)]
    if hasattr(value, "__dataclass_fields__"):
        return [leaf for item in vars(value).values() for leaf in leaves(item)]
    return [value]


def of_numbers(*sources: tuple[Numbers, float], tokens_per_pack: int = 20, seed: int = 0) -> Packs:
    return Packs(sources, SHAPES, tokens_per_pack=tokens_per_pack, seed=seed)


def test_a_pack_is_a_function_of_seed_and_position(mixture):
    again = Packs(list(zip(mixture.sources, mixture.weights, strict=True)), SHAPES, tokens_per_pack=400, seed=3)
    other = Packs(list(zip(mixture.sources, mixture.weights, strict=True)), SHAPES, tokens_per_pack=400, seed=4)
    for n in (7, 2, 7, 0):
        assert leaves(again[n]) == leaves(mixture[n])
        assert mixture[n].position == n
    assert leaves(mixture[0].samples) != leaves(mixture[1].samples)
    assert [other.plan(n) for n in range(20)] != [mixture.plan(n) for n in range(20)]


@pytest.mark.parametrize(
    ("workers", "start_method"), [(1, "fork"), (2, "fork"), pytest.param(1, "spawn", marks=pytest.mark.slow)]
)
def test_packs_are_the_same_from_any_number_of_workers(workers, start_method, mixture):
    expected = [mixture[n] for n in range(3, 11)]
    loaded = list(position_loader(mixture, range(3, 11), workers, start_method=start_method))
    assert [pack.position for pack in loaded] == list(range(3, 11))
    assert [leaves(pack) for pack in loaded] == [leaves(pack) for pack in expected]


def test_without_workers_packs_are_made_on_demand(mixture):
    assert [leaves(pack) for pack in position_loader(mixture, [5, 1], 0)] == [leaves(mixture[5]), leaves(mixture[1])]


def test_endless_positions_are_taken_one_by_one(mixture):
    loader = position_loader(mixture, positions(2, 3), 1)
    assert [pack.position for pack in islice(loader, 5)] == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_share_out_every_step(world):
    shares = [list(islice(positions(4, 5, rank, world), 30)) for rank in range(world)]
    everything = sorted(position for share in shares for position in share)
    complete = min(max(share) for share in shares)
    assert everything[: complete - 19] == list(range(20, complete + 1))
    for rank, share in enumerate(shares):
        assert all(position % 5 % world == rank for position in share)


def test_going_on_from_a_step_gives_what_would_have_come():
    unbroken = list(islice(positions(0, 6, rank=1, world=2), 30))
    assert list(islice(positions(7, 6, rank=1, world=2), 9)) == unbroken[21:]


def test_weights_are_respected_and_nothing_starves():
    packs = of_numbers((Numbers("a"), 6.0), (Numbers("b"), 3.0), (Numbers("c"), 1.0), (Numbers("off"), 0.0))
    counts = Counter(packs.plan(n).source.name for n in range(4000))
    assert counts["off"] == 0
    expected = {"a": 2400, "b": 1200, "c": 400}
    assert sum((counts[name] - number) ** 2 / number for name, number in expected.items()) < 13.8  # 0.1 % of chance
    at = [n for n in range(4000) if packs.plan(n).source.name == "c"]
    assert max(b - a for a, b in pairwise(at)) < 100


def test_shapes_of_packs_vary_within_their_ranges():
    packs = Packs([(RoomSource(PROCESSOR, 14), 1.0)], Shapes(views=(2, 6), resolution=84), tokens_per_pack=500, seed=0)
    buckets = [packs.plan(n).bucket for n in range(300)]
    assert {bucket.num_views for bucket in buckets} == {2, 3, 4, 5, 6}
    assert {min(bucket.height, bucket.width) for bucket in buckets} == {42, 56, 70, 84}
    assert 0.2 < sum(bucket.height > bucket.width for bucket in buckets) / 300 < 0.4


def test_packs_never_exceed_their_budget_and_use_it(mixture):
    for n in range(12):
        pack = mixture[n]
        assert 0 < pack.num_tokens <= 400
    full = of_numbers((Numbers("a", (5, 5)), 1.0))[0]
    assert [len(sample.ids) for sample in full.samples] == [5, 5, 5, 5]


def test_a_pack_filled_by_number_holds_the_first_samples_of_one_filled_by_tokens():
    sources = [(Numbers("many"), 1.0)]
    filled = Packs(sources, SHAPES, tokens_per_pack=90, seed=3)
    counted = Packs(sources, SHAPES, tokens_per_pack=90, seed=3, samples_per_pack=2)
    for n in range(5):
        assert len(filled[n].samples) > 2
        assert leaves(counted[n].samples) == leaves(filled[n].samples[:2])


def test_samples_of_a_pack_with_views_share_their_shape(mixture):
    shapes = [
        {tuple(sample.views.images.shape) for sample in mixture[n].samples}
        for n in range(12)
        if mixture.plan(n).source.name != "text"
    ]
    assert all(len(found) == 1 for found in shapes)


def test_views_are_fewer_where_the_budget_is_small():
    source = RoomSource(PROCESSOR, 14)
    budget = source.num_tokens(Bucket(5, 28, 28))
    packs = Packs([(source, 1.0)], Shapes(views=(2, 24), resolution=28, aspects=(1, 1)), tokens_per_pack=budget, seed=0)
    assert {packs.plan(n).bucket.num_views for n in range(100)} == {2, 3, 4, 5}
    assert all(packs[n].num_tokens <= budget for n in range(5))


def test_a_budget_too_small_for_any_sample_is_refused():
    with pytest.raises(ValueError, match=r"tokens_per_pack is 30, but a sample of rooms with 2 views of 28 x 28 .* 38"):
        Packs([(RoomSource(PROCESSOR, 14), 1.0)], Shapes(views=(2, 4), resolution=28), tokens_per_pack=30, seed=0)


def test_bad_samples_are_left_out_and_named():
    packs = of_numbers((Numbers("lucky", (5, 5), bad=0.4), 1.0))
    skipped = [line for n in range(50) for line in packs[n].skipped]
    assert 80 < len(skipped) < 190
    assert all(line.endswith(": is unlucky") for line in skipped)
    assert all(len(packs[n].samples) == 4 for n in range(10))


def test_a_sample_longer_than_the_budget_is_a_bad_one():
    packs = of_numbers((Numbers("long", (15, 25)), 1.0))
    lines = [line for n in range(20) for line in packs[n].skipped]
    assert lines
    assert all("tokens, a pack holds 20" in line and line.startswith("long ") for line in lines)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_that_gives_nothing_but_bad_samples_ends_in_one_line(workers):
    packs = of_numbers((Numbers("cursed", bad=1.0), 1.0))
    with pytest.raises(ValueError, match=rf"cursed: {MAX_BAD} samples in a row .*is unlucky") as caught:
        next(position_loader(packs, range(3), workers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sources", [(), ((Numbers("a"), 0.0),), ((Numbers("a"), -1.0),)])
def test_a_mixture_without_weight_is_refused(sources):
    with pytest.raises(ValueError, match="weights"):
        of_numbers(*sources)


def test_a_parcel_holds_one_tensor_and_brings_the_same_pack(mixture):
    pack = next(mixture[n] for n in range(20) if mixture.plan(n).source.name == "room_questions")
    ids = torch.arange(3, dtype=torch.int32)[1:]  # neither whole nor aligned
    pack = Pack(
        pack.position,
        pack.source,
        (*pack.samples, Sample("odd", ids, pixel_values=torch.zeros(0, 3))),
        ("one was bad",),
    )
    parcel = packed(pack)
    assert parcel.content.dtype == torch.uint8
    assert b"torch.storage" not in parcel.record
    assert leaves(unpacked(parcel)) == leaves(pack)
