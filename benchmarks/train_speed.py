"""Tokens per second and model-FLOPs utilisation of training steps: `python benchmarks/train_speed.py [RECIPE] [--set ...]`.

One pack of the recipe's own shape, made of random pixels, goes through forward, losses, backward and the optimiser again and
again. Utilisation is the FLOPs that a step needs (counted by `g2vlm.train.plan`; what checkpointing computes a second time does not
count) over its time, beside the rate of a large bfloat16 matrix product measured in the same run. Weights are random.
    python benchmarks/train_speed.py g2vlm_2b_stage1b --set model.weights=null --set engine.kind=single   # on a GPU
The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

from g2vlm.data.samples import Pack, to_device
from g2vlm.train import parallel
from g2vlm.train.learner import Totals
from g2vlm.train.plan import plan_of
from g2vlm.train.recipe import find_recipe
from g2vlm.train.run import learner_of, model_of, packs_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="tiny_stage1")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="settings")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print what the time goes to, by operator")
    options = parser.parse_args()
    rooms = ("data.sources=[{kind: rooms}]", "data.packs_per_step=1", "data.workers=0")
    recipe = find_recipe(options.recipe, [*options.settings, *rooms])
    plan = plan_of(replace(recipe, engine=replace(recipe.engine, gradient_checkpointing=False)), world=1)

    model, processor = model_of(recipe.model)
    pack = packs_of(recipe, processor, model.config.patch_size)[0]
    engine = parallel.start(learner_of(recipe, model), recipe)
    pack = to_device(pack, engine.device)
    flops = plan.flops * pack.num_tokens / plan.tokens
    step(engine, pack)
    seconds = median(timed(engine, lambda: step(engine, pack)) for _ in range(options.steps))
    rate = matrix_rate(engine)
    print(
        f"{recipe.name} on {torch.cuda.get_device_name() if engine.device.type == 'cuda' else 'CPU'}, {recipe.engine.precision}"
    )
    print(f"{pack.num_tokens} tokens a step, {seconds:.3f} s, {pack.num_tokens / seconds:.0f} tokens/s")
    print(
        f"{flops / seconds / 1e12:.2f} TFLOP/s of {rate / 1e12:.2f} for matrix products: {flops / seconds / rate:.1%}"
    )
    if options.profile:
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if engine.device.type == "cuda" else [])]
        with profile(activities=kinds) as trace:
            step(engine, pack)
        print(trace.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))
    figures = {"tokens_per_s": pack.num_tokens / seconds, "step_s": seconds, "utilisation": flops / seconds / rate}
    print(json.dumps({"recipe": recipe.name, **figures, "matrix_tflops": rate / 1e12}))


def step(engine: parallel.Engine, pack: Pack) -> None:
    engine.learn(pack, Totals(pack.num_scenes, pack.answer_weight(engine.learner.answer_weighting)), is_last=True)
    engine.step(1e-6, 1.0, is_sound=True)


def timed(engine: parallel.Engine, action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    if engine.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def matrix_rate(engine: parallel.Engine) -> float:
    """FLOP/s of a large square matrix product in the precision of the run."""
    side = 8192 if engine.device.type == "cuda" else 1024
    dtype = torch.bfloat16 if engine.recipe.precision == "bf16" else torch.float32
    a, b = torch.randn(2, side, side, device=engine.device, dtype=dtype)
    timed(engine, lambda: a @ b)
    return 2 * side**3 / median(timed(engine, lambda: a @ b) for _ in range(9))


if __name__ == "__main__":
    main()
