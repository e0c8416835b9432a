"""Names of parameters as tables: the pattern of one naming beside that of another.

A pattern is a name without its ending `.weight` or `.bias`; {i} stands for its first number, a final * for any rest.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

Table = Mapping[str, str]
StateDict = dict[str, Tensor]
Shape = tuple[int, ...]

NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


def rename(weights: Mapping[str, Tensor], table: Table, what: str) -> StateDict:
    """The same tensors under the names of the table's right side; ValueError lists every name that no row matches.

    what: whose names the left side holds, for the error.
    """
    names = {name: translate(name, table) for name in weights}
    if unknown := [name for name, new in names.items() if new is None]:
        raise ValueError(f"{len(unknown)} of {len(names)} names do not belong to {what}:\n{listing(unknown)}")
    renamed = {new: weights[name] for name, new in names.items() if new is not None}
    if len(renamed) < len(names):
        twice = [name for name, new in names.items() if list(names.values()).count(new) > 1]
        raise ValueError(f"{len(twice)} names stand for the same weights as another of them:\n{listing(twice)}")
    return renamed


def translate(name: str, table: Table) -> str | None:
    """One name in the other naming, or None when the table does not know it."""
    stem = name.removesuffix(".weight").removesuffix(".bias")
    ending = name[len(stem) :]
    if stem in table:
        return table[stem] + ending
    number = NUMBER.search(stem)
    if number and (pattern := stem[: number.start()] + "{i}" + stem[number.end() :]) in table:
        return table[pattern].replace("{i}", number[0]) + ending
    pieces = name.split(".")
    for length in range(len(pieces) - 1, 0, -1):
        if (pattern := ".".join([*pieces[:length], "*"])) in table:
            return table[pattern].removesuffix("*") + ".".join(pieces[length:])
    return None


def inverse(table: Table) -> Table:
    """The table read from right to left; AssertionError if two rows would then begin alike."""
    swapped = {new: old for old, new in table.items()}
    assert len(swapped) == len(table), "two rows of the table have one right side"
    return swapped


def check_fit(expected: Mapping[str, Shape], weights: Mapping[str, Tensor], what: str, *, cure: str = "") -> None:
    """ValueError reports together all weights that are missing, unexpected, or of another shape than `expected`.

    what: that which they shall fit. cure: what to do about missing ones.
    """
    problems = {
        f"missing{cure}": [name for name in expected if name not in weights],
        "unexpected": [name for name in weights if name not in expected],
        "of another shape": [
            f"{name}: {tuple(x.shape)}, the model has {expected[name]}"
            for name, x in weights.items()
            if name in expected and tuple(x.shape) != expected[name]
        ],
    }
    if found := [f"{len(names)} {problem}:\n{listing(names)}" for problem, names in problems.items() if names]:
        raise ValueError(f"the weights do not fit {what}\n" + "\n".join(found))


def listing(names: Iterable[str]) -> str:
    """All names; those that differ in first number or ending share a line: `layers.{0-2}.q.{weight,bias}`."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        number = NUMBER.search(name)
        pattern = name[: number.start()] + "#" + name[number.end() :] if number else name
        numbers.setdefault(pattern, []).extend([int(number[0])] if number else [])
    endings: dict[str, list[str]] = {}
    for pattern, found in numbers.items():
        stem, _, ending = pattern.replace("#", _ranges(sorted(found))).rpartition(".")
        endings.setdefault(stem, []).append(ending)
    lines = [f"{stem}.{'{' + ','.join(e) + '}' if len(e) > 1 else e[0]}" for stem, e in endings.items()]
    return "\n".join("  " + line.removeprefix(".") for line in lines)


def _ranges(numbers: list[int]) -> str:
    """Sorted numbers in short: 3, or {0-2,5}."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return "{" + text + "}" if len(numbers) > 1 else text
