"""FG-CLIP image-text encoders, read from the published Hugging Face layout."""

from fgclip_det.encoders.dual_encoder import DualEncoder
from fgclip_det.encoders.fgclip.config import FGCLIPConfig, TextConfig, VisionConfig
from fgclip_det.encoders.fgclip.fgclip import FGCLIP
from fgclip_det.encoders.fgclip.image_encoder import FGCLIPImageEncoder
from fgclip_det.encoders.fgclip.text_encoder import FGCLIPTextEncoder
from fgclip_det.encoders.fgclip2.config import (
    FGCLIP2Config,
    FGCLIP2TextConfig,
    FGCLIP2VisionConfig,
)
from fgclip_det.encoders.fgclip2.fgclip2 import FGCLIP2
from fgclip_det.encoders.fgclip2.packed_images import PackedImages, pack_images
from fgclip_det.encoders.loading import build_encoder, load_encoder, register_encoder
from fgclip_det.encoders.region_encoder import RegionEncoder
from fgclip_det.encoders.tokenizer import train_tokenizer

__all__ = [
    "FGCLIP",
    "FGCLIP2",
    "DualEncoder",
    "FGCLIP2Config",
    "FGCLIP2TextConfig",
    "FGCLIP2VisionConfig",
    "FGCLIPConfig",
    "FGCLIPImageEncoder",
    "FGCLIPTextEncoder",
    "PackedImages",
    "RegionEncoder",
    "TextConfig",
    "VisionConfig",
    "build_encoder",
    "load_encoder",
    "pack_images",
    "register_encoder",
    "train_tokenizer",
]
