"""`g2vlm eval correspondence` with the embedded model, on very little."""

import json

import pytest
from hosts import move, small_vggt
from readers import saved

from g2vlm.host import Host
from g2vlm.host_hub import save_host
from g2vlm.hub import load, load_model
from g2vlm.pathway_config import SpatialStack

FEW = ("--rooms", "1", "--views", "3", "--resolution", "84")


def test_procedural_rooms_give_a_table_and_files(run, tmp_path):
    outcome = run("eval", "correspondence", *FEW, "--out", tmp_path / "out")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["layer", "PCK@2", "rho", "dt=1", "dt=2"]
    assert [line.split()[0] for line in lines[1:11]] == [*map(str, range(8)), "unmoved", "chance"]
    record = json.loads((tmp_path / "out" / "correspondence.json").read_text())
    assert (record["model"], record["tokens"], record["descriptors"]) == ("tiny", "geometric", "query_key")
    assert (tmp_path / "out" / "correspondence.png").read_bytes().startswith(b"\x89PNG")


def test_real_scenes_give_json_and_say_what_is_left_out(run, shared):
    folder = shared / "data" / "val"
    if not folder.is_dir():
        pytest.skip(f"no scenes in {shared.name}/data")
    outcome = run("eval", "correspondence", folder, *FEW, "--descriptors", "hidden", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["clips"] >= 2
    assert "left out: kitti_000008_single" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere is not a folder; name one with scenes"),
        (("--model", "nowhere/at/all"), "nowhere/at/all"),
        (("--resolution", "3"), "resolution 3 is smaller than one patch; give at least 14 pixels"),
    ],
)
def test_a_wrong_input_is_one_clear_line(run, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    outcome = run("eval", "correspondence", *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert message in outcome.err


def test_a_stock_host_is_refused(run, tmp_path):
    saved("qwen2_vl", tmp_path / "host")
    outcome = run("eval", "correspondence", "--model", tmp_path / "host", *FEW)
    assert outcome.code == 2
    assert "is a pathway on a stock qwen2_vl, but these are the layers of a G2VLM" in outcome.err


def test_a_pathway_on_a_g2vlm_is_not_left_out(run, tmp_path):
    host = Host(load_model(), SpatialStack((0,), (1,), geometry_width=32, hidden_width=8), small_vggt())
    move(host.pathway)
    save_host(host, tmp_path / "host", tokenizer=load().processor.tokenizer, with_encoder=True)
    hosting, plain = (
        json.loads(run("eval", "correspondence", *FEW, "--tokens", "semantic", "--json", *model).out)["layers"]
        for model in (("--model", tmp_path / "host"), ())
    )
    assert hosting[0] == plain[0]  # geometry enters behind this layer
    assert hosting[1] != plain[1]


def test_a_folder_without_usable_scenes_says_what_is_missing(run, tmp_path):
    (tmp_path / "empty").mkdir()
    outcome = run("eval", "correspondence", tmp_path / "empty")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1


def test_results_are_not_mixed_with_what_is_there(run, tmp_path):
    (tmp_path / "old.txt").touch()
    assert "give --overwrite" in run("eval", "correspondence", "--out", tmp_path).err
