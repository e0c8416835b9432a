"""Pathways of geometry compared on equal terms: same start, rooms, questions, steps and seeds; one command, which can be killed.

OUT/suite.json              what all results depend on, so that no other comparison mixes with them
    VARIANT/seed_N/run/     the folder of a training run
        answers_on.json     what each question about held-out rooms was worth; also _blank and _shuffled
        trained.json        loss and cost
    table.md, results.json  after every finished run
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean

import numpy as np
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from g2vlm import hub
from g2vlm.atomic import sole_owner, write_whole
from g2vlm.config import G2VLMConfig
from g2vlm.data.samples import Pack, to_device
from g2vlm.eval.comparison import Claim, Cost, Trial, Trials, as_record, table
from g2vlm.eval.metrics.answers import Scores
from g2vlm.eval.questions import Quiz, asking, evaluate, held_out
from g2vlm.eval.terms import keep_terms
from g2vlm.loading import load
from g2vlm.pathway_config import NoPathway, PathwayConfig, PreDecoder, bank, orders, usages
from g2vlm.predictor import Predictor
from g2vlm.speaking import GeometryInput
from g2vlm.train.launch import launch
from g2vlm.train.learner import Learner, Totals
from g2vlm.train.metrics import METRICS, Row, read_rows
from g2vlm.train.recipe import GASP, CorrespondenceRecipe, Recipe, find_recipe
from g2vlm.train.run import fresh_learner, packs_of
from g2vlm.train.typed import suggestion

BASE_RECIPE = "tiny_pathway"
"""Data, optimiser and budget of every variant."""

GROUPS = {
    "low-level": (
        "depth_prediction",
        "depth_comparison",
        "distance_prediction",
        "position_matching",
        "camera_motion",
        "view_change",
    ),
    "high-level": (
        "object_abs_distance",
        "object_rel_distance",
        "object_rel_direction_easy",
        "object_rel_direction_medium",
        "object_rel_direction_hard",
        "spatial_relation",
    ),
}
"""Low: one thing that a geometric encoder is trained to predict, at marked points or between cameras. High: things that words name have
to be found first, and then related to each other."""

BASELINE = "none"
STATE, TRAINED = "suite.json", "trained.json"


@dataclass(frozen=True)
class Variant:
    """What differs between the runs of a suite.

    pathway: how geometry enters the pictures; None: the model's own way, as views in the sequence, which the semantic expert reads.
    correspondence: supervision of the semantic layers beside the words.
    """

    pathway: PathwayConfig | None
    correspondence: CorrespondenceRecipe | None = None

    @property
    def geometry(self) -> tuple[GeometryInput, ...]:
        """What the geometric encoder is shown in turn; without one it makes no difference."""
        return ("on",) if isinstance(self.pathway, NoPathway) else ("on", "blank", "shuffled")

    def recipe(self, base: Recipe) -> Recipe:
        """The base with this variant's pathway, its inputs and its supervision."""
        inputs = ("views", "pictures") if self.pathway is None else ("pictures", "geometry")
        sources = tuple(replace(source, inputs=inputs) for source in base.data.sources)
        factors = {} if isinstance(self.pathway, NoPathway | None) else base.optimiser.lr_factors
        if self.correspondence is not None:
            factors = factors | {"correspondence.": 4.0}  # as published
        return replace(
            base,
            strategy="ce_only" if self.pathway is None else "semantic",
            model=replace(base.model, pathway=self.pathway),
            data=replace(base.data, sources=sources),
            objective=replace(base.objective, correspondence=self.correspondence),
            optimiser=replace(base.optimiser, lr_factors=factors),
        )


