"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
