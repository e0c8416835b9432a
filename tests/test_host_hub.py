import json
from dataclasses import replace

import pytest
import torch
from hosts import CHANNELS, FAMILIES, VGGT, PatchEncoder, host_of, move, prompts, small_vggt, stock
from readers import pictures_of, saved, tokenizer_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from g2vlm.convert import vggt
from g2vlm.convert.add_on import Parts, put_together
from g2vlm.host import Host
from g2vlm.host_hub import PATHWAY_FILE, is_host, load_host, save_host
from g2vlm.host_processor import read_host_processor
from g2vlm.pathway_config import NoPathway, PreDecoder, SpatialStack

SIZES = {"geometry_width": 2 * VGGT.token_width, "hidden_width": 12}
STACK = SpatialStack((0, 2), (1, 3), **SIZES)
SINGLE = PreDecoder((2,), norm="rms", **SIZES)
each_family = pytest.mark.parametrize("family", FAMILIES)
each_config = pytest.mark.parametrize("config", [STACK, SINGLE], ids=["stack", "single"])


def hosting(family, config, encoder=None):
    host = Host(stock(family), config, encoder or small_vggt())
    move(host.pathway)
    return host


@torch.no_grad()
def logits(host):
    family = host.model.config.model_type
    return host(**prompts(family, [(2, 4), (4, 6)], [(4, 4)]).inputs).logits


@each_family
@each_config
def test_what_is_saved_with_its_encoder_says_the_same_when_it_is_loaded(family, config, tmp_path):
    host = hosting(family, config, small_vggt(replace(VGGT, reference_frame="last")))
    save_host(host, tmp_path / "host", with_encoder=True)
    loaded = load_host(tmp_path / "host")
    assert is_host(tmp_path / "host")
    assert loaded.config == config
    assert loaded.encoder.config.reference_frame == "last"
    assert torch.equal(logits(loaded), logits(host))
    assert not loaded.training


@each_family
def test_the_stock_model_in_the_folder_is_a_stock_model(family, tmp_path):
    host = hosting(family, STACK)
    save_host(host, tmp_path / "host")
    model, report = AutoModelForImageTextToText.from_pretrained(tmp_path / "host", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected, found = host.model.state_dict(), model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_encoder_is_written_only_on_request_and_then_comes_from_where_it_was_published(tmp_path):
    host = hosting("qwen2_5_vl", STACK)
    save_host(host, tmp_path / "host")
    assert not (tmp_path / "host" / "encoder.safetensors").exists()
    (tmp_path / "vggt").mkdir()
    save_file(vggt.from_ours(host.encoder.state_dict()), tmp_path / "vggt" / "model.safetensors")
    for encoder in (tmp_path / "vggt", host.encoder):
        assert torch.equal(logits(load_host(tmp_path / "host", encoder=encoder)), logits(host))


def test_another_encoder_has_to_be_given(tmp_path):
    config = replace(STACK, geometry_width=CHANNELS)
    host = host_of("qwen2_vl", config)
    save_host(host, tmp_path / "host")
    with pytest.raises(ValueError, match="read an encoder other than VGGT; pass it as encoder="):
        load_host(tmp_path / "host")
    assert torch.equal(logits(load_host(tmp_path / "host", encoder=PatchEncoder())), logits(host))
    with pytest.raises(ValueError, match="the encoder is PatchEncoder; only a VGGT is written"):
        save_host(host, tmp_path / "other", with_encoder=True)


def test_a_host_without_a_pathway_survives(tmp_path):
    save_host(Host(stock("qwen3_5"), NoPathway()), tmp_path / "host")
    loaded = load_host(tmp_path / "host")
    assert loaded.config == NoPathway()
    inputs = prompts("qwen3_5", [(2, 4)]).without_geometry()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, stock("qwen3_5")(**inputs).logits)


def test_tied_embeddings_are_stored_once_and_stay_tied(tmp_path):
    host = hosting("qwen2_5_vl", STACK)
    host.model.config.tie_word_embeddings = True
    host.model.lm_head.weight = host.model.get_input_embeddings().weight
    save_host(host, tmp_path / "host", with_encoder=True)
    assert "lm_head.weight" not in load_file(tmp_path / "host" / "model.safetensors")
    loaded = load_host(tmp_path / "host")
    assert loaded.model.lm_head.weight is loaded.model.get_input_embeddings().weight
    assert torch.equal(logits(loaded), logits(host))


def write_published(host, layout, fields, folder, *, aliases=False):
    folder.mkdir()
    parts = Parts(host.model.state_dict(), host.pathway.state_dict(), vggt.from_ours(host.encoder.state_dict()))
    weights = {n: x.clone().contiguous() for n, x in put_together(parts, host.config, layout, aliases=aliases).items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(host.model.config.to_dict() | fields))
    return folder


