import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import roma.mappings
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from g2vlm import hub, presets
from g2vlm.config import G2VLMConfig, TokenIds
from g2vlm.convert import official, vggt
from g2vlm.convert.dinov2 import from_transformers
from g2vlm.geometry.rotation import rotation_from_nine
from g2vlm.model import G2VLM
from g2vlm.processor import byte_tokenizer
from tests.builders import released_config, small_config, small_model, small_vggt


@pytest.fixture(scope="module")
def model() -> G2VLM:
    return small_model()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(model, tmp_path) -> Path:
    """A saved model in our own layout."""
    hub.save(model, tmp_path / "model")
    return tmp_path / "model"


def weights_of(folder: Path) -> dict[str, Tensor]:
    return hub.read_weights(hub.weight_files(folder))


def rewrite(folder: Path, **changes: Tensor | None) -> None:
    """Change or (None) remove weights of a saved model; two underscores stand for a dot."""
    weights = weights_of(folder)
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        weights.pop(name, None)
        if tensor is not None:
            weights[name] = tensor
    save_file(weights, folder / "model.safetensors")


def assert_same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, x in left.items():
        y = right[name]
        assert (x.dtype, x.shape) == (y.dtype, y.shape), name
        assert x.contiguous().view(torch.uint8).equal(y.contiguous().view(torch.uint8)), name


# Saving and loading our own layout


def test_a_saved_model_comes_back_bit_for_bit(model, folder):
    loaded = hub.load_model(folder)
    assert_same_bits(dict(loaded.state_dict()), dict(model.state_dict()))
    assert loaded.config.to_dict() == model.config.to_dict()
    assert not loaded.training


def test_a_loaded_model_gives_the_same_numbers(model, folder):
    loaded = hub.load_model(folder)
    assert hub.record_known_answer(loaded) == hub.record_known_answer(model)


def test_tied_weights_are_stored_once_and_tied_again(tmp_path):
    tied = small_model(small_config(tie_word_embeddings=True))
    hub.save(tied, tmp_path / "model")
    assert "lm_head.weight" not in weights_of(tmp_path / "model")
    loaded = hub.load_model(tmp_path / "model")
    assert loaded.lm_head.weight is loaded.embed_tokens.weight
    assert loaded.lm_head.weight.equal(tied.lm_head.weight)


def test_shards_are_written_with_an_index_and_read_together(model, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "MAX_SHARD", "100KB")
    hub.save(model, tmp_path / "model")
    paths = hub.weight_files(tmp_path / "model")
    assert len(paths) > 2
    assert_same_bits(dict(hub.load_model(tmp_path / "model").state_dict()), dict(model.state_dict()))
    paths[1].unlink()
    with pytest.raises(ValueError, match=paths[1].name):
        hub.load_model(tmp_path / "model")


def test_names_in_files_do_not_depend_on_the_version_of_transformers(folder):
    names = [name for name in weights_of(folder) if name.startswith("dino.model.encoder.layer.1.attention")]
    assert sorted(
        {name.removesuffix(".weight").removesuffix(".bias").partition("attention.")[2] for name in names}
    ) == [
        "attention.key",
        "attention.query",
        "attention.value",
        "output.dense",
    ]


