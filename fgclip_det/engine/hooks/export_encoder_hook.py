"""Writes a trained FG-CLIP in the published layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from fgclip_det.engine.launch.first_process import on_first_process
from fgclip_det.engine.sharding.fully_sharded_model import FullyShardedModel
from fgclip_det.io import listed

# In the runner's message hub, which checkpoints keep: the best figure so far.
_BEST_SO_FAR = "best_exported_encoder"


@HOOKS.register_module()
class ExportEncoderHook(Hook):
    """After training, and every `interval` iterations, writes ``<work_dir>/<directory>/``.

    The result is what ``FGCLIP.from_pretrained`` and the detectors' configs read; adapters are
    merged into it.

    Args:
        directory: Folder inside the runner's work directory.
        interval: Iterations between two writes; 0 writes at the end only.
        dtype: "float32" or "float16": how the tensors are stored.
        best: Metric of a validation, such as "coco-retrieval/i2t_r1": that of the largest one is
            written to ``<work_dir>/<directory>_best/`` too. None for no such folder.

    Raises:
        ValueError: Another `dtype`, or a validation without the metric.
    """

    def __init__(
        self,
        directory: str = "encoder",
        interval: int = 0,
        dtype: str = "float32",
        best: str | None = None,
    ) -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f'dtype must be "float32" or "float16", got {dtype!r}')
        self.directory = directory
        self.interval = interval
        self.dtype = getattr(torch, dtype)
        self.best = best

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        if self.interval and (runner.iter + 1) % self.interval == 0:
            self._export(runner, self.directory)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        if self.best is None:
            return
        if self.best not in (metrics or {}):
            known = listed(list(metrics or {}), "metrics of the validation")
            raise ValueError(
                f"best is {self.best!r}, no metric of the validation: give one of {known or 'none'}"
            )
        found, before = metrics[self.best], runner.message_hub.get_info(_BEST_SO_FAR)
        if before is None or found > before:
            runner.message_hub.update_info(_BEST_SO_FAR, float(found))
            self._export(runner, f"{self.directory}_best")

    def after_train(self, runner: Runner) -> None:
        self._export(runner, self.directory)

    def _export(self, runner: Runner, directory: str) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        # Of every process, since each may hold a part of them only.
        weights = getattr(model, "published_weights", model.encoder.published_weights)()
        if isinstance(runner.model, FullyShardedModel):
            weights = {k: runner.model.whole(f"encoder.{k}", t) for k, t in weights.items()}
        path = Path(runner.work_dir) / directory
        on_first_process(lambda: model.encoder.save_pretrained(path, self.dtype, weights))
        runner.logger.info(f"encoder written to {path}")
