"""A stock host with a pathway answers as a G2VLM does; what it says is what its own generate makes of the same inputs."""

import numpy as np
import pytest
import torch
from PIL import Image
from readers import STACK, TOKENS, pictures_of, reading_host, tokenizer_of

from g2vlm.answering import Query, Request
from g2vlm.host_predictor import HostPredictor
from g2vlm.host_processor import HostProcessor, eye_of
from g2vlm.marks import draw_marks, words_of_marks
from g2vlm.pathway_config import GeoAlign, NoPathway, PreDecoder
from g2vlm.pathways.pictures import geometry_images
from g2vlm.pictures import Photo
from g2vlm.records import Mark
from g2vlm.speaking import seen_views

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_5")
each_family = pytest.mark.parametrize("family", FAMILIES)
LENGTH = 6
SMALL = {"preprocessing": "whole", "min_pixels": 3000, "max_pixels": 6000}
QUESTION = "How many chairs?"
MARKS = [Mark(1, 5, 6, "A")]
SIZES = {"geometry_width": STACK.geometry_width, "hidden_width": STACK.hidden_width}


def photo(name, height, width, seed):
    return Photo(name, np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


PHOTOS = (photo("a", 60, 80, 0), photo("b", 90, 60, 1))


def processor_of(family, *, thinking=False):
    eye = eye_of(pictures_of(family), family, **SMALL)
    return HostProcessor(tokenizer_of(family), eye, TOKENS.image_patch, thinking)


def predictor_of(family, pathway=STACK, *, thinking=False):
    processor = processor_of(family, thinking=thinking)
    return HostPredictor(reading_host(family, pathway), processor, source="test", checkpoint_sha256="0" * 64)


@pytest.fixture(scope="module")
def predictors():
    return {family: predictor_of(family) for family in FAMILIES}


def said(answer):
    return answer.text, answer.num_prompt_tokens, answer.num_new_tokens


def inputs_by_hand(family, *, drawn=PHOTOS, geometry="on", words=QUESTION, seed=0):
    """What a host's generate takes, put together from the parts of transformers alone."""
    size = {"shortest_edge": SMALL["min_pixels"], "longest_edge": SMALL["max_pixels"]}
    made = pictures_of(family)([Image.fromarray(x.rgb) for x in drawn], return_tensors="pt", size=size)
    grids = made["image_grid_thw"]
    ids = [TOKENS.bos, *b"user\n"]
    for grid in grids:
        ids += [TOKENS.vision_start, *[TOKENS.image_patch] * (int(grid.prod()) // 4), TOKENS.vision_end]
    ids += [*words.encode(), TOKENS.eos, *b"\n", TOKENS.bos, *b"assistant\n"]
    ids += b"<think>\n\n</think>\n\n" if family == "qwen3_5" else b""
    ids = torch.tensor([ids])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == TOKENS.image_patch).int(),
        "pixel_values": made["pixel_values"],
        "image_grid_thw": grids,
        "geometry_images": seen_views(geometry_images(PHOTOS, grids), geometry, 14, seed),
    }


@torch.no_grad()
def generated(predictor, inputs, **options):
    ends = {"eos_token_id": TOKENS.eos, "pad_token_id": TOKENS.pad}
    out = predictor.host.generate(**inputs, max_new_tokens=LENGTH, do_sample=False, **ends, **options)
    new = out[0, inputs["input_ids"].shape[1] :]
    return predictor.processor.tokenizer.decode(new, skip_special_tokens=True).strip()


@each_family
def test_an_answer_is_what_generate_makes_of_the_same_inputs(predictors, family):
    inputs = inputs_by_hand(family)
    answer = predictors[family].answer(PHOTOS, QUESTION, max_new_tokens=LENGTH)
    assert answer.text == generated(predictors[family], inputs)
    assert answer.num_prompt_tokens == inputs["input_ids"].shape[1]
    assert answer.num_new_tokens == LENGTH
    assert (answer.evidence, answer.reconstruction, answer.thinking, answer.num_reused_tokens) == ((), None, "", 0)
    assert 0 < answer.seconds["first_token"] <= answer.seconds["all"]


@pytest.mark.parametrize("geometry", ["blank", "shuffled"])
def test_the_encoder_can_be_shown_something_else(predictors, geometry):
    predictor = predictors["qwen2_5_vl"]
    answer = predictor.answer(PHOTOS, QUESTION, geometry=geometry, seed=3, max_new_tokens=LENGTH)
    assert answer.text == generated(predictor, inputs_by_hand("qwen2_5_vl", geometry=geometry, seed=3))
    assert answer.text != predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH).text


