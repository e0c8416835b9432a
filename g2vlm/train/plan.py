"""What a run would cost: a pack goes through the model and back on tensors without memory, and everything is counted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import mean
from typing import Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from g2vlm import hub, presets
from g2vlm.config import G2VLMConfig
from g2vlm.counting import META, Ledger, planned_kernels
from g2vlm.data.samples import Bucket, Pack, Sample
from g2vlm.data.sampling import Shapes
from g2vlm.data.sources import grids, lesson, picture_grid
from g2vlm.losses.objective import Objective, Prediction
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.records import Geometry, Views
from g2vlm.train.correspondence import visual_tokens
from g2vlm.train.learner import Learner
from g2vlm.train.recipe import ModelRecipe, Recipe, SourceRecipe
from g2vlm.train.run import hosting, learner_of
from g2vlm.train.typed import suggestion

GIB = 2**30

EngineName = Literal["single", "ddp", "fsdp2", "zero2", "zero3"]
ENGINES: tuple[EngineName, ...] = ("single", "ddp", "fsdp2", "zero2", "zero3")


@dataclass(frozen=True)
class Gpu:
    """memory: GiB. bf16, fp32: dense TFLOP/s that its maker states (fp32 without TF32)."""

    memory: float
    bf16: float
    fp32: float


GPUS = {
    "A100-40GB": Gpu(40, 312, 19.5),
    "A100-80GB": Gpu(80, 312, 19.5),
    "A800-80GB": Gpu(80, 312, 19.5),
    "H100-80GB": Gpu(80, 989, 67),
    "H200": Gpu(139, 989, 67),
    "L40S": Gpu(48, 362, 91.6),
    "RTX-4090": Gpu(24, 165, 82.6),
    "RTX-3090": Gpu(24, 71, 35.6),
    "cpu": Gpu(16, 0.3, 0.15),  # two cores of a current server
}
DEFAULT_GPU = "A800-80GB"

SHORTEST_STEP = 0.05
"""Seconds below which the rate of matrix products says nothing about the time of a step on a GPU."""

UTILISATION = 0.4
"""Part of the stated rate that large products of matrices reach in a whole step; nothing is added for the network."""

USABLE = 0.92
"""Part of the memory that a run can have: the rest goes to the driver and to gaps between tensors."""

SAFETY = 0.9
"""Part of the tokens that would just fit, for memory does not shrink quite as they do."""

QUESTION, ANSWER = "q" * 64, "a" * 16
"""Stand for a question and an answer; how long they really are is not known before the data are read."""

BUCKET = 5e8
"""Elements that DeepSpeed reduces at a time."""


@dataclass(frozen=True)
class Part:
    """Parameters of one part of the model."""

    name: str
    trained: int
    frozen: int


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU under one engine.

    optimiser: AdamW's two moments, float32 copies where the weights are not, and the running mean, if any.
    activations: most that the forward and backward pass of a pack hold at once, losses included.
    buffers: gathered weights, casts of weights, buckets of gradients. step: what AdamW needs while it steps.
    """

    engine: EngineName
    weights: float
    gradients: float
    optimiser: float
    activations: float
    buffers: float
    step: float

    @property
    def total(self) -> float:
        lasting = self.weights + self.gradients + self.optimiser
        return lasting + max(self.activations + self.buffers, self.step)


@dataclass(frozen=True)
class Cost:
    """What one pack costs: floating-point operations forward and backward, and bytes.

    casts: bytes of weights in bfloat16 that are alive at the peak; not among the activations.
    """

    tokens: int
    flops: float
    activations: float
    casts: float


