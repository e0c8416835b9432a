"""G2VLM: one model that reconstructs a scene in 3D from a few photos and answers questions about it.

The names below are imported on first use, so that `import g2vlm` alone loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from g2vlm import presets
    from g2vlm.config import G2VLMConfig
    from g2vlm.export.load import load_reconstruction
    from g2vlm.export.save import save_reconstruction
    from g2vlm.hub import save
    from g2vlm.loading import load
    from g2vlm.model import G2VLM
    from g2vlm.predictor import Predictor
    from g2vlm.records import Geometry, Reconstruction, Views

__version__ = "0.5.0"

__all__ = [
    "G2VLM",
    "G2VLMConfig",
    "Geometry",
    "Predictor",
    "Reconstruction",
    "Views",
    "load",
    "load_reconstruction",
    "presets",
    "save",
    "save_reconstruction",
]

_HOME = {
    "G2VLM": "model",
    "G2VLMConfig": "config",
    "Geometry": "records",
    "Predictor": "predictor",
    "Reconstruction": "records",
    "Views": "records",
    "load": "loading",
    "load_reconstruction": "export.load",
    "save": "hub",
    "save_reconstruction": "export.save",
}


def __getattr__(name: str) -> Any:
    if name == "presets":
        return import_module("g2vlm.presets")
    if name in _HOME:
        return getattr(import_module(f"g2vlm.{_HOME[name]}"), name)
    raise AttributeError(f"module 'g2vlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
