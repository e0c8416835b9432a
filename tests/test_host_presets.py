import pytest
import torch
from hosts import prompts

from g2vlm import host_presets
from g2vlm.pathway_config import NoPathway, PreDecoder

QWEN25_VL_3B = 3_754_622_976
QWEN35_4B = 4_539_265_536
VGGT_1B = 909_112_320


def merger(width, norms):
    """Parameters of one published merger: norm, 4 x 2048 -> 4096 -> width."""
    return norms * 2048 + (8192 + 1) * 4096 + (4096 + 1) * width


@pytest.mark.parametrize(
    ("name", "model", "pathway", "encoder"),
    [
        ("spatialstack_qwen35_4b", QWEN35_4B, 3 * merger(2560, norms=2), VGGT_1B),
        ("spatialstack_qwen25_4b", QWEN25_VL_3B, 3 * merger(2048, norms=1), VGGT_1B),
        ("vgllm_4b", QWEN25_VL_3B, merger(2048, norms=1), VGGT_1B),
        ("spatialstack_qwen35_tiny", 3_906_880, 739_776, 1_633_728),
        ("spatialstack_qwen25_tiny", 3_896_064, 739_200, 1_633_728),
        ("vgllm_tiny", 3_896_064, 246_400, 1_633_728),
        # 12 norms; 8192 -> 4096 -> 2048; 2048 -> 512 -> 12; 2048 -> 2048
        ("geoalign_4b", QWEN25_VL_3B, 12 * 4096 + merger(2048, norms=0) + 1_049_088 + 6_156 + 4_196_352, VGGT_1B),
        ("geoalign_tiny", 3_896_064, 3 * 384 + 246_208 + 9_264 + 147 + 37_056, 1_633_728),
        ("native_tiny", 11_243_316, 739_776, 1_633_728),
    ],
)
def test_presets_have_the_parameters_they_should_have(name, model, pathway, encoder):
    with torch.device("meta"):
        host = host_presets.build(host_presets.PRESETS[name]())
    counted = [sum(x.numel() for x in part.parameters()) for part in (host.model, host.pathway, host.encoder)]
    assert counted == [model, pathway, encoder]


@pytest.mark.parametrize(
    "name", [name for name in host_presets.PRESETS if name.endswith("_tiny") and name != "native_tiny"]
)
def test_tiny_hosts_answer(name):
    torch.manual_seed(0)
    host = host_presets.build(host_presets.PRESETS[name]()).eval()
    family = host.model.config.model_type
    inputs = prompts(family, [(4, 6)], [(4, 4)]).inputs
    ids = inputs["input_ids"]
    inputs["input_ids"] = ids.masked_fill(ids == 92, host.model.config.image_token_id)
    with torch.no_grad():
        assert host(**inputs).logits.isfinite().all()


def test_another_pathway_can_be_put_on_the_same_host():
    naive = PreDecoder((11, 17, 23))
    assert host_presets.spatialstack_qwen35_4b(naive).pathway == naive
    assert host_presets.spatialstack_qwen25_tiny(NoPathway()).pathway == NoPathway()
