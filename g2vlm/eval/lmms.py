"""The plug-in for lmms-eval: where it finds our models, and what its chats and settings are to them.

lmms-eval loads this module whenever it starts, to learn that there is a model `g2vlm`; nothing here needs it otherwise. The model
itself, a class of theirs, is in `lmms_chat`.
"""

import base64
import binascii
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from g2vlm.conversation import MAX_FRAMES, Message
from g2vlm.pictures import PhotoLike, read_photo

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

    from g2vlm.answering import Reasoning
    from g2vlm.host_processor import Preprocessing
    from g2vlm.predictor import Answering
    from g2vlm.records import Answer
    from g2vlm.speaking import Decoding, GeometryInput

ALWAYS = ("max_new_tokens", "num_beams", "repetition_penalty")
DRAWN = ("temperature", "top_p", "top_k")
"""Of `Decoding`: what a task may set, the second three where words are drawn. Without drawing they say nothing."""

FILLED_IN = ("\n\n",)
"""What lmms-eval writes as `until` where a task says nothing. Its own chat models do not end there, or every answer with a
paragraph would be cut."""


def manifest() -> "ModelManifest":
    """What the entry point of group `lmms_eval.models` returns."""
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

    return ModelManifest(model_id="g2vlm", chat_class_path="g2vlm.eval.lmms_chat.G2VLMChat")


@dataclass(frozen=True)
class Options:
    """What `--model_args` may say: how the model is loaded (see `loading.load`), and how it is asked (see `Answering.answer`)."""

    model: str | None = None
    dtype: str = "auto"
    encoder: str | None = None
    preprocessing: "Preprocessing | None" = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    thinking: bool | None = None
    geometry: "GeometryInput" = "on"
    reasoning: "Reasoning | None" = None
    resolution: int | None = None
    max_frames: int = MAX_FRAMES
    frame_labels: bool = False

    def __post_init__(self):
        for name in ("min_pixels", "max_pixels", "resolution", "max_frames"):
            value = getattr(self, name)
            if value is not None and type(value) is not int:
                raise ValueError(f"{name} is {value!r}; it must be a whole number")
        for name in ("thinking", "frame_labels"):
            value = getattr(self, name)
            if value is not None and type(value) is not bool:
                raise ValueError(f"{name} is {value!r}; it must be true or false")

    def load(self, device: str) -> "Answering":
        """The model, on one device."""
        from g2vlm.loading import load

        reading = {
            name: getattr(self, name) for name in ("encoder", "preprocessing", "min_pixels", "max_pixels", "thinking")
        }
        given: dict[str, Any] = {name: value for name, value in reading.items() if value is not None}
        return load(self.model, device=device, dtype=self.dtype, **given)


def options_of(given: Mapping[str, Any]) -> Options:
    """ValueError for a name that is no option."""
    names = [field.name for field in fields(Options)]
    for name in given:
        if name not in names:
            raise ValueError(f"{name} is no option of g2vlm; in --model_args there are {', '.join(names)}")
    return Options(**given)


def batch_size_of(value: int | str) -> int:
    """Questions answered at once, as lmms-eval hands the number over."""
    if not str(value).isdigit() or int(value) < 1:
        raise ValueError(f"batch_size is {value!r}; it must be a whole number of 1 or more")
    return int(value)


@dataclass(frozen=True)
class Generation:
    """How the words of an answer are chosen, and where it ends: before the first of `until` that it holds."""

    decoding: "Decoding"
    until: tuple[str, ...] = ()
    seed: int = 0

    def ended(self, text: str) -> str:
        """An answer without what it says after its end."""
        ends = [found for mark in self.until if (found := text.find(mark)) >= 0]
        return text[: min(ends, default=len(text))]


def generation_of(given: Mapping[str, Any]) -> Generation:
    """What a task's `generation_kwargs` say; null says nothing.

    Words are drawn where `do_sample` is true, or is not given and `temperature` is above 0; a temperature of 0 is greedy whatever
    `do_sample` says. `image_aspect_ratio` is for LLaVA: pictures are shown as the model's own settings have it. Anything else that
    `Decoding`, `until` and `seed` do not hold is a ValueError.
    """
    said = {name: value for name, value in given.items() if value is not None and name != "image_aspect_ratio"}
    until, seed, is_drawn = said.pop("until", ()), said.pop("seed", 0), said.pop("do_sample", None)
    temperature = said.get("temperature")
    is_drawn = bool(temperature) if is_drawn is None else is_drawn and temperature != 0
    for name in said:
        if name not in (*ALWAYS, *DRAWN):
            known = ("until", "do_sample", "seed", *ALWAYS, *DRAWN)
            raise ValueError(
                f"generation_kwargs has {name}, which g2vlm does not know; leave it out, there are {', '.join(known)}"
            )
    decoding: Any = {name: value for name, value in said.items() if is_drawn or name in ALWAYS}
    if is_drawn:
        decoding["do_sample"] = True
    ends = (until,) if isinstance(until, str) else tuple(until)
    return Generation(decoding, () if ends == FILLED_IN else tuple(end for end in ends if end), seed)