PUBLISHED = [
    (
        "qwen3_5",
        STACK,
        "spatialstack_qwen35",
        {
            "use_geometry_encoder": True,
            "feature_fusion_method": "deepstack_language_add",
            "geometry_fusion_layers": [0, 2],
            "geometry_encoder_layers": [1, 3],
            "architectures": ["Qwen3_5ForConditionalGenerationWithGeometry"],
        },
    ),
    ("qwen2_5_vl", SINGLE, "vgllm", {"use_vggt_feature": True}),
]


@pytest.mark.parametrize(("family", "config", "layout", "fields"), PUBLISHED)
@pytest.mark.parametrize("aliases", [False, True])
def test_published_checkpoints_are_read_and_saved_as_ours(family, config, layout, fields, aliases, tmp_path):
    host = hosting(family, config)
    folder = write_published(host, layout, fields, tmp_path / "published", aliases=aliases)
    loaded = load_host(folder)
    assert is_host(folder)
    assert loaded.encoder.config == VGGT
    assert torch.equal(logits(loaded), logits(host))
    save_host(loaded, tmp_path / "ours", with_encoder=True)
    assert "use_geometry_encoder" not in (tmp_path / "ours" / "config.json").read_text()
    assert torch.equal(logits(load_host(tmp_path / "ours")), logits(host))


def test_a_folder_whose_pathway_differs_from_its_weights_is_refused(tmp_path):
    save_host(hosting("qwen2_vl", STACK), tmp_path / "host", with_encoder=True)
    path = tmp_path / "host" / PATHWAY_FILE
    stored = json.loads(path.read_text())
    stored["pathway"]["decoder_layers"], stored["pathway"]["encoder_layers"] = [0], [1]
    path.write_text(json.dumps(stored))
    with pytest.raises(
        ValueError, match=r"encoder_layers is \(1,\), 1 in all, but the weights are for 2; use the pathway"
    ):
        load_host(tmp_path / "host")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.pop("pathway"), r"pathway\.json: no pathway; copy it again"),
        (lambda stored: stored.pop("encoder"), r"pathway\.json: no encoder; copy it again"),
        (lambda stored: stored["encoder"].update(eyes=2), "VggtConfig has no field eyes; remove it"),
        (
            lambda stored: stored.update(encoder="eyes"),
            "encoder is 'eyes'; it must be null, 'own_expert' or the fields",
        ),
    ],
)
def test_a_damaged_description_of_a_pathway_is_refused(change, message, tmp_path):
    save_host(hosting("qwen2_vl", STACK), tmp_path / "host")
    path = tmp_path / "host" / PATHWAY_FILE
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=message):
        load_host(tmp_path / "host")


@pytest.mark.parametrize("missing", ["mergers.1.fc2.bias", "mergers.0.fc1.weight"])
def test_what_is_missing_of_a_pathway_is_listed(missing, tmp_path):
    save_host(hosting("qwen2_vl", STACK), tmp_path / "host", with_encoder=True)
    path = tmp_path / "host" / "pathway.safetensors"
    save_file({name: x for name, x in load_file(path).items() if name != missing}, path)
    with pytest.raises(ValueError, match=rf"(?s)do not fit the pathway SpatialStack.*missing.*{missing}"):
        load_host(tmp_path / "host")


def test_files_of_tokenizer_and_processor_are_written_beside(tmp_path):
    made = saved("qwen3_5", tmp_path / "host")
    processor = read_host_processor(tmp_path / "host", made.model.config)
    assert processor.tokenizer.chat_template == tokenizer_of("qwen3_5").chat_template
    assert processor.eye.processor.size == pictures_of("qwen3_5").size


def test_missing_weights_of_the_stock_model_are_listed(tmp_path):
    save_host(hosting("qwen3_5", STACK), tmp_path / "host", with_encoder=True)
    path = tmp_path / "host" / "model.safetensors"
    weights = load_file(path)
    del weights["model.language_model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"(?s)a stock qwen3_5.*missing.*layers.1.mlp.up_proj"):
        load_host(tmp_path / "host")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    host = hosting("qwen2_vl", STACK)
    with torch.no_grad():
        host.pathway.mergers[1].fc1.bias[3] = torch.nan
    save_host(host, tmp_path / "host", with_encoder=True)
    with pytest.raises(ValueError, match=r"1 weights hold NaN or infinity.*\n.*mergers.1.fc1.bias"):
        load_host(tmp_path / "host")


def test_a_stock_folder_is_no_host(tmp_path):
    stock("qwen2_vl").save_pretrained(tmp_path)
    assert not is_host(tmp_path)
    with pytest.raises(ValueError, match="this is not a host's checkpoint"):
        load_host(tmp_path)


def test_encoders_weights_stay_frozen_and_a_type_can_be_asked_for(tmp_path):
    save_host(hosting("qwen2_vl", STACK), tmp_path / "host", with_encoder=True)
    loaded = load_host(tmp_path / "host", dtype=torch.bfloat16)
    assert loaded.model.dtype == loaded.pathway.mergers[0].fc1.weight.dtype == torch.bfloat16
    assert loaded.encoder.camera_token.dtype == torch.float32
    assert not any(x.requires_grad for x in loaded.encoder.parameters())
    assert logits(loaded).isfinite().all()
