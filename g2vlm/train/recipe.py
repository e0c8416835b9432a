"""What a training run is: every number that decides it, in one frozen record that is saved with each checkpoint."""

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from math import inf
from pathlib import Path
from typing import Any, Literal

from g2vlm import presets
from g2vlm.config import AttentionBackend, ViewContext, ViewPositions, Visibility
from g2vlm.data.questions import KINDS
from g2vlm.data.samples import AnswerWeighting, VisualTokens
from g2vlm.data.sources import Input
from g2vlm.losses.correspondence import Negatives
from g2vlm.losses.objective import LossWeights
from g2vlm.pathway_config import NoPathway, PathwayConfig
from g2vlm.train.typed import Branch, Leaf, Node, apply_settings, build, merged, read_tree, refusal, require, suggestion

AT_LEAST_1 = "it must be at least 1"
NOT_NEGATIVE = "it must not be negative, and finite"
POSITIVE = "it must be above 0"

Strategy = Literal["semantic", "geometry", "ce_only", "ce_ce", "vg_ce"]
"""What learns from what (G2VLM, sections 3.2 and 4.3).

semantic: stage zero, for models that bring no language: vision tower and semantic expert learn from cross-entropy, without views.
geometry: stage one; geometric expert, its encoder and heads learn from the geometric losses.
ce_only: the semantic expert learns from cross-entropy to read a frozen geometric expert (G2VLM).
ce_ce: both experts learn from cross-entropy (G2VLM-SR). vg_ce: both learn, from both losses.
"""

OptionalHead = Literal["global_points", "confidence", "normals"]

GEOMETRIC: tuple[Strategy, ...] = ("geometry", "vg_ce")
"""Strategies with geometric losses."""

TEXTUAL: tuple[Strategy, ...] = ("semantic", "ce_only", "ce_ce", "vg_ce")
"""Strategies with cross-entropy."""

WITH_TRUTH, WITH_ANSWERS = (
    {"rooms", "scenes", "shards", "room_questions"},
    {"room_questions", "questions", "text", "reading"},
)
"""Kinds of sources that geometric losses, and cross-entropy, can learn from."""

HOSTING: tuple[Strategy, ...] = ("semantic", "ce_only")
"""Strategies in which the geometric expert rests, so that a pathway can read it as a frozen encoder."""

EngineKind = Literal["auto", "single", "ddp", "fsdp2", "zero2", "zero3"]


def preset_names() -> tuple[str, ...]:
    """The models that `g2vlm.presets` offers."""
    functions = inspect.getmembers(presets, inspect.isfunction)
    return tuple(name for name, function in functions if function.__module__ == presets.__name__)


@dataclass(frozen=True)
class ModelRecipe:
    """The model that is trained.

    preset: its shape, a function of `g2vlm.presets`; unused where `weights` bring their own.
    weights: folder, hub id or "tiny" to start from; None starts fresh. dino: geometric encoder for stock Qwen2-VL weights.
    tokenizer: a checkpoint whose tokenizer a model without weights takes; None is one token for each byte.
    new: parts of names whose parameters may be absent from the weights and then start fresh.
    visibility, view_context, view_positions, attention, resolution: options of the configuration; None keeps its own.
    heads: which of the optional heads there are; None keeps what the configuration has.
    pathway: how the model's own geometric expert, frozen, enters its pictures (docs/pathways.md); None: not by a pathway.
    """

    preset: str = "tiny"
    weights: str | None = None
    dino: str | None = None
    tokenizer: str | None = None
    new: tuple[str, ...] = ()
    visibility: Visibility | None = None
    view_context: ViewContext | None = None
    view_positions: ViewPositions | None = None
    attention: AttentionBackend | None = None
    resolution: int | None = None
    heads: tuple[OptionalHead, ...] | None = None
    pathway: PathwayConfig | None = None

    def __post_init__(self) -> None:
        known = preset_names()
        require(self.preset in known, "preset", self.preset, suggestion(self.preset, known))
        require(self.dino is None or self.weights is not None, "dino", self.dino, "it comes beside weights: give both")
        is_needed = self.tokenizer is None or self.weights is None
        require(is_needed, "tokenizer", self.tokenizer, "weights bring their own: leave it out")
        require(self.resolution is None or self.resolution > 0, "resolution", self.resolution, AT_LEAST_1)

    @property
    def options(self) -> dict[str, Any]:
        """What differs from the configuration of the weights or the preset; for `G2VLMConfig.with_options`."""
        names = ("visibility", "view_context", "view_positions", "attention", "resolution")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.heads is None:
            return given
        return given | {"heads": {name: name in self.heads for name in ("global_points", "confidence", "normals")}}


