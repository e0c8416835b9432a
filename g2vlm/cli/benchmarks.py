"""`g2vlm eval BENCH...` and what goes with it: published benchmarks, asked of a model or of recorded outputs, reported, compared."""

import contextlib
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from g2vlm.cli.options import (
    Encoder,
    FramesAtMost,
    MaxPixels,
    MinPixels,
    Model,
    Preprocessing,
    Thinking,
    load,
    loading_of,
)
from g2vlm.cli.owning import owning
from g2vlm.cli.predict import MODEL, Device, DType

if TYPE_CHECKING:
    from g2vlm.crew import Crew
    from g2vlm.eval.benchmarks.base import Benchmark, Item
    from g2vlm.eval.protocol import System
    from g2vlm.eval.report import Report
    from g2vlm.eval.run import Evaluation
    from g2vlm.predictor import Answering
    from g2vlm.speaking import GeometryInput

ASKED, WHO = "What is asked", "Who is asked"

Kind = Literal["ours", "transformers", "recorded", "majority", "prior", "size-prior"]

Data = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Folder of the data: PATH/BENCH, or PATH itself if there is no such folder; `g2vlm eval benchmarks` shows how it is laid out. "
        "Of questions also their file alone (.jsonl, .json, .parquet), which is enough to score answers.",
        rich_help_panel=ASKED,
    ),
]
RuleName = Annotated[
    str,
    typer.Option(
        "--rule",
        "--variant",
        metavar="NAME",
        help="How outputs are scored: corrected, public (as the harness that published numbers come from), or another of the benchmark's.",
        rich_help_panel=ASKED,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, help="Ask so many items of each benchmark: the first in an order drawn by --seed.", rich_help_panel=ASKED
    ),
]
Seed = Annotated[int, typer.Option(help="Of the order of --limit, and of --geometry shuffled.", rich_help_panel=ASKED)]
Who = Annotated[
    Kind,
    typer.Option(
        help="ours: --model by g2vlm. transformers: a stock Qwen-VL. recorded: --predictions. majority: the best constant for each kind of "
        "question. prior: what is usually right for such a question elsewhere. size-prior: a table of typical sizes.",
        rich_help_panel=WHO,
    ),
]
Predictions = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help='JSON lines {"id": ..., "prediction": ...}; for geometry a folder of ID.npz with depth, points, normals, poses, intrinsics.',
        rich_help_panel=WHO,
    ),
]
Reasoning = Annotated[
    Literal["geometry"] | None,
    typer.Option(help="Let the model measure in its geometry before it answers.", rich_help_panel=WHO),
]
Geometry = Annotated[
    Literal["on", "off", "blank", "shuffled"],
    typer.Option(help="What the model's geometric encoder sees; all but on are for comparison.", rich_help_panel=WHO),
]
TextOnly = Annotated[
    bool,
    typer.Option("--text-only", help="Withhold pictures: what the model knows without looking.", rich_help_panel=WHO),
]
TellSizes = Annotated[
    bool,
    typer.Option(
        "--typical-sizes",
        help="With --text-only: say before a question how large the things that it names typically are.",
        rich_help_panel=WHO,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Folder of logs and reports.", show_default="runs/eval/MODEL"),
]
Name = Annotated[str, typer.Argument(metavar="BENCH", help="A benchmark, as in `g2vlm eval benchmarks`.")]


def run(
    names: Annotated[list[str], typer.Argument(metavar="BENCH...", help="Benchmarks, as in `g2vlm eval benchmarks`.")],
    data: Data = None,
    limit: Limit = None,
    rule: RuleName = "corrected",
    seed: Seed = 0,
    system: Who = "ours",
    model: Model = None,
    predictions: Predictions = None,
    geometry: Geometry = "on",
    reasoning: Reasoning = None,
    text_only: TextOnly = False,
    tells_sizes: TellSizes = False,
    max_frames: FramesAtMost = 32,
    encoder: Encoder = None,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=MODEL)] = "auto",
    dtype: Annotated[DType, typer.Option(help="Number format of the model.", rich_help_panel=MODEL)] = "auto",
    preprocessing: Preprocessing = None,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    thinking: Thinking = "off",
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of report.md.")] = False,
) -> None:
    """Ask benchmarks of a model, and report: `g2vlm eval BENCH... --model M --data DIR`; the word run can be left out.

    Writes report.json, report.md and a line for each item (BENCH/samples.jsonl). Killed and started again, it goes on, and the report
    is the same. Several processes share the work: `torchrun --nproc-per-node N -m g2vlm eval BENCH...`.
    """
    from g2vlm.crew import join

    given = {"text_only": text_only, "tells_sizes": tells_sizes, "geometry": geometry, "reasoning": reasoning}
    _check_together(system, names, model=model, predictions=predictions, **given)
    benchmarks = [(benchmark, *_items(benchmark, data)) for benchmark in map(_find, names)]
    crew = join()
    reading = loading_of(encoder, preprocessing, min_pixels, max_pixels, thinking)
    named = model or "tiny" if system in ("ours", "transformers") else str(predictions or system)
    out = Path("runs") / "eval" / _slug(named) if out is None else out
    evaluations = []
    with owning(out, crew):
        predictor = _predictor(system, model, device, dtype, reading)
        if not text_only and predictor is not None:
            _tell_missing(benchmarks, crew)
        notes: list[str] = []
        for benchmark, items, folder in benchmarks:
            asked = (
                _blind(predictor, system, tells_sizes=tells_sizes)
                if predictor is not None and text_only
                else _model_system(predictor, system, geometry, reasoning, max_frames, seed, reading)
                if predictor is not None
                else _lookup_system(system, benchmark, items, predictions, rule)
            )
            notes += _unknown(asked, items, predictions)
            evaluations.append(
                _evaluate(benchmark, items, asked, out, folder, rule=rule, limit=limit, seed=seed, crew=crew)
            )
        if crew.is_first:
            _report(out, evaluations, named, limit, notes, as_json=as_json)


