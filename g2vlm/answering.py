"""Questions about photos and their answers: one at a time, many at once, or several about photos that were read once."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Literal, NamedTuple, Protocol, Unpack, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from g2vlm.conversation import MAX_FRAMES, Conversation, Message, about, read_messages, require_question
from g2vlm.evidence import Measurable, evidence_text, measurable_of, measure
from g2vlm.marks import check_marks, draw_marks, words_of_marks
from g2vlm.pictures import Photo, PhotoLike
from g2vlm.reconstruction import reconstruction_of
from g2vlm.records import Answer, Box, Geometry, Mark, Provenance, Reconstruction, Statement
from g2vlm.speaking import Decoding, GeometryInput, Scene, Speaker

Reasoning = Literal["geometry"]
"""What stands before the answer in the model's own turn: what was measured in the predicted geometry."""


class Marked(Protocol):
    """What is marked on the photos that a question is about."""

    @property
    def marks(self) -> Sequence[Mark]: ...
    @property
    def boxes(self) -> Sequence[Box]: ...
    @property
    def between(self) -> tuple[int, int] | None: ...


class Asked(Marked, Protocol):
    """A question, with what is marked."""

    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Query:
    """A question to a session."""

    text: str
    marks: Sequence[Mark] = ()
    boxes: Sequence[Box] = ()
    between: tuple[int, int] | None = None


@dataclass(frozen=True)
class Request:
    """A question with all it needs: photos and words, or the messages of a chat.

    max_frames, frame_labels: of videos in messages, see `conversation.read_messages`.
    """

    photos: Sequence[PhotoLike] = ()
    question: str = ""
    messages: Sequence[Message] | None = None
    marks: Sequence[Mark] = ()
    boxes: Sequence[Box] = ()
    between: tuple[int, int] | None = None
    max_frames: int = MAX_FRAMES
    frame_labels: bool = False

    def conversation(self) -> Conversation:
        if self.messages is None:
            return about(self.photos, self.question)
        if len(self.photos) or self.question:
            raise ValueError("photos and question, or messages, but not both; put the question into the last message")
        return read_messages(self.messages, max_frames=self.max_frames, frame_labels=self.frame_labels)


class Asking(NamedTuple):
    """What a caller wants beside the words of the answer, and how these are chosen."""

    geometry: GeometryInput
    reasoning: Reasoning | None
    with_reconstruction: bool
    seed: int
    decoding: Decoding

    @property
    def reads_geometry(self) -> bool:
        return self.with_reconstruction or self.reasoning is not None

    def check(self) -> None:
        for name in self.decoding:
            if name not in Decoding.__annotations__:
                raise ValueError(f"{name} is no option of decoding; there are {', '.join(Decoding.__annotations__)}")
        if self.reasoning not in (None, *get_args(Reasoning)):
            raise ValueError(f"reasoning is {self.reasoning!r}; it must be 'geometry' or None")
        if self.with_reconstruction and self.geometry != "on":
            raise ValueError(f"a reconstruction needs the views, but geometry is {self.geometry!r}; set it to 'on'")
        if self.reasoning is not None and self.geometry == "off":
            raise ValueError("reasoning needs geometry, which is 'off'; set it to 'on', 'blank' or 'shuffled'")


class Session(ABC):
    """Photos that were read once, for any number of questions about them; made by `open` of a predictor.

    Asking leaves nothing behind: the same question has the same answer, whatever was asked before. geometry: what the
    geometric encoder sees.
    """

    geometry: GeometryInput

    @property
    @abstractmethod
    def photos(self) -> Sequence[Photo]:
        """What questions are about."""

    @property
    @abstractmethod
    def seconds(self) -> float:
        """What reading the photos took."""

    @property
    @abstractmethod
    def reconstruction(self) -> Reconstruction:
        """What the model reconstructs of the photos."""

    @abstractmethod
    def _answers(self, queries: Sequence[Asked], asking: Asking, *, is_marked: bool) -> list[Answer]:
        """The answers to queries of which all or none have marks, computed at once."""

    def ask(
        self,
        question: str,
        *,
        marks: Sequence[Mark] = (),
        boxes: Sequence[Box] = (),
        between: tuple[int, int] | None = None,
        reasoning: Reasoning | None = None,
        with_reconstruction: bool = False,
        seed: int = 0,
        **decoding: Unpack[Decoding],
    ) -> Answer:
        """The answer to one question; arguments as for `Predictor.answer`."""
        query = Query(question, marks, boxes, between)
        options = {"reasoning": reasoning, "with_reconstruction": with_reconstruction, "seed": seed}
        return self.ask_all([query], **options, **decoding)[0]

    def ask_all(
        self,
        questions: Sequence[str | Asked],
        *,
        reasoning: Reasoning | None = None,
        with_reconstruction: bool = False,
        seed: int = 0,
        batch_size: int = 16,
        **decoding: Unpack[Decoding],
    ) -> list[Answer]:
        """The answers to several questions, of which `batch_size` are answered at a time; what is sampled depends on it."""
        asking = Asking(self.geometry, reasoning, with_reconstruction, seed, decoding)
        asking.check()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 or more")
        queries = [Query(question) if isinstance(question, str) else question for question in questions]
        for query in queries:
            require_question(query.text)
            require_marks(query, self.photos)
        answers: dict[int, Answer] = {}
        for is_marked in (False, True):
            chosen = [i for i, query in enumerate(queries) if bool(query.marks or query.boxes) == is_marked]
            for start in range(0, len(chosen), batch_size):
                batch = chosen[start : start + batch_size]
                answers |= zip(
                    batch, self._answers([queries[i] for i in batch], asking, is_marked=is_marked), strict=True
                )
        return [answers[i] for i in range(len(queries))]


