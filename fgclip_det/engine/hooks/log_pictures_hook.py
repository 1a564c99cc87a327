"""A few pictures of each validation, the same ones every time."""

from __future__ import annotations

import os.path as osp
from collections.abc import Sequence

import mmcv
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.fileio import get
from mmengine.runner import Runner

from fgclip_det.io import undo_tiff_turn


@HOOKS.register_module()
class LogPicturesHook(DetVisualizationHook):
    """MMDetection's `DetVisualizationHook`, with pictures that can be compared.

    MMDetection's draws other pictures in each validation, opens every one of them, and draws all
    pictures of a test. This one draws the same pictures in each validation, spread over the data
    set, under the names ``val_img_0``, ``val_img_1`` and so on, with the number of iterations as
    their step; and in a test only what ``show`` or ``test_out_dir`` ask for. Where the data samples
    bring ground truth, it stands on the left.

    Args:
        draw: Whether to draw at all.
        pictures: Pictures of a validation; on several processes, of the share of the first one.
        score_thr: Detections with less are not drawn.
        show: Whether to show them in a window.
        wait_time: Seconds that a shown one stays.
        test_out_dir: Folder for the pictures of a test, inside the work dir's of the run.
        backend_args: Of mmengine, to read pictures.

    Raises:
        ValueError: `pictures` is below 1.
    """

    def __init__(
        self,
        draw: bool = True,
        pictures: int = 8,
        score_thr: float = 0.3,
        show: bool = False,
        wait_time: float = 0.0,
        test_out_dir: str | None = None,
        backend_args: dict | None = None,
    ) -> None:
        if pictures < 1:
            raise ValueError(f"pictures is {pictures}: give 1 or more, or draw=False for none")
        super().__init__(
            draw=draw,
            score_thr=score_thr,
            show=show,
            wait_time=wait_time,
            test_out_dir=test_out_dir,
            backend_args=backend_args,
        )
        self.pictures = pictures

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        """Draw the first picture of a batch, if it is one of those."""
        distance = max(1, len(runner.val_dataloader) // self.pictures)
        number, rest = divmod(batch_idx, distance)
        if not self.draw or rest or number >= self.pictures:
            return
        self._draw(f"val_img_{number}", outputs[0], runner.iter)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        """Draw all pictures of a batch, if they are asked for."""
        if not self.draw or not (self.show or self.test_out_dir is not None):
            return
        for sample in outputs:
            self._test_index += 1
            name = osp.basename(sample.img_path)
            out_file = None
            if self.test_out_dir is not None:
                out_file = osp.join(runner.work_dir, runner.timestamp, self.test_out_dir, name)
            self._draw(name if self.show else "test_img", sample, self._test_index, out_file)

    def _draw(
        self, name: str, sample: DetDataSample, step: int, out_file: str | None = None
    ) -> None:
        content = get(sample.img_path, backend_args=self.backend_args)
        # Boxes are in the frame in which the picture was read: as stored by our data sets, as
        # shown by MMDetection's own.
        image = mmcv.imfrombytes(content, "color_ignore_orientation")
        image = undo_tiff_turn(sample.img_path, image)
        if image.shape[:2] != tuple(sample.get("ori_shape", image.shape[:2])):
            image = mmcv.imfrombytes(content)
        self._visualizer.add_datasample(
            name,
            mmcv.bgr2rgb(image),
            data_sample=sample,
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=step,
        )
