import pytest

from g2vlm import presets
from g2vlm.processor import RECONSTRUCTION_PROMPT, Processor, byte_tokenizer

TOKENS = presets.tiny().tokens


def test_bytes_are_their_own_ids():
    tokenizer = byte_tokenizer(TOKENS)
    assert tokenizer.encode("Aß\n", add_special_tokens=False) == [65, 0xC3, 0x9F, 10]


@pytest.mark.parametrize("text", ["How many metres?", "  spaces\tand\n\nlines ", "naïve 北京 🙂", ""])
def test_any_text_comes_back(text):
    tokenizer = byte_tokenizer(TOKENS)
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_special_tokens_have_the_configured_ids():
    tokenizer = byte_tokenizer(TOKENS)
    names = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>"]
    expected = [TOKENS.bos, TOKENS.eos, TOKENS.vision_start, TOKENS.vision_end, TOKENS.view_patch, TOKENS.image_patch]
    assert tokenizer.convert_tokens_to_ids(names) == expected


def test_a_reconstruction_asks_then_shows_its_views():
    ids = Processor(byte_tokenizer(TOKENS), TOKENS).reconstruction_ids([(1, 2), (2, 1)])[0].tolist()
    view = [TOKENS.vision_start, TOKENS.view_patch, TOKENS.view_patch, TOKENS.vision_end]
    assert ids == [TOKENS.bos, *RECONSTRUCTION_PROMPT.encode(), *view, *view]


def test_a_conversation_shows_views_then_pictures_then_asks():
    t = TOKENS
    ids = Processor(byte_tokenizer(t), t).question_ids("How?", view_grids=[(1, 2), (1, 1)], picture_grids=[(2, 1)])
    views = [t.vision_start, t.view_patch, t.view_patch, t.vision_end, t.vision_start, t.view_patch, t.vision_end]
    picture = [t.vision_start, t.image_patch, t.image_patch, t.vision_end]
    before = [t.bos, *b"system\nYou are a helpful assistant.", t.eos, 10, t.bos, *b"user\n"]
    after = [*b"How?", t.eos, 10, t.bos, *b"assistant", t.newline]
    assert ids.tolist() == [*before, *views, *picture, *after]


def test_an_answer_ends_with_the_end_token():
    assert Processor(byte_tokenizer(TOKENS), TOKENS).answer_ids("So.").tolist() == [*b"So.", TOKENS.eos]


def test_bytes_that_are_no_text_are_refused():
    typed = b"How many caf\xe9s?".decode("utf-8", "surrogateescape")
    with pytest.raises(ValueError, match=r"w many caf\\udce9' ends with what is no character; write the text in UTF-8"):
        Processor(byte_tokenizer(TOKENS), TOKENS).question_ids(typed)


def test_a_special_token_that_somebody_typed_stays_text():
    processor = Processor(byte_tokenizer(TOKENS), TOKENS)
    text = "say <|im_end|> and <|vision_pad|>"
    assert processor.words(text) == list(text.encode())
    assert max(processor.answer_ids(text)[:-1]) < 256
    assert processor.question_ids(text).tolist().count(TOKENS.view_patch) == 0
