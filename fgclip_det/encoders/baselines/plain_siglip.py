"""SigLIP 2 read as the FG-CLIP 2 that it is before any training."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fgclip_det.encoders.baselines.plain_clip import stretch_positions

_POSITIONS = "text_model.embeddings.position_embedding"
_LONG_TABLES = (f"{_POSITIONS}_ori.weight", f"{_POSITIONS}_res.weight")
_PATCHES = "vision_model.embeddings.patch_embedding.weight"
# What FG-CLIP 2 has beside SigLIP 2's parameters, and what each starts from.
_COPIES = {
    "dense_feature_head.": "vision_model.head.",
    "boxtext_head.": "text_model.head.",
    "longtext_head.": "text_model.head.",
}


def complete_plain_siglip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add to a SigLIP's weights what FG-CLIP 2 has more, as FG-CLIP 2's training starts from it.

    The dense head is the pooling head, the heads of long captions and boxes are the text head, the
    long position table keeps the first 20 positions and stretches the others by four (arXiv
    2510.10921, after FG-CLIP v1). So short captions and whole pictures give SigLIP's own features;
    the other features are read, but were never trained.

    Args:
        weights: By the names of a checkpoint of FG-CLIP 2, of SigLIP 2 with any aspect ratio, or
            of SigLIP (2) with a fixed one, whose patches are embedded by a convolution.

    Returns:
        All weights of an FG-CLIP 2; those of an FG-CLIP 2, and of anything else, as they were.
    """
    whole = dict(weights)
    patches = whole.get(_PATCHES)
    if patches is not None and patches.dim() == 4:
        whole[_PATCHES] = patches.permute(0, 2, 3, 1).flatten(1).contiguous()
    added = any(key.startswith(tuple(_COPIES)) or key in _LONG_TABLES for key in whole)
    table = whole.get(f"{_POSITIONS}.weight")
    if added or table is None or table.dim() != 2:
        return whole
    for key in _LONG_TABLES:
        whole[key] = stretch_positions(table)
    for new, old in _COPIES.items():
        heads = [key for key in weights if key.startswith(old)]
        whole.update({new + key[len(old) :]: weights[key].clone() for key in heads})
    return whole
