"""A small byte-level BPE tokenizer, trained on questions about procedural rooms and on any texts beside them."""

import json
import random
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from g2vlm.config import TokenIds
from g2vlm.data.questions import questions
from g2vlm.data.scenes import TRAIN_SEEDS, rooms
from g2vlm.data.sources import only_scene
from g2vlm.evidence import evidence_text, measurable_from_truth, measure
from g2vlm.marks import words_of_marks
from g2vlm.processor import byte_tokenizer, word_splitter

SIDE, NUM_VIEWS, PER_ROOM = 84, 4, 12
"""Of the rooms that are asked about: pixels of a view, views, questions."""


def room_texts(num_rooms: int, seed: int = 0) -> Iterator[str]:
    """Questions about so many training rooms, each with its answers and with what can be measured before."""
    draw = random.Random(seed)
    for room_seed in draw.sample(TRAIN_SEEDS, num_rooms):
        room = rooms([room_seed], num_views=NUM_VIEWS, height=SIDE, width=SIDE)
        scene = measurable_from_truth(only_scene(room.views))
        for question in questions(draw, room, PER_ROOM):
            yield words_of_marks(question.marks, question.boxes, [(SIDE, SIDE)] * NUM_VIEWS) + question.text
            yield from (question.answer, *question.options)
            yield evidence_text(measure(scene, question.marks, question.boxes, between=question.between))


def trained_tokenizer(texts: Iterable[str], vocab_size: int, tokens: TokenIds) -> PreTrainedTokenizerFast:
    """A tokenizer whose merges are the most frequent in these texts, as many as the vocabulary holds.

    Raises ValueError where the texts are too few for so many.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = word_splitter()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    first = len(byte_tokenizer(tokens))
    num_merges = vocab_size - first
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + num_merges, initial_alphabet=sorted(alphabet), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    if len(merges) < num_merges:
        raise ValueError(
            f"the texts have only {len(merges)} merges, but a vocabulary of {vocab_size} needs {num_merges}"
        )
    return byte_tokenizer(tokens, merges)
