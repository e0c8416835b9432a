"""What a stock Qwen-VL reads: a chat by its own template, photos by its own processor, and what the frozen encoder sees beside.

Words, template and picture settings come from files of the stock model. Pictures go through PIL, never through torchvision, so
that they are the same numbers everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase, Qwen2VLImageProcessorPil

from g2vlm.conversation import Turn
from g2vlm.convert.official import read_json
from g2vlm.pathways.base import MERGE
from g2vlm.pathways.pictures import PATCH, SIDE, cropped, geometry_images, host_image
from g2vlm.pictures import Photo

Preprocessing = Literal["whole", "crop"]
"""`whole`: photos go straight to the host's processor, as where SpatialStack on Qwen3.5 is evaluated (after its later fix).
`crop`: photos are first made 518 pixels wide and no taller, as where all of them are trained, and where those on Qwen2.5-VL are
evaluated, too."""

PIXELS: dict[Preprocessing, tuple[int, int]] = {"whole": (256 * 28**2, 1_605_632), "crop": (16 * 28**2, 576 * 28**2)}
"""Least and most pixels of a picture, as evaluation and training of these models have them."""

EVALUATED: dict[str, Preprocessing] = {"qwen2_vl": "crop", "qwen2_5_vl": "crop", "qwen3_5": "whole"}
"""By the `model_type` of a host: how it sees photos where it is evaluated."""

BASES = {
    "qwen2_vl": "Qwen/Qwen2-VL-2B-Instruct",
    "qwen2_5_vl": "Qwen/Qwen2.5-VL-3B-Instruct",
    "qwen3_5": "Qwen/Qwen3.5-4B",
}
"""By the `model_type` of a host: a published model whose files say how it reads."""

IMAGE = "<|image_pad|>"
THOUGHT, ANSWER = "<think>", "</think>"


class Eye:
    """Photos as a host's processor makes them, whole. pixels: least and most of a picture."""

    def __init__(self, processor: Qwen2VLImageProcessorPil, pixels: tuple[int, int]):
        self.processor = processor
        self.options: dict[str, Any] = {"size": {"shortest_edge": pixels[0], "longest_edge": pixels[1]}}

    def shown(self, photo: Photo) -> Photo:
        """What of a photo goes into the processor."""
        return photo

    def for_host(self, photo: Photo) -> tuple[Float[Tensor, "patches values"], Int[Tensor, "1 3"]]:
        """pixel_values and image_grid_thw of one photo."""
        picture = Image.fromarray(self.shown(photo).rgb)
        made = self.processor([picture], return_tensors="pt", **self.options)
        return made["pixel_values"], made["image_grid_thw"]

    def for_encoder(
        self, photos: Sequence[Photo], image_grid_thw: Int[Tensor, "photos 3"], patch: int
    ) -> list[Float[Tensor, "3 _height _width"]]:
        """What the frozen encoder sees, cell for cell what the host sees; patch: of the encoder."""
        return geometry_images([self.shown(photo) for photo in photos], image_grid_thw, patch)


class CropEye(Eye):
    """Photos are first made 518 pixels wide, and then fitted to the host's patches."""

    def shown(self, photo: Photo) -> Photo:
        return _photo(photo.name, cropped(photo))


class SharedCropEye(Eye):
    """Host and encoder have patches of one size: both see the 518 pixels, the host without what fills no cell."""

    def __init__(self, processor: Qwen2VLImageProcessorPil):
        self.processor = processor
        self.options = {"do_resize": False}

    def shown(self, photo: Photo) -> Photo:
        image = host_image(cropped(photo))
        if not image.numel():
            height, width = photo.size
            raise ValueError(
                f"{photo.name} is {height} x {width} pixels (height x width): at {SIDE} pixels wide it is lower than one visual "
                "token; show less of its width, or set preprocessing to 'whole'"
            )
        return _photo(photo.name, image)

    def for_encoder(
        self, photos: Sequence[Photo], image_grid_thw: Int[Tensor, "photos 3"], patch: int
    ) -> list[Float[Tensor, "3 _height _width"]]:
        return [cropped(photo) for photo in photos]


def _photo(name: str, image: Float[Tensor, "3 height width"]) -> Photo:
    return Photo(name, (image * 255).round().byte().permute(1, 2, 0).numpy())


