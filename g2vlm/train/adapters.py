"""Low-rank adapters on the decoder (LoRA, by way of peft): put beside its linear layers for training, merged into what is saved.

A state of an adapted model has, for each adapted layer, `NAME.base_layer.weight`, `NAME.lora_A.default.weight` [rank, inputs] and
`NAME.lora_B.default.weight` [outputs, rank] in place of `NAME.weight`; the layer computes with base + alpha / rank * B A.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from g2vlm.train.recipe import LoraRecipe

BASE, DOWN, UP = ".base_layer.", ".lora_A.default.", ".lora_B.default."


def adapt(decoder: nn.Module, recipe: LoraRecipe) -> None:
    """Give every linear layer that the recipe targets and that learns an adapter, which starts as zero; only adapters learn then.

    Raises ValueError where peft is not installed, and for a target that no learning layer of the decoder has as its name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ValueError("adapters need the package peft: pip install 'g2vlm[peft]'") from error
    learning = [
        name
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    ]
    for target in recipe.targets:
        if not any(name.endswith(f".{target}") for name in learning):
            raise ValueError(
                f"lora.targets has {target!r}, but no linear layer of the decoder that learns has this name; "
                f"they are {', '.join(sorted({name.split('.', 3)[-1] for name in learning})) or 'none'}"
            )
    chosen = [name for name in learning if any(name.endswith(f".{target}") for target in recipe.targets)]
    decoder.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=chosen), decoder)


def is_adapter(name: str) -> bool:
    """Whether a name in a state is there because of adapters."""
    return any(part in name for part in (BASE, DOWN, UP))


def merged(state: Mapping[str, Tensor], recipe: LoraRecipe) -> dict[str, Tensor]:
    """A whole state of an adapted model as that of the plain model that computes the same."""
    plain = {}
    for name, x in state.items():
        if not is_adapter(name):
            plain[name] = x
        elif BASE in name:
            owner, own = name.split(BASE)
            if own == "weight":
                up, down = (state[f"{owner}{part}weight"] for part in (UP, DOWN))
                x = (x.double() + recipe.alpha / recipe.rank * up.double() @ down.double()).to(x.dtype)
            plain[f"{owner}.{own}"] = x
    return plain


def unmerged(state: Mapping[str, Tensor], adapters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of an adapted model, from the merged one and what `is_adapter` in it."""
    replaced = {name.replace(BASE, ".") for name in adapters if BASE in name}
    return {name: x for name, x in state.items() if name not in replaced} | dict(adapters)
