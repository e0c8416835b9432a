"""How well the visual tokens of each decoder layer find the same point in other views, by themselves (GASP's diagnostics).

As published (arXiv 2605.30231, section 5.3): queries of the first view look for keys of the others by cosine, the best one is
right within two patches (PCK); how sure a token is, against whether it is right; and how PCK falls with the number of taken frames between.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from g2vlm.data.augment import Augmentation
from g2vlm.data.correspondences import COARSE_AND_FINE, has_matches, tokens_at, tracks
from g2vlm.data.readers import READERS
from g2vlm.data.recon import Scene, each_good
from g2vlm.data.samples import BadSample, Bucket, VisualTokens
from g2vlm.data.sampling import has_depth
from g2vlm.data.scenes import TEST_SEEDS, rooms
from g2vlm.data.sources import only_scene, views_of
from g2vlm.layout import Grid
from g2vlm.mot import ExpertLayer
from g2vlm.pathways.base import cells_size
from g2vlm.pictures import MERGED_PATCH, Photo, picture_size, semantic_patches, view_at, working_size
from g2vlm.predictor import Predictor
from g2vlm.records import Views
from g2vlm.rope import rotate

Descriptors = Literal["query_key", "rotated_query_key", "hidden"]
"""What is compared: queries with keys before their rotary rotation (what tokens look for, whatever their place), after it (what
attention compares), or what the layer hands on, with itself (for decoders whose queries cannot be had)."""

WITHIN = 2.0
"""Patches between the place found and the true one, up to which a point counts as found."""

TEMPERATURE = 0.07
"""Of the softmax over the tokens of the other view whose greatest part is the confidence; that of the loss."""

Layers = Sequence[tuple[Float[Tensor, "views tokens _width"], Float[Tensor, "views tokens _width"]]]
"""For each decoder layer, what the tokens of each view look with, and what they are found by."""

Describer = Callable[[Views], tuple[Grid, Layers]]
"""Shows the views of one clip to a model: tokens of each view, and what its layers make of them."""


@dataclass(frozen=True)
class Clip:
    """Views of one scene in the order of time (or along a path), with depth, intrinsics and poses."""

    name: str
    views: Views


@dataclass(frozen=True)
class LayerScores:
    """PCK in [0, 1]. correlation: Pearson's, of confidence and being right; NaN where one of them never varies.

    by_gap: PCK by the number of taken frames between; with a stride of 5, 1 is five frames apart.
    """

    layer: int
    pck: float
    correlation: float
    by_gap: dict[int, float]

    @property
    def robustness(self) -> dict[int, float]:
        """PCK(gap) / PCK(1), or the least gap there is in place of 1; NaN where points are never found there."""
        nearest = self.by_gap[min(self.by_gap)]
        return {gap: pck / nearest if nearest else math.nan for gap, pck in self.by_gap.items()}


@dataclass(frozen=True)
class MatchingReport:
    """Scores of all layers, over the same points.

    points: pairs of a point and another view that shows it, by gap. chance: PCK of a random token. unmoved: PCK, by gap, of
    saying that every point is where it was in the first view.
    """

    clips: int
    points: dict[int, int]
    chance: float
    unmoved: dict[int, float]
    layers: tuple[LayerScores, ...]

    @property
    def peak(self) -> LayerScores:
        return max(self.layers, key=lambda scores: scores.pck)


# --- clips ------------------------------------------------------------------------------------------------------------


def room_clips(count: int, *, num_views: int, resolution: int, patch: int, seeds: range = TEST_SEEDS) -> Iterator[Clip]:
    """Procedural rooms seen along a path, which no model was trained on; square views of whole patches."""
    size, _ = working_size(1, 1, resolution, patch)
    for seed in seeds[:count]:
        room = rooms([seed], num_views=num_views, height=size, width=size)
        yield Clip(f"room {seed}", only_scene(room.views))


def scene_clips(
    folder: Path, *, num_views: int, stride: int, resolution: int, patch: int, bad: Callable[[str], None]
) -> Iterator[Clip]:
    """The first frames with depth and pose of each scene below a folder (those with two or more), `stride` frames apart.

    bad: told of every scene that cannot be read, or has too few such frames.
    """
    for scene in each_good(READERS["scene_json"](folder), bad):
        try:
            yield clip_of(scene, num_views, stride, resolution, patch)
        except BadSample as error:
            bad(str(error))


def clip_of(scene: Scene, num_views: int, stride: int, resolution: int, patch: int) -> Clip:
    """A clip of one scene at a working size of whole patches; raises BadSample where fewer than two frames serve."""
    usable = [frame for frame in scene.frames if has_depth(frame) and frame.pose is not None]
    frames = list(islice(usable, 0, num_views * stride, stride))
    if len(frames) < 2:
        raise BadSample(
            f"{scene.name}: {len(frames)} frames with depth, intrinsics and pose, {stride} apart; 2 are needed"
        )
    shots = [frame.read() for frame in frames]
    rows, columns, _ = shots[0].image.shape
    height, width = working_size(rows, columns, resolution, patch)
    bucket = Bucket(len(frames), height, width)
    views = views_of(frames, shots, bucket, Random(0), Augmentation(0, 1.0, 0.0))
    if not has_matches(views):
        raise BadSample(f"{scene.name}: no depth is known in the part of its frames that is shown")
    return Clip(scene.name, views)


# --- what a model makes of a clip -------------------------------------------------------------------------------------


def describing(
    predictor: Predictor, *, descriptors: Descriptors = "query_key", tokens: VisualTokens = "geometric"
) -> Describer:
    """A native model. tokens: patches of views, as for a reconstruction, or tokens of pictures, shown without views (and, where
    the model hosts a pathway, with its geometry).
    """
    model, host, processor = predictor.model, predictor.host, predictor.processor

    def read(views: Views) -> tuple[Grid, dict[str, Any]]:
        if tokens == "geometric":
            images = [view.to(model.device, model.dtype) for view in views.images]
            grid = model.grid(images[0])
            return grid, {"input_ids": processor.reconstruction_ids([grid] * len(images)), "views": images}
        photos = [Photo("view", (255 * x).round().byte().permute(1, 2, 0).numpy()) for x in views.images]
        size = picture_size((views.images.shape[2], views.images.shape[3]))
        grid = size[0] // MERGED_PATCH, size[1] // MERGED_PATCH
        values, sizes = semantic_patches(photos, size)
        ids = processor.context_ids((), [grid] * len(photos))[None]
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "pixel_values": values.to(model.device, model.dtype),
            "image_grid_thw": sizes.to(model.device),
        }
        if host is not None and host.encoder is not None:
            shown = cells_size(grid, host.encoder.patch)
            inputs["geometry_images"] = [view_at(photo, shown) for photo in photos]
        return grid, inputs

    @torch.no_grad()
    def describe(views: Views) -> tuple[Grid, Layers]:
        grid, inputs = read(views)
        seen: list[tuple[Tensor, Tensor]] = []
        experts = [block.get_submodule(tokens) for block in model.decoder.layers]
        handles = [handle for expert in experts for handle in remembering(expert, seen)]
        try:
            inputs["input_ids"] = inputs["input_ids"].to(model.device)
            output = (host or model)(**inputs, logits_to_keep=None, output_hidden_states=True)
        finally:
            for handle in handles:
                handle.remove()
        layout = output.layout
        is_visual = layout.is_geometric if tokens == "geometric" else layout.is_image
        if descriptors == "hidden":
            layers = [(x[0, is_visual], x[0, is_visual]) for x in output.hidden_states]
        else:
            rotations = model.decoder.angles(layout).split(layout.counts)[tokens == "geometric"]
            angles = rotations if descriptors == "rotated_query_key" else None
            own = is_visual[layout.is_geometric == (tokens == "geometric")]
            layers = [flat_heads(q, k, angles, own) for q, k in seen]
        num_views = len(views.images)
        return grid, [(by_view(looking, num_views), by_view(found, num_views)) for looking, found in layers]

    return describe


def remembering(expert: torch.nn.Module, seen: list[tuple[Tensor, Tensor]]) -> list[Any]:
    """Hooks that keep the queries and keys [tokens, heads, head width] of an expert's tokens, before their rotation."""
    assert isinstance(expert, ExpertLayer)
    queries: list[Tensor] = []

    def remember_queries(_module: Any, _inputs: Any, q: Tensor) -> None:
        queries.append(q)

    def remember_keys(_module: Any, _inputs: Any, k: Tensor) -> None:
        seen.append((queries.pop(), k))

    return [expert.q_norm.register_forward_hook(remember_queries), expert.k_norm.register_forward_hook(remember_keys)]


