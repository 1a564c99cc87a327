"""Regions against texts in one step: pooled, normalised, compared."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip_det.ops.roi_align import roi_align


def region_classify(
    tokens: Tensor,
    rois: Tensor | list[Tensor],
    text_embeddings: Tensor,
    *,
    grid: tuple[int, int],
    spatial_scale: float = 1.0,
    temperature: float = 1.0,
    normalize_tokens: bool = False,
) -> Tensor:
    """Cosines of the regions of ViT tokens with texts (arXiv 2505.05071, section 3.1).

    The numbers of `roi_align` with one bin, `normalize` and a product, to rounding. The lengths
    of the regions divide the (K, T) products, so that of the regions only the pooled (K, C) ever
    exist. Differentiable in the tokens and the texts.

    Args:
        tokens: (N, h * w, C), float32, float64, float16 or bfloat16.
        rois: (K, 5) float, index of the image before xyxy, or one (K_i, 4) tensor for each image;
            in pixels.
        text_embeddings: (T, C), of any length each.
        grid: (h, w) of the tokens, in cells.
        spatial_scale: Cells per pixel, 1 / stride.
        temperature: What the cosines are multiplied by.
        normalize_tokens: Whether each token is brought to unit length before pooling.

    Returns:
        (K, T) float32 (float64 for float64 tokens); zeros for a box that covers no cell.

    Raises:
        ValueError: See `roi_align`; or the texts are not (T, C), or not on the tokens' device.
    """
    if text_embeddings.dim() != 2 or text_embeddings.shape[1] != tokens.shape[-1]:
        raise ValueError(
            f"text_embeddings must be (T, {tokens.shape[-1]}) like the tokens, not of shape "
            f"{tuple(text_embeddings.shape)}: encode the texts with the tokens' encoder"
        )
    if text_embeddings.device != tokens.device:
        raise ValueError(
            f"text_embeddings are on {text_embeddings.device} and tokens on {tokens.device}; move "
            "one of them"
        )
    if normalize_tokens:
        tokens = F.normalize(tokens, dim=-1)
    pooled = roi_align(tokens, rois, 1, spatial_scale, grid=grid).flatten(1)
    dtype = torch.float64 if tokens.dtype == torch.float64 else torch.float32
    pooled = pooled.to(dtype)
    # Autocast would take the products in half precision.
    with torch.autocast(tokens.device.type, enabled=False):
        texts = F.normalize(text_embeddings.to(dtype), dim=-1) * temperature
        lengths = pooled.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return (pooled @ texts.T) / lengths
