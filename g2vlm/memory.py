"""What a reconstruction would hold in memory, counted before it is begun: on tensors without memory, from sizes alone."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from g2vlm import hub
from g2vlm.config import G2VLMConfig
from g2vlm.counting import META, Ledger, planned_kernels
from g2vlm.heads.geometry import TOKENS_AT_ONCE
from g2vlm.host_hub import is_host
from g2vlm.hub import Source
from g2vlm.model import G2VLM
from g2vlm.pictures import view_sizes
from g2vlm.processor import Processor, byte_tokenizer

MIB = 2**20

KEPT_PER_PIXEL = 20 + 12 + 3
"""Bytes of a result beyond what the heads said: points in the world, confidence, mask; the view as seen, and as a picture."""

WRITTEN_PER_PIXEL = 3 * 37
"""Bytes of the point cloud of a result while it is written: one view after the other, all of them, and a file."""

FIT_PER_PIXEL = 200
"""Bytes that finding the focal length of one view takes for a moment: sorted numbers in float64."""

SLACK = 1.2
"""What allocators hold for what is asked of them; see benchmarks/memory.py for planned against real."""

COUNTED_TOKENS = 4 * TOKENS_AT_ONCE
"""Up to so many tokens a forward is counted as it is; beyond them memory grows by the same for each view."""

ROUGH_PER_PIXEL = 4096
"""Bytes of a view's pixel that no model so far comes near, heads and result included; 2 kB at most for the published size."""

USABLE = 0.95
"""Part of the free memory that may be planned with: the rest goes to gaps between tensors."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a reconstruction of `views` views at once needs, and how many are free.

    tokens: of all views. weights: of the model. forward: most that its forward holds beside them. result: photos, views and maps of
    all views, until they are written. On a GPU weights and forward are there, and only the result is in the machine's memory.
    most_views: how many would fit, 0 if none do.
    """

    views: int
    view_size: tuple[int, int]
    tokens: int
    device: str
    weights: float
    forward: float
    result: float
    free: float
    free_of_machine: float
    most_views: int

    @property
    def on_device(self) -> float:
        """Bytes on the device that computes; forward and result do not have their peaks at one time."""
        return self.weights + SLACK * (max(self.forward, self.result) if self.device == "cpu" else self.forward)

    @property
    def fits(self) -> bool:
        return self.views <= self.most_views

    def lines(self) -> list[str]:
        height, width = self.view_size
        fits = "fits" if self.fits else "does not fit"
        return [
            f"{self.views} views of {width} x {height} pixels at once, {self.tokens} tokens, on {self.device}",
            f"weights {_mib(self.weights)}, forward {_mib(self.forward)}, photos and result {_mib(self.result)}",
            f"peak {_mib(self.on_device)} of {_mib(self.free)} free: {fits}; at most {self.most_views} views would",
        ]

    def require(self, cure: str) -> None:
        """ValueError with the numbers and the cure where it does not fit."""
        if not self.fits:
            raise ValueError(
                f"{self.views} views at once need about {_mib(self.on_device)}, but {_mib(self.free)} are free on {self.device}; "
                f"at most {self.most_views} fit: {cure.format(most=max(self.most_views, 1))}"
            )


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / MIB:,.0f} MiB"


def memory_plan(
    source: Source | None,
    photo_size: tuple[int, int],
    num_views: int,
    *,
    resolution: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    keeps_all: bool = True,
) -> MemoryPlan | None:
    """Plan a reconstruction by the model of a folder or hub repository; None for a host, which has a plan of its own kind.

    photo_size: (height, width) of a photo, all of which are taken to be alike. keeps_all: the whole result is written as one
    cloud; a window's is not.
    """
    folder = hub.find(source)
    if is_host(folder):
        return None
    checkpoint = hub.read_checkpoint(folder)
    place = hub.device_of(device)
    form = hub.dtype_of(dtype, place, hub.num_parameters(checkpoint.weights))
    return plan_of(checkpoint.config, photo_size, num_views, resolution, place, form, keeps_all=keeps_all)


