"""Either generation of FG-CLIP, as its checkpoint or a config says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from fgclip_det.encoders import pretrained
from fgclip_det.encoders.dual_encoder import DualEncoder
from fgclip_det.encoders.fgclip.config import (
    SIGLIP_MODEL_TYPES,
    FGCLIPConfig,
    TextConfig,
    VisionConfig,
)
from fgclip_det.encoders.fgclip.fgclip import FGCLIP
from fgclip_det.encoders.fgclip2.config import (
    FGCLIP2Config,
    FGCLIP2TextConfig,
    FGCLIP2VisionConfig,
)
from fgclip_det.encoders.fgclip2.fgclip2 import FGCLIP2
from fgclip_det.hub import resolve_directory

_Family = TypeVar("_Family", bound=type[DualEncoder])
# Each has what `register_encoder` asks for, which no type of Python's says.
_FAMILIES: dict[str, Any] = {}


def register_encoder(family: _Family) -> _Family:
    """Class decorator: checkpoints and configs may name this family of encoders.

    It is a `DualEncoder` whose ``model_types`` are those of the ``config.json`` of its checkpoints,
    and whose ``from_pretrained(name_or_path, revision=None)`` reads one. A config builds it from
    keywords of its constructor by ``encoder=dict(type="ItsName", ...)``.

    Raises:
        ValueError: It lacks one of these, or another family has its name or model type.
    """
    kinds = getattr(family, "model_types", ())
    reads = hasattr(family, "from_pretrained")
    if not (isinstance(family, type) and issubclass(family, DualEncoder) and kinds and reads):
        raise ValueError(
            f"{family!r:.80} is no family of encoders: it must be a DualEncoder with model_types "
            "and from_pretrained"
        )
    own = {"clip", *SIGLIP_MODEL_TYPES, FGCLIP.__name__, FGCLIP2.__name__}
    for name in (family.__name__, *kinds):
        if name in own or _FAMILIES.get(name, family).__qualname__ != family.__qualname__:
            raise ValueError(f"{name!r} is taken by another family of encoders: name it otherwise")
        _FAMILIES[name] = family
    return family


def load_encoder(name_or_path: str | os.PathLike, revision: str | None = None) -> FGCLIP | FGCLIP2:
    """Read a checkpoint with the class that its ``config.json`` asks for.

    Args:
        name_or_path: A directory or hub id of an FG-CLIP (or CLIP) or an FG-CLIP 2 (or SigLIP).
        revision: Of a hub id: commit, branch or tag.

    Returns:
        The model in float32, in eval mode, without gradients.

    Raises:
        ValueError: It is neither, or its weights do not fit its config exactly.
    """
    directory = resolve_directory(name_or_path, revision)
    values = pretrained.read_config(directory / pretrained.CONFIG_NAME)
    family = _FAMILIES.get(str(values.get("model_type")))
    if family is not None:
        return family.from_pretrained(directory)
    if values.get("model_type") in SIGLIP_MODEL_TYPES:
        return FGCLIP2.from_pretrained(directory)
    return FGCLIP.from_pretrained(directory)


def build_encoder(
    encoder: FGCLIP | FGCLIP2 | str | os.PathLike | Mapping,
) -> FGCLIP | FGCLIP2:
    """An FG-CLIP of either generation, in eval mode without gradients.

    Args:
        encoder: The model itself, a directory or hub id in the published layout, or, for random
            weights, its sizes: ``dict(vision=dict(...), text=dict(...), projection_dim=...)``, or
            ``dict(type="FGCLIP2", vision=dict(...), text=dict(...))``; or ``dict(name=...,
            revision=...)``, at a revision of the hub.

    Raises:
        ValueError: It is nothing of that kind, or its checkpoint cannot be read.
    """
    if isinstance(encoder, Mapping) and "name" in encoder:
        if {*encoder} - {"name", "revision"}:
            raise ValueError(f"encoder has {', '.join(encoder)}: give name and revision alone")
        encoder = load_encoder(encoder["name"], encoder.get("revision"))
    elif isinstance(encoder, Mapping):
        encoder = _from_sizes(dict(encoder))
    elif not isinstance(encoder, nn.Module):
        if not encoder:
            raise ValueError(
                f"encoder is {encoder!r}: give the directory or hub id of an FG-CLIP, "
                "such as 'qihoo360/fg-clip-base'"
            )
        encoder = load_encoder(encoder)
    return encoder.eval().requires_grad_(False)


def _from_sizes(sizes: dict[str, Any]) -> FGCLIP | FGCLIP2:
    if sizes.get("type") in _FAMILIES:
        return _FAMILIES[sizes.pop("type")](**sizes)
    kind, vision, text = sizes.pop("type", "FGCLIP"), sizes.pop("vision", {}), sizes.pop("text", {})
    if kind not in ("FGCLIP", "FGCLIP2"):
        raise ValueError(
            f"encoder.type is {kind!r}: 'FGCLIP', 'FGCLIP2', or a family of register_encoder"
        )
    config: FGCLIPConfig | FGCLIP2Config
    try:
        if kind == "FGCLIP":
            config = FGCLIPConfig(VisionConfig(**vision), TextConfig(**text), **sizes)
        else:
            parts = FGCLIP2VisionConfig(**vision), FGCLIP2TextConfig(**text)
            config = FGCLIP2Config(*parts, **sizes)
    except TypeError as error:
        raise ValueError(f"encoder does not hold the sizes of an {kind}Config: {error}") from None
    return FGCLIP(config) if isinstance(config, FGCLIPConfig) else FGCLIP2(config)
