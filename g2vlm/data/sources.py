"""Where samples come from: procedural rooms, scenes on disk, questions about rooms, and plain text."""

import json
import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from g2vlm.data.augment import Augmentation, Fitted, fit, photometric
from g2vlm.data.questions import LONGEST, ask
from g2vlm.data.recon import Frame, Scene, Shot
from g2vlm.data.samples import BadSample, Bucket, Sample
from g2vlm.data.sampling import (
    Counts,
    FrameChoice,
    SceneIndex,
    choose_frames,
    has_depth,
    overlap,
    scene_index,
    usable_counts,
    usable_frames,
)
from g2vlm.data.scenes import TRAIN_SEEDS, Rooms, rooms
from g2vlm.layout import Grid
from g2vlm.pictures import Photo, read_photo, semantic_patches, working_size
from g2vlm.processor import Processor
from g2vlm.records import IGNORE, Views

OVERLAP_TRIES = 4
"""How often frames are drawn anew when their overlap is out of range, before the sample counts as bad."""

MERGED_PATCH = 28
"""Pixels along each side of what the vision tower makes one token of."""

UNCHANGED = Augmentation(crop=0, focal=1.0, colour=0.0)


@dataclass(frozen=True)
class RoomSource:
    """Procedural rooms, drawn at the size that is wanted.

    fields_of_view: least and greatest, in degrees along the longer side; None leaves each room its own.
    """

    processor: Processor
    patch: int
    name: str = "rooms"
    colour: float = 1.0
    fields_of_view: tuple[float, float] | None = None
    seeds: range = TRAIN_SEEDS
    num_views: tuple[int, int] = (1, 24)

    def num_tokens(self, bucket: Bucket) -> int:
        return num_reconstruction_tokens(self.processor, bucket, self.patch)

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        room = random_room(draw, bucket, self.seeds, self.fields_of_view)
        views = replace(only_scene(room.views), images=photometric(room.views.images[0], draw, self.colour))
        ids = self.processor.reconstruction_ids(grids(bucket, self.patch))[0]
        return Sample(f"{self.name} {room.seeds[0]}", ids, views=views)


def random_room(draw: random.Random, bucket: Bucket, seeds: range, fields_of_view: tuple[float, float] | None) -> Rooms:
    """One room, with a random seed."""
    seed = seeds[draw.randrange(len(seeds))]
    angles = None if fields_of_view is None else [math.radians(draw.uniform(*fields_of_view))]
    return rooms([seed], num_views=bucket.num_views, height=bucket.height, width=bucket.width, fields_of_view=angles)


def only_scene(views: Views) -> Views:
    """The views of the only scene of a batch."""
    return replace(views, **{name: x[0] for name, x in vars(views).items() if x is not None})


