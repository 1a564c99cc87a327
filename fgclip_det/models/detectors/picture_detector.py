"""A detector that reads a picture at a time, as it was stored: pixels in, boxes and scores out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from fgclip_det.models.detectors.detector_inputs import image_metas
from fgclip_det.models.regions.detector_pixels import picture_slices, to_rgb


class PictureDetector(BaseDetector):
    """The base of box sources that are no networks of MMDetection's, for `OpenVocabWrapper`.

    A subclass defines `find_boxes`, and is registered in ``mmdet.registry.MODELS``. Its config's
    pipeline has no resize: this detector and FG-CLIP each read the picture's own pixels once. It
    has its weights when it is built; no checkpoint of it is asked for.

    Args:
        data_preprocessor: What turns the pipeline's BGR into RGB; None for one that leaves pixels
            as they are.
        init_cfg: MMEngine's.
    """

    def __init__(
        self,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = {"type": "DetDataPreprocessor", "bgr_to_rgb": True}
        if not isinstance(data_preprocessor, nn.Module):
            # Built here, since MMEngine finds MMDetection's classes only under its default scope.
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)

    @property
    def with_bbox(self) -> bool:
        """Whether it gives boxes."""
        return True

    def init_weights(self) -> None:
        """Nothing: networks of other packages would draw their weights anew."""

    def train(self, mode: bool = True) -> PictureDetector:
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    def region_settings(self) -> dict[str, Any] | None:
        """What its boxes depend on beside its weights; None where its config tells it."""
        return None

    def find_boxes(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes of one picture, and how sure it is of each.

        Args:
            picture: (3, H, W) uint8, RGB.

        Returns:
            ``boxes`` (K, 4), xyxy, in pixels of `picture`, and ``scores`` (K,) in [0, 1].
        """
        raise NotImplementedError

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: Sequence[DetDataSample] | None = None,
        rescale: bool = True,
    ) -> list[DetDataSample]:
        """`find_boxes` of each picture, into ``pred_instances``; all labels are 0.

        Args:
            batch_inputs: (N, 3, H, W), of the preprocessor.
            batch_data_samples: Where the pictures lie in them; None for all over.
            rescale: Whether boxes are wanted in pixels of the original pictures.
        """
        if batch_data_samples is None:
            batch_data_samples = [
                DetDataSample(metainfo=meta) for meta in image_metas(batch_inputs, None)
            ]
        pixels = to_rgb(batch_inputs, self.data_preprocessor).round().clamp(0, 255).byte()
        for picture, sample in zip(pixels, batch_data_samples, strict=True):
            rows, columns = picture_slices(sample.metainfo)
            boxes, scores = self.find_boxes(picture[:, rows, columns])
            self._check_found(boxes, scores)
            boxes = boxes.to(batch_inputs.device, torch.float32)
            if rescale and "scale_factor" in sample:
                boxes = boxes / boxes.new_tensor([*sample.scale_factor[:2]] * 2)
            sample.pred_instances = InstanceData(
                bboxes=boxes,
                scores=scores.to(boxes),
                labels=torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device),
            )
        return list(batch_data_samples)

    def _check_found(self, boxes: Tensor, scores: Tensor) -> None:
        if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
            raise ValueError(
                f"{type(self).__name__} found boxes of shape {tuple(boxes.shape)} with scores of "
                f"shape {tuple(scores.shape)}: give (K, 4) and (K,)"
            )

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> NoReturn:
        """Refused: it comes trained.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{type(self).__name__} comes trained, and cannot be trained here")

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """None: features of each picture are its own."""
        return ()

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample] | None = None
    ) -> Any:
        return self.predict(batch_inputs, batch_data_samples, rescale=False)