@dataclass(frozen=True)
class SourceRecipe:
    """One set of samples in the mixture.

    kind: "rooms" (procedural rooms), "scenes" (folders with a scene.json, or below one), "shards" (what `g2vlm data convert`
    writes), "room_questions" (procedural rooms with a question and its answer), "questions" (annotations as data sets
    publish them, see docs/data.md), "text" (the same without images). path: where it lies, for those that lie somewhere.
    weight: its share of the packs.
    media: folder from which a file of questions counts its pictures and videos; None is its own. frames: of a video, at most.
    inputs: what a question comes with: "views" for the geometric expert, "pictures" for the vision tower, both, or neither;
    "geometry" beside pictures for the encoder of a pathway.
    kinds: of questions about procedural rooms; all unless given. questions: how many about the same procedural room share a sample. points: short ones about single
    points beside them. evidence: part of the samples that are answered
    after what was measured in the true geometry.
    has_fine_depth: depth good enough for the normals of point maps. max_depth: metres beyond which its depth counts as
    unknown; None keeps all.
    """

    kind: Literal["rooms", "scenes", "shards", "room_questions", "questions", "text", "reading"]
    path: str | None = None
    weight: float = 1.0
    inputs: tuple[Input, ...] = ("views", "pictures")
    media: str | None = None
    frames: int = 8
    kinds: tuple[str, ...] = KINDS
    questions: int = 1
    points: int = 0
    evidence: float = 0.0
    has_fine_depth: bool = True
    max_depth: float | None = None

    def __post_init__(self) -> None:
        needs_path = self.kind in ("scenes", "shards", "questions", "text")
        if needs_path:
            require(self.path is not None, "path", self.path, f"{self.kind} lie somewhere: give their folder or file")
        else:
            require(self.path is None, "path", self.path, f"{self.kind} are made on the spot: leave it out")
        require(0 <= self.weight < inf, "weight", self.weight, NOT_NEGATIVE)
        has_media = self.kind == "questions" or self.media is None
        require(has_media, "media", self.media, f"only questions have media: leave it out of {self.kind}")
        require(self.frames >= 1, "frames", self.frames, AT_LEAST_1)
        is_shown = "geometry" not in self.inputs or "pictures" in self.inputs
        require(is_shown, "inputs", self.inputs, "geometry is that of pictures: add pictures, or leave it out")
        for kind in self.kinds:
            require(kind in KINDS, "kinds", kind, suggestion(kind, KINDS))
        require(bool(self.kinds), "kinds", self.kinds, "give one at least, or leave it out")
        require(self.questions >= 1, "questions", self.questions, AT_LEAST_1)
        require(self.points >= 0, "points", self.points, NOT_NEGATIVE)
        require(0 <= self.evidence <= 1, "evidence", self.evidence, "it is a part: it must lie in [0, 1]")
        require(self.max_depth is None or self.max_depth > 0, "max_depth", self.max_depth, POSITIVE)


