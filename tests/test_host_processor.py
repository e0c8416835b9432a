"""A stock host reads by its own template and picture settings, and the frozen encoder sees the same cells."""

import json

import numpy as np
import pytest
import torch
from readers import THINKING, TOKENS, pictures_of, reading_host, tokenizer_of

from g2vlm.conversation import Turn
from g2vlm.host_processor import (
    CropEye,
    Eye,
    HostProcessor,
    SharedCropEye,
    eye_of,
    read_host_processor,
    thought_and_answer,
)
from g2vlm.pathways.pictures import cropped
from g2vlm.pictures import Photo


def photo(height, width, seed=0):
    return Photo("photo", np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def sizes(eye, height, width):
    """Grid of the host, and size of what the encoder sees."""
    seen = photo(height, width)
    patches, grid = eye.for_host(seen)
    (image,) = eye.for_encoder([seen], grid, 14)
    assert len(patches) == grid.prod()
    return tuple(grid[0, 1:].tolist()), tuple(image.shape[1:])


# --- pictures, by the table of grids that SpatialStack's own code gives -------------------------------------------------

TABLE = [  # height, width; Qwen2.5's crop; Qwen3.5's crop; Qwen3.5's whole
    (480, 640, ((28, 36), (392, 518)), ((24, 32), (336, 448)), ((30, 40), (420, 560))),
    (720, 1280, ((20, 36), (294, 518)), ((18, 32), (252, 448)), ((44, 80), (616, 1120))),
    (640, 480, ((36, 36), (518, 518)), ((32, 32), (448, 448)), ((40, 30), (560, 420))),
]


@pytest.mark.parametrize(("height", "width", "shared", "crop", "whole"), TABLE)
def test_grids_are_those_of_the_published_code(height, width, shared, crop, whole):
    assert sizes(eye_of(pictures_of("qwen2_5_vl"), "qwen2_5_vl"), height, width) == shared
    assert sizes(eye_of(pictures_of("qwen3_5"), "qwen3_5", preprocessing="crop"), height, width) == crop
    assert sizes(eye_of(pictures_of("qwen3_5"), "qwen3_5"), height, width) == whole


def test_each_family_sees_photos_as_where_it_is_evaluated_unless_told():
    kinds = {family: type(eye_of(pictures_of(family), family)) for family in ("qwen2_vl", "qwen2_5_vl", "qwen3_5")}
    assert kinds == {"qwen2_vl": SharedCropEye, "qwen2_5_vl": SharedCropEye, "qwen3_5": Eye}
    assert type(eye_of(pictures_of("qwen3_5"), "qwen3_5", preprocessing="crop")) is CropEye
    assert type(eye_of(pictures_of("qwen2_vl"), "qwen2_vl", preprocessing="whole")) is Eye


def test_shared_patches_show_both_the_same_pixels():
    eye, seen = eye_of(pictures_of("qwen2_5_vl"), "qwen2_5_vl"), photo(480, 640)
    patches, grid = eye.for_host(seen)
    (image,) = eye.for_encoder([seen], grid, 14)
    assert torch.equal(image, cropped(seen))
    mean, std = (torch.tensor(x)[:, None, None] for x in (eye.processor.image_mean, eye.processor.image_std))
    first = ((image[:, :14, :14] - mean) / std)[:, None].expand(-1, 2, -1, -1)
    torch.testing.assert_close(patches[0], first.flatten(), rtol=0, atol=1e-5)


def test_pixels_can_be_limited():
    eye = eye_of(pictures_of("qwen3_5"), "qwen3_5", max_pixels=64 * 64)
    assert sizes(eye, 480, 640) == ((2, 4), (28, 56))
    eye = eye_of(pictures_of("qwen3_5"), "qwen3_5", min_pixels=96 * 96, max_pixels=128 * 128)
    assert sizes(eye, 64, 64) == ((6, 6), (84, 84))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_pixels": 9000, "max_pixels": 5000}, "min_pixels is 9000 and max_pixels 5000; wanted is"),
        ({"max_pixels": 100}, "max_pixels 100; wanted is .* at least 1024, the pixels of one token"),
        ({"preprocessing": "squash"}, "preprocessing is 'squash'; it must be one of whole, crop"),
    ],
)
def test_impossible_limits_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        eye_of(pictures_of("qwen3_5"), "qwen3_5", **options)


