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
