"""Compares our scores with recorded ones of public scorers: python tests/eval/oracles.py FOLDER.

FOLDER holds folders with annotations.jsonl, predictions.jsonl and expected.json, or is one. Every variant named there is scored by our
rule of that name, or by the nearest of those that say they do the same (see `rules_of`); one line says the worst difference of each. A
variant or a benchmark without a rule is a failure, and so is a folder that cannot be read. `intent` variants say how often our careful
reader agrees with a person, which is no failure. Folders of arrays are compared as `oracles_geometry.py` says.
"""

import argparse
import ast
import json
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a script sees its own folder only

from g2vlm.data.rows import BadRow
from g2vlm.eval.answers import without_blocks
from g2vlm.eval.benchmarks.asking import QuestionBenchmark, Reply
from g2vlm.eval.benchmarks.base import CORRECTED, Figure, Item, Outcome, QuestionItem
from g2vlm.eval.benchmarks.questions import QUESTIONS
from g2vlm.eval.benchmarks.scanqa import scanqa
from g2vlm.eval.metrics.answers import THRESHOLDS
from g2vlm.eval.metrics.captions import METEOR, caption_scores, has_java, has_pycocoevalcap, tokenized
from tests.eval.oracles_geometry import arrays_of, best_attempts, numbers_of

TOLERANCE = 1e-6
METEOR_TOLERANCE = 1e-4
"""Java writes METEOR in few digits."""

FILES = ("annotations.jsonl", "predictions.jsonl", "expected.json")

Json = dict[str, Any]


@dataclass
class Comparison:
    """What was compared under one name: how much, the worst difference, and what went beyond the tolerance."""

    name: str
    count: int = 0
    worst: float = 0.0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def number(self, where: str, ours: float | None, theirs: float | None, tolerance: float = TOLERANCE) -> None:
        """None, or NaN, is that there is none."""
        self.count += 1
        has_ours, has_theirs = (x is not None and not math.isnan(x) for x in (ours, theirs))
        if not (has_ours and has_theirs):
            if has_ours != has_theirs:
                self.faults.append(f"{where}: ours {ours}, theirs {theirs}")
            return
        assert ours is not None
        assert theirs is not None
        difference = abs(ours - theirs)
        self.worst = max(self.worst, difference)
        if not difference <= tolerance:
            self.faults.append(f"{where}: ours {ours}, theirs {theirs}")

    def same(self, where: str, is_same: bool, ours: object, theirs: object) -> None:
        self.count += 1
        if not is_same:
            self.faults.append(f"{where}: ours {ours!r}, theirs {theirs!r}")

    def __str__(self) -> str:
        said = f"{'FAIL' if self.faults else 'ok':4}  {self.name:55} {self.count:6d} compared, worst {self.worst:.2e}"
        return "\n".join(
            [said, *(f"      {note}" for note in self.notes), *(f"      {fault}" for fault in self.faults[:5])]
        )


@dataclass(frozen=True)
class Case:
    """A folder: predictions in order, with the item of the row that each is about, by the id of the prediction."""

    folder: Path
    expected: Json
    benchmark: QuestionBenchmark
    items: dict[str, QuestionItem]
    predictions: dict[str, Json]

    @property
    def crash_ids(self) -> set[str]:
        return set(self.expected.get("aggregate_set", {}).get("crash_ids", ()))

    def outcomes(
        self, rule: str, reply_of: Callable[[Json], Reply], ids: Iterable[str] | None = None
    ) -> dict[str, Outcome]:
        chosen = self.items if ids is None else ids
        return {id: self.benchmark.score(self.items[id], reply_of(self.predictions[id]), rule) for id in chosen}

    def figures(self, outcomes: Mapping[str, Outcome], rule: str) -> dict[str, Figure]:
        items: Sequence[Item] = [item for id, item in self.items.items() if id in outcomes]
        return {figure.name: figure for figure in self.benchmark.figures(items, outcomes, rule)}


# --- tables: what differs between benchmarks --------------------------------------------------------------------------

ALIASES = {"blink": "blinkspatial", "allangles": "allanglesbench"} | {
    short: f"{short}bench" for short in ("cv", "mmsi", "ost", "spar", "vsi")
}
"""Names of folders that are not those of our benchmarks, as letters and digits."""

