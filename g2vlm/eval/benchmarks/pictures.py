"""Pictures as benchmarks publish them inside of their rows, or beside them."""

from pathlib import Path
from typing import Any

from g2vlm.data.rows import BadRow
from g2vlm.eval.benchmarks.asking import Row, picture_path

PNG = b"\x89PNG"


def pictures_of(row: Row, column: str, data: Path, name: str) -> tuple[Path, ...]:
    """Pictures of a row in order: bytes, paths below `data`, or records of both as the hub's image columns are; one of them, or a list.

    Bytes are written to `data`/pictures/`name`_0.jpg and so on. None where the column is not there: annotations without pictures are
    enough to score answers that were recorded.
    """
    value = row.get(column)
    pictures = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(_picture(picture, column, data, f"{name}_{i}") for i, picture in enumerate(pictures))


def _picture(picture: Any, column: str, data: Path, name: str) -> Path:
    if isinstance(picture, dict):
        picture = picture.get("bytes") or picture.get("path")
    if isinstance(picture, str):
        return data / picture
    if not isinstance(picture, bytes):
        raise BadRow(f"{column} holds no picture", f"it is {picture!r}"[:100])
    suffix = ".png" if picture.startswith(PNG) else ".jpg"
    return picture_path(picture, data / "pictures" / f"{name}{suffix}")
