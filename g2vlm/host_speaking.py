"""How a stock host of a pathway is asked: whole prompts by its own template, gone on with by transformers' `generate`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import StoppingCriteriaList

from g2vlm.conversation import Turn
from g2vlm.host import Host
from g2vlm.host_processor import HostProcessor, thought_and_answer
from g2vlm.pathways.base import MERGE
from g2vlm.pictures import Photo
from g2vlm.speaking import MAX_NEW_TOKENS, Decoding, FirstToken, GeometryInput, require_room, seen_views, until_end


@dataclass(frozen=True)
class Sight:
    """Photos as a host and its encoder see them; patches: of each photo. geometry: none without a pathway."""

    photos: tuple[Photo, ...]
    patches: tuple[Float[Tensor, "_patches values"], ...]
    image_grid_thw: Int[Tensor, "photos 3"]
    geometry: tuple[Float[Tensor, "3 _height _width"], ...]

    @property
    def num_tokens(self) -> list[int]:
        """Of each photo in a prompt, with its two markers."""
        return [cells + 2 for cells in (self.image_grid_thw.prod(1) // MERGE**2).tolist()]


NOTHING = Sight((), (), torch.zeros((0, 3), dtype=torch.long), ())
"""What a host sees that is shown no photo."""


@dataclass(frozen=True)
class HostPrompt:
    """text: up to where the answer begins, with one placeholder for each photo. ids: with one for each visual token."""

    text: str
    ids: Int[Tensor, " tokens"]
    sight: Sight


@dataclass(frozen=True)
class HostSaid:
    """What a host thought and said to each prompt. first_token: when its first word was there, by `perf_counter`."""

    thoughts: list[str]
    texts: list[str]
    num_tokens: list[int]
    first_token: float


@dataclass(frozen=True)
class HostSpeaker:
    """A stock host that answers, with its processor."""

    host: Host
    processor: HostProcessor

    def look(self, photos: Sequence[Photo], geometry: GeometryInput, seed: int) -> Sight:
        """What host and encoder are to see of these photos; seed: of the shuffle."""
        if geometry not in get_args(GeometryInput):
            raise ValueError(f"geometry is {geometry!r}; it must be one of {', '.join(get_args(GeometryInput))}")
        if not photos:
            raise ValueError("no image was given; a question needs at least one to look at")
        eye = self.processor.eye
        patches, grids = zip(*map(eye.for_host, photos), strict=True)
        image_grid_thw = torch.cat(grids)
        if self.host.encoder is None:
            if geometry in ("blank", "shuffled"):
                raise ValueError(
                    f"geometry is {geometry!r}, but this model has no pathway for any; set it to 'on' or 'off'"
                )
            return Sight(tuple(photos), patches, image_grid_thw, ())
        if geometry == "off":
            raise ValueError(
                "geometry is 'off', but this model's pathway needs it; set it to 'on', 'blank' or 'shuffled'"
            )
        patch = self.host.encoder.patch
        views = eye.for_encoder(photos, image_grid_thw, patch)
        return Sight(tuple(photos), patches, image_grid_thw, tuple(seen_views(views, geometry, patch, seed)))

    def drawn(self, sight: Sight, photos: Sequence[Photo]) -> Sight:
        """The same, but the host sees these photos, which are drawn on; those that are the same are not read again."""
        patches = [
            seen if shown is photo else self.processor.eye.for_host(shown)[0]
            for shown, photo, seen in zip(photos, sight.photos, sight.patches, strict=True)
        ]
        return replace(sight, patches=tuple(patches))

    def prompt(self, turns: Sequence[Turn], sight: Sight, decoding: Decoding) -> HostPrompt:
        """ValueError where it and its answer are longer than the context."""
        text = self.processor.prompt(turns)
        ids = self.processor.ids(text, sight.image_grid_thw)
        most = self.host.model.config.text_config.max_position_embeddings
        require_room(sight.num_tokens, len(ids), decoding, most, smaller="max_pixels")
        return HostPrompt(text, ids, sight)

    @torch.no_grad()
    def say(self, prompts: Sequence[HostPrompt], decoding: Decoding, seed: int) -> HostSaid:
        """Go on from each prompt with an answer; all are computed at once."""
        if len(prompts) > 1 and "streamer" in decoding:
            raise ValueError(
                f"a streamer follows one answer, but there are {len(prompts)} questions; ask them one by one"
            )
        model, processor = self.host.model, self.processor
        inputs = self.inputs(prompts)
        first = FirstToken()
        ends = self._ends()
        # What the model's files say of drawing words would go on beside what the caller says; top_k is 1 in some.
        drawing = {"temperature": None, "top_p": None, "top_k": None}
        options: dict[str, Any] = {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False, **drawing, **decoding}
        criteria = StoppingCriteriaList([first, *options.pop("stopping_criteria", ())])
        with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(seed)
            out = self.host.generate(
                **inputs, eos_token_id=ends, pad_token_id=processor.pad, stopping_criteria=criteria, **options
            )
        answers = [until_end(row, ends) for row in out[:, inputs["input_ids"].shape[1] :].tolist()]
        texts = processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
        said = [thought_and_answer(prompt.text, text) for prompt, text in zip(prompts, texts, strict=True)]
        assert first.at is not None
        return HostSaid([x for x, _ in said], [x for _, x in said], [len(answer) for answer in answers], first.at)

    def inputs(self, prompts: Sequence[HostPrompt]) -> dict[str, Any]:
        """What the host's forward and `generate` take; prompts are padded on the left."""
        model, processor = self.host.model, self.processor
        width = max(len(prompt.ids) for prompt in prompts)
        ids = torch.full((len(prompts), width), processor.pad)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt.ids) :] = prompt.ids
            mask[i, width - len(prompt.ids) :] = 1
        sights = [prompt.sight for prompt in prompts]
        geometry = [view for sight in sights for view in sight.geometry]
        patches = [photo for sight in sights for photo in sight.patches]
        made: dict[str, Any] = {
            "input_ids": ids.to(model.device),
            "attention_mask": mask.to(model.device),
            "mm_token_type_ids": (ids == processor.image_token).int().to(model.device),
        }
        if patches:
            made["pixel_values"] = torch.cat(patches).to(model.device, model.dtype)
            made["image_grid_thw"] = torch.cat([sight.image_grid_thw for sight in sights]).to(model.device)
        return made | {"geometry_images": geometry} if geometry else made

    def _ends(self) -> list[int]:
        """Tokens that end an answer: the tokenizer's, and those that the model's files name."""
        named: Any = self.host.model.generation_config.eos_token_id  # pyright: ignore[reportOptionalMemberAccess]
        own: Any = self.processor.tokenizer.eos_token_id
        return [x for x in dict.fromkeys([own, *(named if isinstance(named, list) else [named])]) if x is not None]
