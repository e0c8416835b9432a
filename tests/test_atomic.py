import pytest

from g2vlm.atomic import naming, whole_folder, write_whole


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