def test_a_transformers_that_keeps_the_names_of_the_files_in_memory_is_served_too(folder, monkeypatch):
    state_dict = nn.Module.state_dict
    weights = weights_of(folder)
    model = hub.empty(small_config())

    def older(self: nn.Module, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        return from_transformers(state_dict(self, *args, **kwargs), "files")

    monkeypatch.setattr(model.dino.model, "state_dict", lambda: older(model.dino.model))
    assert hub.names_in_memory(weights, model).keys() == weights.keys()


def test_weights_can_be_rounded_when_they_are_saved_and_when_they_are_loaded(model, tmp_path):
    hub.save(model, tmp_path / "model", dtype=torch.bfloat16)
    kept = hub.load_model(tmp_path / "model")
    widened = hub.load_model(tmp_path / "model", dtype=torch.float32)
    assert {x.dtype for x in kept.parameters()} == {torch.bfloat16}
    assert {x.dtype for x in widened.parameters()} == {torch.float32}
    assert widened.lm_head.weight.equal(model.lm_head.weight.bfloat16().float())


def test_weights_in_their_own_dtype_are_mapped_not_copied(folder):
    checkpoint = hub.read_checkpoint(folder)
    loaded = hub.build(checkpoint)
    assert loaded.embed_tokens.weight.data_ptr() == checkpoint.weights["embed_tokens.weight"].data_ptr()


def test_pickled_tensors_are_read_and_pickled_code_is_not(model, folder):
    (folder / "model.safetensors").unlink()
    torch.save(hub.stored_weights(model), folder / "pytorch_model.bin")
    assert_same_bits(dict(hub.load_model(folder).state_dict()), dict(model.state_dict()))
    torch.save({"code": print}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="could run code"):
        hub.load_model(folder)
    torch.save({"model": hub.stored_weights(model)}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="something else than named tensors"):
        hub.load_model(folder)


# What does not fit


def test_everything_that_differs_is_reported_at_once(folder):
    rewrite(
        folder,
        decoder__layers__0__semantic__q__weight=None,
        decoder__layers__1__semantic__q__weight=None,
        decoder__layers__0__semantic__extra=torch.zeros(1),
        dino_projection__bias=torch.zeros(3),
    )
    with pytest.raises(ValueError, match="do not fit") as error:
        hub.load_model(folder)
    report = str(error.value).splitlines()
    assert "  decoder.layers.{0-1}.semantic.q.weight" in report
    assert "  decoder.layers.0.semantic.extra" in report
    assert "  dino_projection.bias: (3,), the model has (32,)" in report
    assert [line.partition(" ")[0] for line in report if line.endswith(":")] == ["2", "1", "1"]


def test_a_released_checkpoint_is_strict_too(tmp_path):
    released = write_released(tmp_path)
    weights = weights_of(released)
    del weights["dino2llm.weight"]
    save_file(weights, released / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 missing .*:\n  dino_projection\.weight"):
        hub.load_model(released)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(folder, number):
    bad = weights_of(folder)["heads.points.proj.bias"].clone()
    bad[1] = number
    rewrite(folder, heads__points__proj__bias=bad)
    with pytest.raises(ValueError, match=r"heads\.points\.proj\.bias"):
        hub.load_model(folder)


def test_a_truncated_file_is_named(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a whole file"):
        hub.load_model(folder)


def test_a_damaged_configuration_is_named(folder):
    (folder / "config.json").write_text('{"model_type": "g2v')
    with pytest.raises(ValueError, match=r"config\.json: not valid JSON"):
        hub.load_model(folder)


def test_a_folder_of_something_else_is_named(tmp_path):
    with pytest.raises(ValueError, match="weight files found: none"):
        hub.load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"no config\.json"):
        hub.load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="'bert'"):
        hub.load_model(tmp_path)


# New parameters


def test_a_new_head_starts_fresh_when_it_is_asked_for_by_name(model, tmp_path, caplog):
    plain = small_model(small_config(heads={"normals": False}))
    hub.save(plain, tmp_path / "model")
    with pytest.raises(ValueError, match=r"heads\.normals\.proj"):
        hub.load_model(tmp_path / "model", heads={"normals": True})
    loaded = hub.load_model(tmp_path / "model", heads={"normals": True}, new=("heads.normals",))
    assert loaded.heads.normals is not None
    assert all(x.isfinite().all() and not x.is_meta for x in loaded.parameters())
    assert loaded.heads.normals.proj.bias.equal(torch.zeros_like(loaded.heads.normals.proj.bias))
    assert loaded.heads.points.proj.weight.equal(plain.heads.points.proj.weight)
    assert "heads.normals.proj.{bias,weight}" in caplog.text


def test_a_name_covers_whole_parts_of_names_only(folder):
    rewrite(folder, dino_projection__weight=None)
    with pytest.raises(ValueError, match="missing"):
        hub.load_model(folder, new=("dino", "projection", "proj"))
    assert hub.load_model(folder, new=("dino_projection",)).dino_projection.weight.std() > 0


def test_a_missing_weight_leaves_its_neighbour_in_the_module_as_it_was(folder, model):
    rewrite(folder, dino_projection__weight=None)
    assert hub.load_model(folder, new=("dino_projection",)).dino_projection.bias.equal(model.dino_projection.bias)


def test_new_parts_of_an_encoder_get_that_encoders_start_values(folder):
    rewrite(
        folder,
        dino__model__embeddings__register_tokens=None,
        dino__model__encoder__layer__0__layer_scale1__lambda1=None,
    )
    encoder = hub.load_model(folder, new=("register_tokens", "lambda1")).dino.model
    assert encoder.embeddings.register_tokens.equal(torch.zeros(1, 4, 16))
    assert encoder.get_parameter("encoder.layer.0.layer_scale1.lambda1").equal(torch.ones(16))


def test_an_option_that_does_not_exist_is_refused(folder):
    with pytest.raises(ValueError, match="visibilty"):
        hub.load_model(folder, visibilty="frame")
    with pytest.raises(ValueError, match="'fast'"):
        hub.load(folder, attention="fast")  # pyright: ignore[reportArgumentType]


# Known answer


def test_a_recorded_answer_is_verified(model, tmp_path):
    hub.save(model, tmp_path / "model", known_answer=True)
    hub.load_model(tmp_path / "model")
    swapped = weights_of(tmp_path / "model")["decoder.layers.1.geometric.mlp.up.weight"].flip(0)
    rewrite(tmp_path / "model", decoder__layers__1__geometric__mlp__up__weight=swapped)
    with pytest.raises(ValueError, match=r"\[\d\] should be -?\d+\.\d+, but the model computes -?\d+\.\d+"):
        hub.load_model(tmp_path / "model")


@pytest.mark.parametrize(
    "part", ["vision.model.merger.mlp.2.weight", "dino_projection.weight", "lm_head.weight", "heads.normals.proj.bias"]
)
def test_every_part_counts_for_the_answer(model, tmp_path, part):
    hub.save(model, tmp_path / "model", known_answer=True)
    weights = weights_of(tmp_path / "model")
    save_file(weights | {part: weights[part] * 1.05}, tmp_path / "model" / "model.safetensors")
    with pytest.raises(ValueError, match="should be"):
        hub.load_model(tmp_path / "model")


def test_rounded_weights_keep_their_own_answer(model, tmp_path):
    hub.save(model, tmp_path / "model", dtype=torch.bfloat16, known_answer=True)
    assert hub.load_model(tmp_path / "model").dtype == torch.bfloat16


def test_an_answer_is_not_asked_of_a_model_that_was_changed_on_purpose(tmp_path):
    hub.save(small_model(small_config(heads={"normals": False})), tmp_path / "model", known_answer=True)
    hub.load_model(tmp_path / "model", heads={"normals": True}, new=("heads.normals",))
    hub.load_model(tmp_path / "model", view_positions="sequential")
    assert hub.load_model(tmp_path / "model", attention="flex").config.attention == "flex"


def test_a_model_can_be_trained_after_its_answer_was_checked(model):
    for function in vars(roma.mappings).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    hub.record_known_answer(model)
    numbers = torch.randn(1, 9, requires_grad=True)
    rotation_from_nine(numbers).sum().backward()


# Finding


def test_a_name_that_is_almost_right_gets_a_suggestion(folder):
    with pytest.raises(ValueError, match=r"did you mean tiny\?"):
        hub.find("tinny")
    with pytest.raises(ValueError, match=r"did you mean .*/model"):
        hub.find(str(folder.with_name("modle")))
    with pytest.raises(ValueError, match="known names"):
        hub.find("something else")


def test_without_a_network_a_repository_gets_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="did you mean InternRobotics/G2VLM-2B-MoT") as error:
        hub.find("internrobotics/g2vlm-2b-mot")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="check the connection"):
        hub.find("InternRobotics/G2VLM-2B-MoT")


