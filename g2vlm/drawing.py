"""What pictures for people are drawn with: colours that grow evenly, a range of depth, panels that show true pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

INK, FAINT, PAPER, INVALID = "black", "#666666", "white", 128


def even_colours(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Colours for values in [0, 1], from dark violet over red to pale yellow.

    Lightness grows evenly in Oklab (Ottosson, 2020), so that equal steps look equal, also in grey and to the colour-blind.
    """
    v = np.clip(values, 0, 1)
    lightness, chroma, hue = 0.28 + 0.66 * v, 0.08 + 0.30 * v * (1 - v) + 0.02 * v, np.radians(-65 + 165 * v)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cone**3 @ to_rgb.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class DepthRange:
    """Nearest and farthest depth that get colours of their own."""

    near: float
    far: float

    def brightness(self, depth: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """1 at the near end, 0 at the far end, even in the logarithm: depth is known up to a factor."""
        span = max(np.log(self.far / self.near), 1e-6)
        return 1 - np.log(np.maximum(depth, self.near) / self.near) / span


def depth_range(
    depths: Sequence[Float[np.ndarray, "_height _width"]], inside: Sequence[Bool[np.ndarray, "_height _width"]]
) -> DepthRange:
    """Percentiles 2 and 98 of the pixels of all views that are inside."""
    values = np.concatenate([depth[v] for depth, v in zip(depths, inside, strict=True)])
    return DepthRange(*map(float, np.percentile(values, [2, 98]))) if values.size else DepthRange(1.0, 1.0)


def depth_colours(
    depth: Float[np.ndarray, "height width"], inside: Bool[np.ndarray, "height width"], depths: DepthRange
) -> UInt8[np.ndarray, "height width 3"]:
    """Near is bright, far is dark, outside is grey."""
    return grey_outside(inside, even_colours(depths.brightness(np.where(inside, depth, depths.far))))


def grey_outside(inside: Bool[np.ndarray, "height width"], colours: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """Colours in [0, 255] where a map says something, one grey elsewhere."""
    return np.where(inside[..., None], colours, INVALID).round().astype(np.uint8)


def panel(pixels: UInt8[np.ndarray, "height width 3"], longer_side: int) -> Image.Image:
    """A map at the size wanted; enlarged maps show their true pixels."""
    height, width = pixels.shape[:2]
    factor = longer_side / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    kind = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    return Image.fromarray(pixels).resize(size, kind)