SHOWN = {"turn_id": 0, "images": []} | dict.fromkeys(
    ("question", "origin_question", "prompt", "dataset", "scene_name", "scene_id", "videoID", "episode_history"), ""
)
"""Columns that say what is shown and asked, and no rule reads: a row may lack them."""


def text_only(prediction: Json) -> Reply:
    said = prediction["prediction"]
    return Reply(said if said is None else str(said))


def ranked(prediction: Json) -> Reply:
    return Reply(prediction["prediction"], ranked=tuple(prediction["answer_top10"]))


def judged(prediction: Json) -> Reply:
    return Reply(prediction["prediction"], judgement=prediction["judge_reply"])


def extracted_by_authors(prediction: Json) -> Reply:
    return Reply(prediction.get("authors_extracted") or prediction["prediction"])


REPLIES: dict[tuple[str, str], Callable[[Json], Reply]] = {
    ("scanqa", ""): ranked,
    ("openeqa", ""): judged,
    ("blink_spatial", "public_official"): extracted_by_authors,
}
"""(benchmark, variant, or "" for all): how a prediction becomes a reply; its text alone where nothing is said."""

MEANT = {("vsibench", "corrected_exact_boundary")}
"""Variants on what a reply means instead of on the reply."""

ITEM_SCORE = {"openeqa": "mark"}
"""The metric that stands as the score of an item, where it is not in [0, 1]."""


def with_annotation(row: Json) -> Json:
    """SQA3D's two files as one row."""
    return row | row.get("annotation", {})


def with_options(row: Json) -> Json:
    """OST-Bench in a table has its options as text."""
    options = row.get("option") or []
    return row | {"option": ast.literal_eval(options) if isinstance(options, str) else options}


ROWS: dict[str, Callable[[Json], Json]] = {"sqa3d": with_annotation, "ostbench": with_options}


def bare_metric(group: str) -> str:
    return re.sub(r"_(accuracy|mra|vci_metric|MRA:.*)$", "", group)


GROUPS: dict[str, Callable[[str], str]] = {"vsibench": bare_metric, "sparbench": bare_metric}
"""How the harness names a group, as we name it; else as it stands, in either case, or behind the last part of our name."""


# --- folders ----------------------------------------------------------------------------------------------------------


def folders_of(folder: Path) -> list[Path]:
    """Folders with an expected.json, this one or below it."""
    return sorted(found.parent for found in folder.rglob("expected.json"))


def read_lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def benchmark_of(name: str, expected: Json) -> QuestionBenchmark | None:
    """By its name, by an alias, or by the longest of its names that the name begins with: spar_bench_tiny, VSI-Bench (debiased)."""
    wanted = ALIASES.get(letters(name), letters(name))
    ours = sorted(QUESTIONS, key=lambda each: len(each.name), reverse=True)
    found = next((each for each in ours if wanted.startswith(letters(each.name))), None)
    if found is not None and found.name == "scanqa":
        table = lemma_table(expected)
        return scanqa(lambda word: table.get(word, word))
    return found


def lemma_table(expected: Json) -> Json:
    return next(
        (v["lemma_table_where_different"] for v in expected["variants"].values() if "lemma_table_where_different" in v),
        {},
    )


def read_case(folder: Path) -> Case | str:
    """A case, or why there is none."""
    expected = json.loads((folder / "expected.json").read_text())
    names = (expected.get("benchmark") or folder.name, folder.name)
    if missing := [file for file in FILES if not (folder / file).is_file()]:
        return f"lacks {', '.join(missing)}"
    benchmark = next((found for name in names if (found := benchmark_of(name, expected)) is not None), None)
    if benchmark is None:
        return f"no benchmark of ours is named {names[0]}"
    rows = {row["_oracle_id"]: row for row in read_lines(folder / "annotations.jsonl")}
    items, predictions = {}, {}
    reading = ROWS.get(benchmark.name, dict)
    numbers = {id: i for i, id in enumerate(rows)}
    for prediction in read_lines(folder / "predictions.jsonl"):
        id = prediction["id"]
        row = prediction.get("row_id", id)
        if row not in rows:
            return f"a prediction is about row {row}, which is not in {FILES[0]}"
        try:
            item = benchmark.item_of(SHOWN | reading(rows[row]), Path("DATA"), numbers[row])
        except BadRow as error:
            return f"row {row}: {error}"
        if item is None:
            return f"row {row}: is none of {benchmark.title}'s"
        items[id], predictions[id] = replace(item, id=id), prediction
    return Case(folder, expected, benchmark, items, predictions)