@dataclass(frozen=True)
class AugmentRecipe:
    """What is varied at random in geometric samples; intrinsics stay true.

    crop: at most so many pixels are cut off each side before resizing. focal: smallest part of the picture that a zoom
    keeps, in (0, 1]; 1 never zooms. colour: strength of gamma, gain, contrast and noise; 0 is off.
    fields_of_view: least and greatest of procedural rooms, degrees along the longer side; None leaves each room its own.
    """

    crop: int = 16
    focal: float = 0.9
    colour: float = 1.0
    fields_of_view: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require(self.crop >= 0, "crop", self.crop, NOT_NEGATIVE)
        require(0 < self.focal <= 1, "focal", self.focal, "it must lie in (0, 1]; 1 never zooms")
        require(0 <= self.colour < inf, "colour", self.colour, NOT_NEGATIVE)
        least, greatest = self.fields_of_view or (50.0, 90.0)
        is_range = 0 < least <= greatest < 180
        require(is_range, "fields_of_view", self.fields_of_view, "write [least, greatest] in degrees, in (0, 180)")


@dataclass(frozen=True)
class DataRecipe:
    """What the model sees. A pack is what one forward holds; the packs of a step are shared out among the processes.

    packs_per_step: the global batch, the same for any number of processes. tokens_per_pack: its budget.
    samples_per_pack: at most, however many tokens are left; None fills the budget.
    views: least and most per sample. resolution: longer side of a view in pixels; with `other_resolutions`, one of them all is
    drawn for each pack. aspects: least and greatest shorter/longer side. portrait: part of the packs that stands upright.
    window: views of a sequence are drawn from `window` frames per view wanted. random_frames: chance to draw them
    from the whole scene instead. overlap: least and greatest mean overlap of views, where depth and poses are known.
    picture_pixels: most pixels of a picture that the vision tower sees, in questions about photos.
    workers: processes that prepare packs, for each process that trains. max_bad: part of the samples that may be bad.
    """

    sources: tuple[SourceRecipe, ...]
    packs_per_step: int = 1
    tokens_per_pack: int = 2048
    samples_per_pack: int | None = None
    views: tuple[int, int] = (2, 24)
    resolution: int = 112
    other_resolutions: tuple[int, ...] = ()
    aspects: tuple[float, float] = (0.5, 1.0)
    portrait: float = 0.3
    window: int = 30
    random_frames: float = 0.1
    overlap: tuple[float, float] = (0.0, 1.0)
    augment: AugmentRecipe = AugmentRecipe()
    picture_pixels: int = 768 * 768
    workers: int = 1
    max_bad: float = 0.1

    def __post_init__(self) -> None:
        total = sum(source.weight for source in self.sources)
        require(total > 0, "sources", len(self.sources), "give at least one source with a weight above 0")
        for name in ("packs_per_step", "tokens_per_pack", "resolution", "window", "picture_pixels"):
            require(getattr(self, name) >= 1, name, getattr(self, name), AT_LEAST_1)
        samples = self.samples_per_pack
        require(samples is None or samples >= 1, "samples_per_pack", samples, AT_LEAST_1)
        require(1 <= self.views[0] <= self.views[1], "views", self.views, "write [least, most] with 1 <= least <= most")
        is_aspect = 0 < self.aspects[0] <= self.aspects[1] <= 1
        require(
            is_aspect, "aspects", self.aspects, "shorter/longer side: write [least, most] with 0 < least <= most <= 1"
        )
        is_overlap = 0 <= self.overlap[0] <= self.overlap[1] <= 1
        require(is_overlap, "overlap", self.overlap, "write [least, most] with 0 <= least <= most <= 1")
        is_size = all(side >= 1 for side in self.other_resolutions)
        require(is_size, "other_resolutions", self.other_resolutions, AT_LEAST_1)
        for name in ("portrait", "random_frames", "max_bad"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "it is a part: it must lie in [0, 1]")
        require(self.workers >= 0, "workers", self.workers, NOT_NEGATIVE)


