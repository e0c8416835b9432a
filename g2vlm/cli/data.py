"""`g2vlm data`: data sets become shards, are checked, and are looked at."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g2vlm.cli.progress import Steps, progress

if TYPE_CHECKING:
    from g2vlm.data.recon import Scene

data = typer.Typer(help="Turn data sets into shards, check them, look at them.", no_args_is_help=True)

KINDS = "scene_json, colmap, transforms, tum, 7scenes, scannet, scannetpp, arkitscenes, co3dv2, dl3dv, blendedmvs, tartanair, hypersim"

Kind = Annotated[str | None, typer.Option(help="Layout of PATH where it is no folder of shards; as for convert.")]


@data.command(no_args_is_help=True)
def convert(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"Layout of SRC: {KINDS}.")],
    src: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of a scene, or of many.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of shards; scenes already in it are kept.")],
    max_shard_mb: Annotated[int, typer.Option(min=1, help="A shard is closed when it is larger.")] = 1024,
    limit: Annotated[int | None, typer.Option(min=1, help="Convert so many scenes at most.")] = None,
) -> None:
    """Write the scenes of a data set as WebDataset shards with an index. May be interrupted, and goes on when repeated.

    Scenes and frames that cannot be read are left out and named; when more than half are bad, it stops.
    """
    from g2vlm.data.shards import write_shards

    scenes = _scenes(src, kind)
    with progress(limit) as steps:
        report = write_shards(_watched(scenes, steps), out, max_bytes=max_shard_mb * 1_000_000, limit=limit)
    for reason in report.bad:
        typer.echo(f"left out: {reason}", err=True)
    parts = [f"{report.num_scenes} scenes written ({report.num_frames} frames, {report.num_bytes / 1e6:.1f} MB)"]
    parts += [f"{report.num_kept} were there already"] if report.num_kept else []
    parts += [f"{report.num_bad_scenes} bad, left out"] if report.num_bad_scenes else []
    print(f"{out}: {', '.join(parts)}")


@data.command(no_args_is_help=True)
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of shards, or a data set with its --kind.")],
    kind: Kind = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Check so many scenes at most.")] = None,
) -> None:
    """Carry depth from view to view, and name scenes whose depth, poses and intrinsics disagree. Exit code 1 if there are any."""
    from itertools import islice

    from g2vlm.data.check import check as check_scene
    from g2vlm.data.recon import each_good

    bad = list(_damages(path, kind))
    for line in bad:
        print(f"bad   {line}")

    def unreadable(reason: str) -> None:
        bad.append(reason)
        print(f"bad   {reason}")

    count = 0
    for scene in islice(each_good(_scenes(path, kind), unreadable), limit):
        found = check_scene(scene)
        count += 1
        print(f"{'ok   ' if found.is_good else 'bad  '} {scene.name}: {'; '.join(found.lines())}", flush=True)
        bad += [] if found.is_good else [scene.name]
    print(f"{count} scenes checked, {len(bad)} bad")
    if bad:
        raise typer.Exit(1)


@data.command(no_args_is_help=True)
def show(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of shards, or a data set with its --kind.")],
    out: Annotated[Path, typer.Option(help="Picture to write.")],
    scene: Annotated[str | None, typer.Option(help="Name of the scene; the first one unless given.")] = None,
    views: Annotated[int, typer.Option(min=1, help="So many views at most.")] = 6,
    kind: Kind = None,
) -> None:
    """Draw a scene: photos, depth in colours, cameras from above."""
    from g2vlm.data.check import check as check_scene
    from g2vlm.data.sheet import scene_sheet
    from g2vlm.export.atomic import publish

    chosen = _find(path, kind, scene)
    picture = scene_sheet(chosen, views, check_scene(chosen))
    for written in publish(out.parent, [(out.name, picture)]):
        print(written)


@data.command(no_args_is_help=True)
def questions(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Questions with answers: JSON, JSON lines or parquet.")],
    media: Annotated[
        Path | None, typer.Option(help="Folder of the pictures and videos; also looks whether all are there.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="Show so many rows.")] = 3,
) -> None:
    """Count the rows of a file of questions, good and bad by what is wrong, and show a few. Exit code 1 if any is bad."""
    from g2vlm.data.summary import summary_of
    from g2vlm.data.vqa import QuestionFile

    found = summary_of(QuestionFile(path), media, examples)
    for line in found.lines():
        print(line)
    if found.num_bad:
        raise typer.Exit(1)


@data.command(no_args_is_help=True)
def tokenizer(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it: a tokenizer.json.")],
    texts: Annotated[
        list[Path] | None, typer.Option(help="A text beside the questions, in UTF-8; may be repeated.")
    ] = None,
    num_rooms: Annotated[int, typer.Option("--rooms", min=1, help="Procedural rooms that are asked about.")] = 250,
    size: Annotated[int, typer.Option(min=300, help="Tokens in all: bytes, special ones and what is merged.")] = 2048,
) -> None:
    """Train a small byte-level BPE tokenizer on questions about procedural rooms, for models that start from nothing."""
    from g2vlm import presets
    from g2vlm.atomic import write_whole
    from g2vlm.data.tokenizer import room_texts, trained_tokenizer

    lines = [line for path in texts or () for line in path.read_text(encoding="utf-8").splitlines()]
    made = trained_tokenizer([*room_texts(num_rooms), *lines], size, presets.tiny().tokens)
    write_whole(out, made.backend_tokenizer.to_str(pretty=True))
    print(f"{out}: {len(made)} tokens")


def _scenes(path: Path, kind: str | None) -> Iterator["Scene"]:
    """Of a folder of shards, or of a data set of a kind."""
    if kind is None:
        from g2vlm.data.shards import read_shards

        return read_shards(path).each()
    from g2vlm.data.readers import READERS

    if kind not in READERS:
        raise ValueError(f"{kind} is no kind of data set; there are {', '.join(READERS)}")
    return READERS[kind](path)


def _damages(path: Path, kind: str | None) -> tuple[str, ...]:
    if kind is not None:
        return ()
    from g2vlm.data.shards import read_shards

    return read_shards(path).damaged


def _watched(scenes: Iterator["Scene"], steps: Steps) -> Iterator["Scene"]:
    """The scenes; the bar shows which one is at work. A `map`, so that it goes on after a bad scene."""

    def at_work(scene: "Scene") -> "Scene":
        steps.bar.update(steps.task, advance=1, description=scene.name[:40])
        return scene

    return map(at_work, scenes)


def _find(path: Path, kind: str | None, name: str | None) -> "Scene":
    from g2vlm.data.recon import each_good

    bad: list[str] = []
    names = []
    for scene in each_good(_scenes(path, kind), bad.append):
        if name in (None, scene.name):
            return scene
        names.append(scene.name)
    if not names and bad:
        raise ValueError(f"{path} holds no scene that can be read; {bad[0]}")
    few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    raise ValueError(f"{path} holds no scene named {name}; there are {few or 'none'}")
