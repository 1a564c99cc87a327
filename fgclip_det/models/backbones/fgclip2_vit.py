"""FG-CLIP 2's frozen image tower as a detector backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmdet.registry import MODELS

from fgclip_det.encoders import FGCLIP2
from fgclip_det.models.backbones.fgclip_vit import FGCLIPViT


@MODELS.register_module()
class FGCLIP2ViT(FGCLIPViT):
    """Frozen FG-CLIP 2 (or SigLIP 2): maps for a pyramid, dense tokens in the space of box texts.

    Like `FGCLIPViT`, but the last map is of the ordinary last block, and `dense` runs the dense
    head on it. Pictures are read at any aspect ratio; the position table is resized to each grid.

    Args:
        encoder: See `build_encoder`.
        out_indices: Blocks to tap, 0-based and rising, negative ones counted from the end; the
            last one must be the last block, since the dense tokens come from it.

    Raises:
        ValueError: `out_indices` does not fit the depth of the encoder, or it is an FG-CLIP v1.
    """

    encoder_class = FGCLIP2

    def __init__(
        self,
        encoder: FGCLIP2 | str | Mapping,
        out_indices: Sequence[int] = (3, 5, 7, 11),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(encoder, out_indices=out_indices, init_cfg=init_cfg)