def score(
    name: Name,
    predictions: Annotated[
        Path, typer.Option(metavar="PATH", help='JSON lines {"id": ..., "prediction": ...}, or a folder of ID.npz.')
    ],
    data: Data = None,
    rule: RuleName = "corrected",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Keep log and reports there.", show_default="only printed"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of report.md.")] = False,
) -> None:
    """Score recorded outputs without a model. What is missing, twice there, unknown or unusable is named and counted.

    The samples.jsonl of an evaluation is such a file: it can be scored again under another rule.
    """
    with tempfile.TemporaryDirectory() as passing:
        benchmark = _find(name)
        items, folder = _items(benchmark, data)
        system = _lookup_system("recorded", benchmark, items, predictions, rule)
        place = Path(passing) if out is None else out
        found = _evaluate(benchmark, items, system, place, folder, rule=rule)
        _report(place, [found], str(predictions), None, _unknown(system, items, predictions), as_json=as_json)


def benchmarks(
    name: Annotated[str | None, typer.Argument(metavar="[BENCH]", help="Show this one with all its rules.")] = None,
) -> None:
    """All benchmarks: how to lay out their data, where they come from, and by which rules they are scored."""
    from g2vlm.eval.benchmarks.catalogue import BENCHMARKS

    for benchmark in [_find(name)] if name else BENCHMARKS.values():
        print(f"{benchmark.name}: {benchmark.title}")
        print(f"  {benchmark.reference}; licence: {benchmark.licence}")
        if name:
            for rule in benchmark.rules.values():
                print(f"  --rule {rule.name}: {rule.source}")
        else:
            print(f"  rules: {', '.join(benchmark.rules)}")
        print(f"  id of an item: {benchmark.ids}")
        print("\n".join(f"    {line}" for line in benchmark.layout.splitlines()))


def compare(
    ours: Annotated[Path, typer.Argument(metavar="A.json", help="A report.json, or its folder.")],
    theirs: Annotated[Path, typer.Argument(metavar="B.json", help="Another on the same questions.")],
) -> None:
    """By how much A exceeds B, question by question, with 95 % intervals; differences that are clear of zero are in bold."""
    from g2vlm.eval.pairs import as_table, pairs
    from g2vlm.eval.report import read_report

    reports = [read_report(file) for file in (ours, theirs)]
    for file, report in zip((ours, theirs), reports, strict=True):
        for reason in report["incomplete"]:
            typer.echo(f"note: {file} is not complete: {reason}", err=True)
    found = pairs(*reports, names=(str(ours), str(theirs)))
    print(f"A: {_named(reports[0])} ({ours})\nB: {_named(reports[1])} ({theirs})\n")
    print(as_table(found))


