"""The one configuration a G2VLM is built from; every choice is checked where it is made."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from transformers import PreTrainedConfig
from transformers.models.dinov2_with_registers import Dinov2WithRegistersConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig

Visibility = Literal["global", "frame", "block_causal", "mixed"]
"""What geometric tokens see: all views of their block, their own view, earlier views too, or the first two by turns."""

ViewContext = Literal["views", "sequence"]
"""What else the patches of views see: nothing but each other, or all that stands before them, and their own markers."""

ViewPositions = Literal["shared", "sequential"]
"""Rotary positions of views: every view starts at the same one, or each goes on where the last one ended."""

PictureAttention = Literal["full", "causal"]
"""What tokens of a picture see of it: all of it, or only what comes before them, as in stock Qwen2-VL."""

DinoWindows = Literal["per_image", "reference"]
"""DINOv2 attention: inside each image, or in the released code's windows, which drift across images."""

ViewResize = Literal["long_side", "first_view_width"]
"""Working size of a photo: its own aspect ratio by its longer side, or the first photo's ratio at a fixed width."""

AttentionBackend = Literal["sdpa", "flex", "flash", "xformers"]


@dataclass(frozen=True)
class HeadsConfig:
    """Heads on the geometric tokens: each is a small transformer decoder and a projection.

    The three switches say which heads exist; local points and cameras always do.
    """

    depth: int = 5
    num_heads: int = 16
    mlp_ratio: int = 4
    point_width: int = 1024
    camera_width: int = 512
    rope_base: float = 100.0
    global_points: bool = True
    confidence: bool = True
    normals: bool = True


@dataclass(frozen=True)
class TokenIds:
    """Ids with a meaning of their own; the defaults are those of the public Qwen2-VL vocabulary.

    view_patch and image_patch mark the places that encoder outputs fill (geometric and semantic).
    """

    bos: int = 151644
    eos: int = 151645
    vision_start: int = 151652
    vision_end: int = 151653
    view_patch: int = 151654
    image_patch: int = 151655
    newline: int = 198
    pad: int = 151643


