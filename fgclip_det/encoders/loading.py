"""Either generation of FG-CLIP, as the checkpoint says."""

from __future__ import annotations

import os

from fgclip_det.encoders import pretrained
from fgclip_det.encoders.fgclip.config import SIGLIP_MODEL_TYPES
from fgclip_det.encoders.fgclip.fgclip import FGCLIP
from fgclip_det.encoders.fgclip2.fgclip2 import FGCLIP2


def load_encoder(name_or_path: str | os.PathLike) -> FGCLIP | FGCLIP2:
    """Read a checkpoint with the class that its ``config.json`` asks for.

    Args:
        name_or_path: A directory or hub id of an FG-CLIP (or CLIP) or an FG-CLIP 2 (or SigLIP).

    Returns:
        The model in float32, in eval mode, without gradients.

    Raises:
        ValueError: It is neither, or its weights do not fit its config exactly.
    """
    directory = pretrained.resolve_directory(name_or_path)
    values = pretrained.read_json(directory / pretrained.CONFIG_NAME)
    if values.get("model_type") in SIGLIP_MODEL_TYPES:
        return FGCLIP2.from_pretrained(directory)
    return FGCLIP.from_pretrained(directory)