@dataclass(frozen=True)
class CorrespondenceRecipe:
    """GASP: visual tokens of decoder layers must find, by way of heads that are no part of the model, those of other views that
    show the same points (docs/gasp.md says what is as published).

    layers: of the decoder, numbered from 0; None is all. tokens: "geometric" in strategies that learn geometry, "semantic" in
    those that learn words. width: of the embeddings. start: of the heads: the layer's query projection, or "random".
    weight, depth_weight: of the two losses in the total. temperature, negatives: of both, and of the first.
    grids: points along each side of every view; none is one for each token. margin: pixels along the border of a view without
    points. best_part: of the points, those that most views show. decoys: wrong tokens near each right one that count once more.
    """

    layers: tuple[int, ...] | None = None
    tokens: VisualTokens = "geometric"
    width: int = 64
    start: Literal["queries", "random"] = "queries"
    weight: float = 0.3
    depth_weight: float = 1.0
    temperature: float = 0.07
    negatives: Negatives = "other_views"
    grids: tuple[int, ...] = (8, 24)
    margin: float = 4.0
    best_part: float = 0.5
    decoys: int = 0

    def __post_init__(self) -> None:
        layers = self.layers
        is_set = layers is None or (len(set(layers)) == len(layers) > 0 and min(layers) >= 0)
        require(is_set, "layers", layers, "give different layers, numbered from 0, or null for all")
        require(self.width >= 1, "width", self.width, AT_LEAST_1)
        for name in ("weight", "depth_weight"):
            require(0 <= getattr(self, name) < inf, name, getattr(self, name), NOT_NEGATIVE)
        require(0 < self.temperature < inf, "temperature", self.temperature, POSITIVE)
        require(all(grid >= 1 for grid in self.grids), "grids", self.grids, AT_LEAST_1)
        require(0 <= self.margin < inf, "margin", self.margin, NOT_NEGATIVE)
        require(0 < self.best_part <= 1, "best_part", self.best_part, "it must lie in (0, 1]; 1 keeps all")
        require(self.decoys >= 0, "decoys", self.decoys, NOT_NEGATIVE)


GASP = CorrespondenceRecipe()
"""As published, as far as the paper says."""


@dataclass(frozen=True)
class ObjectiveRecipe:
    """What is minimised: `geometry` weighs the geometric losses among themselves, `vg` and `ce` the two sides.

    answer_weighting: what counts alike in the cross-entropy: each "token" of an answer, each answer ("sample"), or between
    the two ("square_root" of its length).
    pixel_fraction: part of the pixels that enters the geometric losses of a step.
    correspondence: supervision of decoder layers by what different views show alike; None for none.
    """

    geometry: LossWeights = LossWeights.PAPER
    vg: float = 1.0
    ce: float = 1.0
    answer_weighting: AnswerWeighting = "token"
    pixel_fraction: float = 1.0
    correspondence: CorrespondenceRecipe | None = None

    def __post_init__(self) -> None:
        for name, weight in asdict(self.geometry).items():
            require(0 <= weight < inf, f"geometry.{name}", weight, NOT_NEGATIVE)
        for name in ("vg", "ce"):
            require(0 <= getattr(self, name) < inf, name, getattr(self, name), NOT_NEGATIVE)
        require(
            0 < self.pixel_fraction <= 1, "pixel_fraction", self.pixel_fraction, "it must lie in (0, 1]; 1 takes all"
        )


@dataclass(frozen=True)
class LoraRecipe:
    """Low-rank adapters beside linear layers of the decoder, which then rest: saved models have them merged in.

    targets: names of linear layers of an expert ("q", "mlp.up"); those that the strategy freezes get none. An adapter adds
    alpha / rank times the product of its two matrices.
    """

    rank: int = 128
    alpha: int = 128
    targets: tuple[str, ...] = ("q", "k", "v", "out", "mlp.gate", "mlp.up", "mlp.down")

    def __post_init__(self) -> None:
        require(self.rank >= 1, "rank", self.rank, AT_LEAST_1)
        require(self.alpha >= 1, "alpha", self.alpha, AT_LEAST_1)
        require(bool(self.targets), "targets", self.targets, "name one linear layer at least")


