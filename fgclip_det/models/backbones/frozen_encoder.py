"""A frozen FG-CLIP inside a module: built from what a config names, and in no checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.model import BaseModule
from torch import nn

from fgclip_det.encoders import (
    FGCLIP,
    FGCLIP2,
    FGCLIP2Config,
    FGCLIP2TextConfig,
    FGCLIP2VisionConfig,
    FGCLIPConfig,
    TextConfig,
    VisionConfig,
    load_encoder,
)


def build_encoder(encoder: FGCLIP | FGCLIP2 | str | Mapping) -> FGCLIP | FGCLIP2:
    """An FG-CLIP of either generation, in eval mode without gradients.

    Args:
        encoder: The model itself, a directory or hub id in the published layout, or, for random
            weights, its sizes: ``dict(vision=dict(...), text=dict(...), projection_dim=...)``, or
            ``dict(type="FGCLIP2", vision=dict(...), text=dict(...))``.

    Raises:
        ValueError: It is nothing of that kind, or its checkpoint cannot be read.
    """
    if isinstance(encoder, Mapping):
        encoder = _from_sizes(dict(encoder))
    elif not isinstance(encoder, nn.Module):
        if not encoder:
            raise ValueError(
                f"encoder is {encoder!r}: give the directory or hub id of an FG-CLIP, "
                "such as 'qihoo360/fg-clip-base'"
            )
        encoder = load_encoder(encoder)
    return encoder.eval().requires_grad_(False)


def _from_sizes(sizes: dict) -> FGCLIP | FGCLIP2:
    kind = sizes.pop("type", "FGCLIP")
    if kind not in ("FGCLIP", "FGCLIP2"):
        raise ValueError(f"encoder.type is {kind!r}: 'FGCLIP' or 'FGCLIP2'")
    first = kind == "FGCLIP"
    try:
        vision = (VisionConfig if first else FGCLIP2VisionConfig)(**sizes.pop("vision", {}))
        text = (TextConfig if first else FGCLIP2TextConfig)(**sizes.pop("text", {}))
        config = (FGCLIPConfig if first else FGCLIP2Config)(vision=vision, text=text, **sizes)
    except TypeError as error:
        raise ValueError(f"encoder does not hold the sizes of an {kind}Config: {error}") from None
    return FGCLIP(config) if first else FGCLIP2(config)


class FrozenEncoder(BaseModule):
    """Module on an FG-CLIP, or base of one.

    The encoder has no gradients, stays in eval mode whatever `train` is called with, and is no
    part of the state dict: it is named by its directory or hub id, not copied into checkpoints.

    Args:
        encoder: See `build_encoder`.

    Raises:
        ValueError: See `build_encoder`.
    """

    def __init__(
        self,
        encoder: FGCLIP | FGCLIP2 | str | Mapping,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.encoder = build_encoder(encoder)
        self.register_state_dict_post_hook(_drop_encoder)

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Set the mode of this module; the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest) -> None:
        # The encoder is not in checkpoints: hand it its own tensors, so that no loader (torch's
        # or MMEngine's, which walk the tree each in its own way) reports them as missing.
        own = {f"{prefix}encoder.{k}": v for k, v in self.encoder.state_dict().items()}
        for key in [k for k in state_dict if k.startswith(f"{prefix}encoder.")]:
            del state_dict[key]
        state_dict.update(own)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _drop_encoder(module: nn.Module, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    for key in [k for k in state_dict if k.startswith(f"{prefix}encoder.")]:
        del state_dict[key]