def test_a_file_is_not_a_folder(folder):
    with pytest.raises(ValueError, match="is a file"):
        hub.find(folder / "model.safetensors")


# The checkpoint hash


def test_the_hash_is_that_of_the_shell(folder, tmp_path):
    path = folder / "model.safetensors"
    assert hub.sha256_of([path]) == hashlib.sha256(path.read_bytes()).hexdigest()
    other = folder / "other.safetensors"
    other.write_bytes(b"other")
    listed = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in (path, other))
    assert hub.sha256_of([path, other]) == hashlib.sha256(listed.encode()).hexdigest()


# Predictors


def test_loading_gives_a_predictor_that_knows_where_it_came_from(tmp_path):
    bytes_model = small_model(
        small_config(
            text={"vocab_size": 270},
            tokens=TokenIds(
                bos=256, eos=257, vision_start=258, vision_end=259, view_patch=260, image_patch=261, newline=10, pad=262
            ),
        )
    )
    hub.save(bytes_model, tmp_path / "model", known_answer=True)
    predictor = hub.load(tmp_path / "model", device="cpu")
    assert predictor.source == str(tmp_path / "model")
    assert predictor.checkpoint_sha256 == hub.sha256_of(hub.weight_files(tmp_path / "model"))
    assert predictor.model.dtype == torch.float32
    assert predictor.processor.tokenizer.encode("ab\n") == [97, 98, 10]


def test_without_a_tokenizer_the_model_loads_and_the_first_word_names_the_cure(folder):
    predictor = hub.load(folder, device="cpu")
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        predictor.processor.tokenizer.encode("Reconstruct")


def test_an_unknown_number_format_is_refused(folder):
    with pytest.raises(ValueError, match="'float8'"):
        hub.load(folder, dtype="float8")


# Converting


