"""Packs of procedural rooms for a model small enough for a test."""

import random

import pytest
import torch

from g2vlm import presets
from g2vlm.config import G2VLMConfig
from g2vlm.data.packs import Packs
from g2vlm.data.samples import Bucket, Pack, Sample
from g2vlm.data.sampling import Shapes
from g2vlm.data.sources import RoomQuestionSource, RoomSource, lesson
from g2vlm.heads.correspondence import CorrespondenceHeads
from g2vlm.losses.objective import Objective
from g2vlm.model import G2VLM
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.train.freeze import freeze
from g2vlm.train.learner import Learner
from g2vlm.train.recipe import CorrespondenceRecipe
from tests.builders import small_config

PATCH = 4
BUCKET = Bucket(num_views=2, height=16, width=20)


@pytest.fixture(scope="session")
def processor() -> Processor:
    tokens = presets.tiny().tokens
    return Processor(byte_tokenizer(tokens), tokens)


def config() -> G2VLMConfig:
    """Smallest shape, with the byte vocabulary of the tiny preset; pictures in patches of 14."""
    small = small_config()
    vision = small.vision_config.to_dict() | {"patch_size": 14}
    return small_config(text={"vocab_size": 320}, vision_config=vision, tokens=presets.tiny().tokens)


MATCHING = CorrespondenceRecipe(width=8, margin=1.0)


def new_learner(strategy: str = "geometry", *, layers: tuple[int, ...] = (), **options) -> Learner:
    """A learner of one strategy from fixed random weights."""
    torch.manual_seed(0)
    model = G2VLM(config()).train()
    freeze(model, strategy)
    learns_geometry = strategy in ("geometry", "vg_ce")
    return Learner(
        model,
        Objective() if learns_geometry else None,
        ce=0.0 if strategy == "geometry" else 1.0,
        correspondence=CorrespondenceHeads(32, layers, out_width=8) if layers else None,
        **({"matching": MATCHING} | options),
    )


@pytest.fixture(scope="session")
def room_sample(processor):
    """`room_sample(seed)`: one sample of two small views."""
    source = RoomSource(processor, PATCH)
    return lambda seed: source.sample(random.Random(seed), BUCKET)


@pytest.fixture(scope="session")
def question_sample(processor):
    """`question_sample(seed)`: the same with a question and its answer."""
    source = RoomQuestionSource(processor, PATCH)
    return lambda seed: source.sample(random.Random(seed), BUCKET)


@pytest.fixture(scope="session")
def text_sample(processor):
    def made(question: str, answer: str) -> Sample:
        return Sample(f"text: {question}", *lesson(processor, question, answer))

    return made


@pytest.fixture(scope="session")
def packs(processor) -> Packs:
    """An endless row of small packs of rooms."""
    shapes = Shapes(views=(2, 2), resolution=20, aspects=(0.8, 0.8), portrait=0.0, patch=PATCH)
    return Packs([(RoomSource(processor, PATCH), 1.0)], shapes, tokens_per_pack=150, seed=0)


def pack_of(*samples: Sample, position: int = 0) -> Pack:
    return Pack(position, "test", samples)