def table(
    reports: Annotated[list[Path], typer.Argument(metavar="REPORTS...", help="report.json files, or their folders.")],
) -> None:
    """Reports beside published numbers, in Markdown, each with its source."""
    from g2vlm.eval.published import tables
    from g2vlm.eval.report import read_report

    print(tables([read_report(file) for file in reports]))


def shortcuts(
    name: Name,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the reports, one for each way.")],
    data: Data = None,
    limit: Limit = None,
    rule: RuleName = "corrected",
    seed: Seed = 0,
    model: Model = None,
    max_frames: FramesAtMost = 32,
    encoder: Encoder = None,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=MODEL)] = "auto",
    dtype: Annotated[DType, typer.Option(help="Number format of the model.", rich_help_panel=MODEL)] = "auto",
    preprocessing: Preprocessing = None,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
) -> None:
    """How much of a model's score needs looking: beside it geometry off, blank, shuffled, text alone, usual answers, the majority.

    text_only: the model gets the words alone. size_prompt: the words alone, behind a sentence for each thing that the question names: "The
    longest side of a typical chair is about 90 cm." size_prior: no model; sizes, numbers and distances of named things are looked up in the
    same table (g2vlm/eval/typical.toml, our own estimates), all other questions have no answer and are not scored. prior: the median, or
    commonest, true answer to the same question about other pictures. majority: the best constant answer to each kind of question.

    Each way is an evaluation of its own in a folder of OUT; killed and started again, it goes on. Where a way answers some kinds of questions
    alone, the table has these instead of the overall figure.
    """
    from g2vlm.crew import Crew
    from g2vlm.eval.adapters import geometry_inputs
    from g2vlm.eval.pairs import beside, pairs

    benchmark = _find(name)
    items, folder = _items(benchmark, data)
    reading = loading_of(encoder, preprocessing, min_pixels, max_pixels, "off")
    with owning(out, Crew()):
        predictor = load(model, device, dtype, reading)
        ways: "dict[str, System]" = {
            f"geometry_{kind}": _model_system(predictor, "ours", kind, None, max_frames, seed, reading)
            for kind in geometry_inputs(predictor)
        }
        ways |= {"text_only": _blind(predictor, "ours"), "size_prompt": _blind(predictor, "ours", tells_sizes=True)}
        for kind in ("size-prior", "prior", "majority"):
            ways[kind.replace("-", "_")] = _lookup_system(kind, benchmark, items, None, rule)
        reports = {}
        for way, system in ways.items():
            found = _evaluate(benchmark, items, system, out / way, folder, rule=rule, limit=limit, seed=seed)
            reports[way] = _written(out / way, [found], system.about.source, limit, ())
    first = reports["geometry_on"]
    rows = {way: pairs(first, report, names=("geometry_on", way)) for way, report in reports.items()}
    print(beside(rows, of=f"{_named(first)} on {name}"))


def overlap(
    name: Name,
    training: Annotated[
        Path,
        typer.Option(
            "--with", metavar="TRAIN.jsonl", help="Questions that a model learnt from, in any format of `g2vlm train`."
        ),
    ],
    data: Data = None,
    list_ids: Annotated[bool, typer.Option("--ids", help="Name every item that is found.")] = False,
) -> None:
    """What of a benchmark a training set holds: questions word for word, or but for their writing, pictures and videos, scenes."""
    from g2vlm.eval.overlap import overlap as find

    benchmark = _find(name)
    found = find(_items(benchmark, data)[0], training)
    print(f"{found.num_items} items of {name}, {found.num_rows} rows of {training}")
    for row in found.bad[:3]:
        typer.echo(f"left out: {row}", err=True)
    if found.bad:
        typer.echo(f"note: {len(found.bad)} of {found.num_rows} rows could not be read", err=True)
    for what, ids in found.ids.items():
        print(f"{what:<12}{len(ids):>7}  {100 * len(ids) / found.num_items:5.1f} %")
        if list_ids:
            print("\n".join(f"  {id}" for id in ids), end="\n" if ids else "")


