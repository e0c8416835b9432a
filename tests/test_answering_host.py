"""A G2VLM whose geometry enters by a pathway answers like any other: what matters is that all ways to ask agree."""

import pytest
import torch
from hosts import CHANNELS, PATCH, PatchEncoder
from test_answering import BOXES, LENGTH, MARKS, PHOTOS, PICTURE_GRIDS, QUESTION, predictor_of, said

from g2vlm.answering import Request
from g2vlm.host import Host
from g2vlm.marks import draw_marks, words_of_marks
from g2vlm.pathway_config import GeoAlign, NoPathway
from g2vlm.pictures import semantic_patches, to_views
from g2vlm.predictor import Predictor
from g2vlm.speaking import seen_views

ROUTED = GeoAlign(
    ("pre", 1), (1, 2, 4), geometry_width=CHANNELS, hidden_width=20, router_width=8, zero_init=False
)  # fmt: skip


def hosted(config=ROUTED, encoder=None):
    plain = predictor_of()
    torch.manual_seed(0)
    host = Host(plain.model, config, encoder)
    with torch.no_grad():
        for x in host.pathway.parameters():
            x.copy_(torch.randn_like(x))
    return Predictor(plain.model, plain.processor, source="test", checkpoint_sha256="0" * 64, host=host)


@pytest.fixture(scope="module")
def predictor():
    return hosted(encoder=PatchEncoder())


@torch.no_grad()
def by_whole_forwards(predictor, geometry_images):
    """The best token of a whole forward each time, with what the encoders see put together here."""
    drawn = draw_marks(PHOTOS, MARKS, BOXES)
    pictures = [semantic_patches([photo], (56, 56)) for photo in drawn]
    inputs = {
        "pixel_values": torch.cat([values for values, _ in pictures]),
        "image_grid_thw": torch.cat([sizes for _, sizes in pictures]),
        "geometry_images": geometry_images,
    }
    words = words_of_marks(MARKS, BOXES, [photo.size for photo in PHOTOS])
    ids = predictor.processor.question_ids(words + QUESTION, picture_grids=PICTURE_GRIDS)[None]
    num_prompt = ids.shape[1]
    for _ in range(LENGTH):
        ids = torch.cat([ids, predictor.host(ids, **inputs).logits[:, -1:].argmax(-1)], 1)
    return predictor.processor.tokenizer.decode(ids[0, num_prompt:], skip_special_tokens=True).strip()


def images(kind):
    """Photos of 40 x 40 and 30 x 40 pixels have pictures of 2 x 2 tokens, which are 4 x 4 patches of the encoder."""
    square = [to_views([photo], 56, 56)[0] for photo in PHOTOS]
    return seen_views(square, kind, PATCH, 0)


@pytest.mark.parametrize("geometry", ["on", "blank", "shuffled"])
def test_an_answer_takes_the_best_token_of_a_whole_forward_each_time(predictor, geometry, monkeypatch):
    seen, encode = [], predictor.host.encoder.encode
    monkeypatch.setattr(
        predictor.host.encoder, "encode", lambda views, layers: seen.append(views) or encode(views, layers)
    )
    answer = predictor.answer(PHOTOS, QUESTION, marks=MARKS, boxes=BOXES, max_new_tokens=LENGTH, geometry=geometry)
    assert answer.text == by_whole_forwards(predictor, images(geometry))
    assert answer.num_new_tokens == LENGTH
    assert torch.equal(seen[0], torch.stack(images(geometry)))


def test_what_the_encoder_sees_matters(predictor):
    texts = {predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH, geometry=x).text for x in ("on", "blank")}
    assert len(texts) == 2


@pytest.mark.parametrize("marked", [{}, {"marks": MARKS, "boxes": BOXES}], ids=["plain", "marked"])
def test_a_session_answers_as_a_single_question_does(predictor, marked):
    session = predictor.open(PHOTOS)
    alone = predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH, **marked)
    assert said(session.ask(QUESTION, max_new_tokens=LENGTH, **marked)) == said(alone)


def test_questions_of_a_batch_are_answered_as_if_alone(predictor):
    requests = [Request(PHOTOS, QUESTION), Request(PHOTOS[:1], "Is B near?")]
    together = predictor.answer_batch(requests, max_new_tokens=LENGTH)
    for request, answer in zip(requests, together, strict=True):
        assert said(answer) == said(predictor.answer(request.photos, request.question, max_new_tokens=LENGTH))
    session = predictor.open(PHOTOS)
    both = session.ask_all([QUESTION, "Is B near?"], max_new_tokens=LENGTH)
    assert [said(x) for x in both] == [said(session.ask(q, max_new_tokens=LENGTH)) for q in (QUESTION, "Is B near?")]


def test_without_a_pathway_only_the_pictures_are_read():
    predictor = hosted(NoPathway())
    plain = Predictor(predictor.model, predictor.processor, source="test", checkpoint_sha256="0" * 64)
    expected = plain.answer(PHOTOS, QUESTION, geometry="off", max_new_tokens=LENGTH)
    assert said(predictor.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH)) == said(expected)


def test_what_needs_views_in_the_prompt_is_refused(predictor):
    with pytest.raises(ValueError, match="no views stand in this prompt"):
        predictor.answer(PHOTOS, QUESTION, with_reconstruction=True)
    with pytest.raises(ValueError, match="no views stand in this prompt"):
        predictor.open(PHOTOS).ask(QUESTION, reasoning="geometry")
    with pytest.raises(ValueError, match="geometry is 'off', but this model's pathway needs it"):
        predictor.answer(PHOTOS, QUESTION, geometry="off")
    with pytest.raises(ValueError, match=r"pass host\.model as model"):
        Predictor(predictor_of().model, predictor.processor, source="", checkpoint_sha256="", host=predictor.host)