def write_released(tmp_path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A checkpoint in the released layout with the smallest sizes that it allows."""
    config = released_config()
    folder = tmp_path / "released"
    folder.mkdir()
    official.write_config(config, folder)
    torch.manual_seed(0)
    weights = {name: torch.randn(x.shape).to(dtype) for name, x in hub.stored_weights(hub.empty(config)).items()}
    save_file(official.from_ours(weights), folder / "model.safetensors")
    (folder / "vocab.json").write_text("{}")
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_is_the_same_bit_for_bit(tmp_path, dtype):
    released = write_released(tmp_path, dtype)
    hub.convert(released, tmp_path / "ours", "g2vlm")
    hub.convert(tmp_path / "ours", tmp_path / "back", "official")
    assert_same_bits(weights_of(tmp_path / "back"), weights_of(released))
    assert (tmp_path / "back" / "vocab.json").read_text() == "{}"
    for name in official.CONFIG_FILES.values():
        assert json.loads((tmp_path / "back" / name).read_text()) == json.loads((released / name).read_text())


def test_both_layouts_are_the_same_model(tmp_path):
    released = write_released(tmp_path)
    hub.convert(released, tmp_path / "ours")
    ours, theirs = hub.load_model(tmp_path / "ours"), hub.load_model(released)
    assert ours.config.to_dict() == theirs.config.to_dict()
    assert_same_bits(dict(ours.state_dict()), dict(theirs.state_dict()))


def test_what_the_other_layout_cannot_express_is_refused_and_nothing_is_written(folder, tmp_path):
    with pytest.raises(ValueError, match="dino_windows='per_image'"):
        hub.convert(folder, tmp_path / "out", "official")
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


# Never half-written


def test_a_folder_that_is_taken_is_left_alone_unless_allowed(model, folder):
    before = (folder / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(ValueError, match="exists already"):
        hub.save(model, folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    (folder / "old.txt").write_text("")
    hub.save(model, folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_an_empty_folder_is_free(model, tmp_path):
    (tmp_path / "out").mkdir()
    hub.save(model, tmp_path / "out")
    assert (tmp_path / "out" / "config.json").is_file()


def test_a_failure_leaves_the_old_folder_whole_and_nothing_else(model, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        hub.save(model, folder, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_gets_one_clear_line(folder, tmp_path):
    with files_no_larger_than(20_000), pytest.raises(ValueError, match="make room on the disk") as error:
        hub.convert(folder, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_others_may_read_what_is_written(folder):
    assert {path.stat().st_mode & 0o044 for path in folder.iterdir()} == {0o044}


def test_a_configuration_written_by_us_is_read_by_transformers_too(folder, model):
    assert G2VLMConfig.from_pretrained(folder).to_dict() == model.config.to_dict()


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is absent")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"device is 'cuda'.*use one of: auto, .*cpu"):
        hub.load(device="cuda")


def test_a_configuration_from_before_views_saw_only_views_says_what_it_was_trained_with(tmp_path):
    hub.save(small_model(), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("view_context") == "views"
    file.write_text(json.dumps(config))
    assert hub.load_model(tmp_path / "model").config.view_context == "sequence"


def test_the_tokenizer_travels_with_the_weights(tmp_path):
    tokens = presets.tiny().tokens
    model = G2VLM(presets.tiny())
    hub.save(model, tmp_path / "model", tokenizer=byte_tokenizer(tokens, [("a", "b")]))
    words = hub.processor_of(hub.read_checkpoint(tmp_path / "model")).words
    assert len(words("ab")) == 1
    assert hub.tokenizer_at(tmp_path / "model").decode(words("ab<|im_end|>")) == "ab<|im_end|>"


# Geometry encoders


def test_a_published_vggt_is_loaded_without_its_heads(tmp_path):
    encoder = small_vggt()
    heads = {"camera_head.token_norm.weight": torch.ones(3), "track_head.tracker.corr_mlp.fc1.bias": torch.ones(2)}
    save_file(vggt.from_ours(encoder.state_dict()) | heads, tmp_path / "model.safetensors")
    loaded = hub.load_vggt(tmp_path, encoder.config)
    assert_same_bits(dict(loaded.state_dict()), dict(encoder.state_dict()))
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert hub.load_vggt(tmp_path, encoder.config, dtype=torch.bfloat16).camera_token.dtype == torch.bfloat16


def test_a_vggt_with_weights_that_are_no_numbers_is_refused(tmp_path):
    encoder = small_vggt()
    broken = {"aggregator.camera_token": torch.full((1, 2, 1, 16), torch.nan)}
    save_file(vggt.from_ours(encoder.state_dict()) | broken, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="1 weights hold NaN or infinity") as error:
        hub.load_vggt(tmp_path, encoder.config)
    assert "aggregator.camera_token" in str(error.value)
