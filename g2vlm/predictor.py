"""A model ready for use: photos in, depth, cameras and points out, and answers in words."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Unpack, overload

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from g2vlm.answering import Asking, NativeSession, Reasoning, Request, Session, answer_all
from g2vlm.conversation import MAX_FRAMES, Message, Turn, read_photos
from g2vlm.host import Host
from g2vlm.model import G2VLM
from g2vlm.pictures import PhotoLike, photo_of, to_views
from g2vlm.processor import Processor
from g2vlm.reconstruction import reconstruction_of
from g2vlm.records import Answer, Box, Geometry, Mark, Provenance, Reconstruction
from g2vlm.speaking import MAX_NEW_TOKENS, Decoding, GeometryInput, Speaker
from g2vlm.windows import OVERLAP, WINDOW, Joined, Joiner, Partial, Sight, Sizing, Windowing


class Answering(ABC):
    """Answers questions about photos. source: where the weights came from. checkpoint_sha256: of the weight files."""

    source: str
    checkpoint_sha256: str

    @abstractmethod
    def reconstruct(
        self, photos: Sequence[PhotoLike], *, resolution: int | None = None, seed: int = 0
    ) -> Reconstruction:
        """Depth, points and cameras of photos of one static scene; ValueError for a model that reconstructs nothing."""

    @abstractmethod
    def joiner(
        self,
        *,
        window: int = WINDOW,
        overlap: int = OVERLAP,
        resolution: int | None = None,
        seed: int = 0,
        folder: Path | None = None,
    ) -> Joiner:
        """What sees a long sequence by windows and joins them; ValueError for a model that reconstructs nothing.

        folder: keeps finished windows; with the same photos and arguments an interrupted run goes on from there.
        """

    @abstractmethod
    def open(
        self,
        photos: Sequence[PhotoLike],
        *,
        geometry: GeometryInput = "on",
        resolution: int | None = None,
        seed: int = 0,
    ) -> Session:
        """Read photos once, for many questions: `session.ask(question)`. Arguments as for `answer`."""

    @abstractmethod
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
        """What `answer` says to each request; all are computed at once. What is sampled depends on the whole batch."""

    @abstractmethod
    def answer_blindly(
        self, questions: Sequence[str], *, system: str | None = None, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> list[str]:
        """What is said to these words, likeliest first, by a model that is shown nothing; for comparison."""

    @overload
    def answer(
        self,
        photos: Sequence[PhotoLike],
        question: str,
        *,
        marks: Sequence[Mark] = (),
        boxes: Sequence[Box] = (),
        between: tuple[int, int] | None = None,
        geometry: GeometryInput = "on",
        reasoning: Reasoning | None = None,
        with_reconstruction: bool = False,
        resolution: int | None = None,
        seed: int = 0,
        **decoding: Unpack[Decoding],
    ) -> Answer: ...

    @overload
    def answer(
        self,
        *,
        messages: Sequence[Message],
        marks: Sequence[Mark] = (),
        boxes: Sequence[Box] = (),
        between: tuple[int, int] | None = None,
        max_frames: int = MAX_FRAMES,
        frame_labels: bool = False,
        geometry: GeometryInput = "on",
        reasoning: Reasoning | None = None,
        with_reconstruction: bool = False,
        resolution: int | None = None,
        seed: int = 0,
        **decoding: Unpack[Decoding],
    ) -> Answer: ...

    def answer(
        self,
        photos: Sequence[PhotoLike] = (),
        question: str = "",
        *,
        messages: Sequence[Message] | None = None,
        marks: Sequence[Mark] = (),
        boxes: Sequence[Box] = (),
        between: tuple[int, int] | None = None,
        max_frames: int = MAX_FRAMES,
        frame_labels: bool = False,
        geometry: GeometryInput = "on",
        reasoning: Reasoning | None = None,
        with_reconstruction: bool = False,
        resolution: int | None = None,
        seed: int = 0,
        **decoding: Unpack[Decoding],
    ) -> Answer:
        """The answer to a question about photos of one static scene, or to the last question of a chat.

        messages: a chat in the format of transformers, see `conversation.Message`; its photos are numbered as they appear,
        and all of them are views of one scene. max_frames, frame_labels: of videos, see `conversation.read_messages`.
        marks, boxes: what the question speaks of by name; they are said before it, and drawn on the pictures.
        between: two views whose motion is measured, with reasoning; without them it is that of consecutive views.
        geometry: what the geometric encoder sees, see `speaking.GeometryInput`: anything but "on" is for comparison.
        reasoning: "geometry" lets the answer follow what was measured in the predicted geometry (`answer.evidence`).
        with_reconstruction: `answer.reconstruction` is then what `reconstruct` gives for these photos, from the same forward.
        It is equal if the configuration's view_context is "views". If it is "sequence", views also see the words before
        them, which are not those that `reconstruct` puts there: the result is then near, but not equal.
        seed: of sampling, and of the shuffle of geometry="shuffled".
        decoding: arguments of transformers' `generate`, see `speaking.Decoding`.
        """
        request = Request(photos, question, messages, marks, boxes, between, max_frames, frame_labels)
        return self.answer_batch(
            [request],
            geometry=geometry,
            reasoning=reasoning,
            with_reconstruction=with_reconstruction,
            resolution=resolution,
            seed=seed,
            **decoding,
        )[0]


class Predictor(Answering):
    """A G2VLM with its processor, on one device; see `Answering`.

    host: of the model, where geometry enters its answers by a pathway.
    """

    def __init__(
        self,
        model: G2VLM,
        processor: Processor,
        *,
        source: str,
        checkpoint_sha256: str,
        host: Host | None = None,
    ) -> None:
        if host is not None and host.model is not model:
            raise ValueError("host hosts another model than this one; pass host.model as model")
        self.model = model.eval()
        self.host = None if host is None else host.eval()
        self.processor = processor
        self.source = source
        self.checkpoint_sha256 = checkpoint_sha256

    @torch.no_grad()  # not inference_mode: roma keeps a table from its first call, which training must be able to use
    def reconstruct(
        self, photos: Sequence[PhotoLike], *, resolution: int | None = None, seed: int = 0
    ) -> Reconstruction:
        """Depth, points and cameras of photos of one static scene, in one forward pass.

        photos: paths, PIL images or Photo records; the first one's camera is the world frame. They may differ in size.
        resolution: working size in pixels (a multiple of the patch size); the model's own unless given.
        seed: of whatever is random; the released models draw nothing, so it only marks the result.
        """
        started = time.perf_counter()
        config = self.model.config
        torch.manual_seed(seed)
        read_in = read_photos(photos)
        if not read_in:
            raise ValueError("no photo was given; at least one is needed")
        resolution = config.resolution if resolution is None else resolution
        views = to_views(read_in, resolution, config.patch_size, config.view_resize)
        read = time.perf_counter()
        geometry = self.geometry(views)
        done = time.perf_counter()
        seconds = {"resize": read - started, "model": done - read}
        return reconstruction_of(geometry, read_in, views, self._provenance(resolution, seed, seconds))

    def geometry(self, views: Sequence[Float[Tensor, "3 _height _width"]]) -> Geometry:
        """What the heads read from these views (RGB in [0, 1], sides multiples of the patch size), in float32."""
        return self.look(views).geometry

    @torch.no_grad()  # not inference_mode: roma keeps a table from its first call, which training must be able to use
    def look(self, views: Sequence[Float[Tensor, "3 _height _width"]]) -> Sight:
        """`geometry`, and the mean token that the geometric encoder makes of each view, which is alike for views of one place.

        What leaves the decoder is not: it knows all other views of its window.
        """
        model = self.model
        views = [view.to(model.device, model.dtype) for view in views]
        grids = [model.grid(view) for view in views]
        ids = self.processor.reconstruction_ids(grids).to(model.device)
        out = model(ids, views=views, logits_to_keep=None, read_geometry=True)
        tokens = out.inputs_embeds[0][out.layout.is_geometric].split([rows * columns for rows, columns in grids])
        return Sight(out.geometry, torch.stack([view.mean(0) for view in tokens]))

    def stream(
        self,
        photos: Iterable[PhotoLike],
        *,
        window: int = WINDOW,
        overlap: int = OVERLAP,
        resolution: int | None = None,
        seed: int = 0,
    ) -> Iterator[Partial]:
        """Poses and points of a sequence of any length while it arrives: after each window, the frames that it settles.

        photos: in the order in which they were taken, each sharing much of what it shows with the next; read as they are needed.
        All parts are in the world of view 0. Arguments as for `reconstruct` and `reconstruct_sequence`.
        """
        joiner = self.joiner(window=window, overlap=overlap, resolution=resolution, seed=seed)
        return joiner.run(photo_of(photo, f"view_{index:05d}") for index, photo in enumerate(photos))

    def reconstruct_sequence(
        self,
        photos: Iterable[PhotoLike],
        *,
        window: int = WINDOW,
        overlap: int = OVERLAP,
        resolution: int | None = None,
        seed: int = 0,
        folder: Path | None = None,
        close_loops: bool = True,
    ) -> Joined:
        """A sequence of any length, by overlapping windows of which one at a time is in memory; see `windows`.

        folder: keeps finished windows; with the same photos and arguments an interrupted run goes on from there.
        close_loops: look for places that are seen again, and make the sequence agree about them.
        """
        joiner = self.joiner(window=window, overlap=overlap, resolution=resolution, seed=seed, folder=folder)
        for _ in joiner.run(photo_of(photo, f"view_{index:05d}") for index, photo in enumerate(photos)):
            pass
        return joiner.joined(close_loops=close_loops)

    def joiner(
        self,
        *,
        window: int = WINDOW,
        overlap: int = OVERLAP,
        resolution: int | None = None,
        seed: int = 0,
        folder: Path | None = None,
    ) -> Joiner:
        config = self.model.config
        torch.manual_seed(seed)
        sizing = Sizing(config.resolution if resolution is None else resolution, config.patch_size, config.view_resize)
        provenance = self._provenance(resolution, seed, {})
        return Joiner(self.look, sizing, provenance, Windowing(window, overlap), folder)

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
        asking = Asking(geometry, reasoning, with_reconstruction, seed, decoding)
        return answer_all(self._speaker(), requests, asking, resolution, self._provenance(resolution, seed, {}))

    def open(
        self,
        photos: Sequence[PhotoLike],
        *,
        geometry: GeometryInput = "on",
        resolution: int | None = None,
        seed: int = 0,
    ) -> NativeSession:
        speaker = self._speaker()
        scene = speaker.scene(read_photos(photos), geometry, resolution, seed)
        return NativeSession(speaker, scene, geometry, self._provenance(resolution, seed, {}))

    @torch.no_grad()
    def answer_blindly(
        self, questions: Sequence[str], *, system: str | None = None, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> list[str]:
        speaker, tokens = self._speaker(), self.processor.tokens
        opening = () if system is None else (Turn("system", (system,)),)
        asked = [self.processor.conversation_ids((*opening, Turn("user", (words,)))) for words in questions]
        longest = max(len(ids) for ids in asked)
        padded = torch.stack([pad(ids, (longest - len(ids), 0), value=tokens.pad) for ids in asked])
        said = speaker.model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            input_ids=padded.to(self.model.device),
            attention_mask=(padded != tokens.pad).long().to(self.model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=tokens.eos,
            pad_token_id=tokens.pad,
        )
        return self.processor.tokenizer.batch_decode(said[:, longest:], skip_special_tokens=True)

    def _speaker(self) -> Speaker:
        if not self.model.config.has_language:
            raise ValueError(
                f"these weights see but do not speak: {self.source} was trained on geometry alone; take others to ask questions"
            )
        return Speaker(self.model, self.processor, self.host)

    def _provenance(self, resolution: int | None, seed: int, seconds: dict[str, float]) -> Provenance:
        return Provenance(
            model=self.source,
            checkpoint_sha256=self.checkpoint_sha256,
            versions={name: version(name) for name in ("g2vlm", "torch", "transformers")},
            settings={
                "resolution": self.model.config.resolution if resolution is None else resolution,
                "seed": seed,
                "device": str(self.model.device),
                "dtype": str(self.model.dtype).removeprefix("torch."),
            },
            seconds=seconds,
        )