# --- parts of these ---------------------------------------------------------------------------------------------------


def _find(name: str) -> "Benchmark[Any]":
    from g2vlm.eval.benchmarks.catalogue import BENCHMARKS

    if name not in BENCHMARKS:
        commands = ", ".join([*(command.__name__ for command in COMMANDS), "correspondence"])
        raise ValueError(f"{name} is no benchmark; there are {', '.join(BENCHMARKS)}. Nor is it a command: {commands}")
    return BENCHMARKS[name]


def _items(benchmark: "Benchmark[Any]", data: Path | None) -> tuple[Sequence["Item"], Path]:
    """All items of a benchmark, and the folder that they and their media come from."""
    from g2vlm.eval.benchmarks.rooms import ROOMS

    if data is None and benchmark is not ROOMS:
        raise ValueError(f"{benchmark.name} needs --data DIR, laid out like this:\n{benchmark.layout}")
    named = Path() if data is None else data / benchmark.name if (data / benchmark.name).is_dir() else data
    items = benchmark.items(named)
    if not items:
        raise ValueError(f"{named}: {benchmark.name} has no item there; it is laid out like this:\n{benchmark.layout}")
    return items, named.parent if named.is_file() else named


def _check_together(system: Kind, names: Sequence[str], **given: Any) -> None:
    """ValueError for options that do not go together."""
    is_model = system in ("ours", "transformers")
    if (given["predictions"] is not None) != (system == "recorded"):
        raise ValueError(
            f"--system {system} with --predictions {given['predictions']}: recorded outputs need both, all else neither"
        )
    if given["model"] is not None and not is_model:
        raise ValueError(f"--model {given['model']}: --system {system} has no model; leave it out")
    if given["model"] is None and system == "transformers":
        raise ValueError("--system transformers needs --model, a folder or hub id of a stock Qwen-VL")
    if given["text_only"] and not is_model:
        raise ValueError(f"--text-only: --system {system} looks at nothing anyway; leave it out")
    if given["tells_sizes"] and not given["text_only"]:
        raise ValueError("--typical-sizes: a model that looks is told nothing; add --text-only, or leave it out")
    if given["geometry"] != "on" and (system != "ours" or given["text_only"]):
        raise ValueError(f"--geometry {given['geometry']}: there is no geometric encoder to show it to; leave it out")
    if given["reasoning"] is not None and (system != "ours" or given["text_only"] or given["geometry"] == "off"):
        raise ValueError(f"--reasoning {given['reasoning']}: there is no geometry to measure in; leave it out")
    if system == "recorded" and len(names) > 1:
        raise ValueError(f"--predictions are of one benchmark, but {', '.join(names)} were named; name one")
    if len(set(names)) < len(names):
        raise ValueError(f"a benchmark is named twice: {', '.join(names)}; name each once")


def _predictor(
    system: Kind, model: str | None, device: Device, dtype: DType, reading: dict[str, Any]
) -> "Answering | None":
    if system == "transformers":
        from g2vlm.eval.adapters import load_stock

        if reading:
            raise ValueError(f"{', '.join(reading)}: a stock model reads as its own files say; leave it out")
        return load_stock(str(model), device=device, dtype=dtype)
    return load(model, device, dtype, reading) if system == "ours" else None


def _model_system(
    predictor: "Answering",
    kind: Kind,
    geometry: "GeometryInput",
    reasoning: Literal["geometry"] | None,
    max_frames: int,
    seed: int,
    reading: dict[str, Any],
) -> "System":
    from g2vlm.eval.adapters import Model

    settings = {name: str(value) for name, value in reading.items()}
    return Model(
        predictor,
        kind=kind,
        geometry=geometry,
        reasoning=reasoning,
        max_frames=max_frames,
        seed=seed,
        reading=settings,
    )


def _blind(predictor: "Answering", kind: Kind, *, tells_sizes: bool = False) -> "System":
    from g2vlm.eval.adapters import TextOnly

    return TextOnly(predictor, kind=kind, tells_sizes=tells_sizes)


