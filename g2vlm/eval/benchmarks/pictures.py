"""Pictures as benchmarks publish them inside of their rows, or beside them."""

from pathlib import Path

from g2vlm.data.rows import BadRow
from g2vlm.data.vqa import media_of
from g2vlm.eval.benchmarks.asking import Row

PNG = b"\x89PNG"


def pictures_of(row: Row, column: str, data: Path, name: str) -> tuple[Path, ...]:
    """Pictures of a row in order: paths below `data`, bytes, or records of both as the hub's image columns are; one of them, or a list.

    Bytes are written to `data`/pictures/`name`_0.jpg and so on. None where the column is not there: annotations without pictures are
    enough to score answers that were recorded. BadRow where the pictures are under another name.
    """
    if column not in row and (other := next((key for key, value in row.items() if holds_bytes(value)), None)):
        raise BadRow(f"has no column {column}", f"but {other} holds pictures")
    return tuple(
        data / picture if isinstance(picture, str) else written(picture, place_of(picture, data, f"{name}_{i}"))
        for i, picture in enumerate(media_of(dict(row), column))
    )


def holds_bytes(value: object) -> bool:
    if isinstance(value, list):
        return any(holds_bytes(each) for each in value)
    return isinstance(value.get("bytes") if isinstance(value, dict) else value, bytes)


def place_of(picture: bytes, data: Path, name: str) -> Path:
    return data / "pictures" / f"{name}{'.png' if picture.startswith(PNG) else '.jpg'}"


def written(picture: bytes, place: Path) -> Path:
    """The place, at which the picture lies whole; it is left as it is where it is there already."""
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.partial")
        partial.write_bytes(picture)
        partial.replace(place)
    return place


def without(row: Row, column: str) -> Row:
    """A row that need not keep its pictures in memory."""
    return {key: value for key, value in row.items() if key != column}
