"""`g2vlm ask`: questions about photos, answered in words."""

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from g2vlm.cli.predict import MODEL, PHOTOS, Device, DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from g2vlm.answering import Session
    from g2vlm.pictures import Photo
    from g2vlm.predictor import Predictor
    from g2vlm.records import Answer, Box, Mark

Geometry = Literal["on", "off", "blank", "shuffled"]
Reasoning = Literal["geometry"]

MARKS, ANSWERS = "What a question is about", "How it is answered"


def ask(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Photos of one scene: files, folders or globs; view 0, 1, ...")
    ],
    questions: Annotated[
        list[str], typer.Option("--question", "-q", metavar="TEXT", help="Several reuse what was read of the photos.")
    ],
    points: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            metavar="VIEW:X,Y=NAME",
            help="A point that questions name; pixels of the view's photo.",
            rich_help_panel=MARKS,
        ),
    ] = None,
    between: Annotated[
        str | None, typer.Option(metavar="VIEW,VIEW", help="Two views whose motion is measured, with --reasoning.")
    ] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--box", metavar="VIEW:LEFT,TOP,RIGHT,BOTTOM=NAME", help="A box, likewise.", rich_help_panel=MARKS
        ),
    ] = None,
    geometry: Annotated[
        Geometry,
        typer.Option(help="What the geometric expert sees; all but on are for comparison.", rich_help_panel=ANSWERS),
    ] = "on",
    reasoning: Annotated[
        Reasoning | None,
        typer.Option(help="Measure in the predicted geometry first, and show it.", rich_help_panel=ANSWERS),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.", rich_help_panel=ANSWERS)] = 128,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "--weights",
            help="Folder or hub id of a model; without it the embedded tiny model answers, offline.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=MODEL)] = "auto",
    dtype: Annotated[DType, typer.Option(help="Number format of the model.", rich_help_panel=MODEL)] = "auto",
    seed: Annotated[int, typer.Option(help="Of the shuffle.", rich_help_panel=MODEL)] = 0,
    max_views: Annotated[
        int, typer.Option(help="Use at most so many photos, evenly spaced.", rich_help_panel=PHOTOS)
    ] = 32,
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Pixels of the side that sets the scale of a view.",
            show_default="the model's own",
            rich_help_panel=PHOTOS,
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the reconstruction there, as g2vlm predict does.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in a folder that is not empty.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Answer questions about photos of one scene, in words."""
    started = perf_counter()
    from g2vlm.cli.progress import progress
    from g2vlm.conversation import require_question
    from g2vlm.export.atomic import require_free
    from g2vlm.export.save import save as write
    from g2vlm.marks import check_marks
    from g2vlm.pictures import evenly_spaced, find_pictures, read_photo

    for question in questions:
        require_question(question)
    marks, frames = [mark_of(text) for text in points or ()], [box_of(text) for text in boxes or ()]
    pair = None if between is None else pair_of(between)
    if geometry != "on" and save:
        raise ValueError(f"--save needs the views; leave out --geometry {geometry}")
    if geometry == "off" and reasoning:
        raise ValueError("--reasoning needs geometry; leave out --geometry off")
    if save is not None:
        require_free(save, overwrite=overwrite)
    found = find_pictures(inputs)
    paths = evenly_spaced(found, max_views)
    if len(paths) < len(found):
        note(f"using {len(paths)} of {len(found)} pictures, evenly spaced; --max-views {len(found)} uses all")

    with progress(len(paths) + len(questions) + 2) as steps:
        photos = [read_photo(path) for path in steps.each("reading", paths)]
        check_marks(marks, frames, [photo.size for photo in photos], [photo.name for photo in photos])
        with steps.step("loading the model"):
            predictor = load(model, device, dtype)
        with steps.step("looking"):
            session = _open(predictor, photos, geometry, resolution, seed)
        answers = [
            session.ask(
                question,
                marks=marks,
                boxes=frames,
                between=pair,
                reasoning=reasoning,
                max_new_tokens=max_new_tokens,
            )
            for question in steps.each("answering", questions)
        ]
    if save is not None:
        write(session.reconstruction, save, max_points=1_000_000)
    seconds = steps.seconds | {"total": perf_counter() - started}
    names = [photo.name for photo in photos]
    if as_json:
        print(json.dumps(_summary(predictor, names, geometry, questions, answers, seconds), ensure_ascii=False))
    else:
        _show(questions, answers, len(names), seconds)


def load(model: str | None, device: Device, dtype: DType) -> "Predictor":
    from g2vlm.hub import load

    return load(model, device=device, dtype=dtype)


def note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def mark_of(text: str) -> "Mark":
    """A point as the command line writes it: 0:120,80=A."""
    from g2vlm.records import Mark

    view, (x, y), name = _place(text, 2, "--point", "VIEW:X,Y=NAME, as in 0:120,80=A")
    return Mark(view, x, y, name)


def pair_of(text: str) -> tuple[int, int]:
    """Two views as the command line writes them: 0,2."""
    match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", text)
    if match is None:
        raise ValueError(f"--between {text}: write it as VIEW,VIEW, as in 0,2")
    return int(match[1]), int(match[2])


def box_of(text: str) -> "Box":
    """A box as the command line writes it: 0:120,80,200,160=A."""
    from g2vlm.records import Box

    form = "VIEW:LEFT,TOP,RIGHT,BOTTOM=NAME, as in 0:120,80,200,160=A"
    view, (left, top, right, bottom), name = _place(text, 4, "--box", form)
    return Box(view, left, top, right, bottom, name)


def _place(text: str, count: int, option: str, form: str) -> tuple[int, list[float], str]:
    number = r"\s*(-?\d+(?:\.\d*)?)\s*"
    match = re.fullmatch(rf"\s*(-?\d+)\s*:{','.join([number] * count)}=(.+)", text)
    if match is None:
        raise ValueError(f"{option} {text}: write it as {form}")
    view, *numbers, name = match.groups()
    return int(view), [float(value) for value in numbers], name.strip()


def _open(
    predictor: "Predictor", photos: "Sequence[Photo]", geometry: Geometry, resolution: int | None, seed: int
) -> "Session":
    import torch

    try:
        return predictor.open(photos, geometry=geometry, resolution=resolution, seed=seed)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{len(photos)} views do not fit into the device's memory; lower --max-views or --resolution"
        ) from error


def _summary(
    predictor: "Predictor",
    views: "Sequence[str]",
    geometry: Geometry,
    questions: "Sequence[str]",
    answers: "Sequence[Answer]",
    seconds: dict[str, float],
) -> dict[str, object]:
    return {
        "views": list(views),
        "geometry": geometry,
        "model": predictor.source,
        "checkpoint_sha256": predictor.checkpoint_sha256,
        "answers": [
            {
                "question": question,
                "answer": answer.text,
                "evidence": [asdict(statement) for statement in answer.evidence],
                "num_prompt_tokens": answer.num_prompt_tokens,
                "num_reused_tokens": answer.num_reused_tokens,
                "num_new_tokens": answer.num_new_tokens,
                "seconds": _rounded(answer.seconds),
            }
            for question, answer in zip(questions, answers, strict=True)
        ],
        "seconds": _rounded(seconds),
    }


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in seconds.items()}


def _show(questions: "Sequence[str]", answers: "Sequence[Answer]", num_views: int, seconds: dict[str, float]) -> None:
    """Answers, and before each its question and evidence if there is more to see than one answer; times go to stderr."""
    is_bare = len(answers) == 1 and not answers[0].evidence
    for question, answer in zip(questions, answers, strict=True):
        if not is_bare:
            print(f"question: {question}")
        for statement in answer.evidence:
            print(f"measured: {statement.text}")
        print(answer.text if is_bare else f"answer: {answer.text}")
    reused = sum(answer.num_reused_tokens for answer in answers)
    tokens = sum(answer.num_prompt_tokens for answer in answers)
    first = sum(answer.seconds["first_token"] for answer in answers) / len(answers)
    note(
        f"{num_views} views read in {seconds['looking']:.2f} s; first word {first:.2f} s after a question, "
        f"for which {reused} of {tokens} tokens were read already"
    )