# --- comparisons ------------------------------------------------------------------------------------------------------


def compare_folder(folder: Path) -> Iterator[Comparison]:
    if other := OTHERS.get(letters(folder.name)):
        yield from other(folder)
        return
    case = read_case(folder)
    if isinstance(case, str):
        numbers = [*geometry(folder)]
        yield from numbers or [Comparison(folder.name, faults=[case])]
        return
    for variant, expected in case.expected["variants"].items():
        yield compare_variant(case, variant, expected)
    for more in MORE.get(case.benchmark.name, ()):
        yield more(case)


def compare_variant(case: Case, variant: str, expected: Json) -> Comparison:
    """With the rule of that name; without one, with each of those that may be meant, of which the nearest is told."""
    if expected["kind"] == "intent":
        return agreement(case, Comparison(f"{case.folder.name} {variant}"), expected)
    rules = rules_of(case.benchmark, variant, expected)
    if not rules:
        return Comparison(f"{case.folder.name} {variant}", faults=[f"no rule is named {variant}"])
    found = min((compare_rule(case, variant, rule, expected) for rule in rules), key=lambda each: len(each.faults))
    if variant not in rules and found.faults:
        found.faults.insert(0, f"no rule is named {variant}")
    return found


def rules_of(benchmark: QuestionBenchmark, variant: str, expected: Json) -> list[str]:
    """Names of rules that may be meant, the one of that name first.

    What is public is known by its name, else by the repository of its scorer. A corrected rule is known by a sentence, which may be
    that of another of ours than the one that is called so.
    """
    same = [name for name in benchmark.rules if letters(name) == letters(variant)]
    if expected["kind"] != "public":
        return [*dict.fromkeys([*same, *(name for name in benchmark.rules if not name.startswith("public"))])]
    repository = letters(expected.get("scorer", {}).get("repo", "").split(" ")[0].rpartition("/")[2])
    sources = {name: letters(rule.source) for name, rule in benchmark.rules.items() if name != "public"}
    return same[:1] or [name for name, source in sources.items() if repository and repository in source]


def compare_rule(case: Case, variant: str, rule: str, expected: Json) -> Comparison:
    name, theirs = case.benchmark.name, expected.get("items", {})
    found = Comparison(f"{case.folder.name} {variant}")
    if rule != variant:
        found.notes.append(f"compared with our rule {rule}")
    reply_of = REPLIES.get((name, variant)) or REPLIES.get((name, ""), text_only)
    if (name, rule) in MEANT:
        reply_of = partial(meaning, theirs)
    if unknown := sorted({*theirs} - {*case.items}):
        found.faults.append(f"{len(unknown)} items have no prediction: {unknown[0]}")
    outcomes = case.outcomes(rule, reply_of, [id for id in theirs or case.items if id in case.items])
    for id in outcomes if theirs else ():
        compare_item(found, id, outcomes[id], theirs[id], ITEM_SCORE.get(name, "score"))
    if "all predictions" in expected.get("aggregate_over", ""):
        counted = case.outcomes(rule, reply_of)
    else:
        counted = {id: outcome for id, outcome in outcomes.items() if id not in case.crash_ids}
    compare_aggregates(case, found, counted, rule, expected)
    if not found.count:
        found.faults.append(f"nothing to compare among {', '.join(expected)}")
    return found


def meaning(items: Mapping[str, Json], prediction: Json) -> Reply:
    return Reply(items[prediction["id"]]["extracted"])


