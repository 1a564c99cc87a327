"""torchvision's non-maximum suppression without its Python, which costs much to import.

`import torchvision` brings torch.onnx and torch's compiler. The library of its operators alone is
a hundredth of that; who imports torchvision before or after finds it as ever, for a process loads
a library once.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor


@functools.cache
def _load_operators() -> None:
    """Define `torch.ops.torchvision`; torchvision itself does where its library is not found."""
    spec = importlib.util.find_spec("torchvision")
    folders = (spec and spec.submodule_search_locations) or []
    libraries = [file for folder in folders for file in sorted(Path(folder).glob("_C*.so"))]
    if len(libraries) == 1:
        torch.ops.load_library(libraries[0])
    else:
        importlib.import_module("torchvision")


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """`torchvision.ops.nms`.

    Args:
        boxes: (K, 4) float, xyxy.
        scores: (K,) of the same dtype.
        iou_threshold: a box goes when its IoU with a kept one is above this.

    Returns:
        (M,) int64 indices of the kept boxes, highest score first.
    """
    _load_operators()
    return torch.ops.torchvision.nms(boxes, scores, iou_threshold)


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """`torchvision.ops.box_iou`, which is imported only here.

    Args:
        boxes: (K, 4) xyxy.
        others: (M, 4) xyxy, in the same frame.

    Returns:
        (K, M) intersection over union of each pair.
    """
    return importlib.import_module("torchvision.ops").box_iou(boxes, others)
