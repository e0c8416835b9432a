"""`g2vlm config`: what a preset is made of."""

import json
from typing import Annotated

import typer


def config(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="Name of a preset, such as vgllm_4b.")],
) -> None:
    """Print the whole configuration of a preset as JSON, defaults included."""
    from g2vlm import host_presets, presets

    native = {made.__name__: made for made in (presets.tiny, presets.g2vlm_2b)}
    if preset in native:
        fields = native[preset]().to_dict()
    elif preset in host_presets.PRESETS:
        fields = host_presets.PRESETS[preset]().to_fields()
    else:
        raise ValueError(f"PRESET is {preset!r}; it must be one of {', '.join([*native, *host_presets.PRESETS])}")
    print(json.dumps(fields, indent=2))