@dataclass(frozen=True)
class Plan:
    """What a run would cost on `world` GPUs of a kind, by the counts of one typical pack of each kind of source.

    engine: the recipe's own. tokens, flops: of a step, all processes together. packs: said in words. cures: what would make
    it fit, empty when it does. uncounted: parameters of a pathway that learn, and of the encoder that it reads; no other number
    has them, nor what they compute and hold.
    """

    recipe: Recipe
    gpu: str
    world: int
    engine: EngineName
    parts: tuple[Part, ...]
    packs: tuple[str, ...]
    tokens: float
    flops: float
    memory: tuple[Memory, ...]
    cures: tuple[str, ...]
    uncounted: tuple[int, int]

    @property
    def own_memory(self) -> Memory:
        return next(memory for memory in self.memory if memory.engine == self.engine)

    @property
    def fits(self) -> bool:
        return fits(self.own_memory, self.gpu)

    @property
    def seconds_per_step(self) -> float:
        gpu = GPUS[self.gpu]
        rate = gpu.bf16 if self.recipe.engine.precision == "bf16" else gpu.fp32
        return self.flops / self.world / (rate * 1e12 * UTILISATION)

    @property
    def hours(self) -> float:
        return self.seconds_per_step * self.recipe.steps / 3600


def fits(memory: Memory, gpu: str) -> bool:
    return memory.total <= USABLE * GPUS[gpu].memory * GIB


def plan_of(recipe: Recipe, *, gpu: str | None = None, world: int | None = None) -> Plan:
    """Count what a recipe would cost; nothing is trained, and no weights are made.

    gpu: a name in GPUS; DEFAULT_GPU unless given. world: processes, one GPU each; what the recipe says unless given, and
    if that says nothing, one for a whole model and one per pack for a sharded one.
    Weights that are not on this machine are not fetched: the shape is then that of the recipe's preset.
    """
    gpu = DEFAULT_GPU if gpu is None else gpu
    world = default_world(recipe) if world is None else world
    if gpu not in GPUS:
        raise ValueError(f"gpu {gpu!r} is not in the table; {suggestion(gpu, GPUS)}")
    if world < 1 or recipe.data.packs_per_step % world:
        raise ValueError(
            f"{recipe.data.packs_per_step} packs of a step cannot be shared out among {world} processes; "
            "choose a number of processes that divides data.packs_per_step"
        )
    config = config_of(recipe.model)
    learner = learner_without_memory(recipe, config)
    packs = typical_packs(recipe, config)
    costs = [cost_of(learner, pack, recipe) for _, pack in packs]
    shares = [share for share, _ in packs]
    total = sum(shares)
    per_step = recipe.data.packs_per_step / total
    engine: EngineName = recipe.engine.kind if recipe.engine.kind != "auto" else ("single" if world == 1 else "ddp")
    if (engine == "single") != (world == 1):
        raise ValueError(
            f"engine.kind is {recipe.engine.kind}, which {world} processes cannot be; set engine.kind=auto"
        )
    memory = tuple(
        memory_of(name, learner, costs, recipe, world) for name in ENGINES if (name == "single") == (world == 1)
    )
    made = Plan(
        recipe=recipe,
        gpu=gpu,
        world=world,
        engine=engine,
        parts=parts_of(learner),
        packs=tuple(described(pack, share / total, config) for share, pack in packs),
        tokens=per_step * sum(share * cost.tokens for share, cost in zip(shares, costs, strict=True)),
        flops=per_step * sum(share * cost.flops for share, cost in zip(shares, costs, strict=True)),
        memory=memory,
        cures=(),
        uncounted=uncounted_of(recipe.model, config),
    )
    return made if made.fits else replace(made, cures=cures_of(made, learner, costs))


def default_world(recipe: Recipe) -> int:
    engine = recipe.engine
    if engine.processes is not None:
        return engine.processes
    return 1 if engine.kind in ("auto", "single") else recipe.data.packs_per_step


# --- the model, and what it sees --------------------------------------------------------------------------------------


def config_of(recipe: ModelRecipe) -> G2VLMConfig:
    """The configuration of a recipe's model: of its weights where they are on this machine, of its preset elsewhere."""
    is_here = recipe.weights in (hub.EMBEDDED, hub.EMBEDDED_NO_GEOMETRY) or (
        recipe.weights is not None and Path(recipe.weights).is_dir()
    )
    if is_here and recipe.dino is None:
        return hub.read_checkpoint(recipe.weights).config.with_options(**recipe.options)
    return getattr(presets, recipe.preset)().with_options(**recipe.options)


