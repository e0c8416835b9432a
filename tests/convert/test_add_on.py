from dataclasses import replace

import pytest
import torch
from hosts import VGGT, move, small_vggt, stock

from g2vlm.convert import add_on, vggt
from g2vlm.convert.add_on import Parts, put_together, read_config, take_apart
from g2vlm.pathway_config import NoPathway, PreDecoder, SpatialStack
from g2vlm.pathways import build_pathway

SIZES = {"geometry_width": 2 * VGGT.token_width, "hidden_width": 12}
STACK = SpatialStack((0, 1, 1), (1, 3, 2), **SIZES)
SINGLE = PreDecoder((2,), norm="rms", **SIZES)
NAIVE = PreDecoder((1, 3), fusion="gated", **SIZES)
STACK_FIELDS = {
    "use_geometry_encoder": True,
    "geometry_encoder_type": "vggt",
    "feature_fusion_method": "deepstack_language_add",
    "geometry_fusion_layers": [0, 1, 1],
    "geometry_encoder_layers": [1, 3, 2],
    "reference_frame": "first",
    "include_camera_token": False,
}
PUBLISHED = [
    (STACK, "spatialstack_qwen35", "qwen3_5", STACK_FIELDS),
    (STACK, "spatialstack_qwen25", "qwen2_5_vl", STACK_FIELDS),
    (SINGLE, "vgllm", "qwen2_5_vl", {"use_vggt_feature": True, "reference_frame": "first"}),
    (
        NAIVE,
        "spatialstack_qwen25",
        "qwen2_5_vl",
        {"use_geometry_encoder": True, "feature_fusion_method": "gated", "geometry_encoder_layers": [1, 3]},
    ),
]
each_published = pytest.mark.parametrize(("config", "layout", "family", "fields"), PUBLISHED)


def parts_of(config, family):
    pathway = build_pathway(config, 32)
    move(pathway)
    return Parts(stock(family).state_dict(), pathway.state_dict(), vggt.from_ours(small_vggt().state_dict()))


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@each_published
@pytest.mark.parametrize("aliases", [False, True], ids=["once", "with aliases"])
def test_there_and_back_is_the_same(config, layout, family, fields, aliases):
    parts = parts_of(config, family)
    published = put_together(parts, config, layout, aliases=aliases)
    back = take_apart(published, config)
    assert equal(back.stock, parts.stock)
    assert equal(back.pathway, parts.pathway)
    assert equal(back.encoder, parts.encoder)


@each_published
def test_config_json_and_weights_say_which_pathway_it_is(config, layout, family, fields):
    published = put_together(parts_of(config, family), config, layout, aliases=True)
    assert read_config(fields, published, VGGT) == config


@pytest.mark.parametrize(("layout", "aliases", "names"), [
    ("spatialstack_qwen35", True, {
        "model.language_feature_fusion.fusion_layers.1.1.geo_ln.bias",
        "language_feature_fusion.fusion_layers.0.0.geo_mlp.0.weight",
        "model.geometry_encoder.vggt.aggregator.camera_token",
        "geometry_encoder.vggt.aggregator.camera_token",
        "model.language_model.layers.0.linear_attn.A_log",
    }),
    ("spatialstack_qwen25", True, {
        "multi_layer_feature_fusion.fusion_layers.1.1.geo_mlp.2.bias",
        "language_feature_fusion.fusion_layers.0.0.geo_ln.weight",
        "geometry_encoder.vggt.aggregator.frame_blocks.3.attn.q_norm.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "visual.merger.ln_q.weight",
    }),
])  # fmt: skip
def test_names_are_those_that_were_published(layout, aliases, names):
    family = "qwen3_5" if layout == "spatialstack_qwen35" else "qwen2_5_vl"
    assert names <= put_together(parts_of(STACK, family), STACK, layout, aliases=aliases).keys()


def test_vgllm_puts_its_merger_beside_the_model():
    published = put_together(parts_of(SINGLE, "qwen2_5_vl"), SINGLE, "vgllm")
    assert {"merger.ln_q.weight", "merger.mlp.2.bias", "visual.merger.mlp.0.weight"} <= published.keys()
    assert "vggt.aggregator.camera_token" in published


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_mergers_are_found_under_the_first_prefix_that_has_them(prefix):
    parts = parts_of(STACK, "qwen3_5")
    published = put_together(parts, STACK, "spatialstack_qwen35", aliases=True)
    other = "model.language_feature_fusion." if prefix == "" else "language_feature_fusion."
    once = {name: x for name, x in published.items() if not name.startswith(other)}
    assert equal(take_apart(once, STACK).pathway, parts.pathway)


def test_copies_that_differ_are_refused():
    published = put_together(parts_of(STACK, "qwen3_5"), STACK, "spatialstack_qwen35", aliases=True)
    name = "language_feature_fusion.fusion_layers.0.0.geo_ln.bias"
    published[name] = published[name] + 1
    with pytest.raises(ValueError, match=f"{name} stands in the weights under another prefix too, and differs"):
        take_apart(published, STACK)


def test_what_serves_training_alone_is_left_out():
    parts = parts_of(SINGLE, "qwen2_5_vl")
    published = put_together(parts, SINGLE, "vgllm") | {
        name: torch.zeros(1)
        for name in (
            "vggt.point_head.norm.weight",
            "vggt.depth_head.norm.bias",
            "decompresser.0.weight",
            "dpt_module.x",
        )
    }
    back = take_apart(published, SINGLE)
    assert equal(back.stock, parts.stock)
    assert equal(back.encoder, parts.encoder)


