import pytest
from transformers import PreTrainedTokenizerFast

from g2vlm import presets
from g2vlm.data.tokenizer import room_texts, trained_tokenizer
from g2vlm.processor import Processor, byte_tokenizer

TOKENS = presets.tiny().tokens
TEXTS = ["How far is the sofa from the lamp?", "How many lamps are there? 12", "The sofa is 2.45 m away."] * 3


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return trained_tokenizer(TEXTS, 290, TOKENS)


def test_merges_come_behind_the_bytes_and_the_special_tokens(tokenizer):
    assert len(tokenizer) == 290
    before = byte_tokenizer(TOKENS)
    assert [tokenizer.convert_ids_to_tokens(i) for i in range(len(before))] == before.convert_ids_to_tokens(range(263))


def test_frequent_words_are_one_token_and_digits_stay_single(tokenizer):
    words = Processor(tokenizer, TOKENS).words
    assert len(words(" sofa")) == 1
    assert len(words("How far is the sofa")) < len("How far is the sofa") // 2
    assert words("2.45")[0] == ord("2")
    assert len(words("12")) == 2


@pytest.mark.parametrize("text", ["Zwölf Räume, 漢字!", "  two spaces\n\nand lines\t", "<|im_end|> 3<4"])
def test_every_text_comes_back(text, tokenizer):
    assert tokenizer.decode(Processor(tokenizer, TOKENS).words(text)) == text


def test_special_tokens_in_a_text_stay_text_also_when_read_from_a_file(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in ("<|im_start|>system", "a<|vision_pad|>b", "The sofa is 2.45 m away."):
        ids = Processor(again, TOKENS).words(text)
        assert ids == Processor(tokenizer, TOKENS).words(text)
        assert not {TOKENS.bos, TOKENS.eos, TOKENS.view_patch} & set(ids)


def test_texts_that_are_too_few_for_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match=r"have only .* merges, but a vocabulary of 2048 needs 1785"):
        trained_tokenizer(TEXTS, 2048, TOKENS)


def test_questions_about_rooms_are_texts_to_learn_from():
    texts = list(room_texts(1))
    assert any("?" in text for text in texts)
    assert any(text.startswith("Measured:") for text in texts)
