"""Writes a trained FG-CLIP in the published layout."""

from __future__ import annotations

from pathlib import Path

import torch
from mmdet.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


@HOOKS.register_module()
class ExportEncoderHook(Hook):
    """After training, and every `interval` iterations, writes ``<work_dir>/<directory>/``.

    The result is what ``FGCLIP.from_pretrained`` and the detectors' configs read.

    Args:
        directory: Folder inside the runner's work directory.
        interval: Iterations between two writes; 0 writes at the end only.
        dtype: "float32" or "float16": how the tensors are stored.

    Raises:
        ValueError: Another `dtype`.
    """

    def __init__(
        self, directory: str = "encoder", interval: int = 0, dtype: str = "float32"
    ) -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f'dtype must be "float32" or "float16", got {dtype!r}')
        self.directory = directory
        self.interval = interval
        self.dtype = getattr(torch, dtype)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        if self.interval and (runner.iter + 1) % self.interval == 0:
            self._export(runner)

    def after_train(self, runner: Runner) -> None:
        self._export(runner)

    @master_only
    def _export(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        path = Path(runner.work_dir) / self.directory
        model.encoder.save_pretrained(path, self.dtype)
        runner.logger.info(f"encoder written to {path}")
