"""What a training set left out is said in the log."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class LeftOutHook(Hook):
    """Says how often the training set left out what it could not use, by kind, of all processes.

    For a data set with ``left_out``, an object with ``kinds`` (K texts) and ``counts`` ((K,)
    int64), such as those of FineHARD; for others it does nothing. Counts begin where the run begins
    or resumes; what is read twice, in two epochs say, counts twice.

    Args:
        interval: Iterations after which it is said, if something came to it; also at the end of
            an epoch and of the training.
    """

    def __init__(self, interval: int = 1000) -> None:
        self.interval = interval
        self._said: torch.Tensor | None = None

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Now and then."""
        if self.every_n_train_iters(runner, self.interval):
            self._say(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """At the end of an epoch, which training by iterations has one of."""
        self._say(runner, is_end=True)

    def _say(self, runner: Runner, is_end: bool = False) -> None:
        left_out = getattr(runner.train_loop.dataloader.dataset, "left_out", None)
        if left_out is None:
            return
        counts = left_out.counts
        all_reduce(counts)  # every process has this hook
        if self._said is not None and torch.equal(counts, self._said) and not is_end:
            return
        self._said = counts
        runner.logger.info(
            f"left out of the training data so far: {_listed(left_out.kinds, counts)}"
        )


def _listed(kinds: Sequence[str], counts: torch.Tensor) -> str:
    pairs = zip(kinds, counts.tolist(), strict=True)
    return ", ".join(f"{number} x {kind}" for kind, number in pairs if number) or "nothing"
