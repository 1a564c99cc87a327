"""Sizes of an FG-CLIP model, as its ``config.json`` states them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from fgclip_det.encoders.sizes import check_sizes, pick_sizes
from fgclip_det.io import quoted

# The long position table keeps the first 20 positions of the short one and stretches the other
# 57 by four (FG-CLIP, arXiv 2505.05071, section 3.1, after Long-CLIP): 20 + 57 * 4 = 248.
KEPT_POSITIONS = 20
POSITION_STRETCH = 4

# CLIP configurations written before transformers 4.24 carry this id in place of the real one.
_LEGACY_EOS_TOKEN_ID = 2

# What FG-CLIP 2 and the SigLIP checkpoints that it starts from call themselves.
SIGLIP_MODEL_TYPES = ("fgclip2", "siglip2", "siglip")


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the image tower. ``image_size`` and ``patch_size`` are in pixels."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 16
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.image_size < self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is smaller than patch_size {self.patch_size}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the stored position table."""
        side = self.image_size // self.patch_size
        return side, side


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the text tower. ``max_position_embeddings`` is the length of a short caption."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    eos_token_id: int = 49407
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.max_position_embeddings < KEPT_POSITIONS:
            raise ValueError(
                f"max_position_embeddings is {self.max_position_embeddings}: long captions keep "
                f"the first {KEPT_POSITIONS}"
            )
        if self.eos_token_id >= self.vocab_size:
            raise ValueError(
                f"eos_token_id {self.eos_token_id} is none of the {self.vocab_size} tokens of "
                "vocab_size"
            )

    @property
    def long_max_position_embeddings(self) -> int:
        """Length of a long caption in tokens: 248 where a short one has 77."""
        stretched = (self.max_position_embeddings - KEPT_POSITIONS) * POSITION_STRETCH
        return KEPT_POSITIONS + stretched


@dataclass(frozen=True)
class FGCLIPConfig:
    """Sizes of both towers and of the space they share (``projection_dim``)."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592

    def __post_init__(self) -> None:
        check_sizes(self)

    @classmethod
    def base(cls) -> FGCLIPConfig:
        """``qihoo360/fg-clip-base``: ViT-B/16 at 224 pixels."""
        return cls()

    @classmethod
    def large(cls) -> FGCLIPConfig:
        """``qihoo360/fg-clip-large``: ViT-L/14 at 336 pixels."""
        vision = VisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
        )
        text = TextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
        return cls(vision, text, projection_dim=768)

    @classmethod
    def tiny(cls) -> FGCLIPConfig:
        """Two blocks a tower at 64 pixels: for tests, in milliseconds."""
        vision = VisionConfig(32, 64, 2, 4, image_size=64, patch_size=16)
        text = TextConfig(128, 24, 48, 2, 4, eos_token_id=127)
        return cls(vision, text, projection_dim=20)

    @classmethod
    def from_dict(cls, values: dict) -> FGCLIPConfig:
        """Read the contents of a published ``config.json``; keys of no effect are passed over.

        Raises:
            ValueError: It is not the configuration of a CLIP-shaped model.
        """
        if values.get("model_type") in SIGLIP_MODEL_TYPES:
            raise ValueError(f"model_type {quoted(values['model_type'])}: read it with FGCLIP2")
        for key in ("vision_config", "text_config"):
            if not isinstance(values.get(key), dict):
                raise ValueError(
                    f"the config of model_type {quoted(values.get('model_type'))} has no {key!r}: "
                    "not an FG-CLIP v1 checkpoint"
                )
        vision = pick_sizes(VisionConfig, values["vision_config"])
        text = pick_sizes(TextConfig, values["text_config"])
        if text.eos_token_id == _LEGACY_EOS_TOKEN_ID:
            text = TextConfig(**{**asdict(text), "eos_token_id": text.vocab_size - 1})
        projection_dim = values.get("projection_dim", cls.projection_dim)
        logit_scale = values.get("logit_scale_init_value", cls.logit_scale_init_value)
        return cls(vision, text, projection_dim, logit_scale)

    def to_dict(self) -> dict:
        """The contents of ``config.json`` in the published layout."""
        text = {"model_type": "clip_text_model", **asdict(self.text)}
        text.update(pad_token_id=self.text.eos_token_id, projection_dim=self.projection_dim)
        vision = {"model_type": "clip_vision_model", **asdict(self.vision)}
        vision["projection_dim"] = self.projection_dim
        return {
            "architectures": ["FGCLIPModel"],
            "model_type": "clip",
            "projection_dim": self.projection_dim,
            "logit_scale_init_value": self.logit_scale_init_value,
            "text_config": text,
            "vision_config": vision,
        }
