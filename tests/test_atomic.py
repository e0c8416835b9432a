import re
import subprocess
import sys
from pathlib import Path

import pytest

from g2vlm.atomic import naming, read_lines, sole_owner, whole_folder, write_whole


def test_a_failure_names_the_file_that_the_user_knows(tmp_path):
    with pytest.raises(OSError, match="No space") as caught, naming(tmp_path / "known"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "known")


def test_a_text_is_written_whole_or_the_old_one_stays(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    write_whole(file, "old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(file), "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(file, "new")
    assert file.read_bytes() == b"old"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fail_halfway():
        with whole_folder(tmp_path / "out") as partial:
            (partial / "half").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "out") as partial:
        (partial / "whole").write_text("whole")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_a_folder_that_holds_something_is_replaced_only_if_allowed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(ValueError, match="exists already"), whole_folder(tmp_path / "out"):
        pass
    with whole_folder(tmp_path / "out", overwrite=True) as partial:
        (partial / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new"]


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_bytes('{"a": 1}\n{"a": "é'.encode()[:-1])
    assert read_lines(file) == [{"a": 1}]
    file.write_text('{"a": 1\n{"a": 2}\n')
    with pytest.raises(ValueError, match=r"log.jsonl:1: is not JSON .*; delete the line"):
        read_lines(file)


HOLD = """
import sys, time
from pathlib import Path
from g2vlm.atomic import sole_owner
with sole_owner(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_gone(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    message = re.escape(f"{tmp_path} is being written by process {first.pid} on ")
    with pytest.raises(ValueError, match=message), sole_owner(tmp_path):
        pass
    first.kill()
    first.wait()
    with sole_owner(tmp_path):
        assert Path(tmp_path, ".lock").exists()
