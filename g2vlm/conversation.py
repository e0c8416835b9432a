"""A chat as the model is to read it: turns of text and photos, before any of it is a token."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from g2vlm.pictures import Photo, PhotoLike, evenly_spaced, find_pictures, photo_of
from g2vlm.video import read_video

Role = Literal["system", "user", "assistant"]

Message = Mapping[str, Any]
"""One turn in the chat format of transformers: `{"role": "user", "content": "..."}`, or content as a list of
`{"type": "text", "text": ...}`, `{"type": "image", "image": photo}` and `{"type": "video", "video": frames, folder or file}`."""

MAX_FRAMES = 32
"""Frames of a video that are looked at, unless a caller says otherwise."""


@dataclass(frozen=True)
class Turn:
    """What one side says: texts, and photos by their number in the conversation; never two texts in a row."""

    role: Role
    parts: tuple[str | int, ...]

    @property
    def has_photos(self) -> bool:
        return any(isinstance(part, int) for part in self.parts)


@dataclass(frozen=True)
class Conversation:
    """Turns up to a question; photos are numbered as they appear, over all turns."""

    turns: tuple[Turn, ...]
    photos: tuple[Photo, ...]

    def __post_init__(self):
        last = self.turns[-1] if self.turns else Turn("user", ())
        if last.role != "user":
            raise ValueError(f"the last message is of role {last.role!r}; the user's question comes last")
        require_question("".join(part for part in last.parts if isinstance(part, str)))
        if not self.photos:
            raise ValueError("no image was given; a question needs at least one to look at")

    def saying_first(self, words: str) -> "Conversation":
        """The same, with words right before the question: the last text of the last turn."""
        if not words:
            return self
        *before, last = self.turns
        place = max(i for i, part in enumerate(last.parts) if isinstance(part, str))
        parts = tuple(f"{words}{part}" if i == place else part for i, part in enumerate(last.parts))
        return replace(self, turns=(*before, replace(last, parts=parts)))


def require_question(text: str) -> None:
    if not text.strip():
        raise ValueError("there is no question; ask something")


def about(photos: Sequence[PhotoLike], question: str) -> Conversation:
    """One turn: photos, then a question about them."""
    read = read_photos(photos)
    return Conversation((Turn("user", (*range(len(read)), question)),), read)


def read_photos(sources: Sequence[PhotoLike]) -> tuple[Photo, ...]:
    """All of them; ValueError names the first that cannot be read."""
    is_single = isinstance(sources, PhotoLike)
    if is_single:
        raise ValueError(f"photos are a single {type(sources).__name__}; put it into a list")
    return tuple(photo_of(source, f"view_{index:03d}") for index, source in enumerate(sources))


def read_messages(
    messages: Sequence[Message], *, max_frames: int = MAX_FRAMES, frame_labels: bool = False
) -> Conversation:
    """A chat in the format of transformers; see `Message`.

    A video is a list of photos, a folder of them or a video file, thinned out evenly to `max_frames`. frame_labels: "Frame 0: " and so on
    stands before each frame, counted within its video.
    """
    sources: list[PhotoLike] = []
    turns = []
    for number, message in enumerate(messages):
        role: Any = message.get("role")
        if role not in get_args(Role):
            raise ValueError(f"message {number} is of role {role!r}; it must be one of {', '.join(get_args(Role))}")
        if role == "system" and number:
            raise ValueError(f"message {number} is of role 'system', which only the first message can be")
        parts: list[str | int] = []
        for item in _items(message, number, max_frames, frame_labels):
            if not isinstance(item, _Text):
                parts.append(len(sources))
                sources.append(item)
            elif parts and isinstance(before := parts[-1], str):
                parts[-1] = before + item.text
            else:
                parts.append(item.text)
        turns.append(Turn(role, tuple(parts)))
        if role != "user" and turns[-1].has_photos:
            raise ValueError(f"message {number} is of role {role!r} and has images, which only the user can show")
    return Conversation(tuple(turns), read_photos(sources))


@dataclass(frozen=True)
class _Text:
    """Words, told apart from paths."""

    text: str


def _items(message: Message, number: int, max_frames: int, frame_labels: bool) -> Iterator[_Text | PhotoLike]:
    """Texts and photos of one message, in order; a video is its frames."""
    content = message.get("content")
    if isinstance(content, str):
        yield _Text(content)
        return
    if content is None or not isinstance(content, list | tuple):
        raise ValueError(f"the content of message {number} is {content!r}; it must be text or a list of parts")
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            yield _Text(part["text"])
        elif kind == "image":
            yield _photo_in(part, number)
        elif kind == "video":
            for index, frame in enumerate(_frames_in(part, number, max_frames)):
                if frame_labels:
                    yield _Text(f"Frame {index}: ")
                yield frame
        else:
            raise ValueError(
                f'message {number} has the part {part!r}; wanted are {{"type": "text", "text": ...}}, '
                '{"type": "image", "image": ...} and {"type": "video", "video": ...}'
            )


def frames_of(source: str | Path, max_frames: int) -> Sequence[Photo | Path]:
    """Frames of a video file, or the pictures of a folder or glob, thinned out evenly to `max_frames`."""
    if Path(source).is_file():
        return read_video(Path(source), max_frames)
    return evenly_spaced(find_pictures([str(source)]), max_frames)


def _photo_in(part: Message, number: int) -> PhotoLike:
    source = part.get("image", part.get("path"))
    if source is None or not isinstance(source, PhotoLike):
        raise ValueError(f"message {number} has an image without a file or picture: {dict(part)!r}; give it as 'image'")
    return source


def _frames_in(part: Message, number: int, max_frames: int) -> Sequence[PhotoLike]:
    source = part.get("video", part.get("path"))
    if isinstance(source, str | Path):
        return frames_of(source, max_frames)
    if not isinstance(source, Sequence) or not all(isinstance(frame, PhotoLike) for frame in source):
        raise ValueError(
            f"message {number} has a video without frames: {dict(part)!r}; give a file, a folder or a list of them"
        )
    return evenly_spaced(source, max_frames)
