"""`g2vlm ask` on hosts of a pathway, as a user runs it: from folders, ours and published, to words on stdout."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hosts import VGGT, small_vggt
from PIL import Image
from readers import STACK, pictures_of, reading_host, saved, tokenizer_of
from safetensors.torch import load_file, save_file
from test_host_hub import write_published
from videos import video

import g2vlm
from g2vlm import hub
from g2vlm.convert import vggt
from g2vlm.host_hub import ENCODER_WEIGHTS, PATHWAY_FILE, PATHWAY_WEIGHTS
from g2vlm.pathway_config import PreDecoder

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_5")
SMALL = ("--preprocessing", "whole", "--min-pixels", 3000, "--max-pixels", 6000)
SHORT = ("--max-new-tokens", 4, "--device", "cpu")
READING = {"preprocessing": "whole", "min_pixels": 3000, "max_pixels": 6000}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        saved(family, folder / family)
    return folder


def answered(folder, photos, *questions, **options):
    """What the package says itself."""
    model = g2vlm.load(folder, device="cpu", **READING)
    return [model.answer(photos, question, max_new_tokens=4, **options).text for question in questions]


def pictures(photos) -> list[Path]:
    return [photos / "1.png", photos / "2.jpg", photos / "10.webp"]


@pytest.mark.parametrize("family", FAMILIES)
def test_several_questions_about_a_folder_of_pictures(run, models, photos, family):
    outcome = run("ask", photos, "-q", "Why?", "-q", "Where?", "--model", models / family, *SMALL, *SHORT, "--json")
    assert outcome.code == 0
    summary = json.loads(outcome.out)
    assert summary["views"] == ["1.png", "2.jpg", "10.webp"]
    assert [x["answer"] for x in summary["answers"]] == answered(models / family, pictures(photos), "Why?", "Where?")
    assert {x["thinking"] for x in summary["answers"]} == {""}
    assert summary["model"] == str(models / family)
    assert len(summary["checkpoint_sha256"]) == 64


def test_images_may_be_named_one_by_one_and_the_answer_alone_is_on_stdout(run, models, photos):
    chosen = pictures(photos)[:2]
    outcome = run("ask", *chosen, "-q", "Why?", "--model", models / "qwen2_5_vl", *SMALL, *SHORT)
    assert outcome.code == 0
    assert outcome.out == answered(models / "qwen2_5_vl", chosen, "Why?")[0] + "\n"
    assert "2 views read in " in outcome.err


def test_frames_of_a_file_and_of_a_folder_are_seen(run, models, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    random = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(frames / f"{i}.png")
    options = ("-q", "Why?", "--model", models / "qwen3_5", *SMALL, *SHORT, "--json", "--max-frames", 3)
    summary = json.loads(run("ask", "--video", frames, *options).out)
    assert summary["views"] == ["0.png", "2.png", "4.png"]
    chosen = [frames / name for name in summary["views"]]
    assert summary["answers"][0]["answer"] == answered(models / "qwen3_5", chosen, "Why?")[0]
    file = video(tmp_path / "room.mp4")
    summary = json.loads(run("ask", "--video", file, *options).out)
    assert summary["views"] == ["room.mp4 frame 0", "room.mp4 frame 6", "room.mp4 frame 11"]


def test_frames_can_be_numbered(run, models, photos):
    options = ("-q", "Why?", "--model", models / "qwen2_vl", *SMALL, *SHORT, "--json")
    summary = json.loads(run("ask", "--video", photos, "--frame-labels", *options).out)
    content = [{"type": "video", "video": pictures(photos)}, {"type": "text", "text": "Why?"}]
    model = g2vlm.load(models / "qwen2_vl", device="cpu", **READING)
    expected = model.answer(messages=[{"role": "user", "content": content}], frame_labels=True, max_new_tokens=4)
    (answer,) = summary["answers"]
    assert (answer["answer"], answer["num_prompt_tokens"]) == (expected.text, expected.num_prompt_tokens)


def test_thoughts_are_in_the_json_alone(run, models, photos):
    options = ("-q", "Why?", "--model", models / "qwen3_5", *SMALL, *SHORT, "--thinking", "on")
    (answer,) = json.loads(run("ask", photos, *options, "--json").out)["answers"]
    assert answer["answer"] == ""
    assert answer["thinking"] != ""
    outcome = run("ask", photos, *options)
    assert outcome.out == "\n"
    assert "cut short while the model thought; --max-new-tokens lets it finish" in outcome.err


def test_words_can_be_drawn_and_beams_followed(run, models, photos):
    options = ("-q", "Why?", "--model", models / "qwen2_vl", *SMALL, *SHORT)
    drawn = [run("ask", photos, *options, "--temperature", 3, "--top-p", 0.9, "--seed", seed).out for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    beams = run("ask", photos, *options, "--num-beams", 2).out
    assert beams == answered(models / "qwen2_vl", pictures(photos), "Why?", num_beams=2)[0] + "\n"


def test_a_chat_remembers(run, models, photos, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Why?\nWhere?\n"))
    outcome = run("chat", photos / "1.png", "--model", models / "qwen2_5_vl", *SMALL, *SHORT)
    assert outcome.code == 0
    model = g2vlm.load(models / "qwen2_5_vl", device="cpu", **READING)
    image = {"type": "image", "image": photos / "1.png"}
    chat = [{"role": "user", "content": [image, {"type": "text", "text": "Why?"}]}]
    first = model.answer(messages=chat, max_new_tokens=4)
    chat += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "Where?"}]
    second = model.answer(messages=chat, max_new_tokens=4)
    assert outcome.out == f"{first.text}\n{second.text}\n"


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
        },
    ),
    (
        "qwen2_5_vl",
        PreDecoder((2,), norm="rms", geometry_width=STACK.geometry_width, hidden_width=12),
        "vgllm",
        {"use_vggt_feature": True},
    ),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """SpatialStack and VG-LLM as published, with the files of the stock model's tokenizer and processor beside."""
    folder = tmp_path_factory.mktemp("published")
    for family, config, layout, fields in PUBLISHED:
        write_published(reading_host(family, config), layout, fields, folder / layout)
        tokenizer_of(family).save_pretrained(folder / layout)
        pictures_of(family).save_pretrained(folder / layout)
    return folder


