"""`g2vlm view`: what is refused before any work, and what is written."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from g2vlm.view import viewer


@pytest.fixture
def result(run, hub, photos, tmp_path) -> Path:
    run("predict", photos, "--out", tmp_path / "result")
    return tmp_path / "result"


def test_a_turntable_is_written_and_nothing_is_served(run, result, tmp_path):
    outcome = run("view", result, "--turntable", tmp_path / "new/turn.gif", "--frames", 3)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{tmp_path / 'new/turn.gif'}\n", "")
    assert Image.open(tmp_path / "new/turn.gif").is_animated


def test_a_file_that_is_there_stays_unless_told_otherwise(run, result, tmp_path):
    file = tmp_path / "turn.gif"
    file.write_text("mine")
    assert "give --overwrite" in run("view", result, "--turntable", file).err
    assert file.read_text() == "mine"
    assert run("view", result, "--turntable", file, "--frames", 2, "--overwrite").code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--turntable", "a.png"], "let its name end in .gif or .mp4"),
        (["--turntable", "a.gif", "--frames", 1], "give 2 to 720"),
        (["--min-confidence", 3], "confidences lie between 0 and 1"),
        (["--max-points", 0], "give at least 1"),
        (["--min-confidence", 0.9, "--turntable", "a.gif"], "the highest is 0.500"),
    ],
)
def test_bad_options_get_one_line(run, result, tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    outcome = run("view", result, *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "a.gif").exists()


def test_without_viser_the_error_names_the_extra(run, result, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert "pip install 'g2vlm[viewer]'" in run("view", result).err


def test_a_folder_that_is_no_reconstruction_is_refused(run, photos):
    assert "holds no reconstruction.json" in run("view", photos).err


def test_the_viewer_listens_on_this_machine_alone_unless_told_otherwise(run, result, monkeypatch):
    served = []

    class Viewer:
        address = "http://there"

        def wait(self):
            served.append("waited")

    @contextmanager
    def serve(reconstruction, selection, **options):
        served.append(options)
        yield Viewer()

    monkeypatch.setattr(viewer, "serve", serve)
    assert run("view", result).out == "the viewer is at http://there; Ctrl-C ends it\n"
    assert served == [{"host": "127.0.0.1", "port": 8080}, "waited"]


def test_an_html_page_is_written_in_one_piece(run, result, tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "page", lambda reconstruction, selection: json.dumps(len(reconstruction.names)))
    assert run("view", result, "--html", tmp_path / "scene.html").code == 0
    assert (tmp_path / "scene.html").read_text() == "3"