def uncounted_of(recipe: ModelRecipe, config: G2VLMConfig) -> tuple[int, int]:
    """Parameters of a recipe's pathway, and of the encoder that it reads."""
    if recipe.pathway is None:
        return 0, 0
    host = hosting(recipe.pathway, hub.empty(config))
    encoder = host.encoder
    return _numel(host.pathway.parameters()), _numel(encoder.parameters()) if isinstance(encoder, nn.Module) else 0


def learner_without_memory(recipe: Recipe, config: G2VLMConfig) -> Learner:
    """What learns, on the meta device."""
    model = hub.empty(config.with_options(attention="sdpa"))
    if config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    return learner_of(recipe, model).to(META)


def typical_packs(recipe: Recipe, config: G2VLMConfig) -> list[tuple[float, Pack]]:
    """A pack without pictures in memory for each kind of sequence in the mixture, with its weight."""
    weights: dict[str, float] = {}
    for source in recipe.data.sources:
        weights[sequence_kind(source)] = weights.get(sequence_kind(source), 0.0) + source.weight
    return [(weight, typical_pack(kind, recipe, config)) for kind, weight in weights.items() if weight > 0]


def sequence_kind(source: SourceRecipe) -> str:
    if source.kind in ("rooms", "scenes", "shards"):
        return "views"
    in_words = source.kind in ("text", "reading") or not source.inputs
    return "text" if in_words else "questions about views"


