"""Checkpoints of a run: a model that loads like any other, beside what training needs to go on; whole or absent.

    checkpoints/step_0000500/model/          for `g2vlm.load`, and of a host for `host_hub.load_host`
                             model_ema/      the running mean of the weights, where the recipe keeps one
                             training/       moments of the optimiser, training-only heads and, where the recipe has them, adapters
                                             with the weights beside which they learn; by name of the parameter
                             recipe.yaml
                             state.json      finished steps, and the size of every other file

Names and whole tensors make it independent of the engine and the number of processes. There is no random state to keep: every draw
is a function of the recipe's seed and the place in the row of packs, which follows from the number of steps.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import fields
from json import JSONDecodeError
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from g2vlm.host import Host
from g2vlm.host_hub import PATHWAY_WEIGHTS, write_pathway
from g2vlm.hub import empty, load_model, save_state, whole_folder
from g2vlm.model import G2VLM
from g2vlm.train.adapters import is_adapter, merged, unmerged
from g2vlm.train.parallel import MOMENTS, Engine, State
from g2vlm.train.recipe import Recipe, read_recipe
from g2vlm.train.typed import to_yaml

ADAPTERS = "adapters"
CORRESPONDENCE = "correspondence"
EMA = "ema"
STATE_FILE = "state.json"
FREE_TO_CHANGE = ("steps", "engine", "output", "guard")
"""Fields of a recipe that may differ between a run and its continuation."""


def save_checkpoint(
    run: Path,
    model: G2VLM,
    engine: Engine,
    step: int,
    recipe: Recipe,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    host: Host | None = None,
) -> Path:
    """Write `run/checkpoints/step_N` and, once it stands, drop the oldest beyond `recipe.output.keep`.

    Every process has to call this; the first one writes. tokenizer: written beside the weights. model, host: whose names and
    configuration the state has; their own weights are not looked at. Raises ValueError when the disk is full or fails; what
    was there before is untouched then.
    """
    target = run / "checkpoints" / f"step_{step:07d}"
    state = engine.state()

    def write() -> None:
        try:
            _write(target, model, state, step, recipe, tokenizer, host)
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"{target} could not be written ({error}); older checkpoints are untouched: make room, and resume"
            ) from error

    engine.in_first(write)
    return target


def _write(
    target: Path,
    model: G2VLM,
    state: State,
    step: int,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase | None,
    host: Host | None,
) -> None:
    for remains in target.parent.glob(".step_*"):  # of a process that was killed while it wrote or deleted
        shutil.rmtree(remains)
    with whole_folder(target, overwrite=True) as partial:

        def save_model(name: str, weights: dict[str, Tensor], pathway: dict[str, Tensor]) -> None:
            plain, whole = (
                (model, weights) if recipe.lora is None else (empty(model.config), merged(weights, recipe.lora))
            )
            save_state(plain, whole, partial / name, tokenizer=tokenizer)
            if host is not None:
                write_pathway(host, pathway, partial / name)

        save_model("model", state.weights, state.pathway)
        training = {moment: state.moments.get(moment, {}) for moment in MOMENTS}
        training |= {CORRESPONDENCE: state.correspondence, EMA: state.ema}
        if recipe.lora is not None:
            training[ADAPTERS] = {name: x for name, x in state.weights.items() if is_adapter(name)}
        (partial / "training").mkdir()
        for name, tensors in training.items():
            save_file({n: x.contiguous() for n, x in tensors.items()}, partial / "training" / f"{name}.safetensors")
        if state.ema:
            weights = state.weights | _of_part("model.", state.ema)
            save_model("model_ema", weights, state.pathway | _of_part("host.pathway.", state.ema))
        (partial / "recipe.yaml").write_text(to_yaml(recipe))
        record = {"step": step, "taken": state.taken, "files": _sizes(partial)}
        (partial / STATE_FILE).write_text(json.dumps(record, indent=1) + "\n")
        for path in partial.rglob("*"):
            _reach_the_disk(path)
    for old in checkpoints(target.parents[1])[: -recipe.output.keep]:
        shutil.rmtree(old.rename(old.with_name(f".{old.name}.old")))


def checkpoints(run: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    return sorted((run / "checkpoints").glob("step_*"))


def read_checkpoint(folder: Path) -> tuple[int, State]:
    """Finished steps and state of a checkpoint, memory-mapped.

    Raises ValueError where a file is missing or damaged, naming it and the checkpoint that could be used instead.
    """
    if damage := damage_of(folder):
        raise _unusable(folder, damage)
    record = json.loads((folder / STATE_FILE).read_text())
    try:
        names = (*MOMENTS, CORRESPONDENCE, EMA)
        training = {name: _tensors(folder / "training" / f"{name}.safetensors") for name in names}
        weights = load_model(folder / "model").state_dict()
        if f"training/{ADAPTERS}.safetensors" in record["files"]:
            weights = unmerged(weights, _tensors(folder / "training" / f"{ADAPTERS}.safetensors"))
        pathway = folder / "model" / PATHWAY_WEIGHTS
        of_pathway = _tensors(pathway) if pathway.is_file() else {}
    except ValueError as error:
        raise _unusable(folder, str(error)) from error
    state = State(
        weights=weights,
        correspondence=training[CORRESPONDENCE],
        moments={moment: training[moment] for moment in MOMENTS},
        taken=record["taken"],
        ema=training[EMA],
        pathway=of_pathway,
    )
    return record["step"], state


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error})") from error


def damage_of(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint, None if nothing; looks at names and sizes only."""
    file = folder / STATE_FILE
    try:
        wanted = json.loads(file.read_text())["files"].items()
    except FileNotFoundError:
        return f"{file} is missing"
    except (JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return f"{file} is damaged"
    found = _sizes(folder)
    for name, size in wanted:
        if name not in found:
            return f"{folder / name} is missing"
        if found[name] != size:
            return f"{folder / name} has {found[name]} bytes instead of {size}"
    return None


def _unusable(folder: Path, damage: str) -> ValueError:
    older = [other for other in checkpoints(folder.parents[1]) if other.name < folder.name and not damage_of(other)]
    cure = f"delete {folder.name} to go on from {older[-1].name}" if older else "no older one is whole: start anew"
    return ValueError(f"{damage}; {cure}")


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file below a folder but the one that lists them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / STATE_FILE)
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _reach_the_disk(path: Path) -> None:
    """Wait until a file or folder would survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_same_run(folder: Path, recipe: Recipe) -> None:
    """Refuse to go on with another recipe than the one a checkpoint was made with; names the fields that differ."""
    file = folder / "recipe.yaml"
    if not file.is_file():
        raise _unusable(folder, f"{file} is missing")
    saved = read_recipe(file.read_text(), file=str(file))
    names = [field.name for field in fields(Recipe) if field.name not in FREE_TO_CHANGE]
    differing = [name for name in names if getattr(saved, name) != getattr(recipe, name)]
    if differing:
        raise ValueError(
            f"{folder} was made with another recipe ({saved.name}): {', '.join(differing)} differ; "
            "use its own recipe, or start in a new folder from its weights with --set model.weights=FOLDER/model"
        )


def _of_part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors of a learner that belong to one of its parts, by the names of that part."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
