import pytest
import torch
from torch import Tensor

from g2vlm.convert import vggt
from g2vlm.convert.dinov2 import naming_of
from g2vlm.encoders.vggt import VGGT_1B, Vggt
from tests.builders import random_views, small_vggt

HEADS = {
    name: torch.ones(2)
    for name in (
        "camera_head.trunk.0.norm1.weight",
        "point_head.norm.bias",
        "depth_head.projects.0.weight",
        "track_head.tracker.norm.weight",
    )
}


@pytest.fixture(scope="module")
def model() -> Vggt:
    return small_vggt(depth=11)  # two digits, so that block 1 cannot be mistaken for block 10


@pytest.fixture
def published(model) -> dict[str, Tensor]:
    return vggt.from_ours(model.state_dict())


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def linear(name: str, width_in: int, width_out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width_out, width_in), f"{name}.bias": (width_out,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def block(name: str) -> dict[str, tuple[int, ...]]:
    """A block of the published size, as DINOv2 and the aggregator share it."""
    return {
        **norm(f"{name}.norm1", 1024),
        **linear(f"{name}.attn.qkv", 1024, 3072),
        **linear(f"{name}.attn.proj", 1024, 1024),
        f"{name}.ls1.gamma": (1024,),
        **norm(f"{name}.norm2", 1024),
        **linear(f"{name}.mlp.fc1", 1024, 4096),
        **linear(f"{name}.mlp.fc2", 4096, 1024),
        f"{name}.ls2.gamma": (1024,),
    }


def test_the_published_size_has_its_1210_tensors_and_909_million_parameters():
    shapes = {
        "aggregator.camera_token": (1, 2, 1, 1024),
        "aggregator.register_token": (1, 2, 4, 1024),
        "aggregator.patch_embed.cls_token": (1, 1, 1024),
        "aggregator.patch_embed.pos_embed": (1, 1370, 1024),
        "aggregator.patch_embed.register_tokens": (1, 4, 1024),
        "aggregator.patch_embed.mask_token": (1, 1024),
        "aggregator.patch_embed.patch_embed.proj.weight": (1024, 3, 14, 14),
        "aggregator.patch_embed.patch_embed.proj.bias": (1024,),
        **norm("aggregator.patch_embed.norm", 1024),
    }
    for i in range(24):
        shapes |= block(f"aggregator.patch_embed.blocks.{i}")
        for kind in ("frame_blocks", "global_blocks"):
            name = f"aggregator.{kind}.{i}"
            shapes |= block(name) | norm(f"{name}.attn.q_norm", 64) | norm(f"{name}.attn.k_norm", 64)
    assert len(shapes) == 1210
    assert vggt.published_shapes(VGGT_1B) == shapes
    with torch.device("meta"):
        assert round(sum(x.numel() for x in Vggt(VGGT_1B).parameters()) / 1e6, 1) == 909.1


@pytest.mark.parametrize("prefix", vggt.PREFIXES)
def test_a_round_trip_changes_no_bit_whatever_stands_before_the_names(model, prefix):
    weights = dict(model.state_dict())
    foreign = vggt.from_ours(weights, prefix)
    assert f"{prefix}aggregator.global_blocks.10.attn.q_norm.weight" in foreign
    naming = naming_of(model.dino.model.state_dict())
    assert_same(vggt.to_ours(foreign, naming), weights)
    assert_same(vggt.from_ours(vggt.to_ours(foreign, "files"), prefix), foreign)
    assert all(vggt.is_vggt(name) for name in foreign)


@pytest.mark.parametrize("prefix", vggt.PREFIXES)
def test_a_model_of_published_weights_gives_the_same_features(model, prefix):
    images = torch.stack(random_views((2, 3), (2, 3)))
    heads = {prefix + name: x for name, x in HEADS.items()}
    built = vggt.build(vggt.from_ours(model.state_dict(), prefix) | heads, model.config)
    assert torch.equal(built.encode(images, [10])[0], model.encode(images, [10])[0])
    assert not built.training


def test_queries_keys_and_values_lie_in_this_order(model, published):
    query, key, value = published["aggregator.patch_embed.blocks.0.attn.qkv.bias"].split(16)
    attention = vggt.to_ours(published, "modules")
    for part, expected in (("q", query), ("k", key), ("v", value)):
        assert torch.equal(attention[f"dino.model.encoder.layer.0.attention.{part}_proj.bias"], expected)


def test_the_same_weights_under_two_prefixes_count_once(model, published):
    twice = published | {f"vggt.{name}": x.clone() for name, x in published.items()}
    assert_same(vggt.aggregator_of(twice), published)
    twice["vggt.aggregator.camera_token"] += 1
    del twice["aggregator.register_token"]
    with pytest.raises(ValueError, match=r"hold vggt\.aggregator and aggregator, which differ") as error:
        vggt.build(twice, model.config)
    assert str(error.value).splitlines()[1:] == ["  aggregator.{camera_token,register_token}"]


def test_missing_surplus_and_misshaped_weights_are_refused_by_name(model, published):
    del published["aggregator.frame_blocks.7.attn.k_norm.bias"]
    del published["aggregator.patch_embed.mask_token"]
    published["aggregator.global_blocks.11.norm1.weight"] = torch.zeros(16)
    published["aggregator.pose_token"] = torch.zeros(2)
    published["aggregator.patch_embed.pos_embed"] = torch.zeros(1, 26, 16)
    with pytest.raises(ValueError, match=r"the weights do not fit a VGGT of VggtConfig\(token_width=16") as error:
        vggt.build(published | HEADS, model.config)
    assert str(error.value).splitlines()[1:] == [
        "2 missing:",
        "  aggregator.frame_blocks.7.attn.k_norm.bias",
        "  aggregator.patch_embed.mask_token",
        "2 unexpected:",
        "  aggregator.global_blocks.11.norm1.weight",
        "  aggregator.pose_token",
        "1 of another shape:",
        "  aggregator.patch_embed.pos_embed: (1, 26, 16), the model has (1, 17, 16)",
    ]


def test_a_weight_beside_those_with_a_prefix_is_refused_by_its_whole_name(model):
    foreign = vggt.from_ours(model.state_dict(), "vggt.")
    with pytest.raises(ValueError, match="do not fit") as error:
        vggt.build(foreign | {"merger.ln_q.weight": torch.ones(4)}, model.config)
    assert str(error.value).splitlines()[1:] == ["1 unexpected:", "  merger.ln_q.weight"]


def test_a_checkpoint_without_a_vggt_is_missing_everything(model):
    with pytest.raises(ValueError, match=f"{len(vggt.published_shapes(model.config))} missing"):
        vggt.build({}, model.config)


def test_a_name_that_no_table_knows_is_reported(published):
    with pytest.raises(
        ValueError, match=r"1 of .* names do not belong to VGGT's aggregator:\n  aggregator\.pose_token"
    ):
        vggt.to_ours(published | {"aggregator.pose_token": torch.zeros(2)}, "files")


@pytest.mark.parametrize(
    "name", ["visual.blocks.0.norm1.weight", "model.language_model.norm.weight", "merger.mlp.0.bias"]
)
def test_what_stands_beside_a_vggt_in_a_checkpoint_is_none_of_it(name):
    assert not vggt.is_vggt(name)


@pytest.mark.parametrize("prefix", vggt.PREFIXES)
def test_the_shape_of_an_encoder_is_seen_in_its_weights(prefix):
    model = small_vggt()
    weights = vggt.from_ours(model.state_dict(), prefix) | {"lm_head.weight": torch.zeros(2)}
    assert vggt.config_of(weights) == model.config
    del weights[prefix + "aggregator.camera_token"]
    with pytest.raises(ValueError, match="names of a VGGT, too few to see its shape"):
        vggt.config_of(weights)


def test_an_encoder_of_another_width_is_named_in_one_line():
    weights = vggt.from_ours(small_vggt().state_dict())
    with pytest.raises(ValueError, match="token_width is 1024, but the encoder's weights are 16 wide") as error:
        vggt.build(weights, VGGT_1B)
    assert "\n" not in str(error.value)
