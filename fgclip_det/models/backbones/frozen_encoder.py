"""A frozen FG-CLIP inside a module: built from what a config names, and in no checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.model import BaseModule
from torch import nn

from fgclip_det.encoders import FGCLIP, FGCLIP2, build_encoder


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
