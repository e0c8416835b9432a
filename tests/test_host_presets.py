import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from g2vlm import host_presets
from g2vlm.encoders.vggt import Vggt
from g2vlm.host import Host
from g2vlm.model import G2VLM

VGGT_1B, TINY_VGGT, TINY = 909_112_320, 514_944, 11_243_316
"""As counted; those of pathways are put together by hand."""


@pytest.mark.parametrize(
    ("name", "model", "pathway", "encoder"),
    [
        # 12 norms; 8192 -> 4096 -> 2048; 2048 -> 512 -> 12; 2048 -> 2048
        ("geoalign_4b", 3_754_622_976, 12 * 4096 + 33_558_528 + 8_390_656 + 1_049_088 + 6_156 + 4_196_352, VGGT_1B),
        ("tiny_geo_align", TINY, 3 * 256 + 131_328 + 49_344 + 9_264 + 147 + 37_056, TINY_VGGT),
        ("tiny_spatial_stack", TINY, 3 * (256 + 131_328 + 49_344), TINY_VGGT),
        ("tiny_vgllm", TINY, 128 + 131_328 + 49_344, TINY_VGGT),
    ],
)
def test_every_preset_is_built_at_its_size(name, model, pathway, encoder):
    preset = getattr(host_presets, name)()
    kind = G2VLM if preset.model.model_type == "g2vlm" else Qwen2_5_VLForConditionalGeneration
    with torch.device("meta"):
        host = Host(kind(preset.model), preset.pathway, Vggt(preset.encoder))
    counts = [sum(x.numel() for x in part.parameters()) for part in (host.model, host.pathway, host.encoder)]
    assert counts == [model, pathway, encoder]