def agreement(case: Case, found: Comparison, expected: Json) -> Comparison:
    """How often the careful reader gives what a person reads; no failure."""
    outcomes = case.outcomes(CORRECTED, REPLIES.get((case.benchmark.name, ""), text_only), expected["items"])
    same = [
        outcomes[id].scores.get("score") == theirs["score"]
        and is_same_text(outcomes[id].extracted, theirs.get("extracted"))
        for id, theirs in expected["items"].items()
    ]
    found.count = len(same)
    found.notes.append(
        f"the careful reader agrees with a person on {sum(same)} of {len(same)} replies ({sum(same) / len(same):.1%})"
    )
    return found


KEYS = {"em10": "em10", "f_value": "f_value"}


def compare_item(found: Comparison, id: str, ours: Outcome, theirs: Json, metric: str) -> None:
    if "crash" in theirs:
        found.same(f"{id} crash", ours.status == "failed", ours.status, theirs["crash"])
    elif theirs.get("status") == "skipped":
        found.same(f"{id} status", ours.status == "skipped", ours.status, "skipped")
    else:
        found.number(f"{id} score", ours.scores.get(metric), value_of(theirs["score"]))
        for key, mine in KEYS.items():
            if key in theirs:
                found.number(f"{id} {key}", ours.scores.get(mine), value_of(theirs[key]))
    for key in ("extracted", "cleaned", "truncated_prediction"):
        if key in theirs:
            found.same(f"{id} {key}", is_same_text(ours.extracted, theirs[key]), ours.extracted, theirs[key])


def value_of(number: Any) -> float | None:
    """NaN and infinities are strings there, and so may be what was printed."""
    return None if number is None else float(number)


def is_same_text(ours: str | None, theirs: Any) -> bool:
    """Nothing is None or ""; numbers may be written in several ways, long texts are cut with dots."""
    mine, wanted = ours or "", "" if theirs is None or theirs is False else str(theirs)
    if mine == wanted or (wanted.endswith("...") and mine.startswith(wanted[:-3])):
        return True
    try:
        return float(mine) == float(wanted)
    except ValueError:
        return False


def compare_aggregates(
    case: Case, found: Comparison, outcomes: Mapping[str, Outcome], rule: str, expected: Json
) -> None:
    if expected.get("aggregates") is not None or "per_type_mean" in expected:
        figures = case.figures(outcomes, rule)
        theirs = expected.get("aggregates") or {}
        compare_figures(case, found, figures, theirs if isinstance(theirs, dict) else {"overall": theirs})
        for kind, mean in expected.get("per_type_mean", {}).items():
            figure = figures.get(f"types/{kind}")
            found.number(f"types/{kind}", figure and figure.value / figure.scale, value_of(mean))
    for model, theirs in expected.get("aggregates_by_model", {}).items():
        mine = {id: outcome for id, outcome in outcomes.items() if case.predictions[id]["model"] == model}
        figures = case.figures(mine, rule)
        compare_figures(case, found, figures, {"groups": theirs["groups"]}, f"{model} ")
        found.number(f"{model} overall", figures["overall"].value, theirs["unweighted_mean_of_3"])


COUNTS = {"n", "total", "correct", "unfiltered_total"}


def compare_figures(
    case: Case, found: Comparison, figures: Mapping[str, Figure], theirs: Json, where: str = ""
) -> None:
    if "crash" in theirs:
        found.number(f"{where}overall, which crashes there", figures["overall"].value, None)
    elif isinstance(overall := theirs.get("overall"), dict):
        for name, value in overall.items():
            compare_metric(found, figures, "", name, value, where)
    elif "overall" in theirs:
        found.number(f"{where}overall", figures["overall"].value, value_of(overall))
        if "printed" in theirs:
            digits = len(theirs["printed"].partition(".")[2])
            mine = f"{figures['overall'].value:.{digits}f}"
            found.same(f"{where}printed", mine == theirs["printed"], mine, theirs["printed"])
    for key in ("n", "total"):
        if key in theirs:
            found.same(f"{where}{key}", figures["overall"].count == theirs[key], figures["overall"].count, theirs[key])
    if "correct" in theirs:
        mine = round(figures["overall"].value / figures["overall"].scale * figures["overall"].count)
        found.same(f"{where}correct", mine == theirs["correct"], mine, theirs["correct"])
    for group, value in (theirs.get("groups") or {}).items():
        compare_group(case, found, figures, group, value, where)
    for group, value in (theirs.get("groups_derived") or {}).items():
        compare_group(case, found, figures, group, value, where, is_derived=case.benchmark.name not in ITEM_SCORE)