@pytest.mark.parametrize(("family", "config", "layout", "_fields"), PUBLISHED)
def test_published_checkpoints_answer_as_the_host_does(
    run, published, photos, family, config, layout, _fields, tmp_path
):
    saved(family, tmp_path / "ours", config)
    outcome = run("ask", photos, "-q", "Why?", "--model", published / layout, *SMALL, *SHORT)
    assert outcome.code == 0
    assert outcome.out == answered(tmp_path / "ours", pictures(photos), "Why?")[0] + "\n"


# --- what is refused: one line, with the names and the values ---------------------------------------------------------


@pytest.fixture
def refused(run, photos):
    """The line on stderr with which a question to this model is refused."""

    def refused(model, *options) -> str:
        outcome = run("ask", photos, "-q", "Why?", "--model", model, *SHORT, *options)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("error: ")
        assert outcome.err.count("\n") == 1, outcome.err
        return outcome.err

    return refused


@pytest.fixture
def model(models, tmp_path) -> Path:
    return shutil.copytree(models / "qwen2_vl", tmp_path / "model")


@pytest.fixture
def spatial_stack(published, tmp_path) -> Path:
    return shutil.copytree(published / "spatialstack_qwen35", tmp_path / "published")


def change(path: Path, part: str | None = None, **fields) -> None:
    stored = json.loads(path.read_text())
    (stored if part is None else stored[part]).update(fields)
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "PreDecoder"}, "PreDecoder has no field decoder_layers"),
        ({"encoder_layers": [1], "decoder_layers": [0]}, "encoder_layers is (1,), 1 in all, but the weights are for 2"),
        ({"encoder_layers": [1]}, "decoder_layers (0, 2) and encoder_layers (1,) go in pairs, but there are 2 and 1"),
        ({"hidden_width": 13}, "hidden_width of the pathway is 13, but the weights are for 12"),
        ({"norm": "rms"}, "norm of the pathway is 'rms', but the weights are for 'layer'"),
        ({"geometry_width": 48}, "geometry_width of the pathway is 48, but the weights are for 32"),
        ({"decoder_layers": [0, 9]}, "decoder_layers asks for layer 9, but the host has num_hidden_layers=5"),
        ({"encoder_layers": [1, 4]}, "encoder_layers asks for layer 4, but the encoder has num_layers=4"),
    ],
)
def test_a_pathway_that_differs_from_its_weights_host_or_encoder(refused, model, fields, message):
    change(model / PATHWAY_FILE, "pathway", **fields)
    assert message in refused(model)


