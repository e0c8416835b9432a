"""`g2vlm predict --scenes`: many scenes, over processes or a cluster, and a table of what came of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from g2vlm.cli.owning import owning
from g2vlm.cli.progress import progress
from g2vlm.cli.seeing import Asked, note

if TYPE_CHECKING:
    from g2vlm.batch import Row, Task


@dataclass(frozen=True)
class _Predicting:
    """The work on a scene; a cluster sends it to its workers."""

    asked: Asked

    def __call__(self, task: "Task") -> tuple[int, tuple[str, ...]]:
        from g2vlm.batch import KEY

        shots = self.asked.shots(task.scene.inputs)
        self.asked.prepare(task.folder, overwrite=task.replaces)
        with progress(None, is_shown=False) as steps:
            result = self.asked.reconstruct(shots, task.folder, steps, {KEY: task.key})
        notes = (*self.asked.choice(shots), *result.placed.lines, *result.notes)
        return len(result.placed.reconstruction.names), notes


def predict_scenes(
    asked: Asked,
    inputs: Sequence[str],
    out: Path | None,
    *,
    plan: bool,
    ray_workers: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Reconstruct each scene of a folder; exit code 1 if any failed."""
    from g2vlm.batch import REPORT, Batch, find_scenes, run
    from g2vlm.crew import Crew, join

    if plan or out is None:
        raise ValueError("--plan is of one scene; leave --scenes out, and name one")
    if len(inputs) != 1:
        raise ValueError(f"--scenes wants one folder of scenes, but {len(inputs)} inputs are given")
    if asked.placing.known is not None:
        raise ValueError(
            f"--known {asked.placing.known} knows the cameras of one scene; leave --scenes out, and name one"
        )
    if "json" not in asked.formats:
        raise ValueError("--scenes finds results again by reconstruction.json; add json to --formats")
    folder, results = Path(inputs[0]).resolve(), out.resolve()
    if results.is_relative_to(folder):
        raise ValueError(
            f"{out} lies in {inputs[0]} and would be a scene itself; choose another folder for the results"
        )
    scenes = find_scenes(folder)
    crew = Crew() if ray_workers is not None else join()
    batch = Batch(_Predicting(asked), asked.settings(), results, replaces=overwrite)
    with owning(results, crew), progress(len(scenes) if ray_workers else len(crew.share(scenes))) as steps:

        def tell(row: "Row") -> None:
            for line in row.notes:
                note(f"{row.scene}: {line}")
            steps.bar.advance(steps.task)

        rows = run(batch, scenes, crew=crew, ray_workers=ray_workers, tell=tell)
    if not crew.is_first:
        return
    failed = [row for row in rows if row.status == "failed"]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
    else:
        print("\n".join(_table(rows)))
        statuses = [row.status for row in rows]
        print(
            f"{len(rows)} scenes: {', '.join(f'{statuses.count(s)} {s}' for s in ('done', 'kept', 'failed'))}; {out / REPORT}"
        )
    if failed:
        raise typer.Exit(1)


def _table(rows: "Sequence[Row]") -> list[str]:
    width = max(len("scene"), *(len(row.scene) for row in rows))
    lines = [f"{'scene':<{width}}  status  views  seconds"]
    lines += [
        f"{row.scene:<{width}}  {row.status:<6}  {row.views:5}  {row.seconds:7.1f}  {row.error}".rstrip()
        for row in rows
    ]
    return lines