@dataclass(frozen=True)
class OptimiserRecipe:
    """AdamW and its learning rate: linear warm-up, then cosine to `min_lr`, or "trapezoid": constant, then linear to
    `min_lr` over the last `cooldown` of the steps.

    lr_factors: part of a parameter's name -> factor on its learning rate. ema: decay of the running mean of the weights, which
    is saved beside them; None keeps none. clip: largest norm of the gradient.
    """

    lr: float = 2e-4
    min_lr: float = 1e-7
    warmup: int = 0
    schedule: Literal["cosine", "trapezoid"] = "cosine"
    cooldown: float = 0.3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-15
    weight_decay: float = 0.0
    clip: float = 1.0
    lr_factors: dict[str, float] = field(default_factory=dict)
    ema: float | None = None

    def __post_init__(self) -> None:
        require(0 < self.lr < inf, "lr", self.lr, POSITIVE)
        require(0 <= self.min_lr <= self.lr, "min_lr", self.min_lr, f"it must lie in [0, lr], and lr is {self.lr}")
        require(self.warmup >= 0, "warmup", self.warmup, NOT_NEGATIVE)
        require(0 <= self.cooldown <= 1, "cooldown", self.cooldown, "it is a part of the steps: it must lie in [0, 1]")
        require(all(0 <= beta < 1 for beta in self.betas), "betas", self.betas, "both must lie in [0, 1)")
        require(0 < self.eps < inf, "eps", self.eps, POSITIVE)
        require(0 <= self.weight_decay < inf, "weight_decay", self.weight_decay, NOT_NEGATIVE)
        require(self.clip > 0, "clip", self.clip, f"{POSITIVE}; .inf never clips")
        for part, factor in self.lr_factors.items():
            require(0 <= factor < inf, f"lr_factors.{part}", factor, NOT_NEGATIVE)
        require(self.ema is None or 0 < self.ema < 1, "ema", self.ema, "it must lie in (0, 1); null keeps no mean")


@dataclass(frozen=True)
class GuardRecipe:
    """Steps that must not be taken: a loss that is not finite or above `max_loss` is left out and counted; after
    `max_skipped` of them in a row the run stops and names their samples."""

    max_loss: float | None = None
    max_skipped: int = 10

    def __post_init__(self) -> None:
        require(self.max_loss is None or self.max_loss > 0, "max_loss", self.max_loss, f"{POSITIVE}; null has no limit")
        require(self.max_skipped >= 1, "max_skipped", self.max_skipped, AT_LEAST_1)


@dataclass(frozen=True)
class EngineRecipe:
    """How the run is spread over processes.

    kind: "auto" is "single" for one process and "ddp" for several. processes: how many there must be; None takes
    what the launcher started. shard_group: processes that hold one copy of the weights together (fsdp2); None is all.
    precision: "bf16" computes in bfloat16 and keeps float32 weights in the optimiser.
    """

    kind: EngineKind = "auto"
    processes: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    shard_group: int | None = None
    cpu_offload: bool = False

    def __post_init__(self) -> None:
        processes, group, kind = self.processes, self.shard_group, self.kind
        require(processes is None or processes >= 1, "processes", processes, AT_LEAST_1)
        require(
            kind != "single" or processes in (None, 1), "processes", processes, "kind single has one: write kind: ddp"
        )
        require(group is None or group >= 1, "shard_group", group, AT_LEAST_1)
        require(group is None or kind == "fsdp2", "shard_group", group, f"kind {kind} has none; write kind: fsdp2")
        is_divisor = group is None or processes is None or processes % group == 0
        require(is_divisor, "shard_group", group, f"it must divide the number of processes, {processes}")
        can_offload = kind in ("fsdp2", "zero2", "zero3")
        cure = f"kind {kind} keeps all on its device; write kind: fsdp2, zero2 or zero3"
        require(can_offload or not self.cpu_offload, "cpu_offload", self.cpu_offload, cure)


