import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from g2vlm.encoders.vggt import VGGT_1B, Vggt, VggtConfig
from tests.builders import random_views, small_vggt


def views_of(num_views: int, rows: int = 2, columns: int = 3, seed: int = 0) -> Tensor:
    return torch.stack(random_views(*[(rows, columns)] * num_views, seed=seed))


def refuse_to_run(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    raise AssertionError("this block shall not run")


def blocks(model: Vggt, kind: str, layers: range) -> list[nn.Module]:
    return [model.get_submodule(f"{kind}.{layer}") for layer in layers]


# What comes out


@pytest.mark.parametrize("grid", [(4, 4), (2, 3), (5, 4)], ids=["its own size", "smaller", "larger"])
def test_every_layer_has_a_feature_for_every_patch(grid):
    model = small_vggt()
    features = model.encode(views_of(2, *grid), range(model.num_layers))
    assert (model.num_layers, model.width, model.patch) == (3, 32, 4)
    assert [x.shape for x in features] == 3 * [(2, *grid, 32)]


def test_features_come_in_the_order_asked_for():
    model, images = small_vggt(), views_of(2)
    first, second, third = model.encode(images, [0, 1, 2])
    asked = model.encode(images, [2, 0, 2])
    assert len(asked) == 3
    assert all(torch.equal(x, y) for x, y in zip(asked, [third, first, third], strict=True))
    assert torch.equal(model.encode(images, (1,))[0], second)
    assert model.encode(images, []) == []


def test_patches_stand_in_rows_behind_the_special_tokens():
    model, images = small_vggt(), views_of(2)
    frame, across = next(model.layer_outputs(images))
    assert model.num_special == 4
    feature = model.encode(images, [0])[0]
    for row in range(2):
        for column in range(3):
            token = model.num_special + row * 3 + column
            assert torch.equal(feature[:, row, column], torch.cat([frame[:, token], across[:, token]], -1))


def test_blocks_behind_the_last_layer_asked_for_do_not_run():
    model, images = small_vggt(), views_of(2)
    expected = model.encode(images, [1])[0]
    for block in (*blocks(model, "frame_blocks", range(2, 3)), *blocks(model, "global_blocks", range(2, 3))):
        block.register_forward_pre_hook(refuse_to_run)
    assert torch.equal(model.encode(images, [1])[0], expected)
    with pytest.raises(AssertionError, match="shall not run"):
        model.encode(images, [0, 2])


# Who sees whom


def test_a_frame_block_sees_one_view_and_a_global_block_all():
    model, images = small_vggt(), views_of(3)
    changed = torch.cat([images[:2], views_of(1, seed=1)])
    before, after = (model.encode(x, [0, 1]) for x in (images, changed))
    width = model.config.token_width
    torch.testing.assert_close(before[0][:2, ..., :width], after[0][:2, ..., :width], atol=1e-5, rtol=0)
    assert (before[0][:2, ..., width:] - after[0][:2, ..., width:]).abs().max() > 1e-3
    assert (before[1][:2, ..., :width] - after[1][:2, ..., :width]).abs().max() > 1e-3, "a frame block reads the last"


def test_only_the_view_of_reference_has_a_place_of_its_own():
    model, images = small_vggt(), views_of(3)
    order = torch.tensor([0, 2, 1])
    plain, swapped = (model.encode(x, [2])[0] for x in (images, images[order]))
    torch.testing.assert_close(plain[order], swapped, atol=1e-5, rtol=0)
    other_reference = model.encode(images.flip(0), [2])[0].flip(0)
    assert (plain - other_reference).abs().max() > 1e-2


def test_the_last_view_of_reference_is_the_first_of_the_flipped():
    images = views_of(3)
    first, last = small_vggt(), small_vggt(reference_frame="last")
    assert torch.equal(last.encode(images, [2])[0], first.encode(images.flip(0), [2])[0].flip(0))


def test_equal_patches_are_told_apart_by_their_places():
    """Images of one colour, without the position embeddings of DINOv2: only the rotation knows rows and columns."""
    model = small_vggt()
    model.dino.model.embeddings.position_embeddings.zero_()
    feature = model.encode(torch.full((1, 3, 8, 12), 0.5), [1])[0][0]
    for x in (feature[0, 0] - feature[0, 2], feature[0, 0] - feature[1, 0]):
        assert x.abs().max() > 1e-5


# How it runs


def test_it_is_frozen_and_whoever_reads_it_can_learn():
    model = small_vggt()
    assert not any(weight.requires_grad for weight in model.parameters())
    model.requires_grad_(True)
    feature = model.encode(views_of(1), [0])[0]
    assert not feature.requires_grad
    reader = nn.Linear(model.width, 1)
    reader(feature).sum().backward()
    assert reader.weight.grad is not None


def test_under_autocast_it_stays_near_full_precision():
    """Worst seen: 0.02, of values up to 3.7."""
    model, images = small_vggt(), views_of(3)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.encode(images, [2])[0]
    exact = model.encode(images, [2])[0]
    assert 0 < (rounded - exact).abs().max() < 0.1


def test_weights_in_half_precision_run_too():
    """Worst seen: 0.04, of values up to 3.3."""
    model, images = small_vggt(), views_of(2)
    exact = model.encode(images, [1])[0]
    rounded = model.bfloat16().encode(images.bfloat16(), [1])[0]
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).abs().max() < 0.2


# Bad input


@pytest.mark.parametrize("layers", [[3], [0, -1]])
def test_a_layer_that_does_not_exist_is_named(layers):
    with pytest.raises(ValueError, match=rf"layers has {layers[-1]}, but this VGGT has 3 layers; name some of 0 to 2"):
        small_vggt().encode(views_of(1), layers)


@pytest.mark.parametrize(("size", "cure"), [((9, 12), "8 x 12"), ((8, 15), "8 x 16"), ((1, 12), "4 x 12")])
def test_sides_that_are_no_multiples_of_the_patch_are_refused(size, cure):
    message = re.escape(
        f"images are {size[0]} x {size[1]} pixels (height x width), which must be multiples of the patch, 4"
    )
    with pytest.raises(ValueError, match=f"{message}; resize them to {cure}"):
        small_vggt().encode(torch.rand(2, 3, *size), [0])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("depth", 0, r"depth is 0; it must be 1 or more"),
        ("num_heads", 3, r"token_width \(1024\) must be a multiple of 4 x num_heads \(3\)"),
        ("dino_num_heads", 3, r"token_width \(1024\) must be a multiple of dino_num_heads \(3\)"),
        ("image_size", 500, r"image_size \(500\) must be a multiple of patch \(14\)"),
        ("rope_base", 1.0, r"rope_base is 1.0; it must be greater than 1"),
        ("reference_frame", "middle", r"reference_frame is 'middle'; it must be one of \('first', 'last'\)"),
    ],
)
def test_a_config_that_fits_no_model_names_its_field(field, value, message):
    with pytest.raises(ValueError, match=message):
        VggtConfig(**{field: value})


def test_the_default_is_the_published_size():
    assert VggtConfig() == VGGT_1B
    with torch.device("meta"):
        model = Vggt(VGGT_1B)
    assert (model.num_layers, model.width, model.patch) == (24, 2048, 14)
