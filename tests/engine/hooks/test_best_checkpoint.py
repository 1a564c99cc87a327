"""The best checkpoint: it survives a full disk, and a killed run ends with the right one."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner, ValLoop
from torch import Tensor, nn

from fgclip_det.compat import load_checkpoint_file
from fgclip_det.engine import ResumableRunner
from fgclip_det.engine.resume.resumable_checkpoints import find_resumable
from fgclip_det.engine.resume.train_loops import VALIDATED_ITERATION
from tests.messages import says

# "good" is to be large and "bad" small; the third epoch is the best by neither.
SCORES = {1: dict(good=1.0, bad=5.0), 2: dict(good=3.0, bad=6.0), 3: dict(good=2.0, bad=7.0)}
EPOCHS = len(SCORES)


class Steps(BaseModel):
    """Counts its training steps, one an epoch, and says their number when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor, mode: str) -> dict[str, Tensor] | list[int]:
        if mode == "loss":
            self.steps += 1
            return {"loss": (self.weight - 1) ** 2}
        return [int(self.steps)]


class Scores(BaseMetric):
    """`SCORES` of the step that the model says."""

    def process(self, data_batch: dict, data_samples: list[int]) -> None:
        self.results += data_samples

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        return dict(SCORES[results[0]])


class Interrupt(Hook):
    """Ends the run at a point of its `epoch`-th epoch, as a kill would."""

    def __init__(self, point: str, epoch: int) -> None:
        self.point, self.epoch = point, epoch

    def before_val(self, runner: Runner) -> None:
        self._end(runner, "validating")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if "optimizer" not in checkpoint:
            self._end(runner, "saving the best")
        elif runner.message_hub.get_info(VALIDATED_ITERATION, 0) == self.epoch:
            self._end(runner, "saving the last again")

    def _end(self, runner: Runner, point: str) -> None:
        if (point, runner.iter) == (self.point, self.epoch):
            raise KeyboardInterrupt


@pytest.fixture
def build(tmp_path: Path) -> Iterator:
    """Builds runners of three epochs, one step each; those of one name have one work dir."""
    number = iter(range(100))

    def build(name: str = "run", by_epoch: bool = True, **settings) -> ResumableRunner:
        loader = dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=[dict(x=torch.zeros(()))],
        )
        loop = dict(type="EpochBasedTrainLoop", max_epochs=EPOCHS, val_interval=1)
        if not by_epoch:
            loop = dict(type="IterBasedTrainLoop", max_iters=EPOCHS, val_interval=1)
        best = settings.pop("best", dict(save_best="good", rule="greater"))
        hook = dict(type="CheckpointHook", interval=1, max_keep_ckpts=1, by_epoch=by_epoch, **best)
        work_dir = tmp_path / name
        last = find_resumable(work_dir) if work_dir.is_dir() else None
        return ResumableRunner(
            model=Steps(),
            work_dir=str(work_dir),
            train_dataloader=loader,
            train_cfg=loop,
            val_dataloader=loader,
            val_cfg=dict(type="ValLoop"),
            val_evaluator=dict(type=Scores),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
            default_hooks=dict(checkpoint=hook),
            randomness=dict(seed=0),
            resume=last is not None,
            load_from=str(last) if last else None,
            experiment_name=f"best{next(number)}-{tmp_path.name}",
            log_level="WARNING",
            **settings,
        )

    return build


def _files(runner: ResumableRunner) -> list[str]:
    return sorted(path.name for path in Path(runner.work_dir).glob("*.pth*"))


def _steps(runner: ResumableRunner, name: str) -> int:
    return int(load_checkpoint_file(Path(runner.work_dir) / name)["state_dict"]["steps"])


@pytest.mark.parametrize("by_epoch", [True, False])
@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("point", ["validating", "saving the best", "saving the last again"])
def test_a_killed_run_ends_with_the_best_of_one_that_was_not(
    build, point: str, epoch: int, by_epoch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated: list[int] = []
    run = ValLoop.run
    monkeypatch.setattr(
        ValLoop, "run", lambda self: (validated.append(self.runner.iter), run(self))[1]
    )
    whole = build("whole", by_epoch)
    whole.train()
    assert validated == [1, 2, 3]
    kind = "epoch" if by_epoch else "iter"
    assert _files(whole) == [f"best_good_{kind}_2.pth", f"{kind}_3.pth"]

    killed = build("killed", by_epoch, custom_hooks=[Interrupt(point, epoch)])
    if epoch == 3 and point != "validating":
        killed.train()  # nothing is saved there, the second epoch was better
    else:
        with pytest.raises(KeyboardInterrupt):
            killed.train()
        validated.clear()
        resumed = build("killed", by_epoch)
        resumed.train()
        # The validation that was cut short is done again, and none that is part of the checkpoint.
        assert validated == list(range(epoch, EPOCHS + 1))
        assert resumed.message_hub.get_info("best_score") == 3.0
    assert _files(killed) == _files(whole)
    assert _steps(killed, f"best_good_{kind}_2.pth") == 2


def test_a_validation_that_is_part_of_the_checkpoint_is_not_repeated(
    build, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AfterTheSecond(Hook):
        def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict) -> None:
            if runner.iter == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(custom_hooks=[AfterTheSecond()]).train()
    validated: list[int] = []
    run = ValLoop.run
    monkeypatch.setattr(
        ValLoop, "run", lambda self: (validated.append(self.runner.iter), run(self))[1]
    )
    build().train()
    assert validated == [3]


def test_the_log_of_a_validation_holds_what_it_gave_and_no_more(build) -> None:
    runner = build()
    runner.train()
    values, text = runner.log_processor.get_log_after_epoch(runner, 1, "val", with_non_scalar=True)
    assert set(values) - {"time", "data_time"} == {"good", "bad"}
    assert "iteration" not in text


def test_each_number_has_its_own_best(build) -> None:
    best = dict(save_best=["good", "bad"], rule=["greater", "less"])
    runner = build(best=best)
    runner.train()
    assert _files(runner) == ["best_bad_epoch_1.pth", "best_good_epoch_2.pth", "epoch_3.pth"]
    assert (_steps(runner, "best_bad_epoch_1.pth"), _steps(runner, "best_good_epoch_2.pth")) == (
        1,
        2,
    )


def test_no_room_for_the_best_keeps_the_one_before(build, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def full(checkpoint: dict, file, **arguments) -> None:
        if "optimizer" not in checkpoint and checkpoint["meta"]["epoch"] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(checkpoint, file, **arguments)

    monkeypatch.setattr(torch, "save", full)
    runner = build()
    with pytest.raises(OSError, match=says("best_good_epoch_2.pth", "No space left")):
        runner.train()
    assert _files(runner) == ["best_good_epoch_1.pth", "epoch_2.pth"]
    assert _steps(runner, "best_good_epoch_1.pth") == 1

    monkeypatch.setattr(torch, "save", save)
    resumed = build()
    resumed.train()
    assert _files(resumed) == ["best_good_epoch_2.pth", "epoch_3.pth"]


def test_a_number_that_the_validation_does_not_give_is_an_error(build) -> None:
    runner = build(best=dict(save_best="AP50_novel", rule="greater"))
    with pytest.raises(ValueError, match=says("'AP50_novel'", "good, bad")):
        runner.train()
    assert _files(runner) == ["epoch_1.pth"]
