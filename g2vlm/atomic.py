"""Files and folders that appear whole or not at all, lines that do, and folders that one process at a time writes into."""

import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a failure name the file that the user knows: a failed write names none, and a hidden name says nothing."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(file: Path, text: str) -> None:
    """Write a text file, or leave the old one as it is."""
    partial = file.with_name(f".{file.name}.partial")
    with naming(file):
        partial.write_text(text)
        partial.replace(file)


@contextmanager
def whole_folder(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder beside `folder` to fill, which takes its name once it is complete and vanishes if that fails."""
    folder = folder.expanduser().absolute()
    is_taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if is_taken and not overwrite:
        raise ValueError(f"{folder} exists already; choose another folder, or allow it to be overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        replaced = partial.with_name(partial.name + ".old")
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def append_line(file: Path, line: str) -> None:
    """Add a line in one write to the system, so that a killed process leaves all of it or nothing."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        with naming(file):
            os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of JSON lines, in order; a last line without an end (the disk was full) is left out."""
    *lines, _unfinished = file.read_bytes().split(b"\n")  # a kill may have cut a character in two
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{file}:{number}: is not JSON ({error}); delete the line") from error
    return rows


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold a folder, so that no second, independent process can write into it; ends with the process, however it dies.

    Taken by the first process of a run. Raises ValueError, naming the owner, where another has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.lockf(
                file, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # unlike flock, not inherited by workers that outlive a kill
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            owner = json.loads(file.read() or "{}")
            raise ValueError(
                f"{folder} is being written by process {owner.get('pid', '?')} on {owner.get('host', '?')}; "
                "wait for it, or choose another folder"
            ) from error
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        yield
