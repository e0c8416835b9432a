"""From a recipe to a trained model: builds every part of a run, and starts its loop or goes on with it."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from g2vlm import hub, presets
from g2vlm.atomic import sole_owner
from g2vlm.config import G2VLMConfig
from g2vlm.data.augment import Augmentation
from g2vlm.data.packs import Packs, position_loader, positions
from g2vlm.data.readers import READERS
from g2vlm.data.reading import ReadingSource
from g2vlm.data.recon import Scene, each_good
from g2vlm.data.samples import Source
from g2vlm.data.sampling import FrameChoice, Shapes
from g2vlm.data.shards import Shards, read_shards
from g2vlm.data.sources import QuestionSource, RoomQuestionSource, RoomSource, SceneSource, TextSource
from g2vlm.expert_encoder import ExpertEncoder
from g2vlm.host import Host
from g2vlm.losses.objective import Objective
from g2vlm.model import G2VLM
from g2vlm.pathway_config import NoPathway, PathwayConfig
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.train import parallel
from g2vlm.train.adapters import adapt
from g2vlm.train.checkpoint import check_same_run, checkpoints, read_checkpoint, save_checkpoint
from g2vlm.train.correspondence import heads_of
from g2vlm.train.freeze import freeze
from g2vlm.train.hooks import every, stop_on_bad
from g2vlm.train.learner import Learner
from g2vlm.train.loop import Hook, train
from g2vlm.train.recipe import (
    GASP,
    GEOMETRIC,
    TEXTUAL,
    DataRecipe,
    ModelRecipe,
    Recipe,
    SourceRecipe,
)

log = logging.getLogger("g2vlm")


def model_of(recipe: ModelRecipe) -> tuple[G2VLM, Processor]:
    """The model a run starts from, and its words. Raises ValueError where weights do not fit."""
    if recipe.weights is None:
        config = getattr(presets, recipe.preset)(has_language=False).with_options(**recipe.options)
        return G2VLM(config), fresh_processor(recipe, config)
    opened = hub.read_checkpoint(recipe.weights, dino=recipe.dino, **recipe.options)
    return hub.model_of(opened, dtype=torch.float32, new=recipe.new), hub.processor_of(opened)


def fresh_processor(recipe: ModelRecipe, config: G2VLMConfig) -> Processor:
    """The words of a model that starts from nothing: the recipe's tokenizer, or bytes."""
    if recipe.tokenizer is None:
        return Processor(byte_tokenizer(config.tokens), config.tokens)
    return Processor(hub.tokenizer_at(recipe.tokenizer), config.tokens)


def hosting(pathway: PathwayConfig, model: G2VLM) -> Host:
    """The model as host of a pathway that reads the model's geometric expert as it is now.

    Raises ValueError for decoder layers that it does not have, and for the last one: no word reads what enters behind it.
    """
    host = Host(model, pathway, None if isinstance(pathway, NoPathway) else ExpertEncoder.beside(model))
    num_layers = model.config.text_config.num_hidden_layers
    if num_layers - 1 in host.pathway.sites:
        raise ValueError(
            f"model.pathway.decoder_layers names layer {num_layers - 1}, but the model has {num_layers} layers, and no word reads "
            f"pictures behind the last; choose layers below {num_layers - 1}"
        )
    return host


def _require_rest(model: G2VLM) -> None:
    """ValueError if a part of the geometric expert learns, of which a pathway reads a frozen copy."""
    parts = ("dino.", "dino_projection.", ".geometric.")
    named = (name for name, x in model.named_parameters() if x.requires_grad)
    if learning := [name for name in named if any(part in name for part in parts)]:
        raise ValueError(
            f"thawed lets {learning[0]} learn, but model.pathway reads the geometric expert as it was at the start; leave it out"
        )


def learner_of(recipe: Recipe, model: G2VLM, host: Host | None = None) -> Learner:
    """The model with what the recipe's strategy freezes, the losses it learns from and the heads it needs for them.

    host: of the model, whose pathway learns beside it.
    """
    if host is not None and recipe.engine.kind == "zero3":
        raise ValueError("engine.kind is zero3, which removes the hooks of a host's pathway; take zero2, ddp or fsdp2")
    freeze(model, recipe.strategy, recipe.frozen, thawed=recipe.thawed, weights=recipe.objective.geometry)
    if recipe.model.pathway is not None:
        _require_rest(model)
    if recipe.engine.gradient_checkpointing:
        model.recompute_activations()
    target, matching = recipe.objective, recipe.objective.correspondence
    heads = None if matching is None else heads_of(matching, model)
    if recipe.lora is not None:
        adapt(model.decoder, recipe.lora)
    learns_geometry = recipe.strategy in GEOMETRIC
    return Learner(
        model.train(),
        Objective(target.geometry, target.pixel_fraction) if learns_geometry else None,
        vg=target.vg,
        ce=target.ce if recipe.strategy in TEXTUAL else 0.0,
        answer_weighting=target.answer_weighting,
        correspondence=heads,
        matching=matching or GASP,
        max_loss=recipe.guard.max_loss,
        seed=recipe.seed,
        host=host,
    )


def packs_of(recipe: Recipe, processor: Processor, patch: int) -> Packs:
    """The row of packs of a recipe. Raises ValueError for sources that are empty or not there; weight 0 leaves one out."""
    data = recipe.data
    shapes = Shapes(data.views, data.resolution, data.aspects, data.portrait, patch, data.other_resolutions)
    sources = [
        (source_of(source, data, processor, patch), source.weight) for source in data.sources if source.weight > 0
    ]
    return Packs(
        sources,
        shapes,
        tokens_per_pack=data.tokens_per_pack,
        seed=recipe.seed,
        samples_per_pack=data.samples_per_pack,
    )