def pathways(config: G2VLMConfig) -> dict[str, Variant]:
    """The variants of the suite on a model of this shape, whose geometric expert is what all of them read.

    Layers are those of the papers by their depth. One of VGGT's layers is a pair of blocks, within frames and across; so its last
    layer but one is the last but one pair here.
    """
    width, layers = config.text_config.hidden_size, config.text_config.num_hidden_layers
    if layers < 4:
        raise ValueError(f"the suite needs 4 decoder layers, but the weights have {layers}; take others")
    sizes = {"geometry_width": width, "hidden_width": 2 * width}
    order = orders((layers // 2 - 1, 3 * layers // 4 - 1, layers - 1), **sizes)
    latter = bank("latter", layers, max(layers // 2, 3))
    use = usages(latter, router_width=max(width // 4, 1), **sizes)
    ways = {
        BASELINE: NoPathway(),
        "vgllm": PreDecoder((layers - 3,), **sizes),
        "single": order["single"],
        "naive": order["naive"],
        "spatialstack": order["forward"],
        "spatialstack_reverse": order["reverse"],
        **{f"geoalign_{name}": use[name] for name in ("top_1", "top_2", "top_3", "mean", "dense")},
        "native": None,
    }
    gasp = replace(GASP, tokens="semantic", width=min(GASP.width, width))
    return {name: Variant(pathway) for name, pathway in ways.items()} | {"native_gasp": Variant(None, gasp)}


CLAIMS = (
    Claim("location: the same three layers, inside the decoder or before it", "spatialstack", "naive"),
    Claim("number of layers: three or one, both before the decoder", "naive", "single"),
    Claim("interference: one layer beats naive fusion of three", "single", "naive"),
    Claim("order: forward beats reversed", "spatialstack", "spatialstack_reverse"),
    Claim("routing: two routed layers beat the mean of all", "geoalign_top_2", "geoalign_mean"),
    Claim("routing: two beat one", "geoalign_top_2", "geoalign_top_1"),
    Claim("routing: two beat three", "geoalign_top_2", "geoalign_top_3"),
    Claim("supervision: GASP helps", "native_gasp", "native"),
)

SUITES: dict[str, Callable[[G2VLMConfig], dict[str, Variant]]] = {"pathways": pathways}


@dataclass(frozen=True)
class Terms:
    """What is equal for all runs of a comparison, and what their results depend on.

    weights_sha256: of the start, for a name or a folder may come to hold others.
    """

    suite: str
    steps: int
    questions: int
    weights: str
    weights_sha256: str
    resolution: int


def compare(
    suite: str,
    out: Path,
    *,
    seeds: int = 3,
    steps: int | None = None,
    questions: int = 480,
    only: Sequence[str] = (),
    weights: str = hub.EMBEDDED,
    workers: int = 1,
    say: Callable[[str], None] = print,
) -> Trials:
    """Train and question every variant (or `only` these) with every seed, and write table.md and results.json into `out`.

    What is there already stays, and a run that was stopped goes on from its checkpoint; results are the same. Runs of one seed come
    before those of the next. steps: of each run; None is the recipe's. questions: to each model, in each condition. workers:
    processes that draw rooms.
    Raises ValueError if `out` holds a comparison on other terms.
    """
    checkpoint = hub.read_checkpoint(weights)
    base = find_recipe(BASE_RECIPE)
    steps = base.steps if steps is None else steps
    terms = Terms(suite, steps, questions, weights, hub.sha256_of(checkpoint.files), checkpoint.config.resolution)
    variants = SUITES[suite](checkpoint.config)
    if unknown := [name for name in only if name not in variants]:
        raise ValueError(f"only names {unknown[0]!r}; {suggestion(unknown[0], variants)}")

    @cache
    def quizzes() -> list[Quiz]:
        kinds = [kind for group in GROUPS.values() for kind in group]
        return held_out(questions, num_views=base.data.views[0], size=terms.resolution, kinds=kinds)

    with sole_owner(out):
        keep_terms(out / STATE, asdict(terms))
        for seed in range(seeds):
            for name in only or variants:
                folder = out / name / f"seed_{seed}"
                recipe = variants[name].recipe(on_terms(base, terms, seed, workers))
                if finish(folder, recipe, variants[name], quizzes):
                    say(f"{name}, seed {seed}: done")
                    write_results(out, terms, finished(out, variants))
        trials = finished(out, variants)
        write_results(out, terms, trials)
    return trials


def on_terms(base: Recipe, terms: Terms, seed: int, workers: int) -> Recipe:
    """The recipe that all variants share; warm-up keeps its part of the steps where these are few."""
    warmup = min(base.optimiser.warmup, terms.steps // 10)
    return replace(
        base,
        steps=terms.steps,
        seed=seed,
        model=replace(base.model, weights=terms.weights),
        data=replace(base.data, resolution=terms.resolution, workers=workers),
        optimiser=replace(base.optimiser, warmup=warmup),
    )


def finish(folder: Path, recipe: Recipe, variant: Variant, quizzes: Callable[[], Sequence[Quiz]]) -> bool:
    """Do what is left to do of one run; whether there was anything."""
    missing: list[GeometryInput] = [kind for kind in variant.geometry if not answers_file(folder, kind).exists()]
    if not missing and (folder / TRAINED).exists():
        return False
    run = folder / "run"
    trained = run / "checkpoints" / f"step_{recipe.steps:07d}"
    if not trained.exists():
        launch(recipe, run, resume=True)
    if missing:
        predictor = load(trained / "model")
        assert isinstance(predictor, Predictor)
        for kind in missing:
            report = evaluate(asking(predictor, geometry=kind), quizzes())
            scores = {name: [*map(float, each)] for name, each in report.scores.items()}
            write_whole(answers_file(folder, kind), json.dumps(scores) + "\n")
    rows = read_rows(run / METRICS)
    second_half = [row["text"] or 0 for row in rows if (row["step"] or 0) > recipe.steps / 2]
    record = {"loss": mean(second_half), "cost": asdict(cost_of(recipe, rows))}
    write_whole(folder / TRAINED, json.dumps(record) + "\n")
    return True


def answers_file(folder: Path, geometry: GeometryInput) -> Path:
    return folder / f"answers_{geometry}.json"


def cost_of(recipe: Recipe, rows: Sequence[Row]) -> Cost:
    """What a run took, by the rows of its metrics; its memory is that of a step with the first pack, made anew."""
    learner, processor = fresh_learner(recipe)
    pack = packs_of(recipe, processor, learner.model.config.patch_size)[0]
    seconds = min(
        (row["seconds"] or 0) - (row["data_wait"] or 0) for row in rows
    )  # the window that was disturbed least
    learning = sum(x.numel() for x in learner.parameters() if x.requires_grad)
    return Cost(learning, seconds, memory_of(learner, to_device(pack, learner.model.device)))


def memory_of(learner: Learner, pack: Pack) -> int:
    """Bytes of weights, gradients and AdamW's two moments, and of all tensors that wait for the backward pass of a pack.

    Counted and not measured: the memory of a process says what its allocator once took for the largest of many runs.
    """
    weights = {x.untyped_storage().data_ptr(): x.nbytes for x in learner.parameters()}
    learning = sum(x.nbytes for x in learner.parameters() if x.requires_grad)
    waiting: dict[int, int] = {}

    def noted(x: Tensor) -> Tensor:
        waiting[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    totals = Totals(
        scenes=pack.num_scenes,
        answers=pack.answer_weight(learner.answer_weighting),
        matchable=pack.num_matchable(learner.matching.tokens),
    )
    with saved_tensors_hooks(noted, lambda x: x):
        loss = learner(pack, totals).total  # held, and with it all that waits, until everything is counted
    assert loss.requires_grad
    activations = sum(size for place, size in waiting.items() if place not in weights)
    return sum(weights.values()) + 3 * learning + activations


# --- results ----------------------------------------------------------------------------------------------------------


def finished(out: Path, variants: dict[str, Variant]) -> Trials:
    """All runs in a folder that are done."""
    trials = {name: dict(_trials(out / name, variant)) for name, variant in variants.items()}
    return {name: runs for name, runs in trials.items() if runs}


def _trials(folder: Path, variant: Variant) -> Iterator[tuple[int, Trial]]:
    by_seed = {int(file.parent.name.removeprefix("seed_")): file for file in folder.glob(f"seed_*/{TRAINED}")}
    for seed, file in sorted(by_seed.items()):
        scores: dict[GeometryInput, Scores] = {
            kind: _scores(answers_file(file.parent, kind)) for kind in variant.geometry
        }
        record = json.loads(file.read_text())
        yield seed, Trial(scores, record["loss"], Cost(**record["cost"]))


def _scores(file: Path) -> Scores:
    return {kind: np.array(each) for kind, each in json.loads(file.read_text()).items()}


def write_results(out: Path, terms: Terms, trials: Trials) -> None:
    """table.md for people and results.json for programs."""
    head = (
        f"{terms.steps} steps, {terms.questions} questions about held-out rooms; percent, with 95 % intervals over questions and, "
        "behind ±, the standard deviation over seeds. What the encoder saw: on, blank, shuffled.\n\n"
    )
    write_whole(out / "table.md", head + table(trials, GROUPS, CLAIMS, baseline=BASELINE))
    record = {"terms": asdict(terms)} | as_record(trials, GROUPS, CLAIMS, baseline=BASELINE)
    write_whole(out / "results.json", json.dumps(record, indent=1) + "\n")
