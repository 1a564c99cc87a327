"""Boxes of any function: of another package's detector, of masks, of one's own model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from fgclip_det.models.detectors.picture_detector import PictureDetector
from fgclip_det.ops.finite import check_finite

Source = Callable[[np.ndarray], Any]


@MODELS.register_module()
class BoxSource(PictureDetector):
    """A function as a detector, for `OpenVocabWrapper`.

    The function takes one picture, (H, W, 3) uint8, RGB, and gives one of

    * ``boxes, scores``: (K, 4) xyxy in pixels of the picture, and (K,) in [0, 1];
    * a dict with ``boxes`` and ``scores``, as torchvision's detectors do for each picture;
    * an object whose ``boxes`` have ``xyxy`` and ``conf``, as Ultralytics' results do, or a list of
      one;
    * a list of dicts with ``bbox``, x, y, width and height, and ``predicted_iou``, as SAM's
      automatic mask generator does.

    Saved regions are told apart by the function's name, by `name`, and where the function is a
    module by its weights: give another `name` where something else changes the boxes.

    Args:
        source: The function, or its dotted name such as "my_package.boxes.find".
        name: What tells this source from others of the same function.
        data_preprocessor: See `PictureDetector`.
        init_cfg: MMEngine's.

    Raises:
        ValueError: `source` is no function and names none.
    """

    def __init__(
        self,
        source: Source | str,
        name: str = "",
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.source = _imported(source) if isinstance(source, str) else source
        if not callable(self.source):
            raise ValueError(f"source is {source!r:.80}: give a function, or its dotted name")
        self.name = name

    @property
    def source_name(self) -> str:
        """What the function is called."""
        named = self.source if hasattr(self.source, "__qualname__") else type(self.source)
        return f"{named.__module__}.{named.__qualname__}"

    def find_boxes(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes of the function; see `PictureDetector`.

        Raises:
            ValueError: It gives something else, or numbers that make no sense.
        """
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())
        given = self.source(pixels)
        boxes, scores = (_to_tensor(values, self.source_name) for values in self._read(given))
        if not len(boxes) and not len(scores):
            return boxes.new_zeros(0, 4), scores.new_zeros(0)
        where = f"box source {self.source_name}"
        if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
            raise ValueError(
                f"{where} gave boxes of shape {tuple(boxes.shape)} and scores of shape "
                f"{tuple(scores.shape)}: they must be (K, 4), xyxy, and (K,)"
            )
        check_finite({"boxes": boxes, "scores": scores}, where)
        self._check_range(boxes, scores, pixels.shape[:2])
        return boxes, scores

    def _read(self, given: Any) -> tuple[Any, Any]:
        """Boxes and scores of what the function gave."""
        if isinstance(given, Mapping) and {"boxes", "scores"} <= {*given}:
            return given["boxes"], given["scores"]
        if isinstance(given, Sequence) and all(_is_mask(record) for record in given):
            corners = [[x, y, x + w, y + h] for x, y, w, h in (own["bbox"] for own in given)]
            return corners, [own.get("predicted_iou", own.get("score", 1.0)) for own in given]
        if isinstance(given, Sequence) and len(given) == 1 and hasattr(given[0], "boxes"):
            given = given[0]
        own = getattr(given, "boxes", None)
        if hasattr(own, "xyxy") and hasattr(own, "conf"):
            return own.xyxy, own.conf
        if isinstance(given, Sequence) and len(given) == 2:
            return given[0], given[1]
        raise ValueError(
            f"box source {self.source_name} gave a {type(given).__name__}: it must give boxes and "
            "scores of one picture, see BoxSource"
        )

    def _check_range(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> None:
        where, (height, width) = f"box source {self.source_name}", size
        if scores.min() < 0 or scores.max() > 1:
            wrong = scores.min() if scores.min() < 0 else scores.max()
            raise ValueError(f"{where} gave the score {wrong:.4g}: scores must lie in [0, 1]")
        if (boxes[:, 2:] < boxes[:, :2]).any():
            row = int((boxes[:, 2:] < boxes[:, :2]).any(dim=1).nonzero()[0])
            raise ValueError(
                f"{where} gave the box {boxes[row].tolist()}, whose second corner lies before its "
                "first: boxes must be xyxy"
            )
        if (boxes[:, 0] >= width).all() or (boxes[:, 1] >= height).all():
            raise ValueError(
                f"all {len(boxes)} boxes that {where} gave lie beside the picture of {width}x"
                f"{height} pixels: give them in pixels of the picture"
            )
        if max(height, width) > 4 and boxes.max() <= 1:
            raise ValueError(
                f"no box that {where} gave is larger than one pixel: give pixels of the picture, "
                "not fractions of it"
            )


def _is_mask(record: Any) -> bool:
    return isinstance(record, Mapping) and "bbox" in record


def _to_tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().float()
    try:
        return torch.as_tensor(np.asarray(values, dtype=np.float32))
    except (TypeError, ValueError):
        raise ValueError(
            f"box source {name} gave {values!r:.80}, which are no numbers: give arrays or tensors"
        ) from None


def _imported(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"source {dotted!r} cannot be imported ({error}): check it") from None
