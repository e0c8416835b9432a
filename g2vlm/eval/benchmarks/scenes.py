"""Benchmarks of geometry: pictures go in, depth, points and cameras come out and are compared with what is known.

Every data set is a `SceneBenchmark`, and so is `scenes`: your own folders with a scene.json.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from g2vlm.data.readers import scene_json
from g2vlm.data.recon import Frame, Scene
from g2vlm.eval.benchmarks.base import CORRECTED, Figure, Item, Outcome, Rule
from g2vlm.eval.benchmarks.folders import check_none_missing
from g2vlm.eval.benchmarks.frames import STORED, FrameList, Selection, all_frames, read_list, shipped
from g2vlm.eval.benchmarks.prediction import Prediction, prediction_of
from g2vlm.eval.benchmarks.rules import DEPTH, GeometryRule
from g2vlm.eval.benchmarks.tasks import (
    METRICS,
    SCORERS,
    TASKS,
    WEIGHTS,
    Scores,
    Task,
    Truth,
    check_packages,
    read_truth,
    worst,
)
from g2vlm.pictures import Photo, resized
from g2vlm.records import Reconstruction

PERCENT = ("rra", "rta", "auc")
"""Beginnings of metrics that are published in percent."""


@dataclass(frozen=True)
class SceneItem(Item):
    """The pictures of a scene that are seen at once; `kind` is the scene or category, `row` says which frames they are.

    tasks: what a prediction is scored on. farthest, reach: see `Truth`. shown_by: the rule that says at which size pictures are shown.
    """

    frames: tuple[Frame, ...] = field(default=(), repr=False, compare=False)
    tasks: tuple[Task, ...] = ()
    farthest: float = np.inf
    reach: float = 0.1
    shown_by: GeometryRule | None = field(default=None, repr=False, compare=False)

    def under(self, rule: Rule) -> "SceneItem":
        """The item with its pictures at the size that a rule asks for."""
        return replace(self, shown_by=rule) if isinstance(rule, GeometryRule) and rule.is_stretched else self

    @property
    def is_sized(self) -> bool:
        return self.shown_by is not None

    def seen(self, max_frames: int) -> Sequence[Photo]:
        """All of its pictures: a benchmark says how many."""
        return self.photos()

    def photos(self) -> list[Photo]:
        """Pictures for a model, not turned by EXIF, so that they go with the truth; their pixels as stored unless a rule says a size."""
        photos = [Photo(Path(frame.name).name, frame.read().image) for frame in self.frames]
        if self.shown_by is None or (size := self.shown_by.input_size(*photos[0].size)) is None:
            return photos
        return [resized(photo, size) for photo in photos]

    def truth(self) -> Truth:
        """What is known; BadSample (a ValueError) names a file that is broken."""
        return read_truth(self.frames, self.tasks, self.farthest, self.reach)


@dataclass(frozen=True)
class SceneBenchmark:
    """A `Benchmark` over sequences of pictures with known depth or cameras.

    sequences: reads those with these names, or all, from a folder; their order is that of the items. selection:
    frames of a sequence. listed: name of a shipped list that fixes sequences and frames. has_single_pictures: every
    picture is an item of its own. tasks: of every item; None gives each item all tasks that its truth allows.
    farthest, reach: see `Truth`.
    """

    name: str
    title: str
    reference: str
    licence: str
    layout: str
    sequences: Callable[[Path, Sequence[str] | None], Iterable[Scene]]
    selection: Selection
    rules: Mapping[str, GeometryRule]
    tasks: tuple[Task, ...] | None
    listed: str | None = None
    has_single_pictures: bool = False
    farthest: float = np.inf
    reach: float = 0.1
    parser_version: int = 1

    def items(self, data: Path) -> list[SceneItem]:
        """All items. `frames.json` in the folder, else the shipped list, else the rule says which frames they show."""
        if not data.is_dir():
            raise ValueError(f"{data}: there is no such folder; {self.name} is laid out like this:\n{self.layout}")
        listed = self._listed(data)
        items: dict[str, SceneItem] = {}
        for scene in self.sequences(data, None if listed is None else tuple(listed)):
            for item in self._items_of(scene, None if listed is None else listed[scene.name]):
                if item.id in items:
                    raise ValueError(f"{data}: {item.id} is there twice; rename one of its folders")
                items[item.id] = item
        check_packages([task for item in items.values() for task in item.tasks])
        if not items:
            raise ValueError(f"{data}: nothing to evaluate; {self.name} is laid out like this:\n{self.layout}")
        files = [path for item in items.values() for path in _files(item)]
        check_none_missing(data, "files", sorted({str(path) for path in files if not path.is_file()}), len(files))
        return list(items.values())

    def frame_list(self, items: Sequence[Item]) -> FrameList:
        """Which frames of which sequence the items show, to be stored with `frames.write_list`."""
        numbers: dict[str, list[int]] = {}
        for item in items:
            numbers.setdefault(item.row["sequence"], []).extend(item.row["numbers"])
        return numbers

    def score(self, item: Item, output: Prediction | Reconstruction, rule: str = CORRECTED) -> Outcome:
        """Scores by metric. `failed`, with the reasons, where one of the tasks could not be scored; `skipped` where
        nothing is known that any could be compared with."""
        assert isinstance(item, SceneItem)
        prediction = prediction_of(output) if isinstance(output, Reconstruction) else output
        truth, chosen = item.truth(), self._rule(rule)
        scores: Scores = {}
        failures, lacks = [], []
        for task in item.tasks:
            if (lack := truth.lacks(task)) is not None:
                lacks.append(f"{task}: {lack}")
                continue
            try:
                scores |= SCORERS[task](truth, prediction, chosen)
            except ValueError as error:
                failures.append(f"{task}: {error}")
                scores |= worst(task, truth)
        status = "failed" if failures else "scored" if scores else "skipped"
        return Outcome(item.kind, status, scores, note="; ".join(failures + lacks) or None)

    def figures(self, items: Sequence[Item], outcomes: Mapping[str, Outcome], rule: str = CORRECTED) -> list[Figure]:
        """All metrics, by name; "overall" is the main one of the first task.

        Where kinds have several items, "macro/METRIC" is the mean over kinds and "groups/KIND/METRIC" that of one kind.
        "failed" and "skipped" say how many outcomes were, if any.

        Where a prediction could not be scored, fractions count it as 0; errors without bound leave it out, which
        `count` and "failed" tell.
        """
        chosen, ids = self._rule(rule), [item.id for item in items if item.id in outcomes]
        asked = {task for item in items if isinstance(item, SceneItem) for task in item.tasks}
        tasks: list[Task] = [task for task in TASKS if task in asked]
        figures = [
            figure
            for task in tasks
            for metric in METRICS[task]
            if (having := {i: outcomes[i] for i in ids if metric in outcomes[i].scores})
            for figure in _figures(task, metric, having, chosen, len(items))
        ]
        overall = [replace(figure, name="overall") for figure in figures[:1]]
        counted = [
            Figure(status, float(count), len(ids), metric=status)
            for status in ("failed", "skipped")
            if (count := sum(outcomes[i].status == status for i in ids))
        ]
        return overall + sorted(figures, key=lambda figure: "/" in figure.name) + counted

    def _rule(self, name: str) -> GeometryRule:
        if name not in self.rules:
            raise ValueError(f"{self.name} has no rule {name!r}; there are {', '.join(self.rules)}")
        return self.rules[name]

    def _listed(self, data: Path) -> FrameList | None:
        if (data / STORED).is_file():
            return read_list(data / STORED)
        return None if self.listed is None else shipped(self.listed)

    def _items_of(self, scene: Scene, listed: Sequence[int] | None) -> list[SceneItem]:
        names = [Path(frame.name).name for frame in scene.frames]
        numbers = self.selection.pick(f"{self.name}/{scene.name}", names) if listed is None else list(listed)
        if numbers and max(numbers) >= len(names):
            raise ValueError(
                f"{scene.name} has {len(names)} frames, but frame {max(numbers)} (from 0) is asked for; "
                "is it unpacked in full?"
            )
        if self.has_single_pictures:
            return [self._item(scene, f"{scene.name}/{Path(names[i]).stem}", [i]) for i in numbers]
        return [self._item(scene, scene.name, numbers)] if numbers else []

    def _item(self, scene: Scene, id: str, numbers: list[int]) -> SceneItem:
        frames = tuple(scene.frames[i] for i in numbers)
        names = [Path(frame.name).name for frame in frames]
        tasks = _possible(scene, frames) if self.tasks is None else self.tasks
        row = {"sequence": scene.name, "numbers": numbers, "frames": names, "tasks": list(tasks)}
        kind = scene.name if self.has_single_pictures else scene.name.split("/")[0]
        media = tuple(frame.image.path for frame in frames)
        return SceneItem(id, kind, media, row, frames, tasks, self.farthest, self.reach)


def _possible(scene: Scene, frames: Sequence[Frame]) -> tuple[Task, ...]:
    """Tasks for which the files of a scene say enough."""
    has_depth = any(frame.depth is not None for frame in frames)
    has_cameras = all(frame.intrinsics is not None for frame in frames)
    has_poses = all(frame.pose is not None for frame in frames)
    possible: dict[Task, bool] = {
        "depth": has_depth,
        "points": has_depth and has_cameras and has_poses,
        "poses": has_poses and len(frames) > 1,
        "trajectory": has_poses and len(frames) > 2 and scene.is_sequence,
        "intrinsics": has_cameras,
        "normals": has_depth and has_cameras and scene.has_fine_depth,
    }
    return tuple(task for task, is_possible in possible.items() if is_possible)


def _files(item: SceneItem) -> Iterable[Path]:
    for frame in item.frames:
        yield frame.image.path
        if frame.depth is not None and {"depth", "points", "normals"} & set(item.tasks):
            yield frame.depth.file.path


def _figures(
    task: Task, metric: str, outcomes: Mapping[str, Outcome], rule: GeometryRule, num_items: int
) -> list[Figure]:
    """A metric over outcomes that all have it, and over their kinds."""
    scale = 100.0 if metric.startswith(PERCENT) else 1.0
    kinds: dict[str, list[str]] = {}
    for id, outcome in outcomes.items():
        kinds.setdefault(outcome.kind, []).append(id)
    is_pooled = rule.is_pooled and task in WEIGHTS
    divides = rule.divides_by_all and task == "points"

    def mean(ids: Sequence[str]) -> float:
        values = [outcomes[i].scores[metric] for i in ids]
        weights = [outcomes[i].scores[WEIGHTS[task]] for i in ids] if is_pooled else None
        return float(np.average(values, weights=weights)) * scale

    def figure(name: str, value: float, entries: Sequence[Sequence[Sequence[str]]]) -> Figure:
        count = sum(len(kind) for entry in entries for kind in entry)
        return Figure(name, value, count, metric, scale, None if is_pooled or divides else entries)

    every = list(outcomes)
    share = len(every) / num_items if divides else 1.0
    figures = [figure(metric, mean(every) * share, [[every]])]
    if 1 < len(kinds) < len(every):
        entries = [[ids] for ids in kinds.values()]
        figures.append(figure(f"macro/{metric}", float(np.mean([mean(ids) for ids in kinds.values()])), entries))
        figures += [figure(f"groups/{kind}/{metric}", mean(ids), [[ids]]) for kind, ids in kinds.items()]
    return figures


def _own(data: Path, names: Sequence[str] | None) -> Iterable[Scene]:
    found = scene_json.scenes(data)
    if names is None:
        return found
    by_name = {scene.name: scene for scene in found}
    check_none_missing(data, "scenes", [name for name in names if name not in by_name], len(names))
    return [by_name[name] for name in names]


SCENES = SceneBenchmark(
    name="scenes",
    title="Your own scenes, on everything that is known of them",
    reference="none",
    licence="your own",
    layout="""one folder for each scene, at DIR or up to three levels below:
  my_scene/scene.json      pictures, intrinsics, poses (camera-to-world, OpenCV axes); see docs/data.md
  my_scene/images/*.jpg, my_scene/depth/*.png (16 bits, 0 unknown)""",
    sequences=_own,
    selection=all_frames(),
    tasks=None,
    rules=DEPTH,
)