@dataclass(frozen=True)
class OutputRecipe:
    """What a run leaves behind, in steps; 0 switches pictures off. keep: newest checkpoints that stay."""

    log_every: int = 10
    save_every: int = 500
    keep: int = 3
    pictures_every: int = 0
    tensorboard: bool = False
    wandb: str | None = None

    def __post_init__(self) -> None:
        for name in ("log_every", "save_every", "keep"):
            require(getattr(self, name) >= 1, name, getattr(self, name), AT_LEAST_1)
        require(self.pictures_every >= 0, "pictures_every", self.pictures_every, f"{NOT_NEGATIVE}; 0 draws none")


@dataclass(frozen=True)
class Recipe:
    """A whole run.

    lora: adapters that learn in place of the decoder's own weights; None lets these learn.
    frozen: parts of parameter names that do not learn, beside those the strategy freezes. thawed: parts of names that do
    learn although the strategy freezes them.
    """

    name: str
    steps: int
    data: DataRecipe
    strategy: Strategy = "geometry"
    seed: int = 0
    frozen: tuple[str, ...] = ()
    thawed: tuple[str, ...] = ()
    model: ModelRecipe = ModelRecipe()
    objective: ObjectiveRecipe = ObjectiveRecipe()
    lora: LoraRecipe | None = None
    optimiser: OptimiserRecipe = OptimiserRecipe()
    guard: GuardRecipe = GuardRecipe()
    engine: EngineRecipe = EngineRecipe()
    output: OutputRecipe = OutputRecipe()

    def __post_init__(self) -> None:
        is_word = not self.name.startswith(".") and bool(self.name) and not set(self.name) & set("/\\ \t\n")
        cure = "folders are called after it: use a word without blanks and slashes, and no dot in front"
        require(is_word, "name", self.name, cure)
        require(self.steps >= 1, "steps", self.steps, AT_LEAST_1)
        require(0 <= self.seed < 2**63, "seed", self.seed, "it must lie in [0, 2**63)")
        warmup, packs = self.optimiser.warmup, self.data.packs_per_step
        is_shorter = warmup < self.steps
        require(is_shorter, "optimiser.warmup", warmup, f"it must be less than steps, {self.steps}")
        processes = self.engine.processes
        is_shared = processes is None or packs % processes == 0
        require(is_shared, "data.packs_per_step", packs, f"it must be a multiple of engine.processes, {processes}")
        can_average = self.engine.kind != "zero3" or self.optimiser.ema is None
        require(
            can_average, "optimiser.ema", self.optimiser.ema, "zero3 cannot keep it: set null, or take fsdp2 or zero2"
        )
        kinds = {source.kind for source in self.data.sources if source.weight > 0}
        if self.strategy in GEOMETRIC:
            require(
                bool(kinds & WITH_TRUTH),
                "data.sources",
                sorted(kinds),
                f"strategy {self.strategy} needs one with 3D truth: rooms, scenes or shards",
            )
            require(
                self.objective.vg > 0, "objective.vg", self.objective.vg, f"strategy {self.strategy} needs it above 0"
            )
        if self.strategy in TEXTUAL:
            cure = f"strategy {self.strategy} needs one with answers: room_questions, questions or text"
            require(bool(kinds & WITH_ANSWERS), "data.sources", sorted(kinds), cure)
            require(
                self.objective.ce > 0, "objective.ce", self.objective.ce, f"strategy {self.strategy} needs it above 0"
            )
        if self.model.pathway is not None:
            cure = f"the geometric expert, which a pathway reads frozen, has to rest: take {' or '.join(HOSTING)}"
            require(self.strategy in HOSTING, "strategy", self.strategy, cure)
            reads = not isinstance(self.model.pathway, NoPathway)
            for number, source in enumerate(self.data.sources):
                is_seen = not reads or "pictures" not in source.inputs or "geometry" in source.inputs
                is_asked = source.kind in ("room_questions", "questions") and source.weight > 0
                cure = "model.pathway needs the geometry of pictures: add geometry"
                require(is_seen or not is_asked, f"data.sources.{number}.inputs", source.inputs, cure)
        matching = self.objective.correspondence
        if matching is not None:
            learning = GEOMETRIC if matching.tokens == "geometric" else TEXTUAL
            cure = f"strategy {self.strategy} does not learn them: take a strategy among {', '.join(learning)}"
            is_learnt = self.strategy in learning
            require(is_learnt, "objective.correspondence.tokens", matching.tokens, cure)
        idle = kinds - (WITH_TRUTH if self.strategy in GEOMETRIC else set())
        idle -= WITH_ANSWERS if self.strategy in TEXTUAL else set()
        cure = f"strategy {self.strategy} learns nothing from these: drop them, or give them weight 0"
        require(not idle, "data.sources", sorted(idle), cure)