def test_marks_are_said_and_drawn_for_the_host_alone(predictors):
    predictor = predictors["qwen2_5_vl"]
    words = words_of_marks(MARKS, (), [photo.size for photo in PHOTOS]) + QUESTION
    inputs = inputs_by_hand("qwen2_5_vl", drawn=draw_marks(PHOTOS, MARKS, ()), words=words)
    answer = predictor.answer(PHOTOS, QUESTION, marks=MARKS, max_new_tokens=LENGTH)
    assert answer.text == generated(predictor, inputs)
    assert said(predictor.open(PHOTOS).ask(QUESTION, marks=MARKS, max_new_tokens=LENGTH)) == said(answer)


@each_family
def test_questions_of_a_batch_are_answered_as_if_alone(predictors, family):
    predictor = predictors[family]
    requests = [Request(PHOTOS, QUESTION), Request(PHOTOS[:1], "Where?"), Request(PHOTOS, "Is A near?", marks=MARKS)]
    together = predictor.answer_batch(requests, max_new_tokens=LENGTH)
    for request, answer in zip(requests, together, strict=True):
        alone = predictor.answer(request.photos, request.question, marks=request.marks, max_new_tokens=LENGTH)
        assert said(answer) == said(alone)


@each_family
def test_a_session_answers_as_a_single_question_does(predictors, family):
    predictor = predictors[family]
    session = predictor.open(PHOTOS)
    queries = [QUESTION, Query("Is A near?", MARKS), "Where?"]
    together = session.ask_all(queries, max_new_tokens=LENGTH)
    alone = [
        predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH),
        predictor.answer(PHOTOS, "Is A near?", marks=MARKS, max_new_tokens=LENGTH),
        predictor.answer(PHOTOS, "Where?", max_new_tokens=LENGTH),
    ]
    assert list(map(said, together)) == list(map(said, alone))
    assert session.seconds > 0


def test_a_chat_goes_on_with_what_was_said(predictors):
    predictor = predictors["qwen3_5"]
    image = {"type": "image", "image": PHOTOS[0]}
    chat = [
        {"role": "user", "content": [image, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "A desk."},
        {"role": "user", "content": QUESTION},
    ]
    longer = predictor.answer(messages=chat, max_new_tokens=LENGTH)
    shorter = predictor.answer(messages=chat[:1], max_new_tokens=LENGTH)
    said_between = f"A desk.|\n|user\n{QUESTION}|\n|assistant\n"  # each | a token of its own
    assert longer.num_prompt_tokens - shorter.num_prompt_tokens == len(said_between)


def test_frames_of_a_video_are_images_with_labels(predictors):
    predictor = predictors["qwen2_vl"]
    frames = [photo(str(i), 60, 80, i) for i in range(5)]
    content = [{"type": "video", "video": frames}, {"type": "text", "text": QUESTION}]
    video = predictor.answer(
        messages=[{"role": "user", "content": content}], max_frames=3, frame_labels=True, max_new_tokens=LENGTH
    )
    shown = [part for i, frame in enumerate(frames[::2]) for part in (f"Frame {i}: ", frame)]
    parts = [
        {"type": "text", "text": x} if isinstance(x, str) else {"type": "image", "image": x} for x in (*shown, QUESTION)
    ]
    images = predictor.answer(messages=[{"role": "user", "content": parts}], max_new_tokens=LENGTH)
    assert said(video) == said(images)


def test_a_thought_stands_beside_the_answer_and_not_in_it(monkeypatch):
    predictor = predictor_of("qwen3_5", thinking=True)
    decode = predictor.processor.tokenizer.batch_decode
    seen = []
    monkeypatch.setattr(
        predictor.processor.tokenizer, "batch_decode", lambda *x, **y: seen.extend(decode(*x, **y)) or ["Hm.</think> 3"]
    )
    answer = predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH)
    assert (answer.thinking, answer.text) == ("Hm.", "3")
    monkeypatch.undo()
    unfinished = predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH)
    assert (unfinished.thinking, unfinished.text) == (seen[0].strip(), "")


