"""MMDetection's region proposal network with its geometry in float32, its targets by the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import images_to_levels
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from fgclip_det.models.task_modules.batched_sampling import can_batch, sample_batch


@MODELS.register_module()
class Float32RPNHead(RPNHead):
    """`RPNHead` whose outputs are float32 under automatic mixed precision and in half models.

    MMDetection makes its anchors, and through them its proposals, in the dtype of the scores:
    bfloat16 turns the coordinate 1333 into 1336, and batched NMS fails on mixed dtypes.

    Targets are made for a batch at once: the same ones, while the host waits for a GPU once, not
    several times for each picture and object. ``train_cfg`` with ``batched_targets=False`` goes
    MMDetection's way, and so do settings that the batch is not made for: anchors cut at the border,
    other assigners and samplers.
    """

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) -> float32 scores (N, A, h, w) and deltas (N, 4 A, h, w)."""
        scores, deltas = super().forward_single(x)
        return scores.float(), deltas.float()

    def get_targets(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
        unmap_outputs: bool = True,
        return_sampling_results: bool = False,
    ) -> tuple:
        """Targets of the anchors; arguments and results as of MMDetection's `AnchorHead`.

        Raises:
            ValueError: A picture has no anchor within its borders.
        """
        by_batch = (
            self.train_cfg.get("batched_targets", True)
            and unmap_outputs
            and not return_sampling_results
            and not self.reg_decoded_bbox
            and self.train_cfg["allowed_border"] < 0
            and can_batch(self.assigner, self.sampler, batch_gt_instances)
        )
        if not by_batch:
            return super().get_targets(
                anchor_list,
                valid_flag_list,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
                unmap_outputs,
                return_sampling_results,
            )
        level_sizes = [len(anchors) for anchors in anchor_list[0]]
        samples = sample_batch(
            self.assigner,
            self.sampler,
            [torch.cat(anchors) for anchors in anchor_list],
            batch_gt_instances,
            batch_gt_instances_ignore or [None] * len(anchor_list),
            valid=[torch.cat(flags) for flags in valid_flag_list],
        )
        self._raw_positive_infos.update(sampling_results=samples)
        targets = self._dense_targets(samples, sum(level_sizes))
        by_level = [images_to_levels(one, level_sizes) for one in targets]
        return *by_level, sum(sample.avg_factor for sample in samples)

    def _dense_targets(
        self, samples: Sequence[SamplingResult], count: int
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Labels (P,), their weights (P,), deltas (P, 4) and their weights of each picture."""
        deltas = self.bbox_coder.encode(
            torch.cat([sample.pos_priors for sample in samples]),
            torch.cat([sample.pos_gt_bboxes for sample in samples]),
        ).split([len(sample.pos_inds) for sample in samples])
        positive_weight = self.train_cfg["pos_weight"]
        columns: tuple[list[Tensor], ...] = ([], [], [], [])
        for sample, own in zip(samples, deltas, strict=True):
            weights = sample.pos_priors.new_zeros(count)
            labels = sample.pos_inds.new_full((count,), self.num_classes)
            targets, target_weights = own.new_zeros(2, count, own.shape[1])
            labels[sample.pos_inds] = sample.pos_gt_labels
            weights[sample.pos_inds] = positive_weight if positive_weight > 0 else 1.0
            weights[sample.neg_inds] = 1.0
            targets[sample.pos_inds] = own
            target_weights[sample.pos_inds] = 1.0
            for column, one in zip(
                columns, (labels, weights, targets, target_weights), strict=True
            ):
                column.append(one)
        return columns
