"""Names of files made from names of photos, without what leads out of a folder or means something to a shell."""

import re
from collections import Counter
from pathlib import Path

from g2vlm.records import Reconstruction

UNSAFE = re.compile(r"[^\w .+-]")


def stem(reconstruction: Reconstruction, view: int) -> str:
    """Name of a view's files: its number and the name of its photo, without the ending."""
    return stem_of(reconstruction.names[view], view, len(reconstruction.names))


def stem_of(name: str, view: int, num_views: int) -> str:
    """The same from the name of the photo."""
    digits = max(2, len(str(num_views - 1)))
    return f"{view:0{digits}d}_{_safe(Path(name).stem)}"


def photo_names(reconstruction: Reconstruction) -> list[str]:
    """A name for each photo as one word: its own, where that is safe and no other photo's."""
    own = [Path(name).name for name in reconstruction.names]
    numbered = [_word(stem(reconstruction, view) + Path(name).suffix) for view, name in enumerate(own)]
    count = Counter([*own, *numbered])
    return [name if count[name] == 1 and _is_plain(name) else other for name, other in zip(own, numbered, strict=True)]


def _is_plain(name: str) -> bool:
    return name == _word(name) and not name.startswith((".", "-", "#"))


def _safe(name: str) -> str:
    return UNSAFE.sub("_", name)


def _word(name: str) -> str:
    return _safe(name).replace(" ", "_")
