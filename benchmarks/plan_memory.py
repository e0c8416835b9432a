"""Planned against real memory: `python benchmarks/plan_memory.py [--large]`.

A step of two packs, in float32, on the CPU: forward, losses, backward, AdamW. What is real comes from torch's profiler, which
sees every byte that the allocator hands out or takes back, whoever asked for it.
"""

import argparse
from dataclasses import replace

import torch
from torch.optim import AdamW
from torch.profiler import ProfilerActivity, profile
from transformers.models.dinov2_with_registers import Dinov2WithRegistersConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig

from g2vlm import presets
from g2vlm.config import G2VLMConfig, HeadsConfig
from g2vlm.data.samples import Pack, Sample
from g2vlm.model import G2VLM
from g2vlm.records import Views
from g2vlm.train.learner import Totals
from g2vlm.train.plan import cost_of, learner_without_memory, memory_of, typical_packs
from g2vlm.train.recipe import Recipe, find_recipe
from g2vlm.train.run import learner_of

MIB = 2**20
SETTINGS = {"tiny": (112, 600), "medium": (224, 1100)}
"""Pixels along the longer side, and tokens of a pack."""


def medium() -> G2VLMConfig:
    """Six times the tiny model."""
    tokens = presets.tiny().tokens
    text = Qwen2VLTextConfig(
        vocab_size=320,
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=10,
        num_attention_heads=6,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10.0, "mrope_section": [8, 12, 12]},
        bos_token_id=tokens.bos,
        eos_token_id=tokens.eos,
    )
    vision = Qwen2VLVisionConfig(depth=2, embed_dim=128, hidden_size=384, num_heads=4)
    dino = Dinov2WithRegistersConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=6, image_size=224, patch_size=14
    )
    heads = HeadsConfig(depth=2, num_heads=6, mlp_ratio=4, point_width=384, camera_width=256)
    options = {"visibility": "mixed", "resolution": 224, "tie_word_embeddings": True}
    return G2VLMConfig(text, vision, dino, heads, tokens, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="the medium model, too")
    sizes = {"tiny": presets.tiny()} | ({"medium": medium()} if parser.parse_args().large else {})
    print(
        f"{'model':<10}{'checkpointing':<15}{'real MiB':>10}{'planned':>10}{'ratio':>8}  of it activations: real, planned"
    )
    for name, config in sizes.items():
        for checkpointing in (False, True):
            recipe = recipe_for(name, checkpointing=checkpointing)
            planned, activations = planned_bytes(recipe, config)
            real, without = real_bytes(recipe, config)
            numbers = f"{real / MIB:>10.1f}{planned / MIB:>10.1f}{planned / real:>8.2f}"
            print(
                f"{name:<10}{checkpointing!s:<15}{numbers}  {(real - without) / MIB:.1f}, {activations / MIB:.1f}",
                flush=True,
            )


def recipe_for(name: str, *, checkpointing: bool) -> Recipe:
    recipe = find_recipe("tiny_stage1")
    resolution, tokens = SETTINGS[name]
    return replace(
        recipe,
        data=replace(recipe.data, resolution=resolution, tokens_per_pack=tokens, aspects=(1.0, 1.0), portrait=0.0),
        objective=replace(recipe.objective, correspondence=None, pixel_fraction=1.0),
        engine=replace(recipe.engine, precision="fp32", gradient_checkpointing=checkpointing),
    )


def planned_bytes(recipe: Recipe, config: G2VLMConfig) -> tuple[float, float]:
    """All that one process needs, and its activations, for packs that are as full as the real ones."""
    learner = learner_without_memory(recipe, config)
    ((_, pack),) = typical_packs(recipe, config)
    filled = replace(recipe, data=replace(recipe.data, tokens_per_pack=pack.num_tokens))
    memory = memory_of("single", learner, [cost_of(learner, pack, filled)], filled, world=1)
    return memory.total, memory.activations


def real_bytes(recipe: Recipe, config: G2VLMConfig) -> tuple[float, float]:
    """The peak of a step, and what of it are weights, gradients and moments."""
    torch.manual_seed(0)
    learner = learner_of(recipe, G2VLM(config))
    learning = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimiser = AdamW(learning, lr=1e-4)
    ((_, pack),) = typical_packs(recipe, config)
    pack = with_pictures(pack)
    totals = Totals(scenes=2 * pack.num_scenes, answers=0)

    def step() -> None:
        for _ in range(2):
            learner(pack, totals).total.backward()
        optimiser.step()
        optimiser.zero_grad()

    for parameter in learning:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()  # makes the moments, which last
    optimiser.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    weights = sum(parameter.numel() for parameter in learner.parameters())
    learnt = sum(parameter.numel() for parameter in learning)
    lasting = 4 * weights + 8 * learnt
    return lasting + peak_of(profiler), lasting + 4 * learnt


def peak_of(profiler: profile) -> int:
    """Most bytes that were allocated during the profile beyond those before it."""
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
        peak = max(peak, live)
    return peak


def with_pictures(pack: Pack) -> Pack:
    """The same pack with random pictures and a truth, in memory."""
    return replace(pack, samples=tuple(map(with_picture, pack.samples)))


def with_picture(sample: Sample) -> Sample:
    assert sample.views is not None
    num, _, height, width = sample.views.images.shape
    focal = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    poses = torch.eye(4).repeat(num, 1, 1)
    poses[:, 0, 3] = torch.arange(num) / 10
    views = Views(
        images=torch.rand(num, 3, height, width),
        intrinsics=focal.repeat(num, 1, 1),
        poses=poses,
        depth=1 + torch.rand(num, height, width),
        mask=torch.ones(num, height, width, dtype=torch.bool),
    )
    return replace(sample, views=views)


if __name__ == "__main__":
    main()