def typical_pack(kind: str, recipe: Recipe, config: G2VLMConfig) -> Pack:
    """As many samples as fit, of middling aspect and number of views (fewer, where so many do not fit)."""
    data = recipe.data
    processor = Processor(byte_tokenizer(config.tokens), config.tokens)
    shapes = Shapes(data.views, data.resolution, data.aspects, data.portrait, config.patch_size)
    height, width = shapes.side(mean(data.aspects)), data.resolution
    least, most = (0, 0) if kind == "text" else data.views
    fitting: list[Sample] = []
    for num_views in range(least, most + 1):
        sample = typical_sample(kind, Bucket(num_views, height, width), processor, config)
        if len(sample.ids) <= data.tokens_per_pack:
            fitting.append(sample)
    if not fitting:
        raise ValueError(
            f"data.tokens_per_pack is {data.tokens_per_pack}, but one sample of {least} views of {width} x {height} has "
            f"{len(typical_sample(kind, Bucket(least, height, width), processor, config).ids)}; raise it"
        )
    middling = fitting[min((most - least) // 2, len(fitting) - 1)]
    fit_in = data.tokens_per_pack // len(middling.ids)
    return Pack(0, kind, (middling,) * min(fit_in, data.samples_per_pack or fit_in))


def typical_sample(kind: str, bucket: Bucket, processor: Processor, config: G2VLMConfig) -> Sample:
    """A sample whose tokens are real, and whose pictures have sizes only."""
    view_grids = grids(bucket, config.patch_size)
    num, size = bucket.num_views, (bucket.height, bucket.width)
    views = (
        None
        if kind == "text"
        else Views(torch.empty(num, 3, *size, device=META), depth=torch.empty(num, *size, device=META))
    )
    if kind == "views":
        return Sample(kind, processor.reconstruction_ids(view_grids)[0], views=views)
    picture_grids = [] if kind == "text" else [picture_grid(bucket)] * num
    ids, labels = lesson(processor, QUESTION, ANSWER, view_grids=view_grids, picture_grids=picture_grids)
    if kind == "text":
        return Sample(kind, ids, labels)
    vision = config.vision_config
    sizes = torch.tensor([(1, *(side * vision.spatial_merge_size for side in grid)) for grid in picture_grids])
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    patches = torch.empty(int(sizes.prod(1).sum()), values, device=META)
    return Sample(kind, ids, labels, views, patches, sizes)


def described(pack: Pack, share: float, config: G2VLMConfig) -> str:
    sample = pack.samples[0]
    text = f"{share:.0%} {pack.source}: {len(pack.samples)} samples, {pack.num_tokens} tokens"
    if sample.views is None:
        return text
    num, _, height, width = sample.views.images.shape
    return f"{text}; {num} views of {width} x {height} ({width // config.patch_size} x {height // config.patch_size} patches)"


def parts_of(learner: Learner) -> tuple[Part, ...]:
    """Parameters by part of the model, trained and frozen."""
    counts: dict[str, list[int]] = {}
    for name, parameter in learner.named_parameters():
        count = counts.setdefault(part_of(name.removeprefix("model.")), [0, 0])
        count[0 if parameter.requires_grad else 1] += parameter.numel()
    return tuple(Part(name, *count) for name, count in counts.items())


def part_of(name: str) -> str:
    """The part of the model that a parameter belongs to."""
    first, second, *_ = name.split(".")
    if first == "decoder":
        return "semantic expert" if ".semantic." in name else "geometric expert"
    if first == "heads":
        return f"head: {second}"
    return "words" if first in ("embed_tokens", "lm_head") else first


# --- counting ---------------------------------------------------------------------------------------------------------


def cost_of(learner: Learner, pack: Pack, recipe: Recipe) -> Cost:
    """What the forward and backward pass of a pack cost; memory is scaled up to a pack that is filled to its last token,
    unless it is filled by number.
    """
    ledger = Ledger(META)
    for parameter in learner.parameters():
        ledger.known(parameter)
    handles = [
        parameter.register_post_accumulate_grad_hook(lambda parameter: ledger.known(parameter.grad))
        for parameter in learner.parameters()
        if parameter.requires_grad
    ]
    with_geometry = learner.objective is not None and pack.samples[0].views is not None
    with planned_kernels(ledger, torch.bfloat16 if recipe.engine.precision == "bf16" else torch.float32), ledger:
        total = total_of(learner, pack, with_geometry=with_geometry)
        if with_geometry:
            ledger.book(loss_bytes(recipe, pack))
        torch.autograd.backward(total)
    for handle in handles:
        handle.remove()
    learner.zero_grad()
    scale = 1 if recipe.data.samples_per_pack else recipe.data.tokens_per_pack / pack.num_tokens
    return Cost(pack.num_tokens, ledger.flops, scale * ledger.peak, float(ledger.casts_at_peak))


def total_of(learner: Learner, pack: Pack, *, with_geometry: bool) -> Tensor:
    """Something that reaches all the learner's losses reach: the geometric losses are booked apart."""
    output = learner.decode(pack, with_geometry=with_geometry)
    sums = []
    if with_geometry:
        assert output.geometry is not None
        sums += [x.sum() for x in maps_of(output.geometry)]
    if learner.correspondence is not None:
        assert output.hidden_states is not None
        assert output.layout is not None
        is_visual = visual_tokens(output.layout, learner.matching.tokens, len(pack.samples))
        sums += [x.sum() for x in learner.correspondence(list(output.hidden_states), is_visual)]
    if learner.ce and pack.answer_weight(learner.answer_weighting):
        sums.append(learner.text_losses(output, pack.samples).sum())
    return torch.stack(sums).sum()


def maps_of(geometry: Geometry) -> list[Shaped[Tensor, "..."]]:
    """Everything the heads say."""
    read = (geometry.local_points, geometry.global_points, geometry.confidence, geometry.normals)
    return [geometry.poses, *(x for maps in read if maps is not None for x in maps)]


def loss_bytes(recipe: Recipe, pack: Pack) -> float:
    """What the geometric losses of a pack hold before their backward pass; measured on small maps, for it is linear."""
    num, side = 2, 56
    ledger = Ledger(torch.device("cpu"))
    heads = recipe.model.heads or ("global_points", "confidence", "normals")
    shapes = {"global_points": (3,), "confidence": (), "normals": (3,)}
    maps = {name: torch.rand(1, num, side, side, *shapes[name], requires_grad=True) for name in heads}
    points = torch.rand(1, num, side, side, 3, requires_grad=True)
    poses = torch.eye(4).expand(1, num, 4, 4)
    mask = torch.ones(1, num, side, side, dtype=torch.bool)
    truth = Views(
        torch.rand(1, num, 3, side, side),
        torch.eye(3).expand(1, num, 3, 3),
        poses,
        1 + torch.rand(1, num, side, side),
        mask,
    )
    with ledger:
        report = Objective(recipe.objective.geometry, recipe.objective.pixel_fraction)(
            Prediction(points, poses, **maps), truth, generator=torch.Generator()
        )
    kept, passing = ledger.live, ledger.peak - ledger.live
    del report
    pixels = [sample.views.images[:, 0].numel() for sample in pack.samples if sample.views is not None]
    return (kept * sum(pixels) + passing * max(pixels)) / (num * side**2)


# --- memory -----------------------------------------------------------------------------------------------------------


def memory_of(engine: EngineName, learner: Learner, costs: Sequence[Cost], recipe: Recipe, world: int) -> Memory:
    """Bytes on each GPU, for the pack that needs most; `train.parallel` decides what each engine keeps where."""
    every, learning = _numel(learner.parameters()), _numel(p for p in learner.parameters() if p.requires_grad)
    layers = learner.model.decoder.layers
    layer = _numel(layers[0].parameters())
    outside = every - _numel(layers.parameters())  # what sharding engines gather for a whole forward and backward
    outside_learning = learning - _numel(p for p in layers.parameters() if p.requires_grad)
    half = 2 if recipe.engine.precision == "bf16" else 4
    pack = max(costs, key=lambda cost: cost.activations + cost.casts)
    moments = 8 * learning + (0 if recipe.optimiser.ema is None else 4 * learning)
    is_there = 0 if recipe.engine.cpu_offload else 1
    if engine in ("single", "ddp"):
        return Memory(engine, 4 * every, 4 * learning, moments, pack.activations, pack.casts, 4 * learning)
    if engine == "fsdp2":
        part = is_there / min(recipe.engine.shard_group or world, world)
        gathered = 4 * outside + 4 * outside_learning + 2 * half * layer + 4 * layer
        buffers = gathered + min(pack.casts, half * outside)
        return Memory(
            engine,
            4 * every * part,
            4 * learning * part,
            moments * part,
            pack.activations,
            buffers,
            4 * learning * part,
        )
    kept = is_there * (moments + 4 * learning) / world  # AdamW's, beside float32 copies of what it steps
    bucket = 4 * min(BUCKET, learning)
    step = is_there * 4 * learning / world
    if engine == "zero2":
        return Memory(engine, 4 * every, 4 * learning, kept, pack.activations, pack.casts + bucket, step)
    buffers = 4 * outside + 2 * 4 * layer + pack.casts + bucket
    return Memory(engine, 4 * every / world, 4 * learning, kept, pack.activations, buffers, step)


def _numel(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def cures_of(made: Plan, learner: Learner, costs: Sequence[Cost]) -> tuple[str, ...]:
    """Changes to a recipe that does not fit, each of which would be enough."""
    recipe = made.recipe
    cures = cures_with("", made, learner, costs, recipe)
    if not recipe.engine.gradient_checkpointing:
        lighter = replace(recipe, engine=replace(recipe.engine, gradient_checkpointing=True))
        config = learner.model.config
        again = learner_without_memory(lighter, config)
        cheaper = [cost_of(again, pack, lighter) for _, pack in typical_packs(lighter, config)]
        cures += cures_with("engine.gradient_checkpointing=true", made, again, cheaper, lighter)
    larger = [name for name, gpu in GPUS.items() if fits(made.own_memory, name) and gpu.memory > GPUS[made.gpu].memory]
    return (*cures, *(f"a GPU with more memory: {name}" for name in larger[:1]))


def cures_with(change: str, made: Plan, learner: Learner, costs: Sequence[Cost], recipe: Recipe) -> list[str]:
    """Another engine, more processes or smaller packs, where they are enough together with a change already made."""
    here = [memory_of(memory.engine, learner, costs, recipe, made.world) for memory in made.memory]
    fitting = [(memory, made.world) for memory in here if fits(memory, made.gpu)]
    if not fitting:
        many = (made.world * 2**power for power in range(1, 8))
        more = ((memory_of("fsdp2", learner, costs, recipe, world), world) for world in many)
        fitting = [(memory, world) for memory, world in more if fits(memory, made.gpu)][:1]
    cures = []
    for memory, world in fitting:
        kind = "" if memory.engine == made.engine else f"engine.kind={memory.engine}"
        processes = "" if world == made.world else f"{world} processes"
        cures.append(f"{' and '.join(filter(None, (change, kind, processes)))} ({memory.total / GIB:.1f} GiB)")
    room = USABLE * GPUS[made.gpu].memory * GIB
    part, memory = max((((room - m.total + m.activations) / m.activations, m) for m in here), key=lambda pair: pair[0])
    if SAFETY * part > 0:
        kind = "" if memory.engine == made.engine else f"engine.kind={memory.engine}"
        tokens = f"data.tokens_per_pack={int(min(1, SAFETY * part) * recipe.data.tokens_per_pack)}"
        cures += [] if part > 1 else [" and ".join(filter(None, (change, kind, tokens)))]
    return cures


# --- in words ---------------------------------------------------------------------------------------------------------


def report(plan: Plan) -> str:
    """A plan as a page of text."""
    recipe, gpu = plan.recipe, GPUS[plan.gpu]
    lines = [
        f"{recipe.name}: {recipe.steps} steps, strategy {recipe.strategy}",
        "",
        f"{'parameters':<20}{'trained':>12}{'frozen':>12}",
    ]
    total = Part("all", sum(p.trained for p in plan.parts), sum(p.frozen for p in plan.parts))
    lines += [f"{p.name:<20}{_count(p.trained):>12}{_count(p.frozen):>12}" for p in (*plan.parts, total)]
    if any(plan.uncounted):
        learning, resting = map(_count, plan.uncounted)
        lines += [
            "",
            f"NOT COUNTED: the pathway ({learning} that learn) and the encoder it reads ({resting}), here and below",
        ]
    lines += ["", *(f"pack      {text}" for text in plan.packs)]
    lines += [
        f"step      {recipe.data.packs_per_step} packs, {plan.tokens:,.0f} tokens, {plan.flops:.3g} FLOPs (forward and backward)"
    ]
    checkpointing = "on" if recipe.engine.gradient_checkpointing else "off"
    lines += [
        "",
        f"GiB on each of {plan.world} x {plan.gpu} ({gpu.memory:g} GiB), gradient checkpointing {checkpointing}",
    ]
    columns = ("weights", "gradients", "optimiser", "activations", "buffers")
    lines += [f"{'engine':<10}" + "".join(f"{name:>13}" for name in (*columns, "total"))]
    for memory in plan.memory:
        numbers = [getattr(memory, name) for name in columns] + [memory.total]
        mark = "" if fits(memory, plan.gpu) else "  does not fit"
        chosen = "  <- this recipe" if memory.engine == plan.engine else ""
        lines += [f"{memory.engine:<10}" + "".join(f"{number / GIB:>13.2f}" for number in numbers) + mark + chosen]
    rate = f"at {UTILISATION:.0%} of the stated {recipe.engine.precision} rate"
    time = f"{plan.seconds_per_step:.3g} s per step, {_duration(plan.hours)} in all, {rate}"
    if plan.seconds_per_step < SHORTEST_STEP and plan.gpu != "cpu":
        time = f"not estimated: a step of {plan.seconds_per_step:.2g} s {rate} is bound by what starts its kernels"
    lines += ["", f"time      {time}"]
    if not plan.fits:
        lines += [
            "",
            f"DOES NOT FIT: {plan.engine} needs {plan.own_memory.total / GIB:.1f} GiB of {gpu.memory:g}. Any of these would do:",
        ]
        lines += [f"  {cure}" for cure in plan.cures] or ["  nothing that was tried: use a smaller model"]
    return "\n".join(lines)


def _count(number: int) -> str:
    if number == 0:
        return "-"
    return f"{number / 1e9:.3f} B" if number >= 1e9 else f"{number / 1e6:.2f} M"


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{ceil(hours * 60)} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