def source_of(source: SourceRecipe, data: DataRecipe, processor: Processor, patch: int) -> Source:
    """One set of samples of the mixture."""
    augment = data.augment
    if source.kind == "rooms":
        return RoomSource(processor, patch, colour=augment.colour, fields_of_view=augment.fields_of_view)
    if source.kind == "reading":
        return ReadingSource(processor, source.questions)
    if source.kind == "room_questions":
        return RoomQuestionSource(
            processor,
            patch,
            colour=augment.colour,
            inputs=source.inputs,
            kinds=source.kinds,
            questions=source.questions,
            points=source.points,
            evidence=source.evidence,
        )
    path = Path(source.path or "")
    if source.path is None or not path.exists():
        raise ValueError(f"source {source.kind}: path is {source.path}, which is not there; set data.sources.N.path")
    if source.kind == "text":
        return TextSource(path.stem, path, processor)
    if source.kind == "questions":
        return question_source(source, path, data, processor, patch)
    scenes = scenes_of(source, path, data.max_bad)
    return SceneSource(
        path.name,
        scenes,
        processor,
        patch,
        FrameChoice(data.window, data.random_frames, data.overlap),
        Augmentation(augment.crop, augment.focal, augment.colour),
        max_depth=source.max_depth,
        has_fine_depth=source.has_fine_depth,
        counts=scenes.counts if isinstance(scenes, Shards) else None,
    )


def question_source(
    source: SourceRecipe, path: Path, data: DataRecipe, processor: Processor, patch: int
) -> QuestionSource:
    """Raises ValueError for a file of no known format, and for a folder of media that is not there."""
    if source.media is not None and not Path(source.media).is_dir():
        raise ValueError(f"source questions: media is {source.media}, which is no folder; set data.sources.N.media")
    return QuestionSource(
        path.stem,
        path,
        processor,
        patch,
        picture_pixels=data.picture_pixels,
        inputs=source.inputs,
        media=None if source.media is None else Path(source.media),
        frames=source.frames,
    )


def scenes_of(source: SourceRecipe, path: Path, most_lost: float) -> Sequence[Scene]:
    """The scenes of a folder of shards, or of folders with a scene.json; damaged ones are left out and logged.

    Raises ValueError, naming the first damage, where more than the part `most_lost` of them, or all, cannot be read.
    """
    damages: list[str] = []
    if source.kind == "scenes":
        scenes = tuple(each_good(READERS["scene_json"](path), damages.append))
        num_lost = len(damages)
    else:
        scenes = read_shards(path)
        damages += scenes.damaged
        num_lost = scenes.num_lost
    if not scenes or num_lost > most_lost * (num_lost + len(scenes)):
        reason = damages[0] if damages else "its index is empty"
        raise ValueError(f"{path}: {num_lost} of {num_lost + len(scenes)} scenes cannot be read; {reason}")
    for damage in damages:
        log.warning(damage)
    return scenes


HostOf = Callable[[G2VLM], Host]


def fresh_learner(recipe: Recipe, host_of: HostOf | None = None) -> tuple[Learner, Processor]:
    """What a run starts from, and its words; host_of: see `run`."""
    torch.manual_seed(recipe.seed)
    model, processor = model_of(recipe.model)
    model.config.has_language |= recipe.strategy in TEXTUAL
    if host_of is None and recipe.model.pathway is not None:
        host_of = partial(hosting, recipe.model.pathway)
    return learner_of(recipe, model, None if host_of is None else host_of(model)), processor


HooksOf = Callable[[parallel.Engine, Packs, int], Sequence[Hook]]
"""Called once in every process, with its engine, the row of packs and the number of steps already done."""


def run(
    recipe: Recipe,
    out: Path,
    *,
    hooks: HooksOf = lambda engine, packs, step: (),
    host_of: HostOf | None = None,
) -> None:
    """Train a recipe's model into the folder `out`, from its newest checkpoint if there is one.

    host_of: makes the model a host of an encoder that no recipe names; the same for a run and its continuation. Its patches are
    as large as those of the model, for which sources size what the encoder sees. None: as `model.pathway` says.
    Checkpoints are written each `output.save_every` steps and after the last one; `hooks` run before that.
    """
    learner, processor = fresh_learner(recipe, host_of)
    model, host = learner.model, learner.host
    packs = packs_of(recipe, processor, model.config.patch_size)
    engine = parallel.start(learner, recipe)
    with ExitStack() as stack:
        stack.callback(engine.close)
        engine.in_first(lambda: stack.enter_context(sole_owner(out)))
        step = 0
        if found := checkpoints(out):
            check_same_run(found[-1], recipe)
            step, state = read_checkpoint(found[-1])
            if step > recipe.steps:
                raise ValueError(
                    f"steps is {recipe.steps}, but {found[-1]} has done {step}; set steps to {step} or more"
                )
            engine.load(state)
        places = positions(step, recipe.data.packs_per_step, engine.rank, engine.world)
        share = recipe.data.packs_per_step // engine.world * (recipe.steps - step)
        loader = position_loader(packs, islice(places, share), recipe.data.workers)
        save = every(
            recipe.output.save_every,
            recipe.steps,
            lambda step: save_checkpoint(out, model, engine, step, recipe, tokenizer=processor.tokenizer, host=host),
        )
        last = [stop_on_bad(recipe.data.max_bad), save]
        train(engine, loader, recipe, first_step=step, hooks=[*hooks(engine, packs, step), *last])