def test_weights_of_another_kind_of_pathway(refused, model):
    stored = {"type": "GeoAlign", "decoder_layers": ["pre"], "encoder_layers": [1, 3], "geometry_width": 32}
    path = json.loads((model / PATHWAY_FILE).read_text()) | {"pathway": stored}
    (model / PATHWAY_FILE).write_text(json.dumps(path))
    assert "type of the pathway is GeoAlign, but the weights are of SpatialStack" in refused(model)
    (model / PATHWAY_FILE).write_text(json.dumps(path | {"pathway": {"type": "NoPathway"}}))
    assert "type of the pathway is NoPathway, but the weights hold 12 of one" in refused(model)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"feature_fusion_method": "add"},
            "feature_fusion_method is 'add' in config.json, but the weights hold mergers of 'deepstack_language_add'",
        ),
        (
            {"use_geometry_encoder": False},
            "use_geometry_encoder is false in config.json, but the weights hold a pathway",
        ),
        (
            {"geometry_fusion_layers": [0, 1]},
            "geometry_fusion_layers is (0, 1), but the weights hold mergers of the decoder layers (0, 2)",
        ),
        (
            {"geometry_fusion_layers": [0, 1, 2]},
            "geometry_fusion_layers (0, 1, 2) and geometry_encoder_layers (1, 3) go in pairs, but there are 3 and 2",
        ),
        (
            {"geometry_fusion_layers": None},
            "geometry_fusion_layers () and geometry_encoder_layers (1, 3) go in pairs, but there are 0 and 2",
        ),
        ({"geometry_encoder_layers": [1, 7]}, "encoder_layers asks for layer 7, but the encoder has num_layers=4"),
        ({"geometry_encoder_type": "pi3"}, "geometry_encoder_type is 'pi3' in config.json; supported is 'vggt'"),
    ],
)
def test_a_published_config_that_differs_from_its_weights(refused, spatial_stack, fields, message):
    change(spatial_stack / "config.json", **fields)
    assert message in refused(spatial_stack)


def test_mergers_behind_a_layer_that_the_host_does_not_have(refused, spatial_stack):
    weights = load_file(spatial_stack / "model.safetensors")
    moved = {name.replace("fusion_layers.2.", "fusion_layers.8."): x for name, x in weights.items()}
    save_file(moved, spatial_stack / "model.safetensors")
    change(spatial_stack / "config.json", geometry_fusion_layers=[0, 8])
    assert "decoder_layers asks for layer 8, but the host has num_hidden_layers=5" in refused(spatial_stack)


def test_an_encoder_of_another_width(refused, model, tmp_path):
    wider = small_vggt(replace(VGGT, token_width=32))
    weights = vggt.from_ours(wider.state_dict())
    (tmp_path / "vggt").mkdir()
    save_file(weights, tmp_path / "vggt" / "model.safetensors")
    line = refused(model, "--encoder", tmp_path / "vggt")
    assert "token_width is 16, but the encoder's weights are 32 wide" in line
    change(model / PATHWAY_FILE, "encoder", token_width=32)
    assert "token_width is 32, but the encoder's weights are 16 wide" in refused(model)
    save_file(weights, model / ENCODER_WEIGHTS)
    assert "geometry_width is 32, but the encoder's width is 64" in refused(model)