def compare_group(
    case: Case,
    found: Comparison,
    figures: Mapping[str, Figure],
    group: str,
    theirs: Any,
    where: str,
    *,
    is_derived: bool = False,
) -> None:
    """is_derived: theirs is a mean of item scores, whatever the scale of the harness."""
    name = name_of_group(case, figures, group)
    values = theirs if isinstance(theirs, dict) else {"score": theirs}
    means = [values[key] for key in ("score", "accuracy", "mean", "mra") if key in values]
    if not means:
        for metric, number in values.items():
            if metric not in COUNTS:
                compare_metric(found, figures, f"groups/{name}/", metric, number, where)
        return
    figure = figures.get(f"groups/{name}")
    mean = value_of(means[0])
    if figure is None and mean == 0:
        found.notes.append(f"{where}groups/{group}: 0 there without a question")
        return
    ours = None if figure is None else figure.value / (figure.scale if is_derived else 1)
    found.number(f"{where}groups/{group}", ours, mean)
    if figure is not None and type(count := values.get("n", values.get("total"))) is int:
        found.same(f"{where}groups/{group} n", figure.count == count, figure.count, count)


def name_of_group(case: Case, figures: Mapping[str, Figure], group: str) -> str:
    group = GROUPS.get(case.benchmark.name, str)(group)
    ours = [name.removeprefix("groups/") for name in figures if name.startswith("groups/")]
    if group in ours:
        return group
    wanted = letters(group.removeprefix(case.benchmark.name)), letters(re.split("[/:]", group)[-1])
    return next(
        (name for each in wanted for name in ours if each in (letters(name), letters(name.rpartition("/")[2]))), group
    )


METRICS = {"Top1 (EM)": "", "Top10 (EM)": "em10", "Top1 (F-value)": "f_value"}


def compare_metric(
    found: Comparison, figures: Mapping[str, Figure], prefix: str, metric: str, value: float, where: str
) -> None:
    name = prefix + METRICS.get(metric, metric)
    names = (name.rstrip("/") or "overall", f"groups/{name}", name.lower())
    figure = next((figures[each] for each in names if each in figures), None)
    if metric in CAPTION_KEYS.values() and not has_java():
        if not prefix:
            found.notes.append(f"{metric} of our own tokens is not compared: Java is missing")
        return
    tolerance = METEOR_TOLERANCE if metric == METEOR else TOLERANCE
    found.number(f"{where}{prefix}{metric}", None if figure is None else figure.value, value, tolerance)


# --- what only one benchmark has --------------------------------------------------------------------------------------


def vsibench_subsets(case: Case) -> Comparison:
    """Kinds of questions left out; thresholds; and values that a known mistake would give."""
    found = Comparison(f"{case.folder.name} subsets and traps")
    if "mra" in case.expected:
        found.same(
            "thresholds", THRESHOLDS.tolist() == case.expected["mra"]["thresholds_float"], THRESHOLDS.tolist(), ""
        )
    scored = {
        variant: case.outcomes(variant, text_only)
        for variant in case.expected["variants"]
        if variant.startswith("public")
    }
    for subset in case.expected.get("subset_cases", ()):
        dropped = set(subset["dropped_types"])
        kept = {id for id, item in case.items.items() if item.kind not in dropped and id not in case.crash_ids}
        found.same(f"{subset['case']} n", len(kept) == subset["n"], len(kept), subset["n"])
        for variant, theirs in subset["public"].items():
            figures = case.figures({id: scored[variant][id] for id in kept}, variant)
            compare_figures(case, found, figures, theirs, f"{subset['case']} {variant} ")
        theirs = subset["corrected"]
        figures = case.figures({id: scored[theirs["on_items_of"]][id] for id in kept}, CORRECTED)
        compare_figures(
            case,
            found,
            figures,
            {"overall": theirs["overall_0_1"], "groups": theirs["groups"]},
            f"{subset['case']} corrected ",
        )
    kept = {id for id in case.items if id not in case.crash_ids}
    figures = case.figures({id: scored["public_thinking_in_space"][id] for id in kept}, "public_thinking_in_space")
    for trap, theirs in case.expected.get("trap_values_not_expected", {}).items():
        is_off = abs(figures["overall"].value - theirs["overall"]) > TOLERANCE
        found.same(f"{trap} is not ours", is_off, figures["overall"].value, theirs["overall"])
    return found