def test_the_kind_of_norm_is_read_off_the_weights():
    rms = SpatialStack((0,), (1,), norm="rms", **SIZES)
    fields = STACK_FIELDS | {"geometry_fusion_layers": [0], "geometry_encoder_layers": [1]}
    published = put_together(parts_of(rms, "qwen3_5"), rms, "spatialstack_qwen35")
    assert read_config(fields, published, VGGT).norm == "rms"


def test_one_layer_before_the_decoder_is_the_last_but_one_unless_it_is_named():
    published = put_together(parts_of(SINGLE, "qwen2_5_vl"), SINGLE, "spatialstack_qwen25")
    fields = {"use_geometry_encoder": True, "feature_fusion_method": "add"}
    assert read_config(fields, published, VGGT) == SINGLE
    assert read_config(fields | {"geometry_encoder_layers": [3]}, published, VGGT).encoder_layers == (3,)


def test_any_reference_frame_but_the_first_is_the_last():
    assert add_on.read_encoder_config({"reference_frame": "first"}, VGGT) == VGGT
    assert add_on.read_encoder_config({}, VGGT) == VGGT
    assert add_on.read_encoder_config({"reference_frame": "middle"}, VGGT).reference_frame == "last"


def test_a_stock_config_is_left_when_the_fields_of_the_pathway_are_taken_out():
    assert add_on.stock_fields(STACK_FIELDS | {"model_type": "qwen3_5", "architectures": ["X"]}) == {
        "model_type": "qwen3_5"
    }
    assert add_on.is_add_on(STACK_FIELDS)
    assert not add_on.is_add_on({"model_type": "qwen3_5"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"geometry_fusion_layers": [0, 1, 2]},
            r"geometry_fusion_layers is \(0, 1, 2\), but the weights hold mergers of the decoder layers \(0, 1, 1\)",
        ),
        (
            {"geometry_fusion_layers": [0, 1, 1, 2]},
            r"geometry_fusion_layers \(0, 1, 1, 2\) and geometry_encoder_layers \(1, 3, 2\) go in pairs, but there are 4 and 3",
        ),
        (
            {"use_geometry_encoder": False},
            "use_geometry_encoder is false in config.json, but the weights hold a pathway",
        ),
        ({"geometry_encoder_type": "pi3"}, "geometry_encoder_type is 'pi3' in config.json; supported is 'vggt'"),
        ({"include_camera_token": True}, "include_camera_token is True in config.json; supported is False"),
        ({"feature_fusion_method": "deepstack_vision_add"}, "feature_fusion_method is 'deepstack_vision_add'"),
        ({"vision_language_fusion_layers": [3]}, r"vision_language_fusion_layers is \[3\]"),
    ],
)
def test_fields_that_do_not_fit_the_weights_or_are_not_supported_are_refused(changes, message):
    published = put_together(parts_of(STACK, "qwen3_5"), STACK, "spatialstack_qwen35")
    with pytest.raises(ValueError, match=message):
        read_config(STACK_FIELDS | changes, published, VGGT)


def test_geometry_without_mergers_is_refused():
    with pytest.raises(ValueError, match="asks for geometry, but the weights hold no merger"):
        read_config(STACK_FIELDS, stock("qwen3_5").state_dict(), VGGT)


@pytest.mark.parametrize("config", [NoPathway(), SINGLE, SpatialStack((0, 1), (1, 3), **SIZES)])
def test_mergers_of_another_pathway_are_named(config):
    published = put_together(parts_of(STACK, "qwen3_5"), STACK, "spatialstack_qwen35")
    with pytest.raises(ValueError, match=r"names of another pathway.*\n.*language_feature_fusion"):
        take_apart(published, config)


def test_what_guesses_several_tokens_at_once_is_skipped_and_reported(caplog):
    parts = parts_of(STACK, "qwen3_5")
    extra = {"mtp.fc.weight": torch.zeros(2), "mtp.layers.0.mlp.up_proj.weight": torch.zeros(2)}
    published = put_together(parts, STACK, "spatialstack_qwen35") | extra
    with caplog.at_level("INFO", "g2vlm"):
        back = take_apart(published, STACK)
    assert equal(back.stock, parts.stock)
    assert "2 weights of multi-token prediction are not used" in caplog.text
    assert "mtp.fc.weight" in caplog.text


def test_a_way_of_fusing_that_is_not_that_of_the_weights_is_named():
    layered = put_together(parts_of(STACK, "qwen3_5"), STACK, "spatialstack_qwen35")
    before = put_together(parts_of(NAIVE, "qwen2_5_vl"), NAIVE, "spatialstack_qwen25")
    with pytest.raises(ValueError, match=r"feature_fusion_method is 'add' .* hold mergers of 'deepstack_language_add'"):
        read_config(STACK_FIELDS | {"feature_fusion_method": "add"}, layered, VGGT)
    with pytest.raises(
        ValueError, match=r"feature_fusion_method is 'deepstack_language_add' .* mergers before the decoder"
    ):
        read_config(STACK_FIELDS, before, VGGT)
    with pytest.raises(
        ValueError, match=r"2 x token_width 20\), but the mergers in the weights read 128 numbers, 4 x 32"
    ):
        read_config(STACK_FIELDS, layered, replace(VGGT, token_width=20, num_heads=1, dino_num_heads=1))
