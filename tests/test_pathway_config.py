import json
from dataclasses import FrozenInstanceError, replace

import pytest

from g2vlm.pathway_config import (
    GeoAlign,
    NoPathway,
    PreDecoder,
    SpatialStack,
    bank,
    from_fields,
    orders,
    to_fields,
    usages,
)


def test_layers_go_in_pairs():
    assert SpatialStack().pairs == ((0, 11), (1, 17), (2, 23))


def test_the_ablations_of_the_paper_are_presets():
    made = orders()
    assert made["forward"] == SpatialStack()
    assert made["reverse"].pairs == ((0, 23), (1, 17), (2, 11))
    assert made["single"] == PreDecoder((23,))
    assert made["naive"] == PreDecoder((11, 17, 23))
    assert orders((1, 3), hidden_width=8)["forward"] == SpatialStack((0, 1), (1, 3), hidden_width=8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SpatialStack((0, 1, 2, 3), (11, 17, 23)),
            r"decoder_layers \(0, 1, 2, 3\) and encoder_layers \(11, 17, 23\) go in pairs, but there are 4 and 3",
        ),
        (lambda: SpatialStack((), ()), r"decoder_layers is \(\); name at least one layer"),
        (lambda: PreDecoder((-2,)), r"encoder_layers is \(-2,\); name at least one layer, counted from 0"),
        (lambda: PreDecoder(geometry_width=0), "geometry_width is 0; it must be 1 or more"),
        (lambda: SpatialStack(norm="batch"), r"norm is 'batch'; it must be one of \('layer', 'rms'\)"),
        (lambda: PreDecoder(fusion="film"), "fusion is 'film'; it must be one of"),
        (lambda: PreDecoder(merger="max"), "merger is 'max'; it must be one of"),
        (lambda: GeoAlign(top_k=13), "top_k is 13, but encoder_layers are 12; choose no more"),
        (lambda: GeoAlign(top_k=0), "top_k is 0; it must be 1 or more"),
        (lambda: GeoAlign(decoder_layers=()), r"decoder_layers is \(\); name each layer once"),
        (lambda: GeoAlign(decoder_layers=(9, 9)), r"decoder_layers is \(9, 9\); name each layer once"),
        (lambda: GeoAlign(decoder_layers=("post",)), r"decoder_layers is \('post',\); name each layer once"),
        (lambda: SpatialStack(("pre",), (11,)), r"decoder_layers is \('pre',\); name at least one layer"),
        (lambda: from_fields({"type": "PreDecoder", "encoder_layers": 22}), "encoder_layers is 22; name at least one"),
        (lambda: from_fields({"type": "PreDecoder", "geometry_width": "24"}), "geometry_width is '24'; it must be 1"),
        (lambda: GeoAlign(fusion="concat"), "fusion is 'concat'; it must be one of"),
        (lambda: GeoAlign(usage="max"), "usage is 'max'; it must be one of"),
        (lambda: from_fields({"type": "Telepathy"}), "type of the pathway is 'Telepathy'; it must be one of"),
        (lambda: from_fields({"type": "SpatialStack", "gate": 1}), "SpatialStack has no field gate"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "config",
    [
        NoPathway(),
        SpatialStack((0, 0), (3, 5)),
        PreDecoder(fusion="gated", norm="rms"),
        GeoAlign(decoder_layers=("pre", 9)),
    ],
)
def test_a_configuration_survives_json(config):
    assert from_fields(json.loads(json.dumps(to_fields(config)))) == config


def test_a_configuration_is_frozen():
    with pytest.raises(FrozenInstanceError):
        SpatialStack().norm = "rms"


def test_banks_end_with_the_last_layer_unless_they_are_the_first():
    assert bank("latter") == GeoAlign().encoder_layers == tuple(range(12, 24))
    assert bank("former") == tuple(range(12))
    assert bank("uniform") == tuple(range(1, 24, 2))
    assert bank("uniform", 8, 3) == (2, 4, 7)
    with pytest.raises(ValueError, match="size of the bank is 9, but the encoder has num_layers=8"):
        bank("latter", 8, 9)
    with pytest.raises(ValueError, match="bank is 'middle'; it must be one of"):
        bank("middle")


def test_what_is_made_of_a_bank_is_an_ablation():
    made = usages((1, 3, 5, 7), hidden_width=8)
    routed = GeoAlign(encoder_layers=(1, 3, 5, 7), hidden_width=8)
    assert made == {
        "none": NoPathway(),
        "single": replace(routed, encoder_layers=(5,), usage="mean"),
        "mean": replace(routed, usage="mean"),
        "top_1": replace(routed, top_k=1),
        "top_2": routed,
        "top_3": replace(routed, top_k=3),
        "dense": replace(routed, top_k=4),
    }
    assert usages()["single"].encoder_layers == (22,)
