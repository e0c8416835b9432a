"""Readers of data sets: one module per layout, each with `scenes(src)`.

`scenes` lists what lies in a folder and reads a scene only when it is asked for. It is a `map` over scenes, not a
generator, so that after a BadSample the next scene follows (`g2vlm.data.recon.each_good`). A folder that is not of its
layout at all is a ValueError that says what was looked for.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from g2vlm.data.recon import Scene

MODULES = {
    "scene_json": "scene_json",
    "colmap": "colmap",
    "transforms": "transforms",
    "tum": "tum",
    "7scenes": "sevenscenes",
    "scannet": "scannet",
    "scannetpp": "scannetpp",
    "arkitscenes": "arkitscenes",
    "co3dv2": "co3dv2",
    "dl3dv": "dl3dv",
    "blendedmvs": "blendedmvs",
    "tartanair": "tartanair",
    "hypersim": "hypersim",
}


def _reader(module: str) -> Callable[[Path], Iterator[Scene]]:
    def scenes(src: Path) -> Iterator[Scene]:
        return import_module(f"{__name__}.{module}").scenes(src)

    return scenes


READERS: dict[str, Callable[[Path], Iterator[Scene]]] = {kind: _reader(module) for kind, module in MODULES.items()}
