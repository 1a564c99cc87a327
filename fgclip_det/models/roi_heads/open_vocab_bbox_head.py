"""Box head whose categories are text embeddings handed in with each call."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.model import BaseModule
from torch import Tensor, nn

from fgclip_det.models.roi_heads.settings import check_number
from fgclip_det.models.roi_heads.zero_shot_classifier import ZeroShotClassifier

_DELTAS = 4


@MODELS.register_module()
class OpenVocabBBoxHead(BaseModule):
    """Pooled boxes to an embedding in the texts' space and class-agnostic box deltas.

    Shared convolutions and layers, then for the embedding and for the deltas layers of their own
    (F-ViT, CLIPSelf, arXiv 2310.01403, section 4.1). No category's name or number is part of it.

    Args:
        in_channels: Channels of the pooled boxes; the detector asks the neck for them.
        roi_feat_size: Bins per side of the pooled boxes; the detector asks the extractor.
        embed_dim: Size of an embedding; the detector asks the encoder for it.
        num_shared_convs: 3x3 convolutions.
        conv_out_channels: Their channels.
        num_shared_fcs: Fully connected layers after them.
        num_cls_fcs: Hidden layers of the embedding's own.
        num_reg_fcs: Hidden layers of the deltas' own.
        fc_out_channels: Width of all fully connected layers; ``embed_dim`` where None.
        norm_cfg: Norm layer of the convolutions.
        temperature: What cosines are multiplied by, before training.
        background_weight: Weight in the loss of boxes without an object; others weigh 1.
        loss_weight: Weight of the classification loss.
        bbox_coder: Boxes to deltas and back.
        loss_bbox: Loss of the deltas.

    Raises:
        ValueError: A weight or the temperature is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dim: int,
        roi_feat_size: int = 7,
        num_shared_convs: int = 4,
        conv_out_channels: int = 256,
        num_shared_fcs: int = 2,
        num_cls_fcs: int = 1,
        num_reg_fcs: int = 1,
        fc_out_channels: int | None = None,
        norm_cfg: dict | None = None,
        temperature: float = 50.0,
        background_weight: float = 1.0,
        loss_weight: float = 1.0,
        bbox_coder: dict | None = None,
        loss_bbox: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = [
                {"type": "Xavier", "layer": "Linear", "distribution": "uniform"},
                {"type": "Normal", "std": 0.001, "override": {"name": "fc_reg"}},
            ]
        super().__init__(init_cfg=init_cfg)
        check_number("background_weight", background_weight, 0)
        check_number("loss_weight", loss_weight, 0)
        self.background_weight = background_weight
        self.loss_weight = loss_weight
        self.bbox_coder = TASK_UTILS.build(
            bbox_coder or {"type": "DeltaXYWHBBoxCoder", "target_stds": (0.1, 0.1, 0.2, 0.2)}
        )
        self.loss_bbox = MODELS.build(loss_bbox or {"type": "L1Loss"})
        channels = [in_channels] + [conv_out_channels] * num_shared_convs
        self.shared_convs = nn.Sequential(
            *(ConvModule(i, o, 3, padding=1, norm_cfg=norm_cfg) for i, o in pairwise(channels))
        )
        width = fc_out_channels or embed_dim
        flat = channels[-1] * roi_feat_size**2
        self.shared_fcs, self.shared_width = _layers(flat, width, num_shared_fcs)
        self.cls_fcs, cls_width = _layers(self.shared_width, width, num_cls_fcs)
        self.reg_fcs, reg_width = _layers(self.shared_width, width, num_reg_fcs)
        self.fc_embed = nn.Linear(cls_width, embed_dim)
        self.fc_reg = nn.Linear(reg_width, _DELTAS)
        self.classifier = ZeroShotClassifier(embed_dim, temperature, learned=True)

    def forward(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and deltas.

        Args:
            roi_features: (K, C, s, s) pooled boxes; K may be 0.

        Returns:
            (K, D) float32 of unit length, and (K, 4) float32 deltas for `bbox_coder`.
        """
        if len(roi_features):
            shared = self.shared_fcs(self.shared_convs(roi_features).flatten(1))
        else:
            # An empty batch would turn the running statistics of norm layers into NaN.
            shared = roi_features.new_zeros(0, self.shared_width)
        embeddings = self.fc_embed(self.cls_fcs(shared)).float()
        return F.normalize(embeddings, dim=-1), self.fc_reg(self.reg_fcs(shared)).float()

    def decode(self, boxes: Tensor, deltas: Tensor, img_shape: Sequence[int]) -> Tensor:
        """(K, 4) float32 boxes moved by (K, 4) deltas, clipped to (height, width)."""
        return self.bbox_coder.decode(boxes, deltas, max_shape=tuple(img_shape[:2]))

    def get_targets(
        self, sampling_results: Sequence[SamplingResult], num_classes: int
    ) -> tuple[Tensor, Tensor]:
        """Targets of sampled boxes, image by image, in each the positive ones first.

        Args:
            sampling_results: One for each image.
            num_classes: Categories; also the label of boxes without an object.

        Returns:
            Labels (K,) int64 and deltas (K, 4), zero for boxes without an object.
        """
        labels, deltas = [], []
        for result in sampling_results:
            positives = len(result.pos_priors)
            label = result.priors.new_full((len(result.priors),), num_classes, dtype=torch.long)
            delta = result.priors.new_zeros(len(result.priors), _DELTAS)
            label[:positives] = result.pos_gt_labels
            if positives:
                delta[:positives] = self.bbox_coder.encode(result.pos_priors, result.pos_gt_bboxes)
            labels.append(label)
            deltas.append(delta)
        return torch.cat(labels), torch.cat(deltas)

    def loss(
        self,
        embeddings: Tensor,
        deltas: Tensor,
        text_embeddings: Tensor,
        labels: Tensor,
        delta_targets: Tensor,
        competitors: Tensor | None = None,
        num_positives: int | None = None,
    ) -> dict[str, Tensor]:
        """Losses of sampled boxes, each summed and divided by the number of boxes.

        Args:
            embeddings: (K, D) from `forward`.
            deltas: (K, 4) from `forward`.
            text_embeddings: (C, D) of the categories that are trained.
            labels: (K,) int64 in [0, C], C for the background.
            delta_targets: (K, 4).
            competitors: (K, C) bool, the categories that each box is compared with, beside the
                background; its own must be among them. All where None.
            num_positives: How many boxes have an object; where None the host asks the device.

        Returns:
            ``loss_cls``, ``loss_bbox`` and the accuracy ``acc`` in percent, scalars.
        """
        count = max(len(labels), 1)
        num_classes = len(text_embeddings)
        logits = self.classifier(embeddings, text_embeddings)
        if competitors is not None:
            logits[:, :-1].masked_fill_(~competitors, -torch.inf)
        weights = logits.new_ones(num_classes + 1)
        weights[-1] = self.background_weight
        cross_entropy = F.cross_entropy(logits, labels, weights, reduction="sum")
        positive = labels < num_classes
        if num_positives is None:
            num_positives = int(positive.sum())
        rows = torch.nonzero_static(positive, size=num_positives).squeeze(1)
        hits = (logits.argmax(dim=1) == labels).sum()
        return {
            "loss_cls": self.loss_weight * cross_entropy / count,
            "loss_bbox": self.loss_bbox(deltas[rows], delta_targets[rows], avg_factor=count),
            "acc": 100.0 * hits / count,
        }


def _layers(in_features: int, width: int, count: int) -> tuple[nn.Sequential, int]:
    """`count` fully connected layers with ReLU, and the width of what they give."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Linear(in_features, width), nn.ReLU()]
        in_features = width
    return nn.Sequential(*layers), in_features
