"""The exact robust scale beside its brute-force twin, in one run: `python benchmarks/roe.py`.

Both solve the same problems; the twin tries every ratio target / source against all entries, in chunks that fit in memory.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from g2vlm.geometry.align import robust_scale

MOST_TERMS = 2**20
"""Terms the twin holds at once; with many more, its time is that of the memory it asks for."""


def problems(num_problems: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """A scale of 1.7 under noise and with a fifth outliers."""
    generator = torch.Generator().manual_seed(0)
    source, noise, outlier, weight = torch.randn(4, num_problems, n, generator=generator)
    target = torch.where(torch.arange(n) % 5 == 0, 4 * outlier, 1.7 * source + 0.05 * noise)
    return source, target, weight.abs() + 0.1


def scale_by_trying_all(source: Tensor, target: Tensor, weight: Tensor, truncation: float | None) -> Tensor:
    """The ratio with the smallest sum of min(weight |s source - target|, truncation), by evaluating all of them."""
    chunk = max(1, MOST_TERMS // source.numel())
    x, y, w = (values.double()[:, None] for values in (source, target, weight))
    ratios = (y / x)[:, 0]
    sums = []
    for some in ratios.split(chunk, dim=1):
        residual = w * (some[..., None] * x - y).abs()
        sums.append((residual if truncation is None else residual.clamp(max=truncation)).sum(-1))
    return ratios.gather(1, torch.cat(sums, dim=1).argmin(dim=1, keepdim=True))[:, 0].to(source)


def milliseconds(action: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """The median CPU time, which other work on the machine does not lengthen much, and the result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = action()
        times.append(time.process_time() - start)
    return 1000 * sorted(times)[repeats // 2], result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=4, help="scenes of a batch")
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 1536, 12288], help="12288 = 4096 points")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{options.problems} problems at a time, {options.threads} threads; CPU time, exact: median of {options.repeats} runs"
    )
    for n in options.sizes:
        data = problems(options.problems, n)
        for truncation in (None, 0.5):
            exact, scale = milliseconds(lambda d=data, t=truncation: robust_scale(*d, t), options.repeats)
            brute, twin = milliseconds(lambda d=data, t=truncation: scale_by_trying_all(*d, t), 1)
            print(
                f"n {n:6}, truncation {truncation}: exact {exact:7.2f} ms, trying all {brute:8.0f} ms, "
                f"ratio {brute / exact:7.0f}, largest difference {(scale - twin).abs().max().item():.0e}"
            )


if __name__ == "__main__":
    main()
