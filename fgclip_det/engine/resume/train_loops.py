"""MMEngine's two training loops, with nothing lost or repeated after an interruption.

What an iteration does is a function of the weights, the seed of the run and the number of the
iteration, whatever the number of processes: `RunLayout` says what it is made of. A process that has
several of its parts trains them one after another and adds up their gradients; all of them are one
iteration to hooks, schedules, validation and checkpoints. `ResumableRunner` puts these loops in the
place of MMEngine's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict

from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch import nn

from fgclip_det.engine.resume.run_layout import RunLayout, resumed_layout
from fgclip_det.engine.resume.seeded_batches import (
    ResumableBatchSampler,
    resumable_loader,
    seed_step,
)

# Names in the message hub, which MMEngine saves in and restores from checkpoints.
_BATCHES_DONE = "batches_done"
_BATCHES_PER_EPOCH = "batches_per_epoch"
_SAMPLER_SEED = "sampler_seed"
_DATASET_LENGTH = "dataset_length"
_RUN_LAYOUT = "run_layout"
# Samples of the training data that were trained on by all processes together, since the run began.
SAMPLES_SEEN = "samples_seen"
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
        parts: Batches of an iteration, dealt to the processes; None is one for each process.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: list[tuple[int, int]] | None = None,
        parts: int | None = None,
    ) -> None:
        super().__init__(
            runner,
            resumable_loader(dataloader, parts=parts),
            max_epochs,
            val_begin,
            val_interval,
            dynamic_intervals,
        )
        self._batches_done = 0

    @property
    def max_iters(self) -> int:
        """Iterations to train; known for good when the checkpoint was read."""
        return self._max_epochs * len(self.dataloader)

    def run(self) -> nn.Module:
        """Train, from where the checkpoint stopped."""
        runner, hub = self.runner, self.runner.message_hub
        _settle_order(self)
        is_between_epochs = hub.get_info(_BATCHES_DONE, 0) == 0
        self._batches_done = self._resumed_batches()
        hub.update_info(_BATCHES_PER_EPOCH, len(self.dataloader))
        hub.update_info(_DATASET_LENGTH, len(self.dataloader.dataset))
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
        self.dataloader.batch_sampler.start(runner.seed, self._iter, skip=first)
        batches = iter(self.dataloader)
        for index, data_batch in enumerate(batches, first):
            runner.message_hub.update_info(_BATCHES_DONE, index + 1)
            _train_iteration(self, index, itertools.chain([data_batch], batches))
        runner.message_hub.update_info(_BATCHES_DONE, 0)
        runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _resumed_batches(self) -> int:
        """Iterations of the current epoch that were done before the checkpoint was saved."""
        hub, done = self.runner.message_hub, 0
        if self._iter:
            done = hub.get_info(_BATCHES_DONE, 0)
        before, now = hub.get_info(_BATCHES_PER_EPOCH, None), len(self.dataloader)
        if done and (before != now or _has_other_length(self)):
            self.runner.logger.warning(
                f"the checkpoint is from batch {done} of an epoch of {before}, and an epoch of "
                f"{len(self.dataloader.dataset)} samples has {now} batches now: epoch "
                f"{self._epoch + 1} starts again"
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
        parts: Batches of an iteration, dealt to the processes; None is one for each process.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
        parts: int | None = None,
    ) -> None:
        # Not the parent's, which starts to read before the checkpoint tells from where.
        BaseLoop.__init__(self, runner, resumable_loader(dataloader, endless=True, parts=parts))
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
        _settle_order(self)
        if self._iter and _has_other_length(self):
            runner.logger.warning(
                f"the training data have {len(self.dataloader.dataset)} samples now, which is not "
                f"what the checkpoint was trained on: iteration {self._iter + 1} is that of a new "
                "order"
            )
        runner.message_hub.update_info(_DATASET_LENGTH, len(self.dataloader.dataset))
        runner.call_hook("before_train")
        # All of the training counts as one epoch.
        runner.call_hook("before_train_epoch")
        self.dataloader.batch_sampler.start(runner.seed, self._iter, skip=self._iter)
        self.dataloader_iterator = iter(self.dataloader)
        if _lacks_validation(self):
            self._validate_if_due()
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            _train_iteration(self, self._iter, self.dataloader_iterator)
            self._validate_if_due()
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        is_due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self.runner.val_loop is not None and self._iter >= self.val_begin and is_due:
            self.runner.val_loop.run()


_ResumableLoop = ResumableEpochLoop | ResumableIterLoop


def batches_of_a_process(loop: BaseLoop | dict | None) -> int:
    """Batches that each process trains on in one iteration of a training loop."""
    sampler = getattr(getattr(loop, "dataloader", None), "batch_sampler", None)
    is_ours = isinstance(sampler, ResumableBatchSampler)
    return sampler.parts // sampler.processes if is_ours else 1


def _train_iteration(loop: _ResumableLoop, index: int, batches: Iterator[dict]) -> None:
    """Train on the batches of this process in one iteration, the next ones of `batches`."""
    runner, sampler = loop.runner, loop.dataloader.batch_sampler
    outputs: list[dict] = []
    for part in sampler.own_parts:
        data_batch = next(batches)
        seed_step(runner.seed, part, loop.iter)
        if not outputs:
            runner.call_hook("before_train_iter", batch_idx=index, data_batch=data_batch)
        outputs.append(runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper))
    hub = runner.message_hub
    hub.update_info(SAMPLES_SEEN, hub.get_info(SAMPLES_SEEN, 0) + sampler.samples_of(index))
    runner.call_hook(
        "after_train_iter", batch_idx=index, data_batch=data_batch, outputs=_mean(outputs)
    )
    loop._iter += 1


def _mean(outputs: list[dict]) -> dict:
    """The losses of an iteration from those of its parts."""
    if len(outputs) == 1:
        return outputs[0]
    names = [name for name in outputs[0] if all(name in output for output in outputs)]
    return {name: sum(output[name] for output in outputs) / len(outputs) for name in names}


def _settle_order(loop: _ResumableLoop) -> None:
    """Go on with the order that the run began with, on the processes of now."""
    _restore_sampler_seed(loop)
    runner, hub, sampler = loop.runner, loop.runner.message_hub, loop.dataloader.batch_sampler
    wrapper = runner.optim_wrapper
    has_one = isinstance(wrapper, OptimWrapper)
    counts = wrapper._accumulative_counts if has_one else 1
    asked = layout = RunLayout(sampler.parts, sampler.batch_size, counts)
    saved = hub.get_info(_RUN_LAYOUT, None)
    if loop.iter and saved is not None:
        saved = RunLayout(**saved)
        layout = resumed_layout(saved, asked, sampler.processes, sampler.is_dealt)
        sampler.deal(layout.parts, layout.batch_size)
    hub.update_info(_RUN_LAYOUT, asdict(asked if layout == asked else saved))
    hub.update_info(SAMPLES_SEEN, hub.get_info(SAMPLES_SEEN, loop.iter * layout.samples))
    repeats = batches_of_a_process(loop)
    if layout == asked and repeats == 1:
        return
    if repeats > 1 and not has_one:
        raise ValueError(
            f"{sampler.processes} processes would accumulate the {layout.parts} batches of an "
            f"iteration, which several optimizers cannot: start {layout.parts} processes"
        )
    runner.logger.warning(_describe(layout, sampler.processes, repeats))
    if has_one:
        wrapper._accumulative_counts = counts * repeats
        wrapper.initialize_count_status(runner.model, loop.iter * repeats, loop.max_iters * repeats)


def _describe(layout: RunLayout, processes: int, repeats: int) -> str:
    parts = f"an iteration is {layout.parts} batches of {layout.batch_size} samples"
    if repeats == 1:
        return f"{parts}, one for each process"
    return (
        f"{parts}: each of the {processes} processes trains {repeats} of them, one after another. "
        "A loss over the batches of all processes, as contrastive ones are, sees only those of one "
        f"turn: train_dataloader.batch_size={layout.samples // processes} keeps it whole"
    )


def _has_other_length(loop: _ResumableLoop) -> bool:
    """True if the checkpoint was trained on a dataset of another length."""
    now = len(loop.dataloader.dataset)
    return loop.runner.message_hub.get_info(_DATASET_LENGTH, now) != now


def _lacks_validation(loop: _ResumableLoop) -> bool:
    """True if the run resumes from a checkpoint written before its iteration's validation."""
    return loop.iter > 0 and loop.runner.message_hub.get_info(VALIDATED_ITERATION, 0) != loop.iter


def _restore_sampler_seed(loop: _ResumableLoop) -> None:
    """Give the sampler the seed that it had when the run began.

    It was built before the checkpoint was read, and a run without ``randomness.seed`` draws one.
    """
    sampler, hub = loop.dataloader.batch_sampler.sampler, loop.runner.message_hub
    if not hasattr(sampler, "seed"):
        return
    if loop.iter:
        sampler.seed = hub.get_info(_SAMPLER_SEED, sampler.seed)
    hub.update_info(_SAMPLER_SEED, sampler.seed)