def test_published_mergers_that_read_another_encoder(refused, spatial_stack):
    held = load_file(spatial_stack / "model.safetensors")
    wider = vggt.from_ours(small_vggt(replace(VGGT, token_width=32)).state_dict(), "model.geometry_encoder.vggt.")
    save_file(held | wider, spatial_stack / "model.safetensors")
    line = refused(spatial_stack)
    assert (
        "features have 64 channels (2 x token_width 32), but the mergers in the weights read 128 numbers, 4 x 32"
        in line
    )


def test_a_folder_without_the_files_of_a_tokenizer(refused, model):
    for name in ("tokenizer.json", "preprocessor_config.json"):
        (model / name).unlink()
    line = refused(model)
    assert "no tokenizer.json, no preprocessor_config.json, so this model reads no words or pictures" in line
    assert "from Qwen/Qwen2-VL-2B-Instruct" in line


def test_an_encoder_that_is_not_there(refused, model, monkeypatch):
    def offline(*_, **__):
        raise hub.OfflineModeIsEnabled("the hub is out of reach")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    (model / ENCODER_WEIGHTS).unlink()
    line = refused(model)
    assert "the hub did not give facebook/VGGT-1B (the hub is out of reach)" in line
    assert "download that repository and name its folder: --encoder DIR" in line


def test_an_encoder_from_its_own_folder(run, models, model, photos, tmp_path):
    (tmp_path / "vggt").mkdir()
    shutil.move(model / ENCODER_WEIGHTS, tmp_path / "vggt" / "model.safetensors")
    outcome = run("ask", photos, "-q", "Why?", "--model", model, "--encoder", tmp_path / "vggt", *SMALL, *SHORT)
    assert outcome.out == answered(models / "qwen2_vl", pictures(photos), "Why?")[0] + "\n"


def test_weights_of_the_pathway_that_are_not_there(refused, model):
    (model / PATHWAY_WEIGHTS).unlink()
    assert "type of the pathway is SpatialStack, but the weights hold 0 of one" in refused(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--reasoning", "geometry"], "is a pathway on a stock qwen2_vl, which reconstructs nothing"),
        (["--geometry", "off"], "geometry is 'off', but this model's pathway needs it"),
        (["--resolution", "84"], "resolution is 84, but"),
        (["--thinking", "on"], "thinking is on, but this model's chat template has no enable_thinking"),
        (
            ["--max-pixels", "5000"],
            "max_pixels is 5000, but preprocessing 'crop' gives a qwen2_vl pictures 518 pixels wide",
        ),
        (
            ["--top-p", "0.5"],
            "--top-p 0.5 with --temperature 0.0: it must be above 0 and at most 1, and words must be drawn",
        ),
        (["--temperature", "-1"], "--temperature -1.0: it must be 0 or more"),
        (["--num-beams", "0"], "--num-beams 0: it must be 1 or more"),
        (["--frame-labels"], "--frame-labels needs a --video"),
        (["-q", "What is <|image_pad|>?"], "the words hold <|image_pad|>, which is no word to this model"),
    ],
)
def test_what_a_stock_host_cannot_do(refused, models, options, message):
    small = () if "--max-pixels" in options else SMALL
    assert message in refused(models / "qwen2_vl", *small, *options)


def test_a_reconstruction_is_refused_by_predict_and_by_save(run, refused, models, photos, tmp_path):
    message = "is a pathway on a stock qwen2_vl, which reconstructs nothing"
    outcome = run("predict", photos, "--model", models / "qwen2_vl", "-o", tmp_path / "out", "--device", "cpu")
    assert outcome.code == 2
    assert message in outcome.err
    assert message in refused(models / "qwen2_vl", *SMALL, "--save", tmp_path / "out")


def test_options_of_stock_hosts_are_refused_elsewhere(refused):
    assert "max_pixels: " in refused("tiny", "--max-pixels", 5000)
    assert "is no host of a geometry pathway; leave it out" in refused("tiny", "--thinking", "on")
