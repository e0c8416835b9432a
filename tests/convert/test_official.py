import json
import logging
import re
from math import prod
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models

from g2vlm import hub, presets
from g2vlm.config import HeadsConfig, TokenIds
from g2vlm.convert import official
from g2vlm.convert.tokens import SPELLINGS, UNKNOWN
from g2vlm.model import G2VLM
from tests.builders import TOKENS, released_config


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return hub.stored_weights(G2VLM(released_config(confidence=True)))


def test_every_weight_has_a_released_name_and_finds_its_way_back(weights):
    released = official.from_ours(weights)
    back = official.to_ours(released)
    assert back.keys() == weights.keys()
    assert [name for name in back if back[name] is not weights[name]] == []


def test_the_two_experts_do_not_change_places(weights):
    released = official.from_ours(weights)
    layer = "language_model.model.layers.1."
    ours = "decoder.layers.1."
    assert released[layer + "self_attn.q_proj.weight"] is weights[ours + "semantic.q.weight"]
    assert released[layer + "self_attn.q_proj_moe_geo.weight"] is weights[ours + "geometric.q.weight"]
    assert released[layer + "mlp_moe_geo.up_proj.weight"] is weights[ours + "geometric.mlp.up.weight"]
    assert released[layer + "ls2.gamma"] is weights[ours + "geometric.scale_mlp.gamma"]
    assert (
        released["global_points_decoder.blocks.0.norm2.bias"]
        is weights["heads.global_points.decoder.blocks.0.norm_cross.bias"]
    )
    assert released["point_decoder.blocks.0.norm2.bias"] is weights["heads.points.decoder.blocks.0.norm_mlp.bias"]


@pytest.fixture(scope="module")
def published(shared) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released checkpoint, from the table that was written down with the recorded numbers."""
    rows = re.findall(
        r"^\| (\d+) \| `(.+)` \| \[(.+)\] \|$", (shared / "goldens" / "NOTES.md").read_text(), re.MULTILINE
    )
    return {
        name.replace("{i}", str(i)): tuple(int(n) for n in shape.split(","))
        for count, name, shape in rows
        for i in range(int(count))
    }


def test_names_and_shapes_at_the_published_size_are_the_published_ones(published):
    config = presets.g2vlm_2b(heads=HeadsConfig(confidence=False, normals=False))
    released = official.from_ours(hub.stored_weights(hub.empty(config)))
    assert {name: tuple(x.shape) for name, x in released.items()} == published
    assert len(released) == 1947
    assert sum(prod(shape) for shape in published.values()) == 4_538_215_076


def test_unknown_released_names_are_all_listed(weights):
    strange = {"register_token": torch.zeros(1), **{f"conf_decoder.blocks.{i}.extra": torch.zeros(1) for i in range(3)}}
    with pytest.raises(ValueError, match="4 of") as error:
        official.to_ours(official.from_ours(weights) | strange)
    assert str(error.value).splitlines()[1:] == ["  register_token", "  conf_decoder.blocks.{0-2}.extra"]


def test_what_the_released_layout_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"heads\.normals\.proj\.{weight,bias}"):
        official.from_ours(hub.stored_weights(G2VLM(released_config(normals=True))))


def test_configurations_survive_the_three_files(tmp_path, weights):
    config = released_config(confidence=True)
    official.write_config(config, tmp_path)
    assert official.is_released(tmp_path)
    read = official.read_config(tmp_path, official.from_ours(weights), TOKENS)
    assert {key for key, value in read.to_dict().items() if value != config.to_dict()[key]} <= {"text_config"}
    assert (read.head_width, read.mrope_section, read.rope_thetas[0]) == (16, (2, 3, 3), 1e6)
    assert G2VLM(read).state_dict().keys() == G2VLM(config).state_dict().keys()


def test_the_importer_is_faithful_to_the_released_code(tmp_path, weights):
    official.write_config(released_config(), tmp_path)
    config = official.read_config(tmp_path, official.from_ours(weights), TOKENS)
    assert (config.dino_windows, config.view_positions, config.view_resize) == (
        "reference",
        "sequential",
        "first_view_width",
    )
    assert config.visibility == "global"
    assert config.semantic_qk_norm
    assert not config.tie_word_embeddings


@pytest.mark.parametrize("head", ["confidence", "global_points"])
def test_a_head_exists_when_its_weights_do(tmp_path, weights, head):
    official.write_config(released_config(), tmp_path)
    released = official.from_ours(weights)
    without = set(official.from_ours({n: x for n, x in weights.items() if f"heads.{head}." not in n}))
    assert getattr(official.read_config(tmp_path, released, TOKENS).heads, head)
    assert not getattr(official.read_config(tmp_path, without, TOKENS).heads, head)


@pytest.mark.parametrize(
    ("field", "value"),
    [("dino_windows", "per_image"), ("semantic_qk_norm", False), ("view_positions", "shared"), ("visibility", "frame")],
)
def test_options_that_the_released_code_lacks_are_refused_by_name(tmp_path, field, value):
    with pytest.raises(ValueError, match=f"{field}={value!r}"):
        official.write_config(released_config().with_options(**{field: value}), tmp_path)


def test_heads_of_another_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match="depth=1"):
        official.write_config(released_config().with_options(heads={"depth": 1}), tmp_path)


def test_a_missing_configuration_file_is_named(tmp_path, weights):
    official.write_config(released_config(), tmp_path)
    (tmp_path / "vit_config.json").unlink()
    with pytest.raises(ValueError, match=r"no vit_config\.json"):
        official.read_config(tmp_path, weights, TOKENS)


def write_tokenizer(folder: Path, ids: dict[str, int]) -> None:
    Tokenizer(models.WordLevel(ids, unk_token="<|endoftext|>")).save(str(folder / "tokenizer.json"))


def test_special_tokens_are_read_from_the_tokenizer(tmp_path, weights):
    official.write_config(released_config(), tmp_path)
    write_tokenizer(tmp_path, {spelling: getattr(TOKENS, name) for name, spelling in SPELLINGS.items()})
    assert official.read_config(tmp_path, weights).tokens == TOKENS


def test_a_tokenizer_of_another_family_is_refused(tmp_path, weights):
    official.write_config(released_config(), tmp_path)
    write_tokenizer(tmp_path, {"<|endoftext|>": 0})
    with pytest.raises(ValueError, match=re.escape("no token <|im_start|>")):
        official.read_config(tmp_path, weights)


def test_the_public_vocabulary_needs_no_tokenizer_and_another_one_stays_unknown_with_a_warning(
    tmp_path, weights, caplog
):
    official.write_config(released_config(), tmp_path)
    with caplog.at_level(logging.WARNING, "g2vlm"):
        assert official.read_config(tmp_path, weights).tokens == UNKNOWN
    assert "a vocabulary of 48 is not the public one" in caplog.text
    text = json.loads((tmp_path / "text_config.json").read_text()) | {"vocab_size": 151936}
    (tmp_path / "text_config.json").write_text(json.dumps(text))
    assert official.read_config(tmp_path, weights).tokens == TokenIds()
