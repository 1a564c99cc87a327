"""Sizes of an FG-CLIP 2 model, as its ``config.json`` states them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from fgclip_det.encoders.fgclip.config import (
    KEPT_POSITIONS,
    POSITION_STRETCH,
    SIGLIP_MODEL_TYPES,
)
from fgclip_det.encoders.sizes import check_sizes, check_whole, pick_sizes
from fgclip_det.io import quoted


@dataclass(frozen=True)
class FGCLIP2VisionConfig:
    """Sizes of the image tower. ``patch_size`` is in pixels, ``num_patches`` of the stored table.

    The table is resized to the grid of each image; it bounds no image.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    patch_size: int = 16
    num_patches: int = 256
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        check_sizes(self)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the stored position table, of which only the product is stored."""
        side = math.isqrt(self.num_patches)
        return side, side


@dataclass(frozen=True)
class FGCLIP2TextConfig:
    """Sizes of the text tower.

    ``max_position_embeddings`` and ``longtext_len`` are the tokens of a short and a long caption,
    ``keep_len`` the positions that both share.
    """

    vocab_size: int = 32000
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    projection_size: int = 768
    max_position_embeddings: int = 64
    keep_len: int = KEPT_POSITIONS
    longtext_len: int = 196
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.keep_len > min(self.max_position_embeddings, self.longtext_len):
            raise ValueError(
                f"keep_len {self.keep_len} is more than max_position_embeddings "
                f"{self.max_position_embeddings} or longtext_len {self.longtext_len}"
            )


@dataclass(frozen=True)
class FGCLIP2Config:
    """Sizes of both towers; the width of the image tower is that of the space they share."""

    vision: FGCLIP2VisionConfig = field(default_factory=FGCLIP2VisionConfig)
    text: FGCLIP2TextConfig = field(default_factory=FGCLIP2TextConfig)

    def __post_init__(self) -> None:
        if math.prod(self.vision.grid) != self.vision.num_patches:
            raise ValueError(
                f"num_patches {self.vision.num_patches} of FGCLIP2VisionConfig is no square number"
            )
        if self.vision.hidden_size != self.text.projection_size:
            raise ValueError(
                f"images have features of width {self.vision.hidden_size} (hidden_size of "
                f"vision_config), texts of {self.text.projection_size} (projection_size of "
                "text_config): they must be equal"
            )

    @property
    def projection_dim(self) -> int:
        """Width of the shared space."""
        return self.text.projection_size

    @classmethod
    def base(cls) -> FGCLIP2Config:
        """``qihoo360/fg-clip2-base``: ViT-B/16."""
        return cls(text=FGCLIP2TextConfig(vocab_size=256000))

    @classmethod
    def large(cls) -> FGCLIP2Config:
        """``qihoo360/fg-clip2-large``: ViT-L/16."""
        vision = FGCLIP2VisionConfig(1024, 4096, 24, 16)
        return cls(vision, FGCLIP2TextConfig(256000, 1024, 4096, 24, 16, projection_size=1024))

    @classmethod
    def tiny(cls) -> FGCLIP2Config:
        """Two blocks a tower and a table of 4 x 4 patches: for tests, in milliseconds."""
        vision = FGCLIP2VisionConfig(32, 64, 2, 4, num_patches=16)
        return cls(vision, FGCLIP2TextConfig(128, 24, 48, 2, 4, projection_size=32))

    @classmethod
    def from_dict(cls, values: dict) -> FGCLIP2Config:
        """Read the contents of a published ``config.json``; keys of no effect are passed over.

        Those of SigLIP 2 and SigLIP will do: a table for pictures of ``image_size`` is one of as
        many patches, and captions stretch as those of FG-CLIP 2.

        Raises:
            ValueError: It is not the configuration of a SigLIP-shaped model.
        """
        model_type = values.get("model_type")
        sections = [values.get("vision_config"), values.get("text_config")]
        if model_type not in SIGLIP_MODEL_TYPES or not all(isinstance(s, dict) for s in sections):
            raise ValueError(
                f"the config of model_type {quoted(model_type)} is not that of an FG-CLIP 2 or "
                "SigLIP 2 checkpoint: it needs model_type 'fgclip2', vision_config and text_config"
            )
        vision, text = dict(values["vision_config"]), dict(values["text_config"])
        if model_type == "siglip":
            side, patch = (
                check_whole(vision.get(key, default), key, "vision_config")
                for key, default in (("image_size", 224), ("patch_size", 16))
            )
            vision["num_patches"] = (side // patch) ** 2
        if model_type != "fgclip2":
            short = text.get("max_position_embeddings", 64)
            check_whole(short, "max_position_embeddings", "text_config", KEPT_POSITIONS)
            text["longtext_len"] = KEPT_POSITIONS + POSITION_STRETCH * (short - KEPT_POSITIONS)
        if text.get("projection_size") is None:
            text["projection_size"] = text.get("hidden_size", 768)
        return cls(pick_sizes(FGCLIP2VisionConfig, vision), pick_sizes(FGCLIP2TextConfig, text))

    def to_dict(self) -> dict:
        """The contents of ``config.json`` in the published layout."""
        return {
            "architectures": ["FGCLIP2Model"],
            "model_type": "fgclip2",
            "text_config": {"model_type": "fgclip2_text_model", **asdict(self.text)},
            "vision_config": {"model_type": "fgclip2_vision_model", **asdict(self.vision)},
        }