def blink_missing(case: Case) -> Comparison:
    """The right answer to every row but each third, which is missing."""
    found = Comparison(f"{case.folder.name} missing replies")
    expected = case.expected["variants"].get("public_official", {}).get("missing_prediction_case")
    if expected:
        rows = {prediction.get("row_id", id): case.items[id] for id, prediction in case.predictions.items()}
        order = [row["_oracle_id"] for row in read_lines(case.folder / "annotations.jsonl")]
        items = [replace(rows[id], id=id) for id in order]
        there = [item for i, item in enumerate(items) if i % 3]
        outcomes = {item.id: case.benchmark.score(item, Reply(item.row["answer"]), "public_official") for item in there}
        figures = {figure.name: figure for figure in case.benchmark.figures(items, outcomes, "public_official")}
        for name, value in expected["result"].items():
            found.number(name, figures["overall" if name == "Total" else f"groups/{name}"].value, value)
    return found


CAPTION_KEYS = {f"bleu{n}": f"Bleu_{n}" for n in range(1, 5)} | {
    "rouge_l": "ROUGE_L",
    "cider": "CIDEr",
    "meteor": METEOR,
}


def scanqa_captions(case: Case) -> Comparison:
    """Of each item, each class and the whole, on texts that are tokenized already; and our tokens beside them."""
    found = Comparison(f"{case.folder.name} captions on recorded tokens")
    if not has_pycocoevalcap():
        found.faults.append("pycocoevalcap is missing: pip install 'g2vlm[eval]'")
        return found
    for variant in case.expected["variants"].values():
        if not (theirs := {id: item for id, item in variant["items"].items() if "tokenized" in item}):
            continue
        sets: dict[str, list[str]] = {"": [*theirs]}
        for id, item in theirs.items():
            sets.setdefault(item["group"], []).append(id)
        for group, ids in sets.items():
            scores = caption_scores(
                {id: theirs[id]["tokenized"] for id in ids}, {id: theirs[id]["tokenized_refs"] for id in ids}
            )
            whole = variant["aggregates"]["groups"].get(group, {}) if group else variant["aggregates"]["overall"]
            for key, name in CAPTION_KEYS.items():
                tolerance = METEOR_TOLERANCE if name == METEOR else TOLERANCE
                if name not in scores.overall:
                    continue
                if name in whole:
                    found.number(f"{group} {name}", 100 * scores.overall[name], whole[name], tolerance)
                for id in ids if not group else ():
                    found.number(f"{id} {key}", scores.each[id][name], theirs[id][key], tolerance)
        if has_java():
            mine = tokenized({id: [case.predictions[id]["prediction"]] for id in theirs})
            for id, item in theirs.items():
                found.same(f"{id} tokens", mine[id] == [item["tokenized"]], mine[id], item["tokenized"])
        else:
            found.notes.append("METEOR and our own tokens are not compared: Java is missing")
    return found


def sqa3d_subsets(case: Case) -> Comparison:
    """Fewer questions; one question asked twice; and what has no question is no item here."""
    found = Comparison(f"{case.folder.name} subsets")
    rule = "public_llm_eval"
    outcomes = case.outcomes(rule, text_only)
    for subset in case.expected["variants"].get(rule, {}).get("subset_cases", ()):
        correct, total = map(int, subset["correct_total"])
        if first := re.fullmatch(r"first (\d+) ids only", subset["case"]):
            figure = case.figures({id: outcomes[id] for id in [*outcomes][: int(first[1])]}, rule)["overall"]
        elif subset["case"] == "id 0 twice, wrong then right":
            item = next(iter(case.items.values()))
            twice = {"wrong": "no such thing", "right": item.row["answers"][0]["answer"]}
            items = [replace(item, id=id) for id in twice]
            scored = {each.id: case.benchmark.score(each, twice[each.id], rule) for each in items}
            figure = case.benchmark.figures(items, scored, rule)[0]
        else:
            found.notes.append(f"{subset['case']}: not compared, a prediction without a question has no item here")
            continue
        found.same(
            subset["case"], (round(figure.value * figure.count), figure.count) == (correct, total), figure, subset
        )
    return found


