import json

import pytest

from g2vlm.config import G2VLMConfig
from g2vlm.host_presets import PRESETS
from g2vlm.presets import tiny


def test_a_native_preset_is_printed_whole(run):
    outcome = run("config", "tiny")
    assert outcome.code == 0
    assert G2VLMConfig.from_dict(json.loads(outcome.out)).to_dict() == tiny().to_dict()


@pytest.mark.parametrize("name", PRESETS)
def test_a_host_is_printed_with_its_pathway_and_its_encoder(run, name):
    outcome = run("config", name)
    assert outcome.code == 0
    printed = json.loads(outcome.out)
    assert printed == json.loads(json.dumps(PRESETS[name]().to_fields()))
    assert printed["pathway"]["type"] in ("SpatialStack", "PreDecoder", "GeoAlign")
    assert printed["encoder"]["depth"] in (6, 24)


def test_an_unknown_preset_is_refused_with_the_names_there_are(run):
    outcome = run("config", "vgllm_40b")
    assert outcome.code == 2
    assert "PRESET is 'vgllm_40b'; it must be one of tiny, g2vlm_2b, spatialstack_qwen35_4b" in outcome.err
