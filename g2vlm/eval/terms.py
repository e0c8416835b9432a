"""What results depend on, kept beside them, so that results on other terms never mix with them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from g2vlm.atomic import write_whole


def keep_terms(file: Path, terms: Mapping[str, Any]) -> None:
    """Note the terms of new results; ValueError names the first that differs from those of older ones."""
    if not file.exists():
        write_whole(file, json.dumps(terms, indent=1) + "\n")
        return
    held, wanted = _flat(json.loads(file.read_text())), _flat(json.loads(json.dumps(terms)))
    for name in dict.fromkeys([*held, *wanted]):
        if held.get(name) != wanted.get(name):
            raise ValueError(
                f"{name} is {wanted.get(name)!r}, but {file.parent} holds results with {held.get(name)!r}; choose another --out"
            )


def _flat(terms: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Names and values of all leaves: {"a": {"b": 1}} is {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in terms.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return flat
