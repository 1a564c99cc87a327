"""Detectors of the Hugging Face hub, as sources of boxes that depend on no words."""

from __future__ import annotations

import os
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from fgclip_det.exit_codes import lacks_memory
from fgclip_det.hub import resolve_directory
from fgclip_det.io import one_line, quoted
from fgclip_det.models.detectors.picture_detector import PictureDetector
from fgclip_det.models.hub_families import read_family
from fgclip_det.models.hub_families.selection import select_boxes


@MODELS.register_module()
class HubDetector(PictureDetector):
    """A trained detector in the layout of the hub, for `OpenVocabWrapper`.

    Families are those of `fgclip_det.models.hub_families.FAMILIES`. Each query of the network is
    one box with one score, the best of its classes or its objectness; which class it was is
    forgotten. Weights are read strictly, from safetensors alone, and no code of a repository is
    ever run. Networks read the pixels of each picture once, as it was stored, one picture after
    the other, so that a batch changes nothing.

    Args:
        name: Directory, or hub id such as "ustc-community/dfine-small-obj365".
        revision: Of a hub id: commit, branch or tag.
        num_boxes: The most boxes of a picture; a network gives no more than it has queries.
        score_thr: Least score of a box.
        nms_iou: Overlap above which the weaker of two boxes goes, in (0, 1]; None for what the
            family needs, 0.7 for OWLv2 and no suppression for all others.
        prompt: What Grounding DINO looks for in all pictures, such as "object."; None for all
            other families.
        data_preprocessor: See `PictureDetector`.
        init_cfg: MMEngine's.

    Raises:
        ValueError: A setting is out of range, or the checkpoint cannot be found or read; the
            message says what to do.
    """

    def __init__(
        self,
        name: str | os.PathLike,
        revision: str | None = None,
        num_boxes: int = 300,
        score_thr: float = 0.0,
        nms_iou: float | None = None,
        prompt: str | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        _check_settings(name, num_boxes, score_thr, nms_iou, prompt)
        self.name, self.revision = os.fspath(name), revision
        self.directory = resolve_directory(name, revision, kind="detector")
        self.family = read_family(self.directory, prompt)
        self.num_boxes, self.score_thr = num_boxes, float(score_thr)
        self.nms_iou = self.family.nms_iou if nms_iou is None else float(nms_iou)

    def region_settings(self) -> dict[str, Any]:
        """What its boxes depend on beside its weights; where the files lie is no part of it."""
        return {
            "type": type(self).__name__,
            **self.family.told,
            "num_boxes": self.num_boxes,
            "score_thr": self.score_thr,
            "nms_iou": self.nms_iou,
        }

    @torch.no_grad()
    def find_boxes(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes of one picture by falling score, clipped to it.

        Args:
            picture: (3, H, W) uint8, RGB.

        Returns:
            ``boxes`` (K, 4) float32, xyxy, in pixels of `picture`, and ``scores`` (K,) float32.

        Raises:
            ValueError: Boxes or scores are NaN or infinite, or the network cannot read what its
                processor gives.
        """
        boxes, scores = self._found(picture)
        return select_boxes(
            boxes,
            scores,
            tuple(picture.shape[-2:]),
            num_boxes=self.num_boxes,
            score_thr=self.score_thr,
            nms_iou=self.nms_iou,
        )

    def _found(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return self.family(picture)
        except (IndexError, RuntimeError, ValueError) as error:
            if lacks_memory(error):
                raise
            raise ValueError(
                f"detector {quoted(self.name)} cannot read a picture of {picture.shape[2]} x "
                f"{picture.shape[1]} pixels ({one_line(error)}): its preprocessor_config.json and "
                "its config.json belong to two networks; copy both from one place"
            ) from error


def _check_settings(name: Any, num_boxes: Any, score_thr: Any, nms_iou: Any, prompt: Any) -> None:
    if not isinstance(name, str | os.PathLike) or not os.fspath(name):
        raise ValueError(
            f"name is {name!r:.80}: give the directory or hub id of a detector, such as "
            "'ustc-community/dfine-small-obj365'"
        )
    if isinstance(num_boxes, bool) or not isinstance(num_boxes, int) or num_boxes < 1:
        raise ValueError(f"num_boxes is {num_boxes!r:.80}: give a whole number of at least 1")
    if not _is_share(score_thr):
        raise ValueError(f"score_thr is {score_thr!r:.80}: give a number in [0, 1]")
    if nms_iou is not None and (not _is_share(nms_iou) or nms_iou == 0):
        raise ValueError(f"nms_iou is {nms_iou!r:.80}: give a number in (0, 1], or None")
    if prompt is not None and not isinstance(prompt, str):
        raise ValueError(f"prompt is {prompt!r:.80}: give a text such as 'object.'")


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
