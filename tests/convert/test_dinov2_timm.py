"""Needs timm, hence torchvision from the same source as torch: run in an environment of its own."""

from importlib.util import find_spec

import pytest
import torch
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from g2vlm.convert.dinov2 import from_transformers, naming_of, to_transformers

# Only absence is a reason to skip: a timm that is there but does not import has to fail here.
pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed (pip install 'g2vlm[timm]')")

WIDTH, DEPTH, HEADS = 48, 3, 3


def timm_model():
    import timm  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    model = timm.create_model(
        "vit_small_patch14_reg4_dinov2",
        pretrained=False,
        num_classes=0,
        img_size=518,
        dynamic_img_size=True,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    return model.eval()


def transformers_model() -> Dinov2WithRegistersModel:
    config = Dinov2WithRegistersConfig(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        mlp_ratio=4,
        image_size=518,
        patch_size=14,
        num_register_tokens=4,
    )
    return Dinov2WithRegistersModel(config).eval()


@torch.no_grad()
@pytest.mark.parametrize("size", [518, 224])
def test_timm_and_transformers_agree_exactly_on_the_same_weights(size):
    theirs, ours = timm_model(), transformers_model()
    installed = naming_of(ours.state_dict())
    ours.load_state_dict(from_transformers(to_transformers(theirs.state_dict()), installed), strict=True)
    images = torch.randn(2, 3, size, size)
    expected = theirs.forward_features(images)
    actual = ours(images).last_hidden_state
    assert actual.shape == expected.shape == (2, 1 + 4 + (size // 14) ** 2, WIDTH)
    assert (actual - expected).abs().max() == 0


def test_weights_written_by_timms_names_load_strictly_into_timm():
    theirs = timm_model()
    theirs.load_state_dict(from_transformers(transformers_model().state_dict(), "timm"), strict=True)


def test_timms_own_converter_from_facebooks_names_gives_the_same_weights():
    from timm.models.vision_transformer import checkpoint_filter_fn  # pyright: ignore[reportMissingImports]

    theirs, weights = timm_model(), transformers_model().state_dict()
    converted = checkpoint_filter_fn(from_transformers(weights, "facebook"), theirs)
    expected = from_transformers(weights, "timm")
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[key], expected[key]) for key in expected)