def flat_heads(
    q: Float[Tensor, "tokens heads width"],
    k: Float[Tensor, "tokens kv_heads width"],
    angles: Float[Tensor, "tokens half"] | None,
    is_visual: Bool[Tensor, " tokens"],
) -> tuple[Float[Tensor, "visual descriptor"], Float[Tensor, "visual descriptor"]]:
    """All heads of a token as one descriptor; each key stands beside every query that attends to it."""
    if angles is not None:
        q, k = rotate(q, angles), rotate(k, angles)
    k = repeat(k, "t n h -> t (n r) h", r=q.shape[1] // k.shape[1])
    return q[is_visual].flatten(1), k[is_visual].flatten(1)


def by_view(x: Float[Tensor, "visual width"], num_views: int) -> Float[Tensor, "views tokens width"]:
    return rearrange(x, "(v t) w -> v t w", v=num_views)


# --- scores -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Searched:
    """One layer's search for points: whether each was found, and how sure the layer was."""

    is_found: Bool[np.ndarray, " points"]
    confidence: Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Sought:
    """Points of the first view that other views show: their token there, and where they are, in patches."""

    token: Int[Tensor, " points"]
    view: Int[Tensor, " points"]
    place: Float[Tensor, "points 2"]


def evaluate(describe: Describer, clips: Iterator[Clip] | Sequence[Clip]) -> MatchingReport:
    """Search the points of every clip with every layer. Raises ValueError where no clip has a point that two views show."""
    gaps: list[Int[Tensor, " points"]] = []
    chances: list[Tensor] = []
    unmoved: list[Tensor] = []
    searched: list[list[Searched]] = []
    for clip in clips:
        grid, layers = describe(clip.views)
        sought = points_of(clip.views, grid)
        if not len(sought.token):
            continue
        centres = token_centres(grid)
        is_near = (centres - sought.place[:, None]).norm(dim=-1) <= WITHIN
        gaps.append(sought.view)
        chances.append(is_near.float().mean(1))
        unmoved.append(is_near.gather(1, sought.token[:, None])[:, 0])
        searched.append([search(looking.cpu(), found.cpu(), sought, is_near) for looking, found in layers])
    if not gaps:
        raise ValueError("no point is shown by two views of any clip; give scenes whose views overlap")
    gap, same = torch.cat(gaps).numpy(), torch.cat(unmoved).numpy()
    present = sorted(set(gap.tolist()))
    return MatchingReport(
        clips=len(gaps),
        points={n: int((gap == n).sum()) for n in present},
        chance=float(torch.cat(chances).mean()),
        unmoved={n: float(same[gap == n].mean()) for n in present},
        layers=tuple(scores_of(i, layer, gap) for i, layer in enumerate(zip(*searched, strict=True))),
    )


def points_of(views: Views, grid: Grid) -> Sought:
    """The points of the first view, on a coarse and a fine grid, in each other view that shows them."""
    found = tracks(views, COARSE_AND_FINE, sources=[0])
    size = (views.images.shape[2], views.images.shape[3])
    point, view = found.visible[:, 1:].nonzero(as_tuple=True)
    patch = torch.tensor([size[1] / grid[1], size[0] / grid[0]])
    return Sought(tokens_at(found.pixels[point, 0], size, grid), view + 1, found.pixels[point, view + 1] / patch)


def token_centres(grid: Grid) -> Float[Tensor, "tokens 2"]:
    """(x, y) of the middle of every token, in patches."""
    y, x = (torch.arange(count) + 0.5 for count in grid)
    return torch.cartesian_prod(y, x).flip(1)


def search(
    looking: Float[Tensor, "views tokens width"],
    found: Float[Tensor, "views tokens width"],
    sought: Sought,
    is_near: Bool[Tensor, "points tokens"],
) -> Searched:
    """Take the most similar token of the other view for each point. is_near: which tokens would be right."""
    looking, found = (normalize(x.float(), dim=-1) for x in (looking, found))
    similarity = torch.einsum("t w, v u w -> v t u", looking[0], found)[sought.view, sought.token]
    confidence = (similarity / TEMPERATURE).softmax(-1).amax(-1)
    best = similarity.argmax(-1)
    return Searched(is_near.gather(1, best[:, None])[:, 0].numpy(), confidence.numpy())


def scores_of(layer: int, clips: Sequence[Searched], gap: Int[np.ndarray, " points"]) -> LayerScores:
    is_found, confidence = (np.concatenate([getattr(x, name) for x in clips]) for name in ("is_found", "confidence"))
    by_gap = {n: float(is_found[gap == n].mean()) for n in sorted(set(gap.tolist()))}
    return LayerScores(layer, float(is_found.mean()), correlation(confidence, is_found), by_gap)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; NaN where one side never varies."""
    if a.std() == 0 or b.std() == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


# --- for people -------------------------------------------------------------------------------------------------------


def as_record(report: MatchingReport) -> dict[str, Any]:
    """Everything, for JSON: what is not a number is null."""
    peak = report.peak
    robustness = {gap: None if math.isnan(part) else part for gap, part in peak.robustness.items()}
    layers = [asdict(x) | {"correlation": None if math.isnan(x.correlation) else x.correlation} for x in report.layers]
    return asdict(report) | {"layers": layers, "peak": {"layer": peak.layer, "pck": peak.pck, "robustness": robustness}}


def table(report: MatchingReport) -> str:
    """One line for each layer, percent; then what needs no model."""
    gaps = list(report.points)
    head = f"{'layer':>7} {'PCK@2':>6} {'rho':>6}  " + " ".join(f"{f'dt={gap}':>6}" for gap in gaps)
    lines = [
        f"{x.layer:>7} {100 * x.pck:>6.1f} {x.correlation:>6.2f}  " + _percent(x.by_gap.values()) for x in report.layers
    ]
    count = sum(report.points.values())
    same = sum(report.unmoved[gap] * report.points[gap] for gap in gaps) / count
    lines.append(f"{'unmoved':>7} {100 * same:>6.1f} {'':>6}  " + _percent(report.unmoved.values()))
    lines.append(f"{'chance':>7} {100 * report.chance:>6.1f}")
    peak = report.peak
    last = gaps[-1]
    lines.append(
        f"peak: layer {peak.layer}; PCK({last})/PCK(1) = {peak.robustness[last]:.2f}; "
        f"{count} points in {report.clips} clips"
    )
    return "\n".join([head, *lines])


def _percent(parts: Any) -> str:
    return " ".join(f"{100 * part:>6.1f}" for part in parts)


def plot(report: MatchingReport, title: str) -> bytes:
    """PCK and correlation over layers, and PCK over the gap relative to neighbours, as a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("a plot needs the package matplotlib: pip install 'g2vlm[plot]'") from error
    figure = Figure(figsize=(12.6, 3.4), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=10)
    layers = [x.layer for x in report.layers]
    left, middle, right = figure.subplots(1, 3)
    left.plot(layers, [100 * x.pck for x in report.layers], marker="o")
    left.axhline(100 * report.chance, linestyle=":", color="grey", label="chance")
    left.set(title=f"PCK within {WITHIN:g} patches, %", xlabel="decoder layer", ylim=(0, 100))
    left.legend(fontsize=8)
    middle.plot(layers, [x.correlation for x in report.layers], marker="o")
    middle.axhline(0, linestyle=":", color="grey")
    middle.set(title="confidence against being right, Pearson", xlabel="decoder layer", ylim=(-1, 1))
    peak = report.peak
    right.plot(list(peak.robustness), list(peak.robustness.values()), marker="o", label=f"layer {peak.layer}")
    first = report.unmoved[min(report.unmoved)]
    if first:
        relative = [part / first for part in report.unmoved.values()]
        right.plot(list(report.unmoved), relative, linestyle=":", color="grey", label="unmoved")
    right.set(title="PCK(dt) / PCK(1)", xlabel="taken frames between", ylim=(0, None))
    right.legend(fontsize=8)
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
