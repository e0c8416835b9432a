"""`g2vlm ask`: questions about photos, answered in words."""

import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from g2vlm.cli.options import (
    Encoder,
    FramesAtMost,
    Geometry,
    MaxNewTokens,
    MaxPixels,
    MinPixels,
    Model,
    NumBeams,
    Preprocessing,
    Reasoning,
    Temperature,
    Thinking,
    TopP,
    decoding_of,
    load,
    loading_of,
)
from g2vlm.cli.predict import MODEL, PHOTOS, Device, DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from g2vlm.answering import Session
    from g2vlm.pictures import Photo
    from g2vlm.predictor import Answering
    from g2vlm.records import Answer, Box, Mark, Reconstruction
    from g2vlm.speaking import GeometryInput

MARKS = "What a question is about"


def ask(
    questions: Annotated[
        list[str], typer.Option("--question", "-q", metavar="TEXT", help="Several reuse what was read of the photos.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT", help="Photos of one scene: files, folders or globs; view 0, 1, ...", show_default=False
        ),
    ] = None,
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
        str | None,
        typer.Option(
            metavar="VIEW,VIEW", help="Two views whose motion is measured, with --reasoning.", rich_help_panel=MARKS
        ),
    ] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--box", metavar="VIEW:LEFT,TOP,RIGHT,BOTTOM=NAME", help="A box, likewise.", rich_help_panel=MARKS
        ),
    ] = None,
    geometry: Geometry = "on",
    reasoning: Reasoning = None,
    max_new_tokens: MaxNewTokens = 128,
    temperature: Temperature = 0.0,
    top_p: TopP = None,
    num_beams: NumBeams = 1,
    model: Model = None,
    encoder: Encoder = None,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=MODEL)] = "auto",
    dtype: Annotated[DType, typer.Option(help="Number format of the model.", rich_help_panel=MODEL)] = "auto",
    seed: Annotated[int, typer.Option(help="Of the shuffle, and of words that are drawn.", rich_help_panel=MODEL)] = 0,
    max_views: Annotated[
        int, typer.Option(help="Use at most so many photos, evenly spaced.", rich_help_panel=PHOTOS)
    ] = 32,
    video: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A video file, or a folder of its frames; views behind those of INPUT.",
            rich_help_panel=PHOTOS,
        ),
    ] = None,
    max_frames: FramesAtMost = 32,
    frame_labels: Annotated[
        bool, typer.Option("--frame-labels", help="Say the number of each frame before it.", rich_help_panel=PHOTOS)
    ] = False,
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Pixels of the side that sets the scale of a view.",
            show_default="the model's own",
            rich_help_panel=PHOTOS,
        ),
    ] = None,
    preprocessing: Preprocessing = None,
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    thinking: Thinking = "off",
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the reconstruction there, as g2vlm predict does.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in a folder that is not empty.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Answer questions about photos or a video of one scene, in words."""
    started = perf_counter()
    from g2vlm.cli.progress import progress
    from g2vlm.conversation import frames_of, require_question
    from g2vlm.export.atomic import require_free
    from g2vlm.export.save import save as write
    from g2vlm.marks import check_marks
    from g2vlm.pictures import evenly_spaced, find_pictures, photo_of, read_photo

    for question in questions:
        require_question(question)
    marks, frames = [mark_of(text) for text in points or ()], [box_of(text) for text in boxes or ()]
    pair = None if between is None else pair_of(between)
    decoding = decoding_of(max_new_tokens, temperature, top_p, num_beams)
    if geometry != "on" and save:
        raise ValueError(f"--save needs the views; leave out --geometry {geometry}")
    if geometry == "off" and reasoning:
        raise ValueError("--reasoning needs geometry; leave out --geometry off")
    if not inputs and video is None:
        raise ValueError("no picture was given; name at least one picture, folder or glob, or a --video")
    if frame_labels and video is None:
        raise ValueError("--frame-labels needs a --video; photos have no numbers")
    if save is not None:
        require_free(save, overwrite=overwrite)
    found = find_pictures(inputs) if inputs else []
    paths = evenly_spaced(found, max_views) if found else []
    if len(paths) < len(found):
        note(f"using {len(paths)} of {len(found)} pictures, evenly spaced; --max-views {len(found)} uses all")

    with progress(len(paths) + len(questions) + (video is not None) + 2) as steps:
        photos = [read_photo(path) for path in steps.each("reading", paths)]
        shown: list[Photo] = []
        if video is not None:
            with steps.step("reading the video"):
                shown = [photo_of(frame, "frame") for frame in frames_of(video, max_frames)]
        seen = [*photos, *shown]
        check_marks(marks, frames, [photo.size for photo in seen], [photo.name for photo in seen])
        with steps.step("loading the model"):
            options = loading_of(encoder, preprocessing, min_pixels, max_pixels, thinking)
            predictor = load(model, device, dtype, options)
        about = {"marks": marks, "boxes": frames, "between": pair, "reasoning": reasoning, "seed": seed, **decoding}
        with steps.step("looking"):
            asking = (
                Labelled(predictor, photos, shown, geometry, resolution, with_reconstruction=save is not None)
                if frame_labels
                else _open(predictor, seen, geometry, resolution, seed)
            )
        answers = [asking.ask(question, **about) for question in steps.each("answering", questions)]
    if save is not None:
        write(asking.reconstruction, save, max_points=1_000_000)
    seconds = steps.seconds | {"total": perf_counter() - started}
    names = [photo.name for photo in seen]
    if as_json:
        print(json.dumps(_summary(predictor, names, geometry, questions, answers, seconds), ensure_ascii=False))
    else:
        _show(questions, answers, len(names), seconds)


@dataclass
class Labelled:
    """Asks about frames with words between them, which are read anew with each question; otherwise as a session does."""

    predictor: "Answering"
    photos: "Sequence[Photo]"
    frames: "Sequence[Photo]"
    geometry: "GeometryInput"
    resolution: int | None
    with_reconstruction: bool
    answered: "list[Answer]" = field(default_factory=list)

    def ask(self, question: str, **options: Any) -> "Answer":
        images = [{"type": "image", "image": photo} for photo in self.photos]
        content = [*images, {"type": "video", "video": self.frames}, {"type": "text", "text": question}]
        answer = self.predictor.answer(
            messages=[{"role": "user", "content": content}],
            max_frames=len(self.frames),
            frame_labels=True,
            geometry=self.geometry,
            resolution=self.resolution,
            with_reconstruction=self.with_reconstruction,
            **options,
        )
        self.answered.append(answer)
        return answer

    @property
    def reconstruction(self) -> "Reconstruction":
        """What was reconstructed beside the first answer."""
        made = self.answered[0].reconstruction
        assert made is not None
        return made


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
    predictor: "Answering", photos: "Sequence[Photo]", geometry: "GeometryInput", resolution: int | None, seed: int
) -> "Session":
    import torch

    try:
        return predictor.open(photos, geometry=geometry, resolution=resolution, seed=seed)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{len(photos)} views do not fit into the device's memory; lower --max-views or --resolution"
        ) from error


def _summary(
    predictor: "Answering",
    views: "Sequence[str]",
    geometry: "GeometryInput",
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
                "thinking": answer.thinking,
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
    if any(answer.thinking and not answer.text for answer in answers):
        note("an answer was cut short while the model thought; --max-new-tokens lets it finish")
    reused = sum(answer.num_reused_tokens for answer in answers)
    tokens = sum(answer.num_prompt_tokens for answer in answers)
    first = sum(answer.seconds["first_token"] for answer in answers) / len(answers)
    note(
        f"{num_views} views read in {seconds['looking']:.2f} s; first word {first:.2f} s after a question, "
        f"for which {reused} of {tokens} tokens were read already"
    )
