from dataclasses import asdict
from typing import Any

import jaxtyping
import pytest

from g2vlm.config import G2VLMConfig, HeadsConfig
from tests.builders import TOKENS, small_config

CHANGED = {
    "semantic_qk_norm": False,
    "geometric_qk_norm": False,
    "layer_scale_init": 0.5,
    "visibility": "mixed",
    "view_positions": "sequential",
    "picture_attention": "causal",
    "dino_windows": "reference",
    "view_resize": "first_view_width",
    "resolution": 20,
    "attention": "flex",
    "tie_word_embeddings": True,
}
"""Every plain option, none at its default."""


def changed_config() -> G2VLMConfig:
    return small_config(heads={"depth": 3, "normals": False}, **CHANGED)


def test_a_saved_config_comes_back_whole(tmp_path):
    config = changed_config()
    config.save_pretrained(tmp_path)
    loaded = G2VLMConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert {name: getattr(loaded, name) for name in CHANGED} == CHANGED
    assert loaded.heads == HeadsConfig(
        depth=3, num_heads=2, mlp_ratio=2, point_width=24, camera_width=16, normals=False
    )
    assert loaded.tokens == TOKENS
    assert loaded.vision_config.embed_dim == 16
    assert loaded.dino_config.patch_size == 4


def test_a_dictionary_says_everything():
    config = changed_config()
    assert G2VLMConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_json_holds_what_differs_from_the_defaults_and_no_more_is_needed(tmp_path):
    config = changed_config()
    config.to_json_file(tmp_path / "config.json")
    assert G2VLMConfig.from_json_file(tmp_path / "config.json").to_dict() == config.to_dict()


def test_the_defaults_are_those_of_new_models():
    config = small_config()
    assert (config.visibility, config.view_positions, config.picture_attention) == ("global", "shared", "full")
    assert (config.dino_windows, config.attention) == ("per_image", "sdpa")
    assert config.semantic_qk_norm
    assert not config.tie_word_embeddings


def test_generation_finds_its_special_tokens():
    config = small_config()
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (TOKENS.bos, TOKENS.eos, TOKENS.pad)


def test_derived_sizes():
    config = small_config()
    assert config.head_width == 8
    assert config.mrope_section == (2, 1, 1)
    assert config.rope_thetas == (1e4, 1e4)
    assert config.patch_size == 4
    assert config.get_text_config() is config.text_config


@pytest.mark.parametrize(
    "field", ["visibility", "view_positions", "picture_attention", "dino_windows", "view_resize", "attention"]
)
def test_an_unknown_choice_is_refused_with_the_choices(field, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests, which check types first
    changes: dict[str, Any] = {field: "magic"}
    with pytest.raises(ValueError, match=rf"{field} is 'magic'; it must be one of \('\w+', '\w+'"):
        small_config(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": {"hidden_size": 34}}, r"hidden_size \(34\) must be a multiple of num_attention_heads \(4\)"),
        ({"text": {"num_key_value_heads": 3}}, r"num_attention_heads \(4\) must be .* num_key_value_heads \(3\)"),
        (
            {"text": {"rope_parameters": {"rope_theta": 1e4, "mrope_section": [2, 2, 1]}}},
            r"mrope_section \(2, 2, 1\) must sum to half the head width, 4",
        ),
        ({"text": {"rope_parameters": {"rope_theta": 1e4}}}, r"lack mrope_section.*half the head width, 4"),
        ({"picture_size": 0}, "picture_size is 0; it must be 1 pixel or more, or None"),
        ({"text": {"vocab_size": 47}}, r"tokens has the id 47, but vocab_size is 47"),
        ({"heads": {"num_heads": 3}}, r"hidden_size \(32\) must be a multiple of 4 x heads.num_heads \(3\)"),
        ({"vision_config": {"hidden_size": 24}}, r"vision_config.hidden_size \(24\) must equal .* \(32\)"),
        ({"resolution": 15}, r"resolution \(15\) must be a multiple of the patch size \(4\)"),
    ],
)
def test_numbers_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small_config(**changes)


def test_options_change_on_a_copy():
    config = small_config()
    copy = config.with_options(visibility="frame", heads={"depth": 4})
    assert copy.visibility == "frame"
    assert asdict(copy.heads) == asdict(config.heads) | {"depth": 4}
    assert copy.text_config.to_dict() == config.text_config.to_dict()
    assert (config.visibility, config.heads.depth) == ("global", 1)


def test_a_changed_option_is_checked_too():
    with pytest.raises(ValueError, match="resolution"):
        small_config().with_options(resolution=15)


def test_a_mistyped_option_is_not_taken_silently():
    with pytest.raises(ValueError, match=r"no option visibilty; the options are .*visibility"):
        small_config().with_options(visibilty="frame")