def _lookup_system(
    kind: str, benchmark: "Benchmark[Any]", items: Sequence["Item"], predictions: Path | None, rule: str
) -> "System":
    """A system that has no model."""
    from g2vlm.eval.adapters import RecordedAnswers, RecordedReconstructions, named
    from g2vlm.eval.shortcuts import Majority, Prior, questions_of
    from g2vlm.eval.typical import SizePrior

    if predictions is not None:
        found = RecordedReconstructions(predictions) if predictions.is_dir() else RecordedAnswers(predictions)
        if len(unknown := found.unknown(items)) == found.count:
            raise ValueError(
                f"{predictions}: no output is for an item of {benchmark.name}: ids are {named(unknown)}, but items are "
                f"{named([item.id for item in items])}"
            )
        return found
    asked = questions_of(benchmark, items)
    if kind == "size-prior":
        return SizePrior()
    return Majority(benchmark, asked, rule) if kind == "majority" else Prior(benchmark, asked)


def _unknown(system: "System", items: Sequence["Item"], predictions: Path | None) -> list[str]:
    """A note of recorded outputs for nothing that was asked."""
    from g2vlm.eval.adapters import RecordedAnswers, RecordedReconstructions, named

    if not isinstance(system, RecordedAnswers | RecordedReconstructions):
        return []
    ids = system.unknown(items)
    return [f"{len(ids)} outputs in {predictions} are for no item, and were left out: {named(ids)}"] if ids else []


def _tell_missing(benchmarks: Sequence[tuple["Benchmark[Any]", Sequence["Item"], Path]], crew: "Crew") -> None:
    """Before long work: what cannot be looked at, and an error where nothing can."""
    for benchmark, items, folder in benchmarks:
        missing = [reason for item in items if (reason := item.missing()) is not None]
        if len(missing) == len(items):
            raise ValueError(
                f"{folder} holds no media of {benchmark.name} ({missing[0]}); it is laid out like this:\n{benchmark.layout}"
            )
        if missing and crew.is_first:
            typer.echo(
                f"note: media of {len(missing)} of {len(items)} items of {benchmark.name} are missing: {missing[0]}",
                err=True,
            )


def _evaluate(
    benchmark: "Benchmark[Any]",
    items: Sequence["Item"],
    system: "System",
    out: Path,
    folder: Path,
    *,
    crew: "Crew | None" = None,
    **options: Any,
) -> "Evaluation":
    """One benchmark, with a bar for those who watch the first process."""
    from g2vlm.cli.progress import progress
    from g2vlm.crew import Crew
    from g2vlm.eval.run import evaluate

    crew = Crew() if crew is None else crew
    with contextlib.ExitStack() as stack:

        def watch(shared: Iterable["Item"]) -> Iterable["Item"]:
            todo = [*shared]
            if not crew.is_first:
                return todo
            return stack.enter_context(progress(len(todo))).each(benchmark.name, todo)

        return evaluate(benchmark, items, system, out / benchmark.name, data=folder, crew=crew, watch=watch, **options)


def _written(
    out: Path, evaluations: Sequence["Evaluation"], source: str, limit: int | None, notes: Sequence[str]
) -> "Report":
    from g2vlm.eval.report import write_report

    return write_report(out, evaluations, source, limit=limit, notes=notes)


def _report(
    out: Path,
    evaluations: Sequence["Evaluation"],
    source: str,
    limit: int | None,
    notes: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Write and print it; ValueError where there is nothing to report."""
    from g2vlm.eval.report import PAGE, REPORT

    report = _written(out, evaluations, source, limit, notes)
    print((out / (REPORT if as_json else PAGE)).read_text(), end="")
    for name, part in report["benchmarks"].items():
        usable = part["statuses"]["scored"] + part["statuses"]["unparsed"] + part["statuses"]["skipped"]
        if not usable:
            told = {**part["told"]["failed"], **part["told"]["missing"]}
            raise ValueError(
                f"{name}: none of {part['num_asked']} items has a usable output; the first: {next(iter(told.values()))}"
            )


def _named(report: "Report") -> str:
    system = report["system"]
    return f"{system['source']} ({system['kind']})"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text.strip("./")) or "model"


COMMANDS = (run, benchmarks, score, compare, table, shortcuts, overlap)
"""Of `g2vlm eval`, beside what is no benchmark."""