class G2VLMConfig(PreTrainedConfig):
    """Configuration of a native G2VLM.

    text_config: shape of both experts of the decoder (Qwen2-VL text configuration).
    vision_config: semantic vision tower. dino_config: geometric encoder (DINOv2 with registers).
    semantic_qk_norm: off for stock Qwen2-VL weights, on in the released G2VLM.
    layer_scale_init: start value of the geometric branch's LayerScale.
    geometric_rope_theta: rotary base of geometric tokens; None: that of text_config. Small views need a small one, words a great one.
    resolution, view_resize: working size of photos, pixels.
    picture_size: side of the square that photos are stretched to for the vision tower; None: each at the size of its view.
    has_language: False for weights whose semantic expert never learnt to answer.
    """

    model_type = "g2vlm"
    has_no_defaults_at_init = True  # the parts have defaults, but not ones that fit together

    def __init__(
        self,
        text_config: Qwen2VLTextConfig | dict[str, Any] | None = None,
        vision_config: Qwen2VLVisionConfig | dict[str, Any] | None = None,
        dino_config: Dinov2WithRegistersConfig | dict[str, Any] | None = None,
        heads: HeadsConfig | dict[str, Any] | None = None,
        tokens: TokenIds | dict[str, Any] | None = None,
        *,
        semantic_qk_norm: bool = True,
        geometric_qk_norm: bool = True,
        layer_scale_init: float = 0.01,
        geometric_rope_theta: float | None = None,
        visibility: Visibility = "global",
        view_context: ViewContext = "views",
        view_positions: ViewPositions = "shared",
        picture_attention: PictureAttention = "full",
        dino_windows: DinoWindows = "per_image",
        view_resize: ViewResize = "long_side",
        resolution: int = 518,
        picture_size: int | None = None,
        has_language: bool = True,
        attention: AttentionBackend = "sdpa",
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        self.tokens = _part(TokenIds, tokens)
        if not isinstance(text_config, Qwen2VLTextConfig):
            text_config = {"bos_token_id": self.tokens.bos, "eos_token_id": self.tokens.eos} | (text_config or {})
        self.text_config = _part(Qwen2VLTextConfig, text_config)
        self.vision_config = _part(Qwen2VLVisionConfig, vision_config)
        self.dino_config = _part(Dinov2WithRegistersConfig, dino_config)
        self.heads = _part(HeadsConfig, heads)
        self.semantic_qk_norm = semantic_qk_norm
        self.geometric_qk_norm = geometric_qk_norm
        self.layer_scale_init = layer_scale_init
        self.geometric_rope_theta = geometric_rope_theta
        self.visibility: Visibility = visibility
        self.view_context: ViewContext = view_context
        self.view_positions: ViewPositions = view_positions
        self.picture_attention: PictureAttention = picture_attention
        self.dino_windows: DinoWindows = dino_windows
        self.view_resize: ViewResize = view_resize
        self.resolution = resolution
        self.picture_size = picture_size
        self.has_language = has_language
        self.attention: AttentionBackend = attention
        self._check()
        kwargs.setdefault("bos_token_id", self.tokens.bos)
        kwargs.setdefault("eos_token_id", self.tokens.eos)
        kwargs.setdefault("pad_token_id", self.tokens.pad)
        kwargs["tie_word_embeddings"] = tie_word_embeddings
        super().__init__(**kwargs)

    def _check(self) -> None:
        for field, choices in (
            ("visibility", Visibility),
            ("view_context", ViewContext),
            ("view_positions", ViewPositions),
            ("picture_attention", PictureAttention),
            ("dino_windows", DinoWindows),
            ("view_resize", ViewResize),
            ("attention", AttentionBackend),
        ):
            if getattr(self, field) not in get_args(choices):
                raise ValueError(f"{field} is {getattr(self, field)!r}; it must be one of {get_args(choices)}")
        text = self.text_config
        if text.hidden_size % text.num_attention_heads:
            raise ValueError(
                f"hidden_size ({text.hidden_size}) must be a multiple of num_attention_heads ({text.num_attention_heads})"
            )
        if text.num_attention_heads % text.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({text.num_attention_heads}) must be a multiple of num_key_value_heads "
                f"({text.num_key_value_heads})"
            )
        if "mrope_section" not in text.rope_parameters:
            raise ValueError(
                f"rope_parameters of text_config lack mrope_section: {text.rope_parameters}; give three numbers that sum "
                f"to half the head width, {self.head_width // 2}"
            )
        if 2 * sum(self.mrope_section) != self.head_width:
            raise ValueError(
                f"mrope_section {self.mrope_section} must sum to half the head width, {self.head_width // 2}"
            )
        if self.geometric_rope_theta is not None and self.geometric_rope_theta <= 1:
            raise ValueError(f"geometric_rope_theta is {self.geometric_rope_theta}; it must be greater than 1, or None")
        if text.hidden_size % (4 * self.heads.num_heads):
            raise ValueError(
                f"hidden_size ({text.hidden_size}) must be a multiple of 4 x heads.num_heads ({self.heads.num_heads}): "
                "the heads' rotary embedding splits each of their attention heads in four"
            )
        if self.vision_config.hidden_size != text.hidden_size:
            raise ValueError(
                f"vision_config.hidden_size ({self.vision_config.hidden_size}) must equal text_config.hidden_size "
                f"({text.hidden_size})"
            )
        largest = max(asdict(self.tokens).values())
        if largest >= text.vocab_size:
            raise ValueError(f"tokens has the id {largest}, but vocab_size is {text.vocab_size}")
        if self.picture_size is not None and self.picture_size < 1:
            raise ValueError(f"picture_size is {self.picture_size}; it must be 1 pixel or more, or None")
        if self.resolution % self.patch_size:
            raise ValueError(f"resolution ({self.resolution}) must be a multiple of the patch size ({self.patch_size})")

    @property
    def head_width(self) -> int:
        return self.text_config.hidden_size // self.text_config.num_attention_heads

    @property
    def mrope_section(self) -> tuple[int, ...]:
        """Frequencies of the temporal, row and column axes."""
        return tuple(self.text_config.rope_parameters["mrope_section"])

    @property
    def rope_thetas(self) -> tuple[float, float]:
        """Rotary bases of semantic and of geometric tokens."""
        theta = self.text_config.rope_parameters["rope_theta"]
        return theta, self.geometric_rope_theta or theta

    @property
    def patch_size(self) -> int:
        """Side of a DINOv2 patch, pixels."""
        return self.dino_config.patch_size

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of a view of this size in pixels."""
        patch = self.patch_size
        if height % patch or width % patch:
            raise ValueError(f"a view is {height} x {width} pixels; both sides must be multiples of {patch}: resize it")
        return height // patch, width // patch

    def get_text_config(self, decoder: Any = None, encoder: Any = None) -> Qwen2VLTextConfig:
        """The decoder's shape, which is what caches and generation ask for."""
        return self.text_config

    def to_dict(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).to_dict() for name in ("text_config", "vision_config", "dino_config")}
        return super().to_dict() | parts | {"heads": asdict(self.heads), "tokens": asdict(self.tokens)}

    def with_options(self, **changes: Any) -> "G2VLMConfig":
        """A copy with some fields replaced; `heads` takes a dict of the fields of HeadsConfig to change."""
        fields = self.to_dict()
        if unknown := changes.keys() - fields.keys():
            raise ValueError(f"no option {', '.join(sorted(unknown))}; the options are {', '.join(sorted(fields))}")
        if isinstance(heads := changes.get("heads"), dict):
            changes["heads"] = replace(self.heads, **heads)
        return type(self)(**(fields | changes))


def _part(kind: type, value: Any) -> Any:
    """A nested configuration, from itself, from the dictionary it was saved as, or its defaults."""
    if isinstance(value, kind):
        return value
    return kind(**(value or {}))
