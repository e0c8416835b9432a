"""Many scenes, each by itself: which are done already, shared out over processes or a Ray cluster, and one account of all.

OUT/settings.json      what all results depend on: results of other settings are refused
    SCENE/             results of a scene, whole once its reconstruction.json is there
    scenes.json        what came of each scene, written at the end
    scenes.0.jsonl ... lines of each process while it runs
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from g2vlm import pictures, video
from g2vlm.atomic import append_line, read_lines, write_whole
from g2vlm.crew import Crew
from g2vlm.eval.terms import keep_terms
from g2vlm.export.save import ACCOUNT

SETTINGS, REPORT = "settings.json", "scenes.json"

KEY = "scene_sha256"
"""Among the settings in a result's provenance: the digest of what it was made of."""

Status = Literal["done", "kept", "failed"]
"""`kept`: was there already."""


@dataclass(frozen=True)
class Scene:
    """A folder of pictures and videos, or one video. name: of the folder of its results."""

    name: str
    source: Path

    @property
    def files(self) -> list[Path]:
        """Pictures and videos, by name."""
        if self.source.is_file():
            return [self.source]
        known = (*pictures.SUFFIXES, *video.SUFFIXES)
        return sorted(p for p in self.source.iterdir() if p.suffix.lower() in known and _is_shown(p) and p.is_file())

    @property
    def inputs(self) -> list[str]:
        """As `Frames` takes them: the folder for its pictures, and each video. An empty folder is named, too, to be refused."""
        files = self.files
        videos = [str(file) for file in files if file.suffix.lower() in video.SUFFIXES]
        return videos if videos and len(videos) == len(files) else [str(self.source), *videos]

    def digest(self, settings: Mapping[str, Any]) -> str:
        """Of all that decides the result: the settings, and names and bytes of the files."""
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for file in self.files:
            with file.open("rb") as stream:
                digest.update(f"\0{file.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
        return digest.hexdigest()


def find_scenes(folder: Path) -> list[Scene]:
    """Each folder and each video in a folder, by name; ValueError where there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; name one whose folders and videos are scenes")
    found = [p for p in folder.iterdir() if _is_shown(p) and (p.is_dir() or p.suffix.lower() in video.SUFFIXES)]
    if not found:
        raise ValueError(
            f"{folder} holds no scene: neither a folder of pictures nor a video; leave --scenes out if its pictures show one scene"
        )
    return [Scene(path.name, path) for path in sorted(found)]


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".")


@dataclass(frozen=True)
class Row:
    """What came of a scene. seconds: taken now. notes: what a person should know. error: why it failed."""

    scene: str
    status: Status
    views: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Task:
    """A scene that is to be done. key: belongs into the result's provenance, as KEY. replaces: what lies in the folder may go."""

    scene: Scene
    folder: Path
    key: str
    replaces: bool


Work = Callable[[Task], tuple[int, tuple[str, ...]]]
"""Writes the result of a scene; how many views it has, and notes."""


@dataclass(frozen=True)
class Batch:
    """What is done with each scene, under which settings, and where results go. replaces: what else lies in folders there may go."""

    work: Work
    settings: Mapping[str, Any]
    out: Path
    replaces: bool = False

    def attempt(self, scene: Scene) -> Row:
        """Do one scene, unless its result is whole and of the same settings and files; what goes wrong is said in the row."""
        started = perf_counter()
        folder = self.out / scene.name
        try:
            key = scene.digest(self.settings)
            held = _account(folder)
            is_ours = KEY in held.get("settings", {})
            if is_ours and held["settings"][KEY] == key and all((folder / name).is_file() for name in held["files"]):
                return Row(scene.name, "kept", held["num_views"])
            views, notes = self.work(Task(scene, folder, key, self.replaces or is_ours))
        except (
            ValueError,
            OSError,
            RuntimeError,
            MemoryError,
        ) as error:  # of its files or its size; a defect stops the run
            return _failed(scene, str(error), started)
        return Row(scene.name, "done", views, _since(started), notes)


def run(
    batch: Batch,
    scenes: Sequence[Scene],
    *,
    crew: Crew = Crew(),  # noqa: B008, frozen
    ray_workers: int | None = None,
    tell: Callable[[Row], None],
) -> list[Row]:
    """Attempt all scenes, and write scenes.json: a row for each, in their order; only the first of a crew has it, others an empty list.

    ray_workers: so many of a Ray cluster do the work instead of the crew. tell: called with each row that this process sees.
    Raises ValueError for a folder with results of other settings.
    """
    shard = batch.out / f"scenes.{crew.rank}.jsonl"
    if crew.is_first:
        batch.out.mkdir(parents=True, exist_ok=True)
        if batch.replaces:
            (batch.out / SETTINGS).unlink(missing_ok=True)
        keep_terms(batch.out / SETTINGS, batch.settings)
        for stale in (batch.out / REPORT, *batch.out.glob("scenes.*.jsonl")):
            stale.unlink(missing_ok=True)
    crew.wait()
    held = {scene for scene in scenes if (batch.out / scene.name / ACCOUNT).is_file()}
    crew.wait()
    rows: Iterable[Row]
    if ray_workers is not None:
        rows = _by_ray(batch, scenes, ray_workers)
    else:  # what is to be done and what is to be looked at are shared out apart, so that nobody gets only the one
        new, old = [scene for scene in scenes if scene not in held], [scene for scene in scenes if scene in held]
        rows = map(batch.attempt, [*crew.share(new), *crew.share(old)])
    for row in rows:
        append_line(shard, json.dumps(asdict(row)))
        tell(row)
    crew.wait()
    return _gathered(batch.out, scenes) if crew.is_first else []


def _gathered(out: Path, scenes: Sequence[Scene]) -> list[Row]:
    """The lines of all processes, as one file."""
    shards = sorted(out.glob("scenes.*.jsonl"))
    lines = {line["scene"]: line for shard in shards for line in read_lines(shard)}
    rows = [_row(**lines[scene.name]) for scene in scenes]
    write_whole(out / REPORT, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    for shard in shards:
        shard.unlink()
    return rows


def _row(*, notes: Sequence[str], **others: Any) -> Row:
    """As JSON, which knows no tuples, gives it back."""
    return Row(notes=tuple(notes), **others)


def _account(folder: Path) -> dict[str, Any]:
    """Of the result in a folder; empty if there is none, or somebody else's."""
    try:
        held = json.loads((folder / ACCOUNT).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _failed(scene: Scene, error: str, started: float) -> Row:
    return Row(scene.name, "failed", seconds=_since(started), error=error)


def _since(started: float) -> float:
    return round(perf_counter() - started, 3)


# --- over a cluster ---------------------------------------------------------------------------------------------------


class _Worker:
    """A process of a Ray cluster, which loads the model once."""

    def __init__(self, batch: Batch):
        self.batch = batch

    def attempt(self, scene: Scene) -> Row:
        return self.batch.attempt(scene)


def _by_ray(batch: Batch, scenes: Sequence[Scene], most_workers: int) -> Iterator[Row]:
    """Rows as they are finished, by workers with a GPU each if the cluster has any, else a core; all see the same files.

    The cluster is that of RAY_ADDRESS, or this machine. A worker that dies costs the scene that it was at, and is started again.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("a cluster needs Ray: pip install 'g2vlm[ray]'; or leave --ray out") from error
    ray.init()
    try:
        there = ray.cluster_resources()
        num_gpus = 1 if there.get("GPU") else 0
        places = int(there["GPU" if num_gpus else "CPU"])
        worker = ray.remote(num_cpus=1, num_gpus=num_gpus, max_restarts=-1)(_Worker)
        idle = [worker.remote(batch) for _ in range(min(most_workers, places, len(scenes)))]
        waiting, running = [*scenes], {}
        while waiting or running:
            while waiting and idle:
                scene, actor = waiting.pop(0), idle.pop()
                running[actor.attempt.remote(scene)] = scene, actor, perf_counter()
            [ready], _ = ray.wait([*running])
            scene, actor, started = running.pop(ready)
            idle.append(actor)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:
                yield _failed(scene, f"its worker died: {str(error).splitlines()[0]}", started)
    finally:
        ray.shutdown()