class NativeSession(Session):
    """Of a G2VLM; made by `Predictor.open`.

    The views stay read for every question. Pictures stay read, too, unless something is marked on them: they are then drawn on
    and read again.
    """

    def __init__(self, speaker: Speaker, scene: Scene, geometry: GeometryInput, provenance: Provenance) -> None:
        ids = speaker.processor.context_ids(scene.view_grids, scene.picture_grids)
        nothing_asked = len(speaker.processor.asking_ids(""))
        speaker.require_room(scene, len(ids) + nothing_asked, Decoding(max_new_tokens=1))
        self.speaker, self.scene, self._provenance = speaker, scene, provenance
        self.geometry: GeometryInput = geometry
        self._patches = [scene.patches(index, photo) for index, photo in enumerate(scene.photos)]
        self._reading = speaker.read([ids], [scene], self._patches)
        views_end = len(speaker.processor.context_ids(scene.view_grids))
        self._views = self._reading.context.until(views_end, int(self._reading.positions[0, views_end]))
        self._picture_ids = ids[views_end:]

    @property
    def photos(self) -> Sequence[Photo]:
        return self.scene.photos

    @property
    def seconds(self) -> float:
        """What reading the photos took."""
        return self._reading.seconds

    @property
    def reconstruction(self) -> Reconstruction:
        """What the forward that read the photos says about them; see `Predictor.answer`."""
        Asking(self.geometry, None, True, 0, Decoding()).check()
        return self._read_geometry

    @cached_property
    @torch.no_grad()
    def _read_geometry(self) -> Reconstruction:
        """What the heads say about what the geometric encoder was shown."""
        (geometry,) = self._reading.geometries(self.speaker.model)
        return _reconstruction(geometry, self.scene, self._provenance, self.seconds)

    def _answers(self, queries: Sequence[Asked], asking: Asking, *, is_marked: bool) -> list[Answer]:
        started = perf_counter()
        speaker, scene = self.speaker, self.scene
        reconstruction = self._read_geometry if asking.reads_geometry else None
        measurable = _measurable(reconstruction, asking)
        evidence = [_evidence(query, measurable) for query in queries]
        asked = [speaker.processor.asking_ids(said_of_marks(query, scene.photos) + query.text) for query in queries]
        tails = [_stating(speaker, ids, said) for ids, said in zip(asked, evidence, strict=True)]
        context, pictures = self._reading.context, None
        if is_marked:
            context = self._views
            tails = [torch.cat([self._picture_ids, tail]) for tail in tails]
            patches = [patch for query in queries for patch in self._drawn(query)]
            pictures = speaker.pictures(patches, [scene] * len(queries))
        num_reused = context.ids.shape[1]
        lengths = [num_reused + len(tail) for tail in tails]
        for length in lengths:
            speaker.require_room(scene, length, asking.decoding)
        said = speaker.say(context.copies(len(queries)), tails, pictures, asking.decoding, asking.seed)
        seconds = {"first_token": said.first_token - started, "all": perf_counter() - started}
        given = reconstruction if asking.with_reconstruction else None
        return [
            Answer(text, statements, given, length, num_reused, num_new, dict(seconds))
            for text, num_new, statements, length in zip(said.texts, said.num_tokens, evidence, lengths, strict=True)
        ]

    def _drawn(self, query: Asked) -> list[Tensor]:
        """Every picture as the vision tower reads it, those of the query with their marks."""
        drawn = draw_marks(self.scene.photos, query.marks, query.boxes)
        return [
            patches if shown is photo else self.scene.patches(index, shown)
            for index, (shown, photo, patches) in enumerate(zip(drawn, self.scene.photos, self._patches, strict=True))
        ]


