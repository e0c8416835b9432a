"""Rows of annotation files (JSON lines, JSON lists, parquet), read one at a time: what is kept is where each lies."""

import json
import mmap
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

BLANK = b" \t\r\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# A string is skipped as a whole, so that brackets and commas inside it do not count.
PUNCTUATION = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)

HEAVY_COLUMNS = ("world_coords",)
"""Columns of parquet files that hold whole point maps as text, and that nobody here reads."""


class BadRow(ValueError):
    """A row that cannot be used: where it lies, what is wrong, the same words for the same fault, and details of this one."""

    def __init__(self, reason: str, detail: str = "", *, place: str = ""):
        super().__init__((f"{place}: " if place else "") + reason + (f" ({detail})" if detail else ""))
        self.reason, self.detail = reason, detail


class JsonRows:
    """Rows of JSON lines, or of one JSON list.

    spans: for each row, where it begins and the place behind it, in bytes.
    """

    def __init__(self, path: Path):
        self.path, self.spans = path, array("q")
        find = elements_of_list if first_byte(path) == b"[" else lines_of
        for start, end in find(path):
            self.spans.extend((start, end))

    def __len__(self) -> int:
        return len(self.spans) // 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, end = self.spans[2 * index], self.spans[2 * index + 1]
        with self.path.open("rb") as file:
            file.seek(start)
            text = file.read(end - start)
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadRow("is not JSON", str(error)) from error
        if not isinstance(row, dict):
            raise BadRow("is not a JSON object")
        return row


def first_byte(path: Path) -> bytes:
    """The first byte that is not blank; none of an empty file."""
    with path.open("rb") as file:
        start = file.read(len(BYTE_ORDER_MARK))
        if start != BYTE_ORDER_MARK:
            file.seek(0)
        while byte := file.read(1):
            if byte not in BLANK:
                return byte
    return b""


def lines_of(path: Path) -> Iterator[tuple[int, int]]:
    """Where the lines lie that are not blank."""
    at = 0
    with path.open("rb") as lines:
        for line in lines:
            if line.strip():
                yield at, at + len(line)
            at += len(line)


def elements_of_list(path: Path) -> Iterator[tuple[int, int]]:
    """Where the elements of a JSON list lie, found by its brackets and commas alone.

    Of a file that was cut off, the last element lacks its end: it is no JSON when it is read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        depth = start = 0
        for found in PUNCTUATION.finditer(text):
            mark, end = found[0], found.start()
            if mark in (b"[", b"{"):
                depth += 1
                start = end + 1 if depth == 1 else start
            elif depth == 1 and mark in (b",", b"]"):
                if text[start:end].strip(BLANK):
                    yield start, end
                start = end + 1
            if mark in (b"]", b"}"):
                depth -= 1
                if depth == 0:
                    return
        if text[start:].strip(BLANK):
            yield start, len(text)


class ParquetRows:
    """Rows of a parquet file; reading one decodes the row group that it lies in."""

    def __init__(self, path: Path):
        self.path = path
        with opened_parquet(path) as file:
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            self.columns = [name for name in file.schema_arrow.names if name not in HEAVY_COLUMNS]
        self.starts = [0, *accumulate(groups)]

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        group = bisect_right(self.starts, index) - 1
        with opened_parquet(self.path) as file:
            try:
                table = file.read_row_group(group, columns=self.columns)
            except OSError as error:
                raise BadRow("cannot be decoded", str(error)) from error
            return table.slice(index - self.starts[group], 1).to_pylist()[0]


def opened_parquet(path: Path) -> Any:
    """A ParquetFile of pyarrow, to be closed by its `with`."""
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ValueError(f"{path}: parquet files need pyarrow: pip install 'g2vlm[parquet]'") from error
    try:
        return ParquetFile(path)
    except (ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: cannot be read as parquet ({error}); download it again") from error
