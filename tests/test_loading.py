"""One load for whatever lies in a folder: what comes out answers, or says why it cannot be."""

import pytest
import torch
from hosts import PatchEncoder
from readers import saved
from test_answering import LENGTH, PHOTOS, QUESTION
from test_answering import said as all_said
from test_answering_host import hosted

import g2vlm
from g2vlm import hub
from g2vlm.host_hub import save_host
from g2vlm.host_predictor import HostPredictor
from g2vlm.predictor import Predictor


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock") / "host"
    saved("qwen2_vl", folder)
    return folder


def test_a_native_host_answers_from_its_folder(tmp_path):
    made = hosted(encoder=PatchEncoder())
    save_host(made.host, tmp_path / "host", tokenizer=made.processor.tokenizer)
    loaded = g2vlm.load(tmp_path / "host", device="cpu", encoder=PatchEncoder())
    assert isinstance(loaded, Predictor)
    assert loaded.host is not None
    expected = made.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH)
    assert all_said(loaded.answer(PHOTOS, QUESTION, max_new_tokens=LENGTH)) == all_said(expected)
    with pytest.raises(ValueError, match=r"thinking: .* is a G2VLM, which reads as such; leave it out"):
        g2vlm.load(tmp_path / "host", encoder=PatchEncoder(), thinking=True)


def test_a_stock_host_answers_from_its_folder(stock):
    loaded = g2vlm.load(str(stock), device="cpu", dtype="bfloat16")
    assert isinstance(loaded, HostPredictor)
    assert loaded.source == str(stock)
    assert loaded.host.model.dtype == torch.bfloat16
    assert loaded.host.encoder.camera_token.dtype == torch.float32


def test_every_file_of_weights_counts_in_the_checksum(stock):
    files = [stock / f"{name}.safetensors" for name in ("model", "pathway", "encoder")]
    assert g2vlm.load(stock, device="cpu").checkpoint_sha256 == hub.sha256_of(files)


def test_other_models_are_loaded_as_ever():
    model = g2vlm.load(device="cpu")
    assert isinstance(model, Predictor)
    assert model.host is None


def test_an_option_that_a_model_does_not_have_is_named(stock):
    with pytest.raises(ValueError, match=r"min_pixels, encoder: .* is no host of a geometry pathway; leave it out"):
        g2vlm.load(min_pixels=3, encoder=PatchEncoder())
    with pytest.raises(ValueError, match=r"attention is 'flex', but .* attends by 'sdpa'"):
        g2vlm.load(stock, attention="flex")