def test_a_photo_too_wide_for_one_token_is_refused():
    wide = Photo("wide.png", np.zeros((60, 2000, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"wide\.png is 60 x 2000 pixels .* set preprocessing to 'whole'"):
        eye_of(pictures_of("qwen2_5_vl"), "qwen2_5_vl").for_host(wide)


def test_limits_that_would_do_nothing_are_refused():
    with pytest.raises(
        ValueError, match=r"max_pixels is 5000, but preprocessing 'crop' .* set preprocessing to 'whole'"
    ):
        eye_of(pictures_of("qwen2_5_vl"), "qwen2_5_vl", max_pixels=5000)


# --- words ------------------------------------------------------------------------------------------------------------


def processor_of(family="qwen3_5", *, thinking=False):
    return HostProcessor(tokenizer_of(family), eye_of(pictures_of(family), family), TOKENS.image_patch, thinking)


TURNS = (Turn("user", (0, "Frame 1: ", 1, "Why?")), Turn("assistant", ("So.",)), Turn("user", ("And now?",)))


def test_a_chat_is_written_by_the_models_template():
    assert processor_of().prompt(TURNS) == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Frame 1: <|vision_start|><|image_pad|><|vision_end|>"
        "Why?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_every_image_has_as_many_tokens_as_cells():
    processor = processor_of("qwen2_vl")
    ids = processor.ids(processor.prompt(TURNS), torch.tensor([[1, 2, 4], [1, 4, 6]]))
    expected = [
        *[TOKENS.bos, *b"user\n", TOKENS.vision_start, *[TOKENS.image_patch] * 2, TOKENS.vision_end, *b"Frame 1: "],
        *[TOKENS.vision_start, *[TOKENS.image_patch] * 6, TOKENS.vision_end, *b"Why?", TOKENS.eos, *b"\n"],
    ]
    assert ids[: len(expected)].tolist() == expected
    assert (ids == TOKENS.image_patch).sum() == 8


def test_thinking_opens_a_thought():
    assert processor_of(thinking=True).prompt(TURNS).endswith("<|im_start|>assistant\n<think>\n")
    with pytest.raises(ValueError, match="this model's chat template has no enable_thinking"):
        processor_of("qwen2_vl", thinking=True)


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        ("...<think>\n", "A desk.\n</think>\n\n3", ("A desk.", "3")),
        ("...<think>\n", "A desk and", ("A desk and", "")),
        ("...assistant\n", "<think>A desk.</think>3", ("A desk.", "3")),
        ("...<think>\n\n</think>\n\n", " 3 ", ("", "3")),
    ],
)
def test_a_thought_is_told_from_the_answer(prompt, text, expected):
    assert thought_and_answer(prompt, text) == expected


def test_words_that_mean_something_else_to_the_model_are_refused():
    with pytest.raises(ValueError, match=r"the words hold <\|image_pad\|>, which is no word to this model"):
        processor_of().prompt((Turn("user", (0, "What is <|image_pad|>?")),))


def test_a_template_that_drops_images_is_refused():
    processor = processor_of()
    processor.tokenizer.chat_template = "{% for m in messages %}{{ m.role }}{% endfor %}"
    with pytest.raises(ValueError, match=r"there are 2 images, but the chat template writes <\|image_pad\|> 0 times"):
        processor.prompt(TURNS)


def test_a_tokenizer_of_another_model_is_refused():
    with pytest.raises(
        ValueError, match=r"image_token_id is 7 in config.json, but the tokenizer's <\|image_pad\|> is 261"
    ):
        HostProcessor(tokenizer_of("qwen2_vl"), eye_of(pictures_of("qwen2_vl"), "qwen2_vl"), 7)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    tokenizer_of("qwen3_5").save_pretrained(tmp_path)
    pictures_of("qwen3_5").save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def config():
    return reading_host("qwen3_5").model.config


def test_files_of_a_stock_model_are_read(folder, config):
    processor = read_host_processor(folder, config, max_pixels=4096)
    assert processor.prompt(TURNS) == processor_of().prompt(TURNS)
    grid = torch.tensor([[1, 2, 4], [1, 4, 6]])
    assert torch.equal(
        processor.ids(processor.prompt(TURNS), grid), processor_of().ids(processor_of().prompt(TURNS), grid)
    )
    assert sizes(processor.eye, 480, 640) == ((2, 4), (28, 56))


def test_older_and_newer_layouts_of_the_same_files_are_read(folder, config):
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": THINKING}))
    pictures = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": pictures}))
    processor = read_host_processor(folder, config)
    assert processor.prompt(TURNS) == processor_of().prompt(TURNS)
    assert processor.eye.processor.patch_size == 16


def test_what_is_missing_is_named_with_whose_to_copy(folder, config):
    for name, expected in [
        ("chat_template.jinja", "no chat_template.jinja, so"),
        ("preprocessor_config.json", "no preprocessor_config.json, no chat_template.jinja, so"),
        ("tokenizer.json", "no tokenizer.json, no preprocessor_config.json, so"),
    ]:
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"{expected} .*copy the files .* from Qwen/Qwen3.5-4B") as error:
            read_host_processor(folder, config)
        assert "\n" not in str(error.value)


def test_picture_settings_of_another_family_are_refused(folder, config):
    pictures_of("qwen2_vl").save_pretrained(folder)
    with pytest.raises(ValueError, match=r"patch_size of the pictures is 14 .* but the model's is 16"):
        read_host_processor(folder, config)