def eye_of(
    processor: Qwen2VLImageProcessorPil,
    family: str,
    *,
    preprocessing: Preprocessing | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> Eye:
    """How a host of this `model_type` sees photos; None: as where it is evaluated."""
    if preprocessing not in (None, *get_args(Preprocessing)):
        raise ValueError(f"preprocessing is {preprocessing!r}; it must be one of {', '.join(get_args(Preprocessing))}")
    kind = EVALUATED[family] if preprocessing is None else preprocessing
    if kind == "crop" and processor.patch_size == PATCH:
        for field, value in {"min_pixels": min_pixels, "max_pixels": max_pixels}.items():
            if value is not None:
                raise ValueError(
                    f"{field} is {value}, but preprocessing 'crop' gives a {family} pictures 518 pixels wide as they are; "
                    "set preprocessing to 'whole'"
                )
        return SharedCropEye(processor)
    least, most = PIXELS[kind]
    pixels = (least if min_pixels is None else min_pixels, most if max_pixels is None else max_pixels)
    cell = (MERGE * processor.patch_size) ** 2
    if max_pixels is not None and min_pixels is None:  # whoever wants small pictures need not say it twice
        pixels = (min(pixels), pixels[1])
    if not 1 <= pixels[0] <= pixels[1] or pixels[1] < cell:
        raise ValueError(
            f"min_pixels is {pixels[0]} and max_pixels {pixels[1]}; wanted is 1 <= min_pixels <= max_pixels, and max_pixels at "
            f"least {cell}, the pixels of one token"
        )
    return (CropEye if kind == "crop" else Eye)(processor, pixels)


@dataclass(frozen=True)
class HostProcessor:
    """A stock model's tokenizer, with its chat template, and its eye. image_token: the id that pictures stand for.

    thinking: the template opens a thought, which the answer then follows.
    """

    tokenizer: PreTrainedTokenizerBase
    eye: Eye
    image_token: int
    thinking: bool = False

    def __post_init__(self):
        if (found := self.tokenizer.convert_tokens_to_ids(IMAGE)) != self.image_token:
            raise ValueError(
                f"image_token_id is {self.image_token} in config.json, but the tokenizer's {IMAGE} is {found}; "
                "copy the tokenizer that belongs to the model"
            )
        asked = [{"role": "user", "content": "?"}]
        if self.thinking and self._rendered(asked, True) == self._rendered(asked, False):
            raise ValueError("thinking is on, but this model's chat template has no enable_thinking; leave it off")

    @property
    def pad(self) -> int:
        tokenizer: Any = self.tokenizer
        return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def prompt(self, turns: Sequence[Turn]) -> str:
        """The chat by the model's template up to where the answer begins; one `IMAGE` for every photo."""
        special = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        for text in (part for turn in turns for part in turn.parts if isinstance(part, str)):
            if typed := next((token for token in special if token in text), None):
                raise ValueError(f"the words hold {typed}, which is no word to this model; write it in another way")
        text = self._rendered([_message(turn) for turn in turns], self.thinking)
        num_photos = sum(isinstance(part, int) for turn in turns for part in turn.parts)
        if (shown := text.count(IMAGE)) != num_photos:
            raise ValueError(
                f"there are {num_photos} images, but the chat template writes {IMAGE} {shown} times; "
                "copy the template that belongs to the model"
            )
        return text

    def ids(self, prompt: str, image_grid_thw: Int[Tensor, "photos 3"]) -> Int[Tensor, " tokens"]:
        """Ids of a prompt, with as many image tokens for each photo as it has cells."""
        lengths = iter((image_grid_thw.prod(1) // MERGE**2).tolist())
        ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        spread = [[id] * next(lengths) if id == self.image_token else [id] for id in ids]
        return torch.tensor([id for group in spread for id in group])

    def _rendered(self, messages: Sequence[Any], thinking: bool) -> str:
        text: Any = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        return text


def _message(turn: Turn) -> dict[str, Any]:
    if not turn.has_photos:
        return {"role": turn.role, "content": "".join(part for part in turn.parts if isinstance(part, str))}
    content = [{"type": "image"} if isinstance(part, int) else {"type": "text", "text": part} for part in turn.parts]
    return {"role": turn.role, "content": content}


def thought_and_answer(prompt: str, text: str) -> tuple[str, str]:
    """What was thought and what was said; a thought that was cut short has no answer behind it.

    >>> thought_and_answer("<think>", "A desk.</think> 3")
    ('A desk.', '3')
    """
    whole = THOUGHT + text if prompt.rstrip().endswith(THOUGHT) else text.strip()
    if not whole.startswith(THOUGHT):
        return "", whole
    thought, _, answer = whole.removeprefix(THOUGHT).partition(ANSWER)
    return thought.strip(), answer.strip()


def read_host_processor(
    folder: Path,
    config: PreTrainedConfig,
    *,
    preprocessing: Preprocessing | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    thinking: bool = False,
) -> HostProcessor:
    """From the files beside a stock host's weights, which are those of the model it was made of."""
    family = config.model_type
    has_words = (folder / "tokenizer.json").is_file() or (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    )
    has_eye = any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json"))
    absent = [] if has_words else ["tokenizer.json"]
    absent += [] if has_eye else ["preprocessor_config.json"]
    tokenizer = AutoTokenizer.from_pretrained(folder) if has_words else None
    template = None if tokenizer is None else _template(folder, tokenizer)
    absent += [] if template or tokenizer is None else ["chat_template.jinja"]
    if absent or tokenizer is None:
        raise ValueError(
            f"{folder}: no {', no '.join(absent)}, so this model reads no words or pictures; copy the files of tokenizer and "
            f"processor from {BASES[family]}, or whichever {family} it was made of"
        )
    tokenizer.chat_template = template
    processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    wanted = {"patch_size": config.vision_config.patch_size, "merge_size": config.vision_config.spatial_merge_size}
    for field, value in wanted.items():
        if (found := getattr(processor, field)) != value:
            raise ValueError(
                f"{field} of the pictures is {found} in {folder}, but the model's is {value}; copy the processor's files from "
                f"{BASES[family]}"
            )
    eye = eye_of(processor, family, preprocessing=preprocessing, min_pixels=min_pixels, max_pixels=max_pixels)
    return HostProcessor(tokenizer, eye, config.image_token_id, thinking)


def _template(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Any:
    """A chat template lies with the tokenizer, or, in older folders, in a file of the processor."""
    older = folder / "chat_template.json"
    if tokenizer.chat_template is None and older.is_file():
        return read_json(older)["chat_template"]
    return tokenizer.chat_template
