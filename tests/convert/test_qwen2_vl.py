import json
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.dinov2_with_registers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel
from transformers.models.qwen2_vl import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from g2vlm import hub
from g2vlm.convert.dinov2 import from_transformers
from g2vlm.encoders.dino import IMAGENET_MEAN, IMAGENET_STD
from g2vlm.layout import Picture, Text
from g2vlm.model import G2VLM
from tests.builders import TOKENS, prompt, random_pictures, random_views, small_config

NEW = ("heads", "geometric", "dino_projection")
"""What neither Qwen2-VL nor DINOv2 has, when the geometric expert starts fresh."""


def stock_qwen(*, tied: bool = False) -> Qwen2VLForConditionalGeneration:
    config = small_config()
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config=config.text_config.to_dict() | {"tie_word_embeddings": tied},
            vision_config=config.vision_config.to_dict(),
            image_token_id=TOKENS.image_patch,
            video_token_id=TOKENS.view_patch,
            vision_start_token_id=TOKENS.vision_start,
            vision_end_token_id=TOKENS.vision_end,
            tie_word_embeddings=tied,
        )
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return model


def in_memory(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    """Names of the modules, as a state dict has them; a tied head is in it twice."""
    folder.mkdir(exist_ok=True)
    save_file({name: x.clone() for name, x in model.state_dict().items()}, folder / "model.safetensors")
    model.config.to_json_file(folder / "config.json")


def on_the_hub(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    """Names and flat configuration of the files that were published."""
    in_memory(model, folder)
    weights = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): x
        for name, x in load_file(folder / "model.safetensors").items()
        if not (model.config.tie_word_embeddings and name == "lm_head.weight")
    }
    save_file(weights, folder / "model.safetensors")
    nested = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(nested.pop("text_config") | nested | {"model_type": "qwen2_vl"}))


def by_transformers(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def dino(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(1)
    Dinov2WithRegistersModel(small_config().dino_config).save_pretrained(folder)
    return folder


def load(folder: Path, dino: Path, new: Collection[str] = NEW, **options: Any) -> G2VLM:
    """With heads of a size that goes with the small width."""
    config = small_config()
    return hub.load_model(
        folder, dino=dino, new=new, tokens=TOKENS, heads=config.heads, resolution=config.resolution, **options
    )


@torch.no_grad()
@pytest.mark.parametrize("write", [in_memory, on_the_hub, by_transformers])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_the_semantic_side_answers_as_stock_qwen2_vl(tmp_path, dino, write: Callable, tied):
    qwen = stock_qwen(tied=tied)
    write(qwen, tmp_path / "qwen")
    model = load(tmp_path / "qwen", dino)
    inputs = {"input_ids": prompt(Text(3), Picture((2, 3)), Text(5)), **random_pictures((2, 3))}
    theirs = qwen(**inputs, mm_token_type_ids=(inputs["input_ids"] == TOKENS.image_patch).int()).logits
    assert theirs.std() > 0.5
    torch.testing.assert_close(model(**inputs).logits, theirs, atol=1e-5, rtol=0)  # worst measured: 2e-6
    assert (model.lm_head.weight is model.embed_tokens.weight) == tied


@torch.no_grad()
def test_the_geometric_encoder_is_stock_dinov2(tmp_path, dino):
    on_the_hub(stock_qwen(), tmp_path)
    model = load(tmp_path, dino)
    images = torch.stack(random_views((2, 3), (2, 3)))
    mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    expected = Dinov2WithRegistersModel.from_pretrained(dino)((images - mean) / std)
    torch.testing.assert_close(model.dino(images), expected.last_hidden_state[:, 5:])


def test_a_copied_geometric_expert_equals_the_semantic_one_and_learns_on_its_own(tmp_path, dino):
    on_the_hub(stock_qwen(), tmp_path)
    new = ("heads", "dino_projection", "q_norm", "k_norm", "scale_attn", "scale_mlp")
    model = load(tmp_path, dino, new, geometric="copied")
    semantic, geometric = (
        model.get_parameter(f"decoder.layers.1.{e}.mlp.up.weight") for e in ("semantic", "geometric")
    )
    assert geometric.equal(semantic)
    assert model.decoder.norm.geometric.weight.equal(model.decoder.norm.semantic.weight)
    with torch.no_grad():
        geometric.zero_()
    assert semantic.any()


def test_a_fresh_geometric_expert_starts_from_the_models_own_start_values(tmp_path, dino):
    on_the_hub(stock_qwen(), tmp_path)
    model = load(tmp_path, dino)
    names = ("norm_attn.weight", "scale_attn.gamma", "q.bias", "q.weight")
    norm, scale, bias, weight = (model.get_parameter(f"decoder.layers.0.geometric.{name}") for name in names)
    assert norm.equal(torch.ones(32))
    assert scale.equal(torch.full((32,), 0.01))
    assert bias.equal(torch.zeros(32))
    assert 0.01 < weight.std() < 0.03


def test_new_parameters_must_be_asked_for_and_are_listed(tmp_path, dino, caplog):
    on_the_hub(stock_qwen(), tmp_path)
    with pytest.raises(ValueError, match="missing") as error:
        load(tmp_path, dino, ("heads", "geometric"))
    assert "dino_projection.{weight,bias}" in str(error.value)
    assert "heads" not in str(error.value).partition("new=(...)")[2]
    with caplog.at_level(logging.WARNING, "g2vlm"):
        load(tmp_path, dino)
    assert "decoder.layers.{0-1}.geometric.mlp.gate.weight" in caplog.text


def test_without_a_geometric_encoder_the_cure_is_named(tmp_path):
    on_the_hub(stock_qwen(), tmp_path)
    with pytest.raises(ValueError, match="dinov2-with-registers-large"):
        hub.load_model(tmp_path, tokens=TOKENS)


def test_a_head_that_only_pretends_to_be_tied_is_refused(tmp_path, dino):
    in_memory(stock_qwen(tied=True), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="ties lm_head"):
        load(tmp_path, dino)


@pytest.mark.parametrize("naming", ["facebook", "timm"])
def test_a_dinov2_of_another_origin_is_read_by_its_shapes(tmp_path, naming):
    config = Dinov2WithRegistersConfig(
        hidden_size=128, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=4
    )
    torch.manual_seed(1)
    stock = Dinov2WithRegistersModel(config).eval()
    (tmp_path / "dino").mkdir()
    save_file(from_transformers(stock.state_dict(), naming), tmp_path / "dino" / "model.safetensors")
    (tmp_path / "dino" / "config.json").write_text('{"architecture": "vit_large_patch14_reg4_dinov2"}')
    on_the_hub(stock_qwen(), tmp_path / "qwen")
    encoder = load(tmp_path / "qwen", tmp_path / "dino").dino.model
    images = torch.rand(1, 3, 12, 20)
    torch.testing.assert_close(encoder(images).last_hidden_state, stock(images).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_a_dinov2_without_registers_is_refused(tmp_path, dino):
    on_the_hub(stock_qwen(), tmp_path / "qwen")
    weights = load_file(dino / "model.safetensors")
    del weights["embeddings.register_tokens"]
    (tmp_path / "dino").mkdir()
    save_file(weights, tmp_path / "dino" / "model.safetensors")
    with pytest.raises(ValueError, match="without registers"):
        load(tmp_path / "qwen", tmp_path / "dino")
