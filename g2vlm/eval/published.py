"""Numbers that papers print, kept as data with their source, and tables that set ours beside them."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from g2vlm.eval.comparison import markdown
from g2vlm.eval.report import Report, number

FILE = "published.toml"


@dataclass(frozen=True)
class Published:
    """What a source says of a system: numbers by benchmark and figure, as printed; answers are in percent."""

    name: str
    source: str
    numbers: Mapping[str, Mapping[str, float]]


def published() -> tuple[Published, ...]:
    """All of `published.toml`."""
    read = tomllib.loads((files("g2vlm.eval") / FILE).read_text())
    return tuple(Published(**system) for system in read["systems"])


def tables(reports: Sequence[Report]) -> str:
    """For each benchmark of the reports one table in Markdown: a row for each report, and for each published system with its source.

    Columns are the overall figure and those that somebody published. Numbers of reports come with how many items they are over where these
    are not all, for then they cannot be set beside published ones.
    """
    names = list(dict.fromkeys(name for report in reports for name in report["benchmarks"]))
    return "\n\n".join(_table(name, [report for report in reports if name in report["benchmarks"]]) for name in names)


def _table(name: str, reports: Sequence[Report]) -> str:
    systems = [system for system in published() if name in system.numbers]
    ours = [{figure["name"]: figure for figure in report["benchmarks"][name]["figures"]} for report in reports]
    columns = dict.fromkeys(["overall", *(figure for system in systems for figure in system.numbers[name])])
    rows = [
        [_name(report, name), *(_shown(figures.get(column)) for column in columns), _source(report["benchmarks"][name])]
        for report, figures in zip(reports, ours, strict=True)
    ]
    rows += [
        [system.name, *(f"{values[column]:g}" if column in values else "" for column in columns), system.source]
        for system in systems
        for values in (system.numbers[name],)
    ]
    title = reports[0]["benchmarks"][name]["title"]
    return "\n".join([f"## {name}: {title}", "", *markdown(["system", *columns, "source"], rows)])


def _name(report: Report, benchmark: str) -> str:
    """A report's model, and how it was asked where that is not the usual way."""
    system = report["system"]
    settings = system["settings"]
    ways = [f"geometry {settings['geometry']}"] if settings.get("geometry", "on") != "on" else []
    ways += ["text only"] if settings.get("media") == "withheld" else []
    return f"**{', '.join([system['source'], *ways])}**"


def _source(part: Mapping[str, Any]) -> str:
    outcomes = sum(count for status, count in part["statuses"].items() if status != "missing")
    whole = "this report" if outcomes == part["num_items"] else f"this report, {outcomes} of {part['num_items']} items"
    return f"{whole}, rule {part['rule']['name']}"


def _shown(figure: Mapping[str, Any] | None) -> str:
    """In the scale of publications."""
    if figure is None:
        return ""
    if figure["value"] is None:
        return "-"
    scale = 100 if figure["metric"] == "score" else figure["scale"]
    return number(figure["value"] * scale / figure["scale"], scale)
