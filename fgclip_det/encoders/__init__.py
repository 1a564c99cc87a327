"""FG-CLIP image-text encoders, read from the published Hugging Face layout."""

from fgclip_det.encoders.config import FGCLIPConfig, TextConfig, VisionConfig
from fgclip_det.encoders.fgclip import FGCLIP
from fgclip_det.encoders.image_encoder import FGCLIPImageEncoder
from fgclip_det.encoders.text_encoder import FGCLIPTextEncoder
from fgclip_det.encoders.tokenizer import train_tokenizer

__all__ = [
    "FGCLIP",
    "FGCLIPConfig",
    "FGCLIPImageEncoder",
    "FGCLIPTextEncoder",
    "TextConfig",
    "VisionConfig",
    "train_tokenizer",
]