def num_reconstruction_tokens(processor: Processor, bucket: Bucket, patch: int) -> int:
    markers = 2
    view = (bucket.height // patch) * (bucket.width // patch) + markers
    return processor.reconstruction_ids([]).shape[1] + bucket.num_views * view


def grids(bucket: Bucket, patch: int) -> list[Grid]:
    """Patches of each view."""
    return [(bucket.height // patch, bucket.width // patch)] * bucket.num_views


@dataclass(frozen=True)
class SceneSource:
    """Scenes on disk.

    A sample of two views or more comes from frames with poses, one of a single view from frames with depth; scenes that
    have neither are left out. Depth counts only where intrinsics are known. The world frame is the first view's.

    max_depth: metres beyond which depth counts as unknown, in metric scenes; None keeps all. has_fine_depth: False if
    no scene's depth is good enough for normals, whatever the scenes say.
    counts: of usable frames, if they are known beforehand; otherwise every scene is read once, here.
    """

    name: str
    scenes: Sequence[Scene]
    processor: Processor
    patch: int
    choice: FrameChoice = field(default_factory=FrameChoice)
    augmentation: Augmentation = field(default_factory=Augmentation)
    max_depth: float | None = None
    has_fine_depth: bool = True
    counts: Counts | None = None

    def __post_init__(self):
        if not self.index.alone and not self.index.together:
            raise ValueError(
                f"{self.name}: none of {len(self.scenes)} scenes has depth with intrinsics, or two poses; check its folder"
            )

    @cached_property
    def index(self) -> SceneIndex:
        return scene_index(usable_counts(self.scenes) if self.counts is None else self.counts)

    @property
    def num_views(self) -> tuple[int, int]:
        index = self.index
        return 1 if index.alone else 2, index.sizes[-1] if index.sizes else 1

    def num_tokens(self, bucket: Bucket) -> int:
        return num_reconstruction_tokens(self.processor, bucket, self.patch)

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        scene = self.scenes[self.index.draw(draw, bucket.num_views)]
        frames, shots = self.chosen(scene, draw, bucket.num_views)
        size = (bucket.height, bucket.width)
        fitted = [
            fit(shot.image, depth_of(frame, shot), frame.intrinsics, size, draw, self.augmentation)
            for frame, shot in zip(frames, shots, strict=True)
        ]
        depth = known_depth(fitted, self.max_depth if scene.is_metric else None)
        name = f"{self.name}: {scene.name} ({', '.join(frame.name for frame in frames)})"
        if depth is None and len(frames) == 1:
            raise BadSample(f"{name}: no depth is known in the part that is shown")
        intrinsics = [view.intrinsics for view in fitted if view.intrinsics is not None]
        views = Views(
            images=photometric(torch.stack([view.image for view in fitted]), draw, self.augmentation.colour),
            intrinsics=torch.stack(intrinsics) if len(intrinsics) == len(fitted) else None,
            poses=relative_poses(frames) if len(frames) > 1 else torch.eye(4)[None],
            depth=depth,
            mask=None if depth is None else depth > 0,
        )
        ids = self.processor.reconstruction_ids(grids(bucket, self.patch))[0]
        return Sample(name, ids, views=views, has_fine_depth=scene.has_fine_depth and self.has_fine_depth)

    def chosen(self, scene: Scene, draw: random.Random, num_views: int) -> tuple[list[Frame], list[Shot]]:
        """Frames whose overlap is as wanted, and their pixels."""
        usable = usable_frames(scene, num_views)
        least, most = self.choice.overlap
        measured: list[float] = []
        while len(measured) < OVERLAP_TRIES:
            picked = choose_frames(draw, len(usable), num_views, is_sequence=scene.is_sequence, choice=self.choice)
            frames = [usable[i] for i in picked]
            shots = [frame.read() for frame in frames]
            if (least, most) == (0, 1) or num_views == 1 or not all(map(has_depth, frames)):
                return frames, shots
            measured.append(overlap(*zip(*map(posed_depth, frames, shots), strict=True)))
            if least <= measured[-1] <= most:
                return frames, shots
        raise BadSample(
            f"{self.name}: {scene.name}: {num_views} frames overlap by {', '.join(f'{part:.2f}' for part in measured)} "
            f"in {OVERLAP_TRIES} tries, wanted {least} to {most}"
        )


def depth_of(frame: Frame, shot: Shot) -> Float[np.ndarray, "height width"] | None:
    return shot.depth if has_depth(frame) else None


def posed_depth(frame: Frame, shot: Shot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert shot.depth is not None
    assert frame.intrinsics is not None
    assert frame.pose is not None
    return shot.depth, frame.intrinsics, frame.pose


def known_depth(fitted: Sequence[Fitted], most: float | None) -> Float[Tensor, "views height width"] | None:
    """Depth of all views, 0 where unknown or greater than `most`; None if it is nowhere known."""
    nowhere = torch.zeros(fitted[0].image.shape[1:])
    depth = torch.stack([nowhere if view.depth is None else view.depth for view in fitted])
    if most is not None:
        depth = depth * (depth <= most)
    return depth if depth.any() else None


def relative_poses(frames: Sequence[Frame]) -> Float[Tensor, "views 4 4"]:
    """Camera-to-world poses in the first view's frame; made in float64, for worlds may have their origin far away."""
    poses = np.stack([frame.pose for frame in frames if frame.pose is not None])
    return torch.from_numpy(np.linalg.inv(poses[0]) @ poses).float()


class Lines:
    """A file of JSON lines, read one at a time; what is kept is where each line that is not blank begins, in bytes."""

    def __init__(self, path: Path):
        self.path, self.starts = path, array("q")
        at = 0
        with path.open("rb") as lines:
            for line in lines:
                if line.strip():
                    self.starts.append(at)
                at += len(line)
        if not self.starts:
            raise ValueError(f"{path}: holds no line; give JSON lines with a question and an answer")

    def draw(self, draw: random.Random) -> tuple[str, dict[str, Any]]:
        """Where a line lies, for messages, and what it says: a question and an answer at least."""
        start = draw.choice(self.starts)
        with self.path.open("rb") as lines:
            lines.seek(start)
            line = lines.readline()
        place = f"{self.path} at byte {start}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise BadSample(f"{place}: is not JSON ({error})") from error
        if not isinstance(record, dict):
            raise BadSample(f"{place}: is not a JSON object with a question and an answer")
        for key in ("question", "answer"):
            if not isinstance(record.get(key), str) or not record[key].strip():
                raise BadSample(f"{place}: has no {key}")
        return place, record


class TextSource:
    """Questions and answers in words alone: a file of JSON lines with "question" and "answer"."""

    num_views: tuple[int, int] = (0, 0)

    def __init__(self, name: str, path: Path, processor: Processor):
        self.name, self.lines, self.processor = name, Lines(path), processor

    def num_tokens(self, bucket: Bucket) -> int:
        return 0

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        place, record = self.lines.draw(draw)
        ids, labels = lesson(self.processor, record["question"], record["answer"])
        return Sample(f"{self.name}: {place}", ids, labels)


class QuestionSource:
    """Questions about photos: JSON lines with "question", "answer" and "images", paths from the file's own folder.

    Both encoders see every photo. The geometric one sees it at the packs' resolution, all of a sample in the shape of its
    first; the vision tower sees it whole, with `picture_pixels` or fewer.
    """

    num_views: tuple[int, int] = (0, 0)

    def __init__(self, name: str, path: Path, processor: Processor, patch: int, *, picture_pixels: int = 768 * 768):
        self.name, self.lines, self.processor = name, Lines(path), processor
        self.patch, self.picture_pixels = patch, picture_pixels

    def num_tokens(self, bucket: Bucket) -> int:
        return 0

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        place, record = self.lines.draw(draw)
        images = record.get("images")
        if not isinstance(images, list) or not images or not all(isinstance(image, str) for image in images):
            raise BadSample(f"{place}: has no images, a list of paths; without them use a source of kind text")
        try:
            photos = [read_photo(self.lines.path.parent / image) for image in images]
        except ValueError as error:
            raise BadSample(f"{place}: {error}") from error
        size = working_size(*photos[0].size, max(bucket.height, bucket.width), self.patch)
        views = [fit(photo.rgb, None, None, size, draw, UNCHANGED).image for photo in photos]
        values, sizes = semantic_patches(photos, max_pixels=self.picture_pixels)
        ids, labels = lesson(
            self.processor,
            record["question"],
            record["answer"],
            view_grids=[(size[0] // self.patch, size[1] // self.patch)] * len(photos),
            picture_grids=[(rows // 2, columns // 2) for _, rows, columns in sizes.tolist()],
        )
        return Sample(f"{self.name}: {place}", ids, labels, Views(torch.stack(views)), values, sizes)


def lesson(
    processor: Processor,
    question: str,
    answer: str,
    *,
    view_grids: Sequence[Grid] = (),
    picture_grids: Sequence[Grid] = (),
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"]]:
    """Ids of a question with its answer, and the token to be learnt after each: the answer's and the one that ends it."""
    asked = processor.question_ids(question, view_grids=view_grids, picture_grids=picture_grids)
    answered = processor.answer_ids(answer)
    ids = torch.cat([asked, answered])
    labels = torch.full_like(ids, IGNORE)
    labels[len(asked) - 1 : -1] = answered
    return ids, labels


@dataclass(frozen=True)
class RoomQuestionSource:
    """Procedural rooms with a question and its answer: seen by both encoders, and with the truth for both losses."""

    processor: Processor
    patch: int
    name: str = "room_questions"
    colour: float = 1.0
    seeds: range = TRAIN_SEEDS
    num_views: tuple[int, int] = (1, 24)

    def num_tokens(self, bucket: Bucket) -> int:
        """Of the longest question that may be asked: no text has more tokens than bytes."""
        views, pictures = grids(bucket, self.patch), [picture_grid(bucket)] * bucket.num_views
        return LONGEST + len(self.processor.question_ids("", view_grids=views, picture_grids=pictures)) + 1

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        room = random_room(draw, bucket, self.seeds, None)
        question, answer = ask(draw, room)
        views = replace(only_scene(room.views), images=photometric(room.views.images[0], draw, self.colour))
        pictures = (views.images.permute(0, 2, 3, 1) * 255).round().byte().numpy()
        rows, columns = picture_grid(bucket)
        size = (rows * MERGED_PATCH, columns * MERGED_PATCH)
        values, sizes = semantic_patches([Photo(self.name, picture) for picture in pictures], size)
        view_grids, picture_grids = grids(bucket, self.patch), [(rows, columns)] * len(pictures)
        ids, labels = lesson(self.processor, question, answer, view_grids=view_grids, picture_grids=picture_grids)
        return Sample(f"{self.name} {room.seeds[0]}", ids, labels, views, values, sizes)


def picture_grid(bucket: Bucket) -> Grid:
    """Merged tokens of a view for the vision tower, which takes no fewer than two along each side."""
    rows, columns = (max(round(side / MERGED_PATCH), 2) for side in (bucket.height, bucket.width))
    return rows, columns
