import re
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from g2vlm.convert.dinov2 import from_transformers, naming_of, to_transformers


@dataclass(frozen=True)
class Encoder:
    config: Dinov2WithRegistersConfig
    weights: dict[str, Tensor]

    def load(self, weights: dict[str, Tensor]) -> Dinov2WithRegistersModel:
        model = Dinov2WithRegistersModel(self.config).eval()
        installed = naming_of(model.state_dict())  # older releases hold the names that newer ones only save
        model.load_state_dict(from_transformers(weights, installed), strict=True)
        return model


@pytest.fixture(params=["plain MLP", "SwiGLU"])
def encoder(request) -> Encoder:
    config = Dinov2WithRegistersConfig(
        hidden_size=24,
        num_hidden_layers=11,  # two digits, so that block 1 cannot be mistaken for block 10
        num_attention_heads=2,
        mlp_ratio=4,
        image_size=42,
        patch_size=14,
        num_register_tokens=3,
        use_swiglu_ffn=request.param == "SwiGLU",
    )
    torch.manual_seed(0)
    shapes = Dinov2WithRegistersModel(config).state_dict()
    return Encoder(config, to_transformers({key: 0.2 * torch.randn_like(tensor) for key, tensor in shapes.items()}))


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]):
    assert left.keys() == right.keys()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


@pytest.mark.parametrize("naming", ["modules", "files", "facebook", "timm"])
def test_each_naming_is_recognised(encoder, naming):
    assert naming_of(from_transformers(encoder.weights, naming)) == naming


@pytest.mark.parametrize("naming", ["modules", "files", "facebook"])
def test_a_round_trip_changes_no_bit(encoder, naming):
    foreign = from_transformers(encoder.weights, naming)
    assert_same(to_transformers(foreign), encoder.weights)
    assert_same(from_transformers(to_transformers(foreign), naming), foreign)


def test_a_round_trip_from_timm_changes_no_bit(encoder):
    timm = from_transformers(encoder.weights, "timm")
    assert "mask_token" not in timm
    assert_same(from_transformers(to_transformers(timm), "timm"), timm)


@torch.no_grad()
@pytest.mark.parametrize("size", [(42, 42), (28, 56)])
def test_folding_the_class_position_as_timm_does_changes_no_output(encoder, size):
    images = torch.randn(2, 3, *size)
    expected = encoder.load(encoder.weights)(images).last_hidden_state
    through_timm = to_transformers(from_transformers(encoder.weights, "timm"))
    assert torch.equal(encoder.load(through_timm)(images).last_hidden_state, expected)


def test_what_transformers_saves_and_what_it_holds_are_both_read(encoder, tmp_path):
    encoder.load(encoder.weights).save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert naming_of(saved) == "files"
    assert_same(to_transformers(saved), encoder.weights)
    assert_same(from_transformers(encoder.weights, "files"), saved)


def test_fused_projections_hold_query_key_and_value_in_this_order(encoder):
    foreign = from_transformers(encoder.weights, "facebook")
    query, key, value = foreign["blocks.10.attn.qkv.bias"].split(24)
    assert torch.equal(query, encoder.weights["encoder.layer.10.attention.q_proj.bias"])
    assert torch.equal(key, encoder.weights["encoder.layer.10.attention.k_proj.bias"])
    assert torch.equal(value, encoder.weights["encoder.layer.10.attention.v_proj.bias"])


def test_a_name_that_no_table_knows_is_reported(encoder):
    foreign = from_transformers(encoder.weights, "timm") | {"head.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=re.escape("timm: head.weight")):
        to_transformers(foreign)


def test_names_of_two_namings_are_not_mixed(encoder):
    mixed = encoder.weights | {"norm.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=re.escape("modules: norm.weight")):
        to_transformers(mixed)


def test_nothing_is_not_a_checkpoint():
    with pytest.raises(ValueError, match="0 of 0 names"):
        to_transformers({})


def test_a_missing_part_of_a_fused_tensor_is_reported(encoder):
    incomplete = {key: tensor for key, tensor in encoder.weights.items() if "layer.3.attention.k_proj.bias" not in key}
    with pytest.raises(ValueError, match=re.escape("missing: encoder.layer.3.attention.k_proj.bias")):
        from_transformers(incomplete, "facebook")
