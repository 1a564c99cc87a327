"""MMEngine's two training loops, with nothing lost or repeated after an interruption.

What an iteration does is a function of the weights, the seed of the run, the rank of the process
and the number of the iteration. `ResumableRunner` puts these loops in the place of MMEngine's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch import nn

from fgclip_det.engine.resume.seeded_batches import resumable_loader, seed_step

# Names in the message hub, which MMEngine saves in and restores from checkpoints.
_BATCHES_DONE = "batches_done"
_BATCHES_PER_EPOCH = "batches_per_epoch"
_SAMPLER_SEED = "sampler_seed"
# The iterations that were done when the last finished validation began. MMEngine's log of one shows
# all names that begin with "val".
VALIDATED_ITERATION = "iteration_validated"


class ResumableEpochLoop(EpochBasedTrainLoop):
    """Training by epochs; goes on in the middle of one where the checkpoint is from there.

    A validation that was due at the checkpoint and is not part of it comes first.

    Args:
        runner: The runner.
        dataloader: Config of the data loader.
        max_epochs: Epochs to train.
        val_begin: First epoch, from 1, after which to validate.
        val_interval: Epochs between validations.
        dynamic_intervals: Pairs of an epoch and the `val_interval` from there on.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(
            runner,
            resumable_loader(dataloader),
            max_epochs,
            val_begin,
            val_interval,
            dynamic_intervals,
        )
        self._batches_done = 0

    def run(self) -> nn.Module:
        """Train, from where the checkpoint stopped."""
        runner, hub = self.runner, self.runner.message_hub
        _restore_sampler_seed(self)
        is_between_epochs = hub.get_info(_BATCHES_DONE, 0) == 0
        self._batches_done = self._resumed_batches()
        hub.update_info(_BATCHES_PER_EPOCH, len(self.dataloader))
        runner.call_hook("before_train")
        if is_between_epochs and _lacks_validation(self):
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due()
        runner.call_hook("after_train")
        return runner.model

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        is_due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is not None and self._epoch >= self.val_begin and is_due:
            self.runner.val_loop.run()

    def run_epoch(self) -> None:
        """Train an epoch, or what is left of it."""
        runner, first = self.runner, self._batches_done
        self._batches_done = 0
        runner.call_hook("before_train_epoch")
        runner.model.train()
        self.dataloader.batch_sampler.start(runner.seed, get_rank(), self._iter, skip=first)
        for index, data_batch in enumerate(self.dataloader, first):
            self.run_iter(index, data_batch)
        runner.message_hub.update_info(_BATCHES_DONE, 0)
        runner.call_hook("after_train_epoch")
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Train on one batch, the one with number `idx` of its epoch."""
        self.runner.message_hub.update_info(_BATCHES_DONE, idx + 1)
        seed_step(self.runner.seed, get_rank(), self._iter)
        super().run_iter(idx, data_batch)

    def _resumed_batches(self) -> int:
        """Batches of the current epoch that were trained on before the checkpoint was saved."""
        hub = self.runner.message_hub
        done = hub.get_info(_BATCHES_DONE, 0) if self._iter else 0
        before, now = hub.get_info(_BATCHES_PER_EPOCH, None), len(self.dataloader)
        if done and before != now:
            self.runner.logger.log(
                logging.WARNING,
                f"the checkpoint is from batch {done} of an epoch of {before}, and an epoch has "
                f"{now} batches now: epoch {self._epoch + 1} starts again",
            )
            return 0
        return done


class ResumableIterLoop(IterBasedTrainLoop):
    """Training by iterations; what was trained on before the checkpoint is not read again.

    A validation that was due at the checkpoint and is not part of it comes first.

    Args:
        runner: The runner.
        dataloader: Config of the data loader.
        max_iters: Iterations to train.
        val_begin: First iteration, from 1, after which to validate.
        val_interval: Iterations between validations.
        dynamic_intervals: Pairs of an iteration and the `val_interval` from there on.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        # Not the parent's, which starts to read before the checkpoint tells from where.
        BaseLoop.__init__(self, runner, resumable_loader(dataloader, endless=True))
        self._max_iters = int(max_iters)
        self._max_epochs = 1
        self._epoch = 0
        self._iter = 0
        self.val_begin = val_begin
        self.val_interval = val_interval
        self.stop_training = False
        self.runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, "metainfo", None)
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(
            val_interval, dynamic_intervals
        )

    def run(self) -> nn.Module:
        """Train, from where the checkpoint stopped."""
        runner = self.runner
        _restore_sampler_seed(self)
        runner.call_hook("before_train")
        # All of the training counts as one epoch.
        runner.call_hook("before_train_epoch")
        self.dataloader.batch_sampler.start(runner.seed, get_rank(), self._iter, skip=self._iter)
        self.dataloader_iterator = iter(self.dataloader)
        if _lacks_validation(self):
            self._validate_if_due()
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._validate_if_due()
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        is_due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self.runner.val_loop is not None and self._iter >= self.val_begin and is_due:
            self.runner.val_loop.run()

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """Train on one batch."""
        seed_step(self.runner.seed, get_rank(), self._iter)
        super().run_iter(data_batch)


def _lacks_validation(loop: ResumableEpochLoop | ResumableIterLoop) -> bool:
    """True if the run resumes from a checkpoint written before its iteration's validation."""
    return loop.iter > 0 and loop.runner.message_hub.get_info(VALIDATED_ITERATION, 0) != loop.iter


def _restore_sampler_seed(loop: ResumableEpochLoop | ResumableIterLoop) -> None:
    """Give the sampler the seed that it had when the run began.

    It was built before the checkpoint was read, and a run without ``randomness.seed`` draws one.
    """
    sampler, hub = loop.dataloader.batch_sampler.sampler, loop.runner.message_hub
    if not hasattr(sampler, "seed"):
        return
    if loop.iter:
        sampler.seed = hub.get_info(_SAMPLER_SEED, sampler.seed)
    hub.update_info(_SAMPLER_SEED, sampler.seed)