def answer_all(
    speaker: Speaker, requests: Sequence[Request], asking: Asking, resolution: int | None, provenance: Provenance
) -> list[Answer]:
    """The answers to requests of any lengths and numbers of photos, in one batch."""
    started = perf_counter()
    asking.check()
    if not requests:
        return []
    prompts = [_prompt(speaker, request, asking, resolution) for request in requests]
    scenes = [prompt.scene for prompt in prompts]
    for prompt in prompts:
        speaker.require_room(prompt.scene, len(prompt.ids), asking.decoding)
    patches = [prompt.scene.patches(i, photo) for prompt in prompts for i, photo in enumerate(prompt.pictures)]
    reading = speaker.read([prompt.ids[: prompt.context] for prompt in prompts], scenes, patches)
    reconstructions: list[Reconstruction | None] = [None] * len(prompts)
    if asking.reads_geometry:
        geometries = zip(reading.geometries(speaker.model), scenes, strict=True)
        reconstructions = [_reconstruction(read, scene, provenance, reading.seconds) for read, scene in geometries]
    evidence = [
        _evidence(request, _measurable(room, asking)) for request, room in zip(requests, reconstructions, strict=True)
    ]
    tails = [_stating(speaker, p.ids[p.context :], said) for p, said in zip(prompts, evidence, strict=True)]
    lengths = [prompt.context + len(tail) for prompt, tail in zip(prompts, tails, strict=True)]
    for scene, length in zip(scenes, lengths, strict=True):
        speaker.require_room(scene, length, asking.decoding)
    said = speaker.say(reading.context, tails, None, asking.decoding, asking.seed)
    seconds = {"first_token": said.first_token - started, "all": perf_counter() - started}
    given = reconstructions if asking.with_reconstruction else [None] * len(prompts)
    return [
        Answer(text, statements, room, length, 0, num_new, dict(seconds))
        for text, num_new, statements, room, length in zip(
            said.texts, said.num_tokens, evidence, given, lengths, strict=True
        )
    ]


class Prompt(NamedTuple):
    """A request as the model reads it: ids, of which the first `context` end with the last picture.

    pictures: the photos with their marks.
    """

    scene: Scene
    ids: Int[Tensor, " tokens"]
    context: int
    pictures: Sequence[Photo]


def _prompt(speaker: Speaker, request: Request, asking: Asking, resolution: int | None) -> Prompt:
    conversation = request.conversation()
    photos = conversation.photos
    require_marks(request, photos)
    scene = speaker.scene(photos, asking.geometry, resolution, asking.seed)
    ids = speaker.processor.conversation_ids(
        conversation.saying_first(said_of_marks(request, photos)).turns,
        view_grids=scene.view_grids,
        picture_grids=scene.picture_grids,
    )
    ends = (ids == speaker.processor.tokens.vision_end).nonzero()
    return Prompt(scene, ids, int(ends[-1]) + 1, draw_marks(photos, request.marks, request.boxes))


def require_marks(query: Marked, photos: Sequence[Photo]) -> None:
    """ValueError for a mark or view that is not among the photos."""
    check_marks(query.marks, query.boxes, [photo.size for photo in photos], [photo.name for photo in photos])
    for view in query.between or ():
        if not 0 <= view < len(photos):
            raise ValueError(f"between is {query.between}, but there are {len(photos)} views, 0 to {len(photos) - 1}")


def said_of_marks(query: Marked, photos: Sequence[Photo]) -> str:
    """What is said of the marks before the question."""
    return words_of_marks(query.marks, query.boxes, [photo.size for photo in photos])


def _measurable(reconstruction: Reconstruction | None, asking: Asking) -> Measurable | None:
    """What statements are measured in; None if none are asked for."""
    if asking.reasoning is None:
        return None
    assert reconstruction is not None
    return measurable_of(reconstruction)


def _evidence(query: Marked, measurable: Measurable | None) -> tuple[Statement, ...]:
    if measurable is None:
        return ()
    return measure(measurable, query.marks, query.boxes, between=query.between)


def _stating(speaker: Speaker, ids: Int[Tensor, " tokens"], evidence: Sequence[Statement]) -> Int[Tensor, " longer"]:
    """Ids that open the answer, and go on with the evidence."""
    return torch.cat([ids, torch.tensor(speaker.processor.words(evidence_text(evidence)), dtype=ids.dtype)])


def _reconstruction(geometry: Geometry, scene: Scene, provenance: Provenance, seconds: float) -> Reconstruction:
    return reconstruction_of(geometry, scene.photos, scene.views, replace(provenance, seconds={"model": seconds}))
