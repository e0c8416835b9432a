"""A model of random weights answers questions about photos of noise: what matters is that all ways to ask agree."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from builders import small_config, small_model
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation import BaseStreamer

from g2vlm import presets
from g2vlm.answering import Query, Request
from g2vlm.evidence import evidence_text, measurable_of, measure
from g2vlm.layout import Grid
from g2vlm.marks import draw_marks, words_of_marks
from g2vlm.pictures import Photo, semantic_patches, to_views
from g2vlm.predictor import Predictor
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.records import Answer, Box, Mark
from g2vlm.speaking import seen_views

TOKENS = presets.tiny().tokens
LENGTH = 6
"""Tokens of an answer."""


def predictor_of(**options: Any) -> Predictor:
    """Views of 4 x 4 patches at most, pictures of 2 x 2 tokens."""
    vision = small_config().vision_config.to_dict() | {"patch_size": 14}
    text = {"vocab_size": 320, "max_position_embeddings": 1000} | options.pop("text", {})
    model = small_model(small_config(text=text, tokens=TOKENS, vision_config=vision, **options))
    with torch.no_grad():
        model.heads.points.proj.weight *= 0.05
        model.lm_head.weight[256:] = 0  # of all special tokens and unused ids, so that answers are text
    return Predictor(model, Processor(byte_tokenizer(TOKENS), TOKENS), source="test", checkpoint_sha256="0" * 64)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return predictor_of()


def photo(seed: int, height: int = 40, width: int = 40) -> Photo:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Photo(f"{seed}.png", values)


PHOTOS = [photo(0), photo(1, 30, 40), photo(2)]
VIEW_GRIDS: list[Grid] = [(4, 4), (3, 4), (4, 4)]
PICTURE_GRIDS: list[Grid] = [(2, 2)] * 3
MARKS = (Mark(2, 10, 20, "A"), Mark(0, 5, 5, "B"))
BOXES = (Box(2, 3, 4, 20, 30, "C"),)
QUESTION = "How far is A?"


def said(answer: Answer) -> tuple[str, int]:
    return answer.text, answer.num_new_tokens


class Listener(BaseStreamer):
    """Keeps the prompt and the tokens that follow."""

    def __init__(self):
        self.heard: list[list[int]] = []

    def put(self, value: Tensor) -> None:
        self.heard.append(value.flatten().tolist())

    def end(self) -> None:
        self.heard.append([])

    @property
    def prompt(self) -> list[int]:
        return self.heard[0]


# What is read


def test_the_prompt_is_that_of_training(predictor):
    listener = Listener()
    answer = predictor.answer(PHOTOS, QUESTION, marks=MARKS, boxes=BOXES, max_new_tokens=1, streamer=listener)
    words = words_of_marks(MARKS, BOXES, [photo.size for photo in PHOTOS])
    ids = predictor.processor.question_ids(words + QUESTION, view_grids=VIEW_GRIDS, picture_grids=PICTURE_GRIDS)
    assert listener.prompt == ids.tolist()
    assert answer.num_prompt_tokens == len(ids)
    assert answer.num_reused_tokens == 0


@torch.no_grad()
def test_an_answer_takes_the_best_token_of_a_whole_forward_each_time(predictor):
    """Without any cache, and with what the encoders see put together here."""
    model = predictor.model
    drawn = draw_marks(PHOTOS, MARKS, BOXES)
    pictures = [semantic_patches([photo], (56, 56)) for photo in drawn]
    inputs = {
        "views": to_views(PHOTOS, 16, 4),
        "pixel_values": torch.cat([values for values, _ in pictures]),
        "image_grid_thw": torch.cat([sizes for _, sizes in pictures]),
    }
    words = words_of_marks(MARKS, BOXES, [photo.size for photo in PHOTOS])
    ids = predictor.processor.question_ids(words + QUESTION, view_grids=VIEW_GRIDS, picture_grids=PICTURE_GRIDS)[None]
    num_prompt = ids.shape[1]
    for _ in range(LENGTH):
        ids = torch.cat([ids, model(ids, **inputs).logits[:, -1:].argmax(-1)], 1)
    answer = predictor.answer(PHOTOS, QUESTION, marks=MARKS, boxes=BOXES, max_new_tokens=LENGTH)
    wanted = ids[0, num_prompt:].tolist()
    assert len(set(wanted)) > 2
    assert said(answer) == (predictor.processor.tokenizer.decode(wanted).strip(), LENGTH)


def test_what_a_user_types_stays_text(predictor):
    question = "Say <|im_end|>, <|vision_start|><|vision_pad|> and <|image_pad|>."
    listener = Listener()
    predictor.answer(PHOTOS, question, max_new_tokens=1, streamer=listener)
    assert bytes(listener.prompt[-len(question) - 13 : -13]) == question.encode()
    assert listener.prompt.count(TOKENS.view_patch) == sum(rows * columns for rows, columns in VIEW_GRIDS)


@pytest.mark.parametrize(("picture_size", "grids"), [(None, [(2, 2)] * 3), (90, [(3, 3)] * 3)])
def test_pictures_are_seen_at_the_size_of_their_views_or_of_a_square(picture_size, grids):
    predictor, listener = predictor_of(picture_size=picture_size), Listener()
    predictor.answer(PHOTOS, QUESTION, geometry="off", max_new_tokens=1, streamer=listener)
    assert listener.prompt == predictor.processor.question_ids(QUESTION, picture_grids=grids).tolist()


def test_a_picture_is_stretched_to_the_square_first():
    """As the released model does: 768 pixels, of which its processor then makes 756."""
    speaker = predictor_of(picture_size=90)._speaker()
    wanted, sizes = semantic_patches([PHOTOS[1]], (90, 90))
    scene = speaker.scene(PHOTOS, "on", None, 0)
    assert sizes.tolist() == [[1, 6, 6]]
    assert scene.patches(1, PHOTOS[1]).equal(wanted)


@contextmanager
def inputs_of(part: torch.nn.Module) -> Iterator[list[Tensor]]:
    """What each call of a part of the model is given first."""
    given: list[Tensor] = []
    hook = part.register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    yield given
    hook.remove()


def test_marks_are_drawn_on_what_the_vision_tower_sees(predictor):
    wanted = [semantic_patches([photo], (56, 56))[0] for photo in draw_marks(PHOTOS, MARKS, BOXES)]
    plain = [semantic_patches([photo], (56, 56))[0] for photo in PHOTOS]
    assert [a.equal(b) for a, b in zip(wanted, plain, strict=True)] == [False, True, False]
    session = predictor.open(PHOTOS)
    marked: dict[str, Any] = {"marks": MARKS, "boxes": BOXES, "max_new_tokens": 2}
    for ask in (lambda: predictor.answer(PHOTOS, QUESTION, **marked), lambda: session.ask(QUESTION, **marked)):
        with inputs_of(predictor.model.vision) as given:
            ask()
        assert torch.cat(given).equal(torch.cat(wanted))


# Geometry


@pytest.mark.parametrize("visibility", ["global", "mixed"])
def test_one_forward_gives_the_answer_and_what_reconstruct_gives(visibility):
    predictor = predictor_of(visibility=visibility)
    alone = predictor.reconstruct(PHOTOS)
    with inputs_of(predictor.model.dino) as calls:
        answer = predictor.answer(PHOTOS, QUESTION, marks=MARKS, with_reconstruction=True, max_new_tokens=LENGTH)
    assert sum(map(len, calls)) == len(PHOTOS)
    assert said(answer) == said(predictor.answer(PHOTOS, QUESTION, marks=MARKS, max_new_tokens=LENGTH))
    room = answer.reconstruction
    assert room is not None
    assert room.names == alone.names
    np.testing.assert_allclose(room.poses, alone.poses, atol=1e-4)  # worst measured: 4e-6
    for name in ("depth", "points", "confidence", "normals"):
        for ours, theirs in zip(getattr(room, name), getattr(alone, name), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-3, rtol=1e-3)


def test_a_reconstruction_is_there_only_when_asked_for(predictor):
    assert predictor.answer(PHOTOS, QUESTION, max_new_tokens=1).reconstruction is None


def test_without_geometry_there_is_no_block_of_views(predictor):
    listener = Listener()
    predictor.answer(PHOTOS, QUESTION, geometry="off", max_new_tokens=1, streamer=listener)
    assert listener.prompt == predictor.processor.question_ids(QUESTION, picture_grids=PICTURE_GRIDS).tolist()


def test_blank_and_shuffled_views_have_the_same_prompt_and_other_contents():
    views = to_views(PHOTOS, 16, 4)
    blank, straight = seen_views(views, "blank", 4, 0), seen_views(views, "on", 4, 0)
    first, again, other = (seen_views(views, "shuffled", 4, seed) for seed in (0, 0, 1))
    for kind in (blank, first):
        assert [view.shape for view in kind] == [view.shape for view in views]
    assert all((view == 0.5).all() for view in blank)
    assert all(a.equal(b) for a, b in zip(straight, views, strict=True))
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not all(a.equal(b) for a, b in zip(first, other, strict=True))


def test_a_shuffle_deals_out_every_patch_once():
    def patches(views: list[Tensor]) -> list[tuple[float, ...]]:
        cut = [view.unfold(1, 4, 4).unfold(2, 4, 4).permute(1, 2, 0, 3, 4).reshape(-1, 48) for view in views]
        return sorted(tuple(patch.tolist()) for patch in torch.cat(cut))

    views = to_views(PHOTOS, 16, 4)
    dealt = seen_views(views, "shuffled", 4, 0)
    assert patches(dealt) == patches(views)
    assert sum(int((a == b).all()) for a, b in zip(dealt, views, strict=True)) == 0


@torch.no_grad()
@pytest.mark.parametrize("geometry", ["off", "blank", "shuffled"])
def test_the_answer_depends_on_geometry(predictor, geometry):
    def first_logits(**options: Any) -> Tensor:
        session = predictor.open(PHOTOS, **options)
        return session._reading.hidden[-1]

    assert (first_logits() - first_logits(geometry=geometry)).abs().max() > 1e-2


# Decoding


def test_a_second_call_equals_the_first_and_leaves_no_state(predictor):
    config, random = predictor.model.config.to_dict(), torch.random.get_rng_state()
    first = predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH)
    predictor.answer(PHOTOS[:1], "And this?", geometry="shuffled", do_sample=True, max_new_tokens=LENGTH)
    assert said(predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH)) == said(first)
    assert predictor.model.config.to_dict() == config
    assert torch.random.get_rng_state().equal(random)


def test_sampling_repeats_with_its_seed(predictor):
    options: dict[str, Any] = {"do_sample": True, "temperature": 3.0, "top_p": 0.95, "max_new_tokens": LENGTH}
    first, again, *others = (predictor.answer(PHOTOS, QUESTION, seed=seed, **options).text for seed in (1, 1, 2, 3))
    assert first == again
    assert {first} != {first, *others}


def test_a_streamer_hears_every_token(predictor):
    listener = Listener()
    answer = predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH, streamer=listener)
    assert [len(heard) for heard in listener.heard[1:]] == [1] * LENGTH + [0]
    heard = [id for heard in listener.heard[1:] for id in heard]
    assert predictor.processor.tokenizer.decode(heard).strip() == answer.text


class After(StoppingCriteria):
    def __init__(self, count: int):
        self.left = count

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self.left -= 1
        return torch.full((len(input_ids),), self.left == 0)


def test_stopping_criteria_stop(predictor):
    criteria = StoppingCriteriaList([After(3)])
    assert predictor.answer(PHOTOS, QUESTION, max_new_tokens=9, stopping_criteria=criteria).num_new_tokens == 3


@contextmanager
def saying(predictor: Predictor, ids: list[int]) -> Iterator[None]:
    """Make the model say these tokens, whatever it sees."""
    rest = iter(ids)

    def say(module: Any, inputs: Any, logits: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(next(rest)), logits.shape[-1]).float().expand_as(logits)

    hook = predictor.model.lm_head.register_forward_hook(say)
    yield
    hook.remove()


def test_an_answer_ends_at_the_end_token_and_shows_no_special_ones(predictor):
    ids = [*b" 2.4", TOKENS.view_patch, *b" m", TOKENS.eos, *b"more"]
    with saying(predictor, ids):
        answer = predictor.answer(PHOTOS, QUESTION, max_new_tokens=20)
    assert said(answer) == ("2.4 m", 7)


def test_times_are_told(predictor):
    seconds = predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH).seconds
    assert 0 < seconds["first_token"] < seconds["all"]


# Many at once

REQUESTS = [
    Request(PHOTOS, "How far?"),
    Request(PHOTOS[:1], "What is the longest question of all, by far?", marks=(Mark(0, 3, 4, "A"),)),
    Request([photo(3, 40, 20), photo(4)], "A?"),
    Request(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look: "},
                    *({"type": "image", "image": photo(seed)} for seed in (5, 6)),
                    {"type": "text", "text": "What?"},
                ],
            }
        ]
    ),
]


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"geometry": "off"}, {"reasoning": "geometry", "with_reconstruction": True}],
    ids=str,
)
def test_a_batch_gives_what_single_calls_give(predictor, options):
    together = predictor.answer_batch(REQUESTS, max_new_tokens=LENGTH, **options)
    for request, answer in zip(REQUESTS, together, strict=True):
        (alone,) = predictor.answer_batch([request], max_new_tokens=LENGTH, **options)
        assert said(answer) == said(alone)
        assert answer.evidence == alone.evidence
        assert answer.num_prompt_tokens == alone.num_prompt_tokens
        if alone.reconstruction is not None:
            assert answer.reconstruction is not None
            np.testing.assert_allclose(answer.reconstruction.poses, alone.reconstruction.poses, atol=1e-4)


def test_messages_of_one_turn_are_photos_and_a_question(predictor):
    content = [*({"type": "image", "image": photo} for photo in PHOTOS), {"type": "text", "text": QUESTION}]
    by_messages = predictor.answer(messages=[{"role": "user", "content": content}], marks=MARKS, max_new_tokens=LENGTH)
    assert said(by_messages) == said(predictor.answer(PHOTOS, QUESTION, marks=MARKS, max_new_tokens=LENGTH))


def test_earlier_turns_are_part_of_the_prompt(predictor):
    first = [{"role": "user", "content": [{"type": "image", "image": PHOTOS[0]}, {"type": "text", "text": "What?"}]}]
    answered = [*first, {"role": "assistant", "content": "A room."}]
    added = [{"type": "image", "image": PHOTOS[1]}, {"type": "text", "text": "And?"}]
    listener = Listener()
    predictor.answer(messages=[*answered, {"role": "user", "content": added}], max_new_tokens=1, streamer=listener)
    assert listener.prompt.count(TOKENS.view_patch) == 4 * 4 + 3 * 4
    shown = [i for i, id in enumerate(listener.prompt) if id == TOKENS.vision_start]
    assert [listener.prompt[i + 1] for i in shown] == [TOKENS.view_patch] * 2 + [TOKENS.image_patch] * 2
    between = bytes(id for id in listener.prompt[shown[2] : shown[3]] if id < 256)
    assert between == b"What?\nassistant\nA room.\nuser\n"


# Sessions


def memory(session: Any) -> list[Tensor]:
    contexts = (session._reading.context, session._views)
    return [x.clone() for context in contexts for layer in context.layers for x in layer]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"marks": MARKS},
        {"marks": MARKS, "boxes": BOXES},
        {"num_beams": 2},
        {"marks": MARKS, "num_beams": 2},
        {"reasoning": "geometry"},
        {"marks": MARKS, "reasoning": "geometry"},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_a_session_answers_like_a_call_of_its_own(predictor, options):
    session = predictor.open(PHOTOS)
    alone = predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH, **options)
    for _ in range(2):
        answer = session.ask(QUESTION, max_new_tokens=LENGTH, **options)
        assert said(answer) == said(alone)
        assert answer.evidence == alone.evidence
        assert answer.num_prompt_tokens == alone.num_prompt_tokens


def test_asking_changes_nothing_in_a_session(predictor):
    session = predictor.open(PHOTOS)
    before = memory(session)
    session.ask_all([QUESTION, "What?", Query("How far?", MARKS)], num_beams=2, max_new_tokens=LENGTH)
    assert all(a.equal(b) for a, b in zip(memory(session), before, strict=True))


def test_many_questions_are_answered_like_each_alone_in_their_order(predictor):
    queries = [
        "What?",
        Query(QUESTION, MARKS),
        "Which of the many things in this room is the nearest?",
        Query("Is A left of C in the photo that shows both of them?", MARKS, BOXES),
        Query("How far is B?", MARKS[1:]),
        "How many?",
    ]
    session = predictor.open(PHOTOS)
    for batch_size in (2, 16):
        answers = session.ask_all(queries, batch_size=batch_size, max_new_tokens=LENGTH)
        for query, answer in zip(queries, answers, strict=True):
            text, marks, boxes = (query, (), ()) if isinstance(query, str) else (query.text, query.marks, query.boxes)
            assert said(answer) == said(predictor.answer(PHOTOS, text, marks=marks, boxes=boxes, max_new_tokens=LENGTH))


def test_what_is_reused_is_counted(predictor):
    session = predictor.open(PHOTOS)
    views = len(predictor.processor.context_ids(VIEW_GRIDS))
    pictures = len(predictor.processor.context_ids(VIEW_GRIDS, PICTURE_GRIDS))
    assert session.ask(QUESTION, max_new_tokens=1).num_reused_tokens == pictures
    assert session.ask(QUESTION, marks=MARKS, max_new_tokens=1).num_reused_tokens == views


def test_a_session_looks_at_its_views_once(predictor):
    with inputs_of(predictor.model.dino) as calls:
        session = predictor.open(PHOTOS)
        session.ask_all([QUESTION, Query(QUESTION, MARKS)], with_reconstruction=True, max_new_tokens=2)
        session.ask(QUESTION, reasoning="geometry", max_new_tokens=2)
    assert sum(map(len, calls)) == len(PHOTOS)


@pytest.mark.parametrize("geometry", ["off", "blank", "shuffled"])
def test_a_session_may_see_other_geometry(predictor, geometry):
    session = predictor.open(PHOTOS, geometry=geometry, seed=3)
    options: dict[str, Any] = {"marks": MARKS, "max_new_tokens": LENGTH}
    assert said(session.ask(QUESTION, **options)) == said(
        predictor.answer(PHOTOS, QUESTION, geometry=geometry, seed=3, **options)
    )


# Evidence


def test_evidence_is_measured_in_the_reconstruction_and_stands_before_the_answer(predictor):
    listener = Listener()
    answer = predictor.answer(
        PHOTOS, QUESTION, marks=MARKS, reasoning="geometry", max_new_tokens=LENGTH, streamer=listener
    )
    room = predictor.reconstruct(PHOTOS)
    measured = measure(measurable_of(room), MARKS, ())
    assert [(s.kind, s.views, s.pixels) for s in answer.evidence] == [(s.kind, s.views, s.pixels) for s in measured]
    for ours, theirs in zip(answer.evidence, measured, strict=True):
        if isinstance(theirs.value, float):
            assert ours.value == pytest.approx(theirs.value, abs=0.011)
    stated = evidence_text(answer.evidence).encode()
    assert bytes(listener.prompt[-len(stated) :]) == stated
    assert listener.prompt[-len(stated) - 1] == TOKENS.newline


def test_marks_do_not_change_the_geometry(predictor):
    plain, marked = (
        predictor.answer(PHOTOS, QUESTION, marks=marks, with_reconstruction=True, max_new_tokens=1).reconstruction
        for marks in ((), MARKS)
    )
    assert plain is not None
    assert marked is not None
    np.testing.assert_allclose(plain.poses, marked.poses, atol=1e-5)


# What a user can get wrong


def many(count: int) -> list[Photo]:
    return [photo(0)] * count


@pytest.mark.parametrize(
    ("photos", "question", "options", "message"),
    [
        ([], "What?", {}, "no image was given; a question needs at least one to look at"),
        (PHOTOS, "", {}, "there is no question; ask something"),
        (PHOTOS, " \n ", {}, "there is no question; ask something"),
        (many(200), "What?", {}, r"200 photos need 4800 tokens, .* the context holds 1000: give at most 33 photos"),
        (PHOTOS, "why " * 400, {}, r"the words 16\d\d, .* the context holds 1000: shorten the words to 804 tokens"),
        (PHOTOS, "What?", {"max_new_tokens": 0}, "max_new_tokens is 0; an answer needs at least 1"),
        (PHOTOS, "What?", {"max_new_tokens": 999}, r"the answer up to 999, .* 1000: lower max_new_tokens to 870"),
        (PHOTOS, "What?", {"num_return_sequences": 2}, "num_return_sequences is no option of decoding; there are max_"),
        ("a.png", "What?", {}, "photos are a single str; put it into a list"),
        (PHOTOS, "What?", {"marks": [Mark(0, 40, 3, "A")]}, r"point A in view 0 \(0.png\) lies at x 40, y 3, outside"),
        (PHOTOS, "What?", {"marks": [Mark(3, 4, 3, "A")]}, "view 3 of point A: there are 3 views, 0 to 2"),
        (PHOTOS, "What?", {"between": (0, 3)}, r"between is \(0, 3\), but there are 3 views, 0 to 2"),
        (PHOTOS, "What?", {"geometry": "of"}, "geometry is 'of'; it must be one of on, off, blank, shuffled"),
        (PHOTOS, "What?", {"reasoning": "words"}, "reasoning is 'words'; it must be 'geometry' or None"),
        (PHOTOS, "What?", {"reasoning": "geometry", "geometry": "off"}, "reasoning needs geometry, which is 'off'"),
        (PHOTOS, "What?", {"with_reconstruction": True, "geometry": "blank"}, "a reconstruction needs the views"),
        (PHOTOS, "What?", {"messages": []}, "photos and question, or messages, but not both"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(predictor, photos, question, options, message):
    with pytest.raises(ValueError, match=message):
        predictor.answer(photos, question, **options)


@pytest.mark.parametrize(
    ("question", "options", "message"),
    [
        ("", {}, "there is no question"),
        ("why " * 400, {}, "the context holds 1000: shorten the words"),
        ("What?", {"marks": [Mark(3, 4, 3, "A")]}, "view 3 of point A"),
        ("What?", {"max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_a_session_refuses_it_too(predictor, question, options, message):
    session = predictor.open(PHOTOS)
    with pytest.raises(ValueError, match=message):
        session.ask(question, **options)


def test_too_many_photos_are_refused_when_a_session_opens(predictor):
    with pytest.raises(ValueError, match="200 photos need 4800 tokens"):
        predictor.open(many(200))
    with pytest.raises(ValueError, match="no image was given"):
        predictor.open([])


def test_a_photo_that_cannot_be_read_in_a_batch_is_named(predictor, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    requests = [Request(PHOTOS, "What?"), Request([PHOTOS[0], tmp_path / "broken.png"], "What?")]
    with pytest.raises(ValueError, match=r"broken\.png: not a JPEG"):
        predictor.answer_batch(requests)


def test_no_requests_have_no_answers(predictor):
    assert predictor.answer_batch([]) == predictor.open(PHOTOS).ask_all([]) == []


def test_one_streamer_for_several_answers_is_refused(predictor):
    with pytest.raises(ValueError, match="a streamer follows one answer, but there are 2 questions"):
        predictor.open(PHOTOS).ask_all(["What?", "Why?"], streamer=Listener())


def test_weights_without_language_are_refused():
    predictor = predictor_of(has_language=False)
    predictor.reconstruct(PHOTOS)
    for ask in (lambda: predictor.answer(PHOTOS, "What?"), lambda: predictor.open(PHOTOS)):
        with pytest.raises(ValueError, match="these weights see but do not speak"):
            ask()