MORE: dict[str, tuple[Callable[[Case], Comparison], ...]] = {
    "vsibench": (vsibench_subsets,),
    "blink_spatial": (blink_missing,),
    "scanqa": (scanqa_captions,),
    "sqa3d": (sqa3d_subsets,),
}


# --- folders that are no benchmark ------------------------------------------------------------------------------------


def thinking_strip(folder: Path) -> Iterator[Comparison]:
    """The step before scoring: `stripped` of every reply; tags are those of the variant or the prediction, else <think>."""
    expected = json.loads((folder / "expected.json").read_text())
    predictions = {each["id"]: each for each in read_lines(folder / "predictions.jsonl")}
    for variant, theirs in expected["variants"].items():
        found = Comparison(f"{folder.name} {variant}")
        for id, item in theirs["items"].items():
            said = item if isinstance(item, dict) else {"stripped": item}
            if id not in predictions or "stripped" not in said:
                found.faults.append(f"{id} has no prediction, or nothing is said of it")
                continue
            mine = without_blocks(predictions[id]["prediction"], *tags_of(said, predictions[id], theirs, expected))
            found.same(id, mine == said["stripped"], mine, said["stripped"])
        yield found


TAGS = ("tag_pairs", "tags", "reasoning_tags")


def tags_of(*places: Json) -> list[Any]:
    """Pairs of tags from the first place that names them, itself or its scorer, as lists or as the JSON of a command line."""
    for place in places:
        for where in (place, place.get("scorer", {})):
            for key in TAGS:
                if isinstance(where, dict) and where.get(key):
                    return [json.loads(where[key]) if isinstance(where[key], str) else where[key]]
    return []


OTHERS: dict[str, Callable[[Path], Iterator[Comparison]]] = {"thinkingstrip": thinking_strip}
"""Folders that hold something else than replies to a benchmark's questions, by name, as letters and digits."""


def geometry(folder: Path) -> Iterator[Comparison]:
    """Numbers about arrays; a number that no way of ours gives is a fault. Nothing for a folder without arrays."""
    expected = json.loads((folder / "expected.json").read_text())
    described = expected.get("cases", {})
    for variant, theirs in expected["variants"].items():
        places = {
            case: described.get(case) if isinstance(described, dict) else None for case in theirs.get("items", {})
        }
        arrays = {case: arrays_of(folder, case, place) for case, place in places.items()}
        if not any(arrays.values()):
            return
        found = Comparison(f"{folder.name} {variant}")
        cases = {case: (arrays[case], numbers_of(item)) for case, item in theirs["items"].items()}
        wanted = [(case, name) for case, (_, numbers) in cases.items() for name in numbers]
        found.count = len(wanted)
        for attempt in best_attempts(cases, TOLERANCE):
            found.worst = max(found.worst, *attempt.differences.values())
            found.notes.append(f"{len(attempt.differences)} by {attempt.kind.values.__name__}{attempt.way}")
            wanted = [where for where in wanted if where not in attempt.differences]
        found.faults += [f"{case} {name}: no way of ours gives this" for case, name in wanted]
        if not found.count:
            found.faults.append("no number is expected")
        yield found


def compare_all(folder: Path) -> list[Comparison]:
    folders = folders_of(folder)
    if not folders:
        return [Comparison(str(folder), faults=["holds no expected.json"])]
    return [comparison for each in folders for comparison in compared(each)]


def compared(folder: Path) -> list[Comparison]:
    """All of a folder; what is not as the README of the recordings says is a fault of this folder alone."""
    found: list[Comparison] = []
    try:
        found.extend(compare_folder(folder))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"cannot be compared: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        found.append(Comparison(folder.name, faults=[what]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    found = compare_all(parser.parse_args().folder)
    for comparison in found:
        print(comparison)
    bad = sum(bool(comparison.faults) for comparison in found)
    print(f"{len(found) - bad} of {len(found)} agree, worst difference {max(each.worst for each in found):.2e}")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