def messages_of(chat: Sequence[Mapping[str, Any]]) -> list[Message]:
    """A chat of lmms-eval, whose media are "url"s, as a chat of ours; turns, texts and media keep their order."""
    return [
        {
            "role": message["role"],
            "content": content if isinstance(content := message["content"], str) else [_part(part) for part in content],
        }
        for message in chat
    ]


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    match part["type"]:
        case "text":
            return part
        case "image":
            return {"type": "image", "image": _picture(part["url"])}
        case "video":
            return {"type": "video", "video": _frames(part)}
        case other:
            raise ValueError(
                f"the question holds {other}, which g2vlm does not take; choose a task of texts, images and videos"
            )


def _picture(source: Any) -> PhotoLike:
    """A picture, or the path of one; what is written out in base64 is read."""
    if not isinstance(source, str) or not source.startswith("data:"):
        return _on_disk(source)
    head, _, data = source.partition(",")
    if not head.endswith(";base64"):
        raise ValueError(f"an image is {source[:40]}...; write it as data:image/png;base64,...")
    try:
        return read_photo(io.BytesIO(base64.b64decode(data, validate=True)), name="an image in base64")
    except binascii.Error as error:
        raise ValueError(f"an image in base64 cannot be decoded ({error}); encode it again") from error


def _frames(part: Mapping[str, Any]) -> Any:
    """A video's file, folder or frames."""
    source = part["url"]
    if isinstance(source, Mapping) or any(part.get(name) is not None for name in ("start_time", "end_time")):
        raise ValueError(
            f"g2vlm watches whole videos, but a piece is asked for: {dict(part)!r}; cut it out, or give its frames"
        )
    return _on_disk(source)


def _on_disk(source: Any) -> Any:
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        raise ValueError(f"{source}: media are read from disk alone; download it, and give its path")
    return source.removeprefix("file://") if isinstance(source, str) else source


class Question(NamedTuple):
    """One request of lmms-eval.

    place: task, split and number, for errors. chat: makes the messages when their turn comes, so that few media are in memory.
    generation: the task's `generation_kwargs`.
    """

    place: str
    chat: Callable[[], Sequence[Mapping[str, Any]]]
    generation: Mapping[str, Any]


def answers(
    answering: "Answering", questions: Sequence[Question], options: Options, *, batch_size: int = 1
) -> Iterator[tuple[str, "Answer"]]:
    """For each question, in order, its answer up to where the task ends it, and all that is known of the answer.

    Neighbours with the same settings are answered together, `batch_size` at a time. ValueError names the questions that cannot be
    asked: none is left out, and none gets an empty answer, which some scorers would count as right.
    """
    settings = []
    for question in questions:
        with _named(question.place):
            settings.append(generation_of(question.generation))
    for generation, alike in groupby(zip(questions, settings, strict=True), key=lambda pair: pair[1]):
        group = [question for question, _ in alike]
        for start in range(0, len(group), batch_size):
            batch = group[start : start + batch_size]
            with _named(", ".join(question.place for question in batch)):
                said = _answered(answering, batch, generation, options)
            yield from ((generation.ended(answer.text), answer) for answer in said)


def _answered(
    answering: "Answering", batch: Sequence[Question], generation: Generation, options: Options
) -> "list[Answer]":
    from g2vlm.answering import Request

    return answering.answer_batch(
        [
            Request(
                messages=messages_of(question.chat()),
                max_frames=options.max_frames,
                frame_labels=options.frame_labels,
            )
            for question in batch
        ],
        geometry=options.geometry,
        reasoning=options.reasoning,
        resolution=options.resolution,
        seed=generation.seed,
        **generation.decoding,
    )


@contextmanager
def _named(place: str) -> Iterator[None]:
    """A ValueError from within says where it happened."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
