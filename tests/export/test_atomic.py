"""A set of files appears whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from g2vlm.export.atomic import publish, require_free

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def then(error: BaseException):
    yield "a.txt", b"new"
    raise error


def fill_up(monkeypatch, after: int) -> None:
    """Let the disk take `after` files and then only a part of the next."""
    write, taken = Path.write_bytes, []

    def write_bytes(self, data):
        taken.append(self)
        if len(taken) > after:
            write(self, data[: len(data) // 2])
            raise FULL
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)


def test_files_and_their_folders_are_written(tmp_path):
    written = publish(tmp_path / "x" / "out", [("a.txt", b"a"), ("maps/b.txt", b"b")])
    assert written == [tmp_path / "x/out/a.txt", tmp_path / "x/out/maps/b.txt"]
    assert contents(tmp_path / "x/out") == {"a.txt": b"a", "maps/b.txt": b"b"}


def test_other_files_stay(tmp_path):
    (tmp_path / "mine.txt").write_bytes(b"mine")
    (tmp_path / "a.txt").write_bytes(b"old")
    publish(tmp_path, [("a.txt", b"new")])
    assert contents(tmp_path) == {"mine.txt": b"mine", "a.txt": b"new"}


def test_a_full_disk_leaves_the_earlier_set_whole_and_names_the_file(tmp_path, monkeypatch):
    earlier = [("a.txt", b"old a"), ("maps/b.txt", b"old b")]
    publish(tmp_path, earlier)
    fill_up(monkeypatch, after=1)
    with pytest.raises(OSError, match="No space left") as failure:
        publish(tmp_path, [("a.txt", b"new a"), ("maps/b.txt", b"new b")])
    assert failure.value.errno == errno.ENOSPC
    assert failure.value.filename == str(tmp_path / "maps/b.txt")
    assert contents(tmp_path) == dict(earlier)


def test_a_full_disk_leaves_no_new_folder(tmp_path, monkeypatch):
    fill_up(monkeypatch, after=1)
    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path / "out", [("a.txt", b"new a"), ("b.txt", b"new b")])
    assert not (tmp_path / "out").exists()


def test_a_full_disk_amid_pieces_leaves_the_earlier_file_and_names_it(tmp_path):
    publish(tmp_path, [("a.txt", iter([b"o", b"ld"]))])

    def pieces():
        yield b"ne"
        raise FULL

    with pytest.raises(OSError, match="No space left") as failure:
        publish(tmp_path, [("a.txt", pieces())])
    assert failure.value.filename == str(tmp_path / "a.txt")
    assert contents(tmp_path) == {"a.txt": b"old"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("broken")])
def test_an_interruption_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)):
        publish(tmp_path / "out", then(error))
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file") as failure:
        publish(tmp_path / "file" / "out", [("a.txt", b"a")])
    assert failure.value.filename == str(tmp_path / "file" / "out")


def test_a_folder_in_use_is_refused_unless_told_otherwise(tmp_path):
    require_free(tmp_path, overwrite=False)
    require_free(tmp_path / "new", overwrite=False)
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"not empty; choose another folder or give --overwrite"):
        require_free(tmp_path, overwrite=False)
    require_free(tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="is a file"):
        require_free(tmp_path / "a.txt", overwrite=True)
