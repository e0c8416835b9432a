import torch
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from g2vlm.encoders.vision import VisionTower
from tests.builders import random_pictures, small_config


def small_tower() -> VisionTower:
    torch.manual_seed(0)
    return VisionTower(small_config().vision_config).eval()


@torch.no_grad()
def test_tokens_equal_those_of_transformers():
    tower, pictures = small_tower(), random_pictures((2, 3), (1, 2))
    stock = Qwen2VisionTransformerPretrainedModel(small_config().vision_config).eval()
    stock.load_state_dict(tower.model.state_dict(), strict=True)
    tokens = tower(pictures["pixel_values"], pictures["image_grid_thw"])
    assert tokens.shape == (2 * 3 + 1 * 2, 32)
    theirs = stock(pictures["pixel_values"], grid_thw=pictures["image_grid_thw"]).pooler_output
    torch.testing.assert_close(tokens, theirs, atol=1e-5, rtol=1e-4)  # a matrix product in place of their convolution


@torch.no_grad()
def test_pictures_do_not_see_each_other():
    tower, pictures = small_tower(), random_pictures((2, 3), (1, 2))
    both = tower(pictures["pixel_values"], pictures["image_grid_thw"])
    second = tower(pictures["pixel_values"][-8:], pictures["image_grid_thw"][1:])
    torch.testing.assert_close(both[-2:], second, atol=1e-6, rtol=1e-5)
