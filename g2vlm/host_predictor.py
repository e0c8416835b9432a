"""A stock Qwen-VL with a geometry pathway, ready for use: photos in, answers in words out."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NoReturn, Unpack

from g2vlm.answering import Asked, Asking, Marked, Reasoning, Request, Session, require_marks, said_of_marks
from g2vlm.conversation import Conversation, Turn, about, read_photos
from g2vlm.host import NATIVE, Host
from g2vlm.host_processor import HostProcessor
from g2vlm.host_speaking import NOTHING, HostPrompt, HostSpeaker, Sight
from g2vlm.marks import draw_marks
from g2vlm.pictures import Photo, PhotoLike
from g2vlm.predictor import Answering
from g2vlm.records import Answer, Reconstruction
from g2vlm.speaking import MAX_NEW_TOKENS, Decoding, GeometryInput
from g2vlm.windows import OVERLAP, WINDOW, Joiner


class HostPredictor(Answering):
    """A stock host with its processor, on one device; see `Answering`.

    It answers as any other, but reconstructs nothing. How it sees photos, and whether it thinks first, its processor says.
    """

    def __init__(self, host: Host, processor: HostProcessor, *, source: str, checkpoint_sha256: str) -> None:
        if host.model.config.model_type == NATIVE:
            raise ValueError("the host is a G2VLM, which a Predictor answers with; pass it there as host")
        self.host = host.eval()
        self.processor = processor
        self.source = source
        self.checkpoint_sha256 = checkpoint_sha256
        self._speaker = HostSpeaker(self.host, processor)

    def reconstruct(
        self, photos: Sequence[PhotoLike], *, resolution: int | None = None, seed: int = 0
    ) -> Reconstruction:
        self._reconstructs_nothing("ask it questions")

    def joiner(
        self,
        *,
        window: int = WINDOW,
        overlap: int = OVERLAP,
        resolution: int | None = None,
        seed: int = 0,
        folder: Path | None = None,
    ) -> Joiner:
        self._reconstructs_nothing("ask it questions")

    def open(
        self,
        photos: Sequence[PhotoLike],
        *,
        geometry: GeometryInput = "on",
        resolution: int | None = None,
        seed: int = 0,
    ) -> "HostSession":
        self._check_resolution(resolution)
        started = perf_counter()
        sight = self._speaker.look(read_photos(photos), geometry, seed)
        return HostSession(self, sight, geometry, perf_counter() - started)

    def answer_batch(
        self,
        requests: Sequence[Request],
        *,
        geometry: GeometryInput = "on",
        reasoning: Reasoning | None = None,
        with_reconstruction: bool = False,
        resolution: int | None = None,
        seed: int = 0,
        **decoding: Unpack[Decoding],
    ) -> list[Answer]:
        started = perf_counter()
        asking = Asking(geometry, reasoning, with_reconstruction, seed, decoding)
        asking.check()
        self.require_words_alone(asking)
        self._check_resolution(resolution)
        prompts = []
        for request in requests:
            conversation = request.conversation()
            require_marks(request, conversation.photos)
            sight = self._speaker.look(conversation.photos, geometry, seed)
            prompts.append(self.prompt(conversation, request, sight, decoding))
        return self.say(prompts, asking, started) if prompts else []

    def answer_blindly(
        self, questions: Sequence[str], *, system: str | None = None, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> list[str]:
        opening = () if system is None else (Turn("system", (system,)),)
        decoding = Decoding(max_new_tokens=max_new_tokens)
        prompts = [self._speaker.prompt((*opening, Turn("user", (words,))), NOTHING, decoding) for words in questions]
        return self._speaker.say(prompts, decoding, 0).texts

    def prompt(self, conversation: Conversation, query: Marked, sight: Sight, decoding: Decoding) -> HostPrompt:
        """A conversation with what is marked said before its question and drawn on what the host sees of the photos."""
        photos = conversation.photos
        turns = conversation.saying_first(said_of_marks(query, photos)).turns
        drawn = self._speaker.drawn(sight, draw_marks(photos, query.marks, query.boxes))
        return self._speaker.prompt(turns, drawn, decoding)

    def say(self, prompts: Sequence[HostPrompt], asking: Asking, started: float) -> list[Answer]:
        """started: when the first of these questions was asked, by `perf_counter`."""
        said = self._speaker.say(prompts, asking.decoding, asking.seed)
        seconds = {"first_token": said.first_token - started, "all": perf_counter() - started}
        return [
            Answer(text, (), None, len(prompt.ids), 0, num_new, dict(seconds), thought)
            for prompt, text, thought, num_new in zip(prompts, said.texts, said.thoughts, said.num_tokens, strict=True)
        ]

    def require_words_alone(self, asking: Asking) -> None:
        """ValueError for what needs a reconstruction."""
        if asking.reads_geometry:
            self._reconstructs_nothing("ask without reasoning and with_reconstruction")

    def _reconstructs_nothing(self, cure: str) -> NoReturn:
        family = self.host.model.config.model_type
        raise ValueError(f"{self.source} is a pathway on a stock {family}, which reconstructs nothing: {cure}")

    def _check_resolution(self, resolution: int | None) -> None:
        if resolution is not None:
            raise ValueError(
                f"resolution is {resolution}, but {self.source} has no views of its own; choose the size of its pictures by "
                "min_pixels and max_pixels when it is loaded"
            )


class HostSession(Session):
    """Of a stock host: photos are read and resized once; each question is read, and the geometry encoded, anew."""

    def __init__(self, predictor: HostPredictor, sight: Sight, geometry: GeometryInput, seconds: float) -> None:
        self.predictor, self.sight, self._seconds = predictor, sight, seconds
        self.geometry = geometry

    @property
    def photos(self) -> Sequence[Photo]:
        return self.sight.photos

    @property
    def seconds(self) -> float:
        return self._seconds

    @property
    def reconstruction(self) -> Reconstruction:
        return self.predictor.reconstruct(self.photos)

    def _answers(self, queries: Sequence[Asked], asking: Asking, *, is_marked: bool) -> list[Answer]:
        started = perf_counter()
        self.predictor.require_words_alone(asking)
        prompts = [
            self.predictor.prompt(about(self.photos, query.text), query, self.sight, asking.decoding)
            for query in queries
        ]
        return self.predictor.say(prompts, asking, started)
