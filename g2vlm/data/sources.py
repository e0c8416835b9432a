"""Where samples come from: procedural rooms, scenes on disk, questions about rooms, and plain text."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from g2vlm.conversation import Turn
from g2vlm.data.augment import Augmentation, Fitted, fit, photometric
from g2vlm.data.media import photos_of
from g2vlm.data.questions import KINDS, LONGEST, Question, Seen, ask, seen_in
from g2vlm.data.questions_short import short_questions
from g2vlm.data.recon import Frame, Scene, Shot
from g2vlm.data.rows import BadRow
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
from g2vlm.data.spar import draw_markers
from g2vlm.data.vqa import QuestionFile, VqaRow
from g2vlm.evidence import Measurable, evidence_text, measurable_from_truth, measure
from g2vlm.layout import Grid
from g2vlm.marks import draw_marks, words_of_marks
from g2vlm.pathways.base import cells_size
from g2vlm.pictures import MERGED_PATCH, Photo, picture_size, semantic_patches, view_at, working_size
from g2vlm.processor import Processor
from g2vlm.records import IGNORE, Views

Input = Literal["views", "pictures", "geometry"]
"""What a question comes with: views for the geometric expert, pictures for the vision tower, and these once more for the
frozen encoder of a pathway."""

OVERLAP_TRIES = 4
"""How often frames are drawn anew when their overlap is out of range, before the sample counts as bad."""

KIND_TRIES = 4
"""How often a kind of question is tried on a room before another one takes its place."""

SHORT_DEPTH = 0.4
"""Part of the short questions that ask for depth."""

BRANCH_STEP = 16
"""Tokens; questions that share a context have multiples of it."""

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
        max_depth = self.max_depth if scene.is_metric else None
        views = views_of(frames, shots, bucket, draw, self.augmentation, max_depth=max_depth)
        name = f"{self.name}: {scene.name} ({', '.join(frame.name for frame in frames)})"
        if views.depth is None and len(frames) == 1:
            raise BadSample(f"{name}: no depth is known in the part that is shown")
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


def views_of(
    frames: Sequence[Frame],
    shots: Sequence[Shot],
    bucket: Bucket,
    draw: random.Random,
    augmentation: Augmentation,
    *,
    max_depth: float | None = None,
) -> Views:
    """Frames of one scene (all with poses, if there are several) at the bucket's size, and what is known of them.

    The world frame is the first view's. max_depth: in scene units, beyond which depth counts as unknown.
    """
    size = (bucket.height, bucket.width)
    fitted = [
        fit(shot.image, depth_of(frame, shot), frame.intrinsics, size, draw, augmentation)
        for frame, shot in zip(frames, shots, strict=True)
    ]
    depth = known_depth(fitted, max_depth)
    intrinsics = [view.intrinsics for view in fitted if view.intrinsics is not None]
    return Views(
        images=photometric(torch.stack([view.image for view in fitted]), draw, augmentation.colour),
        intrinsics=torch.stack(intrinsics) if len(intrinsics) == len(fitted) else None,
        poses=relative_poses(frames) if len(frames) > 1 else torch.eye(4)[None],
        depth=depth,
        mask=None if depth is None else depth > 0,
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


class TextSource:
    """Questions and answers in words alone: a file in any format of `g2vlm.data.vqa` that has no pictures."""

    num_views: tuple[int, int] = (0, 0)

    def __init__(self, name: str, path: Path, processor: Processor):
        self.name, self.file, self.processor = name, QuestionFile(path), processor

    def num_tokens(self, bucket: Bucket) -> int:
        return 0

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        row = drawn_row(self.file, draw)
        if row.has_media:
            raise BadSample(f"{row.name}: has pictures; use a source of kind questions")
        ids, labels = chat_lesson(self.processor, row.chat(0))
        return Sample(f"{self.name}: {row.name}", ids, labels)


class QuestionSource:
    """Questions about photos and videos: a file in any format of `g2vlm.data.vqa`; rows without either are text.

    The geometric encoder sees every photo at the packs' resolution, all of a sample in the shape of its first; the vision
    tower sees it whole, with `picture_pixels` or fewer, and with the markers that the row asks for. All answers of a
    conversation are learnt.

    inputs: what the model is given. media: where relative paths start; None is the file's own folder. frames: of a video,
    at most.
    """

    num_views: tuple[int, int] = (0, 0)

    def __init__(
        self,
        name: str,
        path: Path,
        processor: Processor,
        patch: int,
        *,
        picture_pixels: int = 768 * 768,
        inputs: tuple[Input, ...] = ("views", "pictures"),
        media: Path | None = None,
        frames: int = 8,
    ):
        self.name, self.file, self.processor = name, QuestionFile(path), processor
        self.patch, self.picture_pixels, self.inputs = patch, picture_pixels, inputs
        self.media, self.frames = path.parent if media is None else media, frames

    def num_tokens(self, bucket: Bucket) -> int:
        return 0

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        row = drawn_row(self.file, draw)
        try:
            photos = photos_of(row, self.media, self.frames)
        except BadRow as error:
            raise BadSample(f"{row.name}: {error}") from error
        views = values = sizes = None
        view_grids: list[Grid] = []
        seen_by_pathway: tuple[Tensor, ...] = ()
        if photos and "views" in self.inputs:
            height, width = working_size(*photos[0].size, max(bucket.height, bucket.width), self.patch)
            seen = [fit(photo.rgb, None, None, (height, width), draw, UNCHANGED).image for photo in photos]
            views = Views(torch.stack(seen))
            view_grids = [(height // self.patch, width // self.patch)] * len(photos)
        if photos and "pictures" in self.inputs:
            values, sizes = semantic_patches(draw_markers(photos, row.markers), max_pixels=self.picture_pixels)
        picture_grids = [] if sizes is None else [(rows // 2, columns // 2) for _, rows, columns in sizes.tolist()]
        if "geometry" in self.inputs:
            fitted = zip(photos, picture_grids, strict=True)
            seen_by_pathway = tuple(view_at(photo, cells_size(grid, self.patch)) for photo, grid in fitted)
        ids, labels = chat_lesson(
            self.processor, row.chat(len(photos)), view_grids=view_grids, picture_grids=picture_grids
        )
        return Sample(f"{self.name}: {row.name}", ids, labels, views, values, sizes, seen_by_pathway)


def drawn_row(file: QuestionFile, draw: random.Random) -> VqaRow:
    try:
        row = file.row(draw.randrange(len(file)))
    except BadRow as error:
        raise BadSample(str(error)) from error
    if row.missing:
        raise BadSample(f"{row.name}: is not for training; the file lacks {row.missing}")
    return row


def chat_lesson(
    processor: Processor,
    turns: Sequence[Turn],
    *,
    view_grids: Sequence[Grid] = (),
    picture_grids: Sequence[Grid] = (),
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"]]:
    """Ids of questions and answers by turns, and the token to be learnt after each: of every answer, and what ends it."""
    ids, labels = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    for number, turn in enumerate(turns):
        if turn.role == "assistant":
            asked = processor.conversation_ids(turns[:number], view_grids=view_grids, picture_grids=picture_grids)
            known = torch.cat([labels, torch.full_like(asked[len(ids) :], IGNORE)])
            ids, labels = with_answer(asked, processor.answer_ids("".join(map(str, turn.parts))))
            labels[: len(known) - 1] = known[:-1]
    return ids, labels


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
    return with_answer(asked, processor.answer_ids(answer))


def with_answer(
    asked: Int[Tensor, " question"], answered: Int[Tensor, " answer"]
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"]]:
    ids = torch.cat([asked, answered])
    labels = torch.full_like(ids, IGNORE)
    labels[len(asked) - 1 : -1] = answered
    return ids, labels


@dataclass(frozen=True)
class RoomQuestionSource:
    """Procedural rooms with questions and their answers, and with the truth for both losses.

    inputs: what the model is given. kinds: of questions. questions: about each room. Where they share pictures, one of them
    at most has marks, which are drawn on the pictures. Answers are those of `Question.lesson`.
    points: short questions beside them, about single points that are said and not drawn.
    evidence: part of the samples whose answers come after what can be measured in the true geometry.
    """

    processor: Processor
    patch: int
    name: str = "room_questions"
    colour: float = 1.0
    seeds: range = TRAIN_SEEDS
    num_views: tuple[int, int] = (1, 24)
    inputs: tuple[Input, ...] = ("views", "pictures")
    kinds: tuple[str, ...] = KINDS
    questions: int = 1
    points: int = 0
    evidence: float = 0.0

    def num_tokens(self, bucket: Bucket) -> int:
        """Of a sample with one question, the longest there is: no text has more tokens than bytes."""
        return LONGEST + len(self.context_ids(bucket)) + len(self.processor.asking_ids("")) + 1

    def sample(self, draw: random.Random, bucket: Bucket) -> Sample:
        room = random_room(draw, bucket, self.seeds, None)
        views = replace(only_scene(room.views), images=photometric(room.views.images[0], draw, self.colour))
        seen = seen_in(room)
        asked = questions_about(
            draw, seen, self.questions, self.kinds, may_all_have_marks="pictures" not in self.inputs
        )
        short = short_questions(draw, seen, room.objects[0], self.points, depth=SHORT_DEPTH)
        sizes = [(bucket.height, bucket.width)] * bucket.num_views
        scene = measurable_from_truth(views) if draw.random() < self.evidence else None
        lessons = [lesson_of(question, sizes, self.processor, scene) for question in asked]
        lessons += [lesson_of(question, sizes, self.processor) for question in short]
        ids, labels, branches = branched(self.context_ids(bucket), lessons, self.processor.tokens.pad)
        values = grid = None
        if "pictures" in self.inputs:
            values, grid = self.pictures(views, bucket, next(filter(has_marks, asked), None))
        return Sample(
            f"{self.name} {room.seeds[0]}",
            ids,
            labels,
            views if "views" in self.inputs else None,
            values,
            grid,
            for_pathway(views.images, picture_grid(bucket), self.patch) if "geometry" in self.inputs else (),
            branches=branches,
            pictured=views if "pictures" in self.inputs else None,
        )

    def context_ids(self, bucket: Bucket) -> Int[Tensor, " tokens"]:
        return self.processor.context_ids(
            grids(bucket, self.patch) if "views" in self.inputs else (),
            [picture_grid(bucket)] * bucket.num_views if "pictures" in self.inputs else (),
        )

    def pictures(
        self, views: Views, bucket: Bucket, marked: Question | None
    ) -> tuple[Float[Tensor, "patches values"], Int[Tensor, "pictures 3"]]:
        """What the vision tower reads: the views, with the marks of a question on them."""
        photos = [Photo(self.name, (255 * view.permute(1, 2, 0)).round().byte().numpy()) for view in views.images]
        if marked is not None:
            photos = draw_marks(photos, marked.marks, marked.boxes)
        return semantic_patches(photos, picture_size((bucket.height, bucket.width)))


def questions_about(
    draw: random.Random, seen: Seen, count: int, kinds: Sequence[str], *, may_all_have_marks: bool
) -> list[Question]:
    """Questions about one room, of different kinds as far as they go round; raises BadSample for a room that gives none."""
    asked: list[Question] = []
    for kind in draw.sample(kinds, len(kinds)) * -(-count // len(kinds)):
        found = (ask(draw, seen, kind) for _ in range(KIND_TRIES))
        question = next((question for question in found if question is not None), None)
        if len(asked) == count or question is None:
            continue
        if may_all_have_marks or not (has_marks(question) and any(map(has_marks, asked))):
            asked.append(question)
    if not asked:
        raise BadSample(f"room {seen.seed}: gives no question of the kinds {', '.join(kinds)}")
    return asked


def has_marks(question: Question) -> bool:
    return bool(question.marks or question.boxes)


def lesson_of(
    question: Question, sizes: Sequence[tuple[int, int]], processor: Processor, scene: Measurable | None = None
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"]]:
    """Ids and labels of a question about photos of these sizes; what is learnt is `question.lesson`.

    scene: what is measured first, without being learnt.
    """
    asked = processor.asking_ids(words_of_marks(question.marks, question.boxes, sizes) + question.text)
    if scene is not None:
        measured = processor.words(
            evidence_text(measure(scene, question.marks, question.boxes, between=question.between))
        )
        asked = torch.cat([asked, torch.tensor(measured)])
    return with_answer(asked, processor.answer_ids(question.lesson))


def branched(
    context: Int[Tensor, " context"],
    lessons: Sequence[tuple[Int[Tensor, " _tokens"], Int[Tensor, " _tokens"]]],
    pad: int,
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"], tuple[int, ...]]:
    """Ids and labels of a context and of the lessons that go on from it, and the lengths of these."""
    ids = [right_padded(ids, pad) for ids, _ in lessons]
    labels = [torch.full_like(context, IGNORE), *(right_padded(labels, IGNORE) for _, labels in lessons)]
    return torch.cat([context, *ids]), torch.cat(labels), tuple(map(len, ids))


def right_padded(x: Int[Tensor, " tokens"], value: int) -> Int[Tensor, " padded"]:
    """Filled up to one of few lengths, so that branches of equal length are attended together."""
    return torch.nn.functional.pad(x, (0, -len(x) % BRANCH_STEP), value=value)


def for_pathway(
    images: Float[Tensor, "views 3 height width"], cells: Grid, patch: int
) -> tuple[Float[Tensor, "3 _height _width"], ...]:
    """Views as the encoder of a pathway sees them: without marks, in so many cells of 2 x 2 patches."""
    size = cells_size(cells, patch)
    if images.shape[2:] != size:
        images = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)
    return tuple(images)


def picture_grid(bucket: Bucket) -> Grid:
    """Merged tokens of a view for the vision tower, which takes no fewer than two along each side."""
    height, width = picture_size((bucket.height, bucket.width))
    return height // MERGED_PATCH, width // MERGED_PATCH