def test_sampling_is_repeated_by_its_seed_and_leaves_the_random_state_alone(predictors):
    predictor, options = predictors["qwen2_vl"], {"do_sample": True, "temperature": 3.0, "max_new_tokens": 12}
    before = torch.get_rng_state()
    texts = [predictor.answer(PHOTOS, QUESTION, seed=seed, **options).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_words_are_drawn_as_the_caller_says_and_not_as_the_models_files_do(predictors, monkeypatch):
    predictor = predictors["qwen2_vl"]
    options = {"do_sample": True, "temperature": 3.0, "seed": 1, "max_new_tokens": 12}
    drawn = predictor.answer(PHOTOS, QUESTION, **options).text
    files = predictor.host.model.generation_config
    for field, value in {"do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.001}.items():
        monkeypatch.setattr(files, field, value)
    assert predictor.answer(PHOTOS, QUESTION, **options).text == drawn


def test_beams_find_what_generate_finds(predictors):
    predictor = predictors["qwen2_5_vl"]
    answer = predictor.answer(PHOTOS, QUESTION, num_beams=3, max_new_tokens=LENGTH)
    assert answer.text == generated(predictor, inputs_by_hand("qwen2_5_vl"), num_beams=3)


@pytest.mark.parametrize(
    "pathway",
    [PreDecoder((2,), **SIZES), GeoAlign((1,), (1, 3), router_width=8, **SIZES)],
    ids=["pre", "routed"],
)
def test_other_pathways_answer_too(pathway):
    predictor = predictor_of("qwen2_vl", pathway)
    assert predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH).text == generated(
        predictor, inputs_by_hand("qwen2_vl")
    )


def test_without_a_pathway_the_stock_model_answers():
    predictor = predictor_of("qwen2_vl", NoPathway())
    inputs = {name: x for name, x in inputs_by_hand("qwen2_vl").items() if name != "geometry_images"}
    with pytest.raises(ValueError, match="geometry is 'blank', but this model has no pathway for any"):
        predictor.answer(PHOTOS, QUESTION, geometry="blank")
    answer = predictor.answer(PHOTOS, QUESTION, geometry="off", max_new_tokens=LENGTH)
    assert answer.text == generated(predictor, inputs)


def test_an_answer_ends_where_the_models_files_say(predictors, monkeypatch):
    predictor = predictors["qwen2_vl"]
    out = predictor.host.generate(**inputs_by_hand("qwen2_vl"), max_new_tokens=1, do_sample=False)
    monkeypatch.setattr(predictor.host.model.generation_config, "eos_token_id", [TOKENS.eos, int(out[0, -1])])
    assert predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH).num_new_tokens == 0


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_a_stock_host_cannot_do_is_refused_in_one_line(predictors):
    predictor = predictors["qwen2_vl"]
    session = predictor.open(PHOTOS)
    for ask in (
        lambda: predictor.reconstruct(PHOTOS),
        lambda: predictor.answer(PHOTOS, QUESTION, reasoning="geometry"),
        lambda: predictor.answer(PHOTOS, QUESTION, with_reconstruction=True),
        lambda: session.ask(QUESTION, reasoning="geometry"),
        lambda: session.reconstruction,
    ):
        with pytest.raises(ValueError, match="test is a pathway on a stock qwen2_vl, which reconstructs nothing: "):
            ask()
    for ask in (predictor.open, lambda photos, **options: predictor.answer(photos, QUESTION, **options)):
        with pytest.raises(ValueError, match="geometry is 'off', but this model's pathway needs it"):
            ask(PHOTOS, geometry="off")
        with pytest.raises(ValueError, match="geometry is 'on and on'; it must be one of"):
            ask(PHOTOS, geometry="on and on")
        with pytest.raises(ValueError, match="resolution is 84, but test has no views of its own"):
            ask(PHOTOS, resolution=84)
        with pytest.raises(ValueError, match="no image was given"):
            ask([])


def test_a_prompt_that_is_too_long_says_what_would_fit(predictors):
    with pytest.raises(ValueError, match=r"1000 photos need \d+ tokens.*but the context holds 4096: give at most"):
        predictors["qwen2_vl"].answer([PHOTOS[0]] * 1000, QUESTION)


def test_a_streamer_follows_one_question(predictors):
    with pytest.raises(ValueError, match="a streamer follows one answer, but there are 2 questions"):
        predictors["qwen2_vl"].answer_batch([Request(PHOTOS, "Why?")] * 2, streamer=object())


def test_unknown_decoding_and_places_outside_of_a_photo_are_refused(predictors):
    with pytest.raises(ValueError, match="warmth is no option of decoding"):
        predictors["qwen2_vl"].answer(PHOTOS, QUESTION, warmth=1)
    with pytest.raises(ValueError, match="view 2 of point A"):
        predictors["qwen2_vl"].answer(PHOTOS, QUESTION, marks=[Mark(2, 1, 1, "A")])


@each_family
def test_blind_answers_do_not_depend_on_the_batch(predictors, family):
    asking, other = predictors[family], "Where is the door?"
    together = asking.answer_blindly([QUESTION, other], max_new_tokens=LENGTH)
    assert together == [asking.answer_blindly([words], max_new_tokens=LENGTH)[0] for words in (QUESTION, other)]


def test_blind_answers_heed_the_system_line(predictors):
    asking = predictors["qwen2_vl"]
    said = asking.answer_blindly([QUESTION], max_new_tokens=LENGTH)
    assert said != asking.answer_blindly([QUESTION], system="Be brief.", max_new_tokens=LENGTH)
