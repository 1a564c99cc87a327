"""Names that regions may have: cosines, softmax, ensemble and threshold in one operator."""

from __future__ import annotations

import torch
from torch import Tensor

from fgclip_det.ops import transforms
from fgclip_det.ops._library import served_by_extension

_SERVED = served_by_extension("score_ensemble_above")


def score_ensemble_above(
    det: Tensor,
    vlm: Tensor,
    names: Tensor,
    backgrounds: Tensor,
    weight: Tensor,
    score_thr: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores above a threshold, of regions as names.

    A score is ``d ** (1 - w) * v ** w``, where d and v are the softmaxes of the products of the
    detector's and of the encoder's embedding with all names and the background (F-VLM, arXiv
    2209.15639, section 3.3). Of thousands of names few are likely for a region: the compiled
    operator never has the matrix of all scores, but the logits of some names at a time, which stay
    in the processor's cache. It serves float32 on the CPU where nothing is differentiated; PyTorch
    serves the rest.

    Args:
        det: (K, D) embeddings of the regions by the detector, times its temperature.
        vlm: (K, D) embeddings of the same regions by the encoder, times its temperature.
        names: (C, D) embeddings of the names.
        backgrounds: (2, D) embeddings of what has no name, the detector's and the encoder's.
        weight: (C,) w of each name, in [0, 1].
        score_thr: The threshold; lower scores and equal ones are left out.

    Returns:
        ``rows`` (M,) int64 in [0, K), ``columns`` (M,) int64 in [0, C) and ``scores`` (M,) in the
        dtype of `det`, row by row and in each by rising column. A region whose logits are not all
        finite has a score that is NaN.

    Raises:
        ValueError: A shape, dtype or device that does not fit.
    """
    given = {"det": det, "vlm": vlm, "names": names, "backgrounds": backgrounds, "weight": weight}
    _check(given)
    if is_served(*given.values()):
        return torch.ops.fgclip_det.score_ensemble_above(*given.values(), score_thr)
    with torch.autocast(det.device.type, enabled=False):
        own, other = (
            (regions @ torch.cat([names, background[None]]).T).log_softmax(dim=-1)[:, :-1]
            for regions, background in zip((det, vlm), backgrounds, strict=True)
        )
        scores = torch.lerp(own, other, weight).exp()
    # What is NaN is not below a threshold.
    rows, columns = (~(scores <= score_thr)).nonzero(as_tuple=True)
    return rows, columns, scores[rows, columns]


def is_served(*given: Tensor) -> bool:
    """Whether the compiled operator serves these arguments of `score_ensemble_above`."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or transforms.are_active():
        return False
    if torch.is_grad_enabled() and any(each.requires_grad for each in given):
        return False
    return given[0].device.type in _SERVED and given[0].dtype == torch.float32


def _check(given: dict[str, Tensor]) -> None:
    det, names = given["det"], given["names"]
    if det.dim() != 2 or names.dim() != 2:
        raise ValueError(
            "det and names must be (K, D) and (C, D), not of shape "
            f"{tuple(det.shape)} and {tuple(names.shape)}"
        )
    (count, dim), (num_names, _) = det.shape, names.shape
    shapes = ((count, dim), (count, dim), (num_names, dim), (2, dim), (num_names,))
    for (name, tensor), shape in zip(given.items(), shapes, strict=True):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must be of shape {shape}, not {tuple(tensor.shape)}")
        if (tensor.dtype, tensor.device) != (det.dtype, det.device):
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}: det is {det.dtype} on {det.device}"
            )
