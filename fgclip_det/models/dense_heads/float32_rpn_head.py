"""MMDetection's region proposal network with its geometry in float32."""

from __future__ import annotations

from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class Float32RPNHead(RPNHead):
    """`RPNHead` whose outputs are float32 under automatic mixed precision and in half models.

    MMDetection makes its anchors, and through them its proposals, in the dtype of the scores:
    bfloat16 turns the coordinate 1333 into 1336, and batched NMS fails on mixed dtypes.
    """

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) -> float32 scores (N, A, h, w) and deltas (N, 4 A, h, w)."""
        scores, deltas = super().forward_single(x)
        return scores.float(), deltas.float()
