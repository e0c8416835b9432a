"""An answer as it is spoken, and what it rests on, drawn into the views."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from transformers import PreTrainedTokenizerBase, TextIteratorStreamer

from g2vlm.answering import Session
from g2vlm.marks import COLOURS, draw_disc
from g2vlm.pictures import Photo
from g2vlm.records import Answer, Statement

SHORTER = 480
"""Pixels of the shorter side of a picture that words are drawn on, at least."""

TEXT, DISC, SMALLER = 0.036, 0.026, 0.7
"""Height of words and radius of discs, as parts of the longer side; and of a disc that lies on another, as part of that."""


def spoken(
    session: Session, tokenizer: PreTrainedTokenizerBase, question: str, **options: Any
) -> Iterator[str | Answer]:
    """What has been said so far, word after word, and at last the whole answer; options: of `Session.ask`."""
    streamer: Any = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)  # pyright: ignore
    said = ""
    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(session.ask, question, streamer=streamer, **options)
        answering.add_done_callback(lambda _: streamer.end())  # whoever listens goes on where asking failed, too
        for words in streamer:
            said += words
            yield said
        yield answering.result()


def draw_evidence(photos: Sequence[Photo], evidence: Sequence[Statement]) -> list[tuple[Photo, str]]:
    """The views that statements were measured in, with discs where, and the statements below; and a caption."""
    colours = dict(zip(range(len(evidence)), cycle(COLOURS.values())))
    drawn = []
    for view in sorted({view for statement in evidence for view in statement.views}):
        about = {i: said for i, said in enumerate(evidence) if view in said.views}
        pixels, factor = _enlarged(photos[view].rgb)
        _draw_places(pixels, factor, view, [(said, colours[number]) for number, said in about.items()])
        lines = [(said.text, colours[number]) for number, said in about.items()]
        drawn.append((Photo(photos[view].name, _with_lines(pixels, lines)), f"view {view}"))
    return drawn


def _enlarged(rgb: UInt8[np.ndarray, "_rows _columns 3"]) -> tuple[UInt8[np.ndarray, "_height _width 3"], float]:
    """A copy that is large enough for words, and how many times as large it is."""
    factor = max(SHORTER / min(rgb.shape[:2]), 1.0)
    size = round(rgb.shape[1] * factor), round(rgb.shape[0] * factor)
    return np.array(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC)), factor


def _draw_places(
    pixels: UInt8[np.ndarray, "height width 3"],
    factor: float,
    view: int,
    about: Sequence[tuple[Statement, tuple[int, int, int]]],
) -> None:
    """Discs at the statements' pixels in this view, and lines between two of them; one disc on another is smaller."""
    radius = DISC * max(pixels.shape[:2])
    earlier: Counter[tuple[float, float]] = Counter()
    for said, colour in about:
        places = [(x * factor, y * factor) for v, (x, y) in zip(said.views, said.pixels, strict=False) if v == view]
        if len(places) == 2:
            image = Image.fromarray(pixels)
            ImageDraw.Draw(image).line(places, colour, round(radius / 3))
            pixels[:] = np.array(image)
        for place in places:
            size = radius * SMALLER ** earlier[place]
            draw_disc(pixels, *place, (255, 255, 255), radius=1.2 * size)
            draw_disc(pixels, *place, colour, radius=size)
            earlier[place] += 1


def _with_lines(
    pixels: UInt8[np.ndarray, "_rows width 3"], lines: Sequence[tuple[str, tuple[int, int, int]]]
) -> UInt8[np.ndarray, "_height width 3"]:
    """The picture with a black strip below it, on which each line has a disc of its colour."""
    rows, width = pixels.shape[:2]
    height = TEXT * max(rows, width)
    strip = Image.new("RGB", (width, round((len(lines) + 0.5) * 1.4 * height)))
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(height)
    for row, (text, colour) in enumerate(lines):
        top = (row + 0.3) * 1.4 * height
        pen.ellipse([0.4 * height, top + 0.2 * height, 1.2 * height, top + height], colour)
        pen.text((1.6 * height, top), text, "white", font)
    return np.concatenate([pixels, np.array(strip)])
