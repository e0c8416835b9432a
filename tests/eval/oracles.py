"""Compares our scores with recorded ones of public scorers: python tests/eval/oracles.py FOLDER.

FOLDER holds folders with annotations.jsonl, predictions.jsonl and expected.json, or is one. Every variant named there is scored by our
rule of that name; one line says the worst difference of each. A variant or a benchmark without a rule is a failure. `intent` variants
say how often our careful reader agrees with a person, which is no failure.
"""

import argparse
import json
import math
import re
import sys
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

ALIASES = {"blink": "blink_spatial", "allangles": "allanglesbench"} | {
    short: f"{short}bench" for short in ("cv", "mmsi", "ost", "spar", "vsi")
}
"""Names of folders that are not those of our benchmarks, as letters and digits."""

RULE_OF: dict[tuple[str, str], str] = {}
"""(benchmark, variant): rule, where the rule does not have the variant's name."""


def text_only(prediction: Json) -> Reply:
    return Reply(prediction["prediction"])


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


ROWS: dict[str, Callable[[Json], Json]] = {"sqa3d": with_annotation}


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
    if name == "scanqa":
        table = lemma_table(expected)
        return scanqa(lambda word: table.get(word, word))
    wanted = {letters(name), letters(ALIASES.get(letters(name), name))}
    return next((each for each in QUESTIONS if letters(each.name) in wanted), None)


def lemma_table(expected: Json) -> Json:
    return next(
        (v["lemma_table_where_different"] for v in expected["variants"].values() if "lemma_table_where_different" in v),
        {},
    )


def read_case(folder: Path) -> Case | str:
    """A case, or why there is none."""
    expected = json.loads((folder / "expected.json").read_text())
    name = expected.get("benchmark", folder.name)
    if missing := [file for file in FILES if not (folder / file).is_file()]:
        return f"lacks {', '.join(missing)}"
    benchmark = benchmark_of(name, expected)
    if benchmark is None:
        return f"no benchmark of ours is named {name}"
    rows = {row["_oracle_id"]: row for row in read_lines(folder / "annotations.jsonl")}
    items, predictions = {}, {}
    reading = ROWS.get(benchmark.name, dict)
    numbers = {id: i for i, id in enumerate(rows)}
    for prediction in read_lines(folder / "predictions.jsonl"):
        id = prediction["id"]
        row = prediction.get("row_id", id)
        try:
            item = benchmark.item_of(reading(rows[row]), Path("DATA"), numbers[row])
        except BadRow as error:
            return f"row {row}: {error}"
        if item is None:
            return f"row {row}: is none of {benchmark.title}'s"
        items[id], predictions[id] = replace(item, id=id), prediction
    return Case(folder, expected, benchmark, items, predictions)


# --- comparisons ------------------------------------------------------------------------------------------------------


def compare_folder(folder: Path) -> Iterator[Comparison]:
    if other := OTHERS.get(folder.name):
        yield from other(folder)
        return
    case = read_case(folder)
    if isinstance(case, str):
        yield Comparison(folder.name, faults=[case])
        return
    for variant, expected in case.expected["variants"].items():
        yield compare_variant(case, variant, expected)
    for more in MORE.get(case.benchmark.name, ()):
        yield more(case)


def compare_variant(case: Case, variant: str, expected: Json) -> Comparison:
    name = case.benchmark.name
    found = Comparison(f"{case.folder.name} {variant}")
    if expected["kind"] == "intent":
        return agreement(case, found, expected)
    rule = RULE_OF.get((name, variant), variant)
    if rule not in case.benchmark.rules:
        found.faults.append(f"no rule is named {rule}")
        return found
    reply_of = REPLIES.get((name, variant)) or REPLIES.get((name, ""), text_only)
    if (name, variant) in MEANT:
        reply_of = partial(meaning, expected["items"])
    outcomes = case.outcomes(rule, reply_of, expected["items"])
    for id, theirs in expected["items"].items():
        compare_item(found, id, outcomes[id], theirs, ITEM_SCORE.get(name, "score"))
    if "all predictions" in expected.get("aggregate_over", ""):
        counted = case.outcomes(rule, reply_of)
    else:
        counted = {id: outcome for id, outcome in outcomes.items() if id not in case.crash_ids}
    compare_aggregates(case, found, counted, rule, expected)
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
    """NaN and infinities are strings there."""
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
    if "aggregates" in expected or "per_type_mean" in expected:
        figures = case.figures(outcomes, rule)
        compare_figures(case, found, figures, expected.get("aggregates") or {})
        for kind, mean in expected.get("per_type_mean", {}).items():
            figure = figures.get(f"types/{kind}")
            found.number(f"types/{kind}", figure and figure.value / figure.scale, mean)
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
    for group, value in theirs.get("groups_derived", {}).items():
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
    if figure is None and means[0] == 0:
        found.notes.append(f"{where}groups/{group}: 0 there without a question")
        return
    ours = None if figure is None else figure.value / (figure.scale if is_derived else 1)
    found.number(f"{where}groups/{group}", ours, value_of(means[0]))


def name_of_group(case: Case, figures: Mapping[str, Figure], group: str) -> str:
    group = GROUPS.get(case.benchmark.name, str)(group)
    ours = [name.removeprefix("groups/") for name in figures if name.startswith("groups/")]
    if group in ours:
        return group
    wanted = letters(group.removeprefix(case.benchmark.name))
    return next((name for name in ours if wanted in (letters(name), letters(name.rpartition("/")[2]))), group)


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
            tags = next(
                (each[key] for each in (predictions[id], theirs, expected) for key in TAGS if key in each), None
            )
            mine = without_blocks(predictions[id]["prediction"], *([tags] if tags else []))
            found.same(id, mine == item["stripped"], mine, item["stripped"])
        yield found


TAGS = ("tag_pairs", "tags", "reasoning_tags")

OTHERS: dict[str, Callable[[Path], Iterator[Comparison]]] = {"_thinking_strip": thinking_strip}
"""Folders by name that hold something else than replies to a benchmark's questions."""


def compare_all(folder: Path) -> list[Comparison]:
    folders = folders_of(folder)
    if not folders:
        return [Comparison(str(folder), faults=["holds no expected.json"])]
    return [comparison for each in folders for comparison in compare_folder(each)]


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