# --- recipes by name ---------------------------------------------------------------------------------------------------

PRESETS = {LossWeights: {"paper": LossWeights.PAPER, "released_code": LossWeights.RELEASED_CODE}}
"""`geometry: paper`, or `geometry: {base: released_code, camera: 0.5}`."""

EXTENDS = "extends"
"""The key of a recipe file that names the recipe (by name or path) whose fields hold where this one says nothing."""

SHIPPED = Path(str(files("g2vlm"))) / "train" / "recipes"


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def find_recipe(name: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by its name, or one from a YAML file; settings are applied as `apply_settings` does."""
    return with_settings(build(Recipe, _recipe_tree(name, ()), presets=PRESETS), settings)


def read_recipe(text: str, *, file: str = "recipe") -> Recipe:
    """A recipe from YAML that has been read already; `extends` may name shipped recipes and paths."""
    return build(Recipe, _extended(read_tree(text, file), Path(), ()), presets=PRESETS)


def with_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with "path.to.field=value" applied; `objective.geometry=paper` is understood, too."""
    return apply_settings(recipe, settings, presets=PRESETS)


def _recipe_tree(name: str | Path, seen: tuple[Path, ...]) -> Node:
    path = _find(name)
    if path in seen:
        raise ValueError(f"{path}: extends itself, by way of {', '.join(p.name for p in seen)}; break the circle")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not text in UTF-8 ({error.reason} at byte {error.start}); is it a recipe?"
        ) from error
    file = path.name if path.parent == SHIPPED else str(path)
    return _extended(read_tree(text, file), path.parent, (*seen, path))


def _extended(tree: Node, folder: Path, seen: tuple[Path, ...]) -> Node:
    """A recipe's tree over that of the one it extends; a name is never inherited."""
    if not isinstance(tree, Branch) or EXTENDS not in tree.items:
        return tree
    own = {key: node for key, node in tree.items.items() if key != EXTENDS}
    other = tree.items[EXTENDS]
    if not isinstance(other, Leaf) or not isinstance(other.value, str):
        raise refusal(other.where, f"{EXTENDS} must be the name or path of one recipe")
    beside = folder / other.value
    base = _recipe_tree(beside if _is_path(other.value) else other.value, seen)
    assert isinstance(base, Branch)
    base = Branch(base.where, {key: node for key, node in base.items.items() if key != "name"})
    return merged(base, Branch(tree.where, own))


def _is_path(name: str | Path) -> bool:
    return isinstance(name, Path) or "/" in name or name.endswith((".yaml", ".yml"))


def _find(name: str | Path) -> Path:
    if _is_path(name):
        path = Path(name).expanduser()
        if path.is_file():
            return path.resolve()
        raise ValueError(f"{name}: no such recipe file; {suggestion(path.stem, recipe_names())}")
    path = SHIPPED / f"{name}.yaml"
    if path.is_file():
        return path
    raise ValueError(
        f"no recipe {str(name)!r}; {suggestion(str(name), recipe_names())} A file of your own ends in .yaml"
    )
