"""Saves checkpoints such that there is always a whole one to go on from."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from fgclip_det.engine.launch.batch_statistics import average_batch_statistics
from fgclip_det.engine.launch.first_process import on_first_process
from fgclip_det.engine.resume.resumable_checkpoints import LAST_CHECKPOINT
from fgclip_det.engine.resume.train_loops import VALIDATED_ITERATION
from fgclip_det.engine.sharding.fully_sharded_model import FullyShardedModel
from fgclip_det.io import write_text

_GRADIENTS = "accumulated_gradients"
_BestPaths = dict[str | None, str | None]


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's hook, with the same arguments, mended in five places.

    * An outdated checkpoint is removed after the new one is on disk, not before: with
      ``max_keep_ckpts=1`` there is one while the next is being written. So is a former best one.
    * ``last_checkpoint`` is replaced at once, never half written.
    * Between two updates of ``accumulative_counts`` batches each, the gradients so far are saved
      and restored; with several processes they are averaged over these, as the update does.
    * A checkpoint tells whether its iteration's validation is part of it. Where it is not, a
      resumed run validates first, so that its best checkpoint is that of an uninterrupted run.
    * Running statistics of plain batch norm, which differ between processes, are averaged over them
      before a validation and a checkpoint: what is validated is what is saved.

    `ResumableRunner` puts it in the place of MMEngine's and writes the checkpoints themselves.

    Raises:
        ValueError: After a validation that gave no number of the name in ``save_best``.
    """

    _resumed_gradients: dict[str, Tensor] | None = None
    _gradients: dict[str, Tensor] | None = None
    _former_best: _BestPaths | None = None

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        gradients, self._resumed_gradients = self._resumed_gradients, None
        if gradients and runner.iter:
            for name, parameter in _bare_model(runner).named_parameters():
                if name in gradients:
                    gradient = gradients[name].to(parameter.device, parameter.dtype)
                    parameter.grad = FullyShardedModel.part_of(parameter, gradient)
            runner.logger.info("the gradients accumulated before the checkpoint were restored")

    def before_val_epoch(self, runner: Runner) -> None:
        _average_statistics(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        runner.message_hub.update_info(VALIDATED_ITERATION, runner.iter)
        super().after_val_epoch(runner, metrics)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._resumed_gradients = checkpoint.pop(_GRADIENTS, None)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # The best checkpoints hold no optimizer: nobody goes on from them.
        if self._gradients and "optimizer" in checkpoint:
            checkpoint[_GRADIENTS] = self._gradients

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not self.save_best:
            return
        missing = [key for key in self.key_indicators if key not in ("auto", *metrics)]
        if missing:
            raise ValueError(
                f"default_hooks.checkpoint.save_best is {missing[0]!r}, and the validation gives "
                f"{', '.join(metrics)}: name one of these"
            )
        self._former_best = self._best_paths()
        # What the parent finds here it removes before it saves.
        self._set_best_paths(dict.fromkeys(self._former_best))
        super()._save_best_checkpoint(runner, metrics)
        self._settle_best()

    def _settle_best(self) -> None:
        """Remove the former best checkpoints that there are better ones of, and keep the others."""
        former, self._former_best = self._former_best or {}, None
        best = self._best_paths() if former else {}
        for key, path in former.items():
            if best[key] is None:
                best[key] = path
                continue
            is_outdated = path not in (None, best[key]) and is_main_process()
            if is_outdated and self.file_backend.isfile(path):
                self.file_backend.remove(path)
        if former:
            self._set_best_paths(best)

    def _best_paths(self) -> _BestPaths:
        """Paths of the best checkpoints so far, by number; the key is None where it is the one."""
        is_one = len(self.key_indicators) == 1
        return {None: self.best_ckpt_path} if is_one else dict(self.best_ckpt_path_dict)

    def _set_best_paths(self, paths: _BestPaths) -> None:
        if None in paths:
            self.best_ckpt_path = paths[None]
        else:
            self.best_ckpt_path_dict = paths

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # Called again after a new best checkpoint, which it is to name: this way, whoever is killed
        # in between leaves no former one behind.
        self._settle_best()
        kept = self._kept_with(step)
        runner.message_hub.update_info("keep_ckpt_ids", kept)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        self._gradients = _accumulated_gradients(runner)
        _average_statistics(runner)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._gradients = None
        named = Path(runner.work_dir) / LAST_CHECKPOINT
        on_first_process(lambda: write_text(named, self.last_ckpt))
        self._remove_outdated(runner, kept)

    def _kept_with(self, step: int) -> list[int]:
        """Steps of the checkpoints that are there once `step` is saved, the outdated one too."""
        if self.max_keep_ckpts <= 0:
            return []
        return [*(kept for kept in self.keep_ckpt_ids if kept != step), step]

    def _remove_outdated(self, runner: Runner, kept: list[int]) -> None:
        if self.max_keep_ckpts <= 0:
            return
        self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
        runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        for step in kept[: -self.max_keep_ckpts] if is_main_process() else []:
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)


def _bare_model(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _average_statistics(runner: Runner) -> None:
    """Of the model, and of the copies of `EMAHook`, which checkpoints hold in the model's place."""
    copies = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    for model in (runner.model, *copies):
        average_batch_statistics(model)


def _accumulated_gradients(runner: Runner) -> dict[str, Tensor] | None:
    """Gradients that wait for more batches, by parameter; None where none do."""
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return None
    parameters = dict(_bare_model(runner).named_parameters())
    if isinstance(runner.model, FullyShardedModel):
        # Of all processes already: the backward pass averages what it shards.
        given = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        return {name: runner.model.whole(name, grad).cpu() for name, grad in given.items()}
    # One process may have no gradient where another has one (find_unused_parameters).
    holders = torch.tensor([p.grad is not None for p in parameters.values()], dtype=torch.long)
    all_reduce(holders)
    gradients = {}
    for (name, parameter), count in zip(parameters.items(), holders.tolist(), strict=True):
        if count:
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradient = own.detach().clone(memory_format=torch.contiguous_format)
            all_reduce(gradient, op="mean")
            gradients[name] = gradient.cpu()
    return gradients