def is_surely_enough(source: Source | None, num_views: int, *, resolution: int | None, device: str = "auto") -> bool:
    """Whether a look at the sizes of files and views does instead of a plan, which takes seconds."""
    folder = hub.find(source)
    if is_host(folder):
        return True
    side = resolution or hub.read_checkpoint(folder).config.resolution
    weights = sum(path.stat().st_size for path in hub.weight_files(folder))
    rough = 2 * weights + ROUGH_PER_PIXEL * num_views * side**2
    return rough < min(free_bytes(hub.device_of(device)), free_bytes(torch.device("cpu")))


def plan_of(
    config: G2VLMConfig,
    photo_size: tuple[int, int],
    num_views: int,
    resolution: int | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    keeps_all: bool = True,
) -> MemoryPlan:
    (size,) = view_sizes([photo_size], resolution or config.resolution, config.patch_size, config.view_resize)
    rows, columns = config.grid(*size)
    model = model_without_memory(config, dtype)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    pixels, photo = size[0] * size[1], 3 * photo_size[0] * photo_size[1]
    counted = max(2, min(num_views, COUNTED_TOKENS // (rows * columns)))
    fewer = counted // 2
    whole, part = (forward_bytes(model, size, views, views_count=device.type == "cpu") for views in (counted, fewer))
    per_view = (whole - part) / (counted - fewer)
    forward = whole + (num_views - counted) * per_view
    result_per_view = photo + pixels * (28 + KEPT_PER_PIXEL + (WRITTEN_PER_PIXEL if keeps_all else 0))
    free, machine = free_bytes(device), free_bytes(torch.device("cpu"))
    fit = FIT_PER_PIXEL * pixels
    left = (USABLE * free - weights) / SLACK
    most = int((left - (forward - per_view * num_views)) // per_view)
    most = min(most, int(((left if device.type == "cpu" else USABLE * machine / SLACK) - fit) // result_per_view))
    return MemoryPlan(
        num_views,
        size,
        num_views * rows * columns,
        device.type,
        weights,
        forward,
        num_views * result_per_view + fit,
        free,
        machine,
        max(most, 0),
    )


def model_without_memory(config: G2VLMConfig, dtype: torch.dtype) -> G2VLM:
    """As `hub.build` makes it, with heads in float32, on the meta device."""
    model = hub.empty(config.with_options(attention="sdpa")).eval()
    if config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    nn.Module.to(model, device=META, dtype=dtype)
    model.heads.to(torch.promote_types(dtype, torch.float32))
    return model


@torch.no_grad()
def forward_bytes(model: G2VLM, size: tuple[int, int], num_views: int, *, views_count: bool) -> float:
    """Most that a forward of so many views holds beside the weights. views_count: the views lie in the same memory."""
    config, ledger = model.config, Ledger(META)
    processor = Processor(byte_tokenizer(config.tokens), config.tokens)
    views = [torch.empty(3, *size, device=META, dtype=model.dtype) for _ in range(num_views)]
    ids = processor.reconstruction_ids([config.grid(*size)] * num_views)
    for parameter in model.parameters():
        ledger.known(parameter)
    with planned_kernels(ledger), ledger:
        model(ids, views=views, logits_to_keep=None, read_geometry=True)
    own = sum(view.numel() * view.element_size() for view in views)
    return ledger.peak + own * (2 if views_count else 1)


def free_bytes(device: torch.device) -> float:
    """Bytes that a device can still give: of a GPU as its driver says; of the machine as the kernel says, within the limit of a
    container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return min(_free_of_machine(), _free_of_container())


def _free_of_machine() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except FileNotFoundError:  # not Linux: half of what there is, for others use it, too
        import os

        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 if hasattr(os, "sysconf") else float("inf")
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def _free_of_container() -> float:
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if not (limit.is_file() and used.is_file()) or (text := limit.read_text().strip()) == "max":
        return float("inf")
    return int(text) - int(used.read_text())
