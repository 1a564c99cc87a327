"""The runner on a model of one layer; tests/tools/test_resume.py has whole runs that are killed."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from fgclip_det.compat import load_checkpoint_file
from fgclip_det.engine import AtomicCheckpointHook, PartialWeightsHook, ResumableRunner
from fgclip_det.engine.resume.train_loops import ResumableEpochLoop, ResumableIterLoop
from tests.messages import says

LENGTH, BATCH = 6, 2


class Line(BaseModel):
    """Fits y = w x, with noise from torch's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 1)
        self.seen: list[int] = []
        self.losses: list[float] = []

    def forward(self, row: list[int], x: list[Tensor], mode: str = "loss") -> dict[str, Tensor]:
        self.seen += row
        inputs = torch.stack(list(x))
        loss = (self.head(self.body(inputs + torch.randn_like(inputs))) ** 2).mean()
        self.losses.append(loss.item())
        return {"loss": loss}


class Losses(Hook):
    """Keeps the loss that an iteration tells."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.seen.append(outputs["loss"].item())


class Points(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, row: int) -> dict:
        return dict(row=row, x=torch.randn(4))


@pytest.fixture
def build(tmp_path: Path) -> Iterator:
    """Builds runners that all have one work dir."""
    number = iter(range(100))

    def build(**settings) -> ResumableRunner:
        return ResumableRunner(
            model=Line(),
            work_dir=str(tmp_path / "run"),
            **{
                "train_dataloader": dict(
                    batch_size=BATCH,
                    num_workers=0,
                    sampler=dict(type="DefaultSampler", shuffle=True),
                    dataset=Points(),
                ),
                "train_cfg": dict(by_epoch=True, max_epochs=2),
                "optim_wrapper": dict(optimizer=dict(type="AdamW", lr=0.01)),
                "default_hooks": dict(checkpoint=dict(type="CheckpointHook", interval=1)),
                "randomness": dict(seed=0),
                "experiment_name": f"run{next(number)}-{tmp_path.name}",
                "log_level": "WARNING",
                **settings,
            },
        )

    return build


def _lr(runner: ResumableRunner) -> float:
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    return runner.optim_wrapper.param_groups[0]["lr"]


@pytest.mark.parametrize(("counts", "expected"), [(1, 0.01 * 2 / 64), (4, 0.01 * 8 / 64)])
def test_auto_scale_lr_counts_accumulated_batches(build, counts: int, expected: float) -> None:
    scale = dict(enable=True, base_batch_size=64)
    wrapper = dict(optimizer=dict(type="AdamW", lr=0.01), accumulative_counts=counts)
    assert _lr(build(auto_scale_lr=scale, optim_wrapper=wrapper)) == pytest.approx(expected)
    scale = dict(enable=False, base_batch_size=64)
    wrapper = dict(optimizer=dict(type="AdamW", lr=0.01), accumulative_counts=counts)
    assert _lr(build(auto_scale_lr=scale, optim_wrapper=wrapper)) == 0.01


def test_auto_scale_lr_without_a_base_is_an_error(build) -> None:
    with pytest.raises(ValueError, match="needs base_batch_size"):
        _lr(build(auto_scale_lr=dict(enable=True)))


@pytest.mark.parametrize("counts", [0, -2, 1.5, "2"])
def test_batches_of_an_update_are_a_whole_number(build, counts: object) -> None:
    wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
    runner = build(optim_wrapper={**wrapper, "accumulative_counts": counts})
    with pytest.raises(ValueError, match=says("optim_wrapper.accumulative_counts", "from 1")):
        runner.build_optim_wrapper(runner.optim_wrapper)


def test_auto_scale_lr_counts_processes(build, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = build(auto_scale_lr=dict(enable=True, base_batch_size=64))
    monkeypatch.setattr(runner, "_world_size", 8)
    assert _lr(runner) == pytest.approx(0.01 * 16 / 64)


def test_accumulation_gives_the_gradient_of_the_whole_batch() -> None:
    """What makes `auto_scale_lr` right: the loss of a batch counts by its share of the update."""
    inputs = torch.randn(4, 3)
    whole, parts = nn.Linear(3, 1), nn.Linear(3, 1)
    parts.load_state_dict(whole.state_dict())
    wrappers = []
    for model, counts in ((whole, 1), (parts, 2)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        wrappers.append(OptimWrapper(optimizer, accumulative_counts=counts))
    wrappers[0].update_params((whole(inputs) ** 2).mean())
    for half in inputs.split(2):
        wrappers[1].update_params((parts(half) ** 2).mean())
    torch.testing.assert_close(whole.weight, parts.weight)


@pytest.mark.parametrize(
    ("train_cfg", "kind"),
    [
        (dict(by_epoch=True, max_epochs=1), ResumableEpochLoop),
        (dict(by_epoch=False, max_iters=1), ResumableIterLoop),
        (dict(type="EpochBasedTrainLoop", max_epochs=1), ResumableEpochLoop),
        (dict(type="mmengine.IterBasedTrainLoop", max_iters=1), ResumableIterLoop),
        (dict(type=EpochBasedTrainLoop, max_epochs=1), ResumableEpochLoop),
    ],
)
def test_loops_of_mmengine_are_replaced(build, train_cfg: dict, kind: type) -> None:
    assert type(build(train_cfg=train_cfg).build_train_loop(train_cfg)) is kind


def test_the_checkpoint_hook_of_mmengine_is_replaced(build) -> None:
    for settings in ({}, {"default_hooks": None}):
        hooks = [hook for hook in build(**settings).hooks if isinstance(hook, CheckpointHook)]
        assert [type(hook) for hook in hooks] == [AtomicCheckpointHook]
    without = build(default_hooks=dict(checkpoint=None))
    assert not any(isinstance(hook, CheckpointHook) for hook in without.hooks)


def test_rows_of_an_epoch_are_those_of_mmengine(build) -> None:
    runner = build()
    runner.train()
    sampler, expected = DefaultSampler(Points(), shuffle=True, seed=0), []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        expected += list(sampler)
    assert runner.model.seen == expected
    assert sorted(expected[:LENGTH]) == list(range(LENGTH))


def _resume_from_2(build, length: int = LENGTH, **loader) -> ResumableRunner:
    """A runner that goes on with other data after two of three batches of an epoch."""
    cfg = dict(by_epoch=True, max_epochs=1)
    hook = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2))
    build(default_hooks=hook, train_cfg=cfg).train()
    sampler = dict(type="DefaultSampler", shuffle=True)
    dataset = torch.utils.data.Subset(Points(), range(length))
    loader = dict(batch_size=BATCH, num_workers=0, sampler=sampler, dataset=dataset, **loader)
    path = Path(build().work_dir) / "iter_2.pth"
    return build(train_dataloader=loader, load_from=str(path), resume=True, train_cfg=cfg)


# Of 5 samples an epoch has as many batches as of 6.
@pytest.mark.parametrize("length", [4, 5])
def test_other_data_start_the_epoch_again(build, length: int) -> None:
    runner = _resume_from_2(build, length)
    runner.train()
    assert sorted(runner.model.seen) == list(range(length))
    assert runner.message_hub.get_info("samples_seen") == 2 * BATCH + length


def test_another_batch_size_is_an_error(build) -> None:
    runner = _resume_from_2(build)
    runner._train_dataloader["batch_size"] = 3
    with pytest.raises(ValueError, match=says("1 batches of 3", "batch_size to 2", "load_from")):
        runner.train()


def test_another_accumulation_is_an_error(build) -> None:
    runner = _resume_from_2(build)
    runner.optim_wrapper["accumulative_counts"] = 2
    with pytest.raises(ValueError, match=says("accumulative_counts is 2", "with 1")):
        runner.train()


@pytest.mark.parametrize(("batch_size", "parts"), [(1, 2), (2, 1)])
def test_a_smaller_batch_and_more_parts_go_on(build, batch_size: int, parts: int) -> None:
    runner = _resume_from_2(build)
    runner._train_dataloader["batch_size"] = batch_size
    runner._train_loop["parts"] = parts
    runner.train()
    sampler = DefaultSampler(Points(), shuffle=True, seed=0)
    assert runner.model.seen == list(sampler)[2 * BATCH :]


def test_auto_scale_lr_counts_parts(build) -> None:
    runner = build(
        auto_scale_lr=dict(enable=True, base_batch_size=64),
        train_cfg=dict(by_epoch=True, max_epochs=1, parts=3),
    )
    runner.train()
    assert runner.optim_wrapper.param_groups[0]["lr"] == pytest.approx(0.01 * 3 * BATCH / 64)


def test_parts_are_one_iteration(build) -> None:
    """Hooks, checkpoints and counts see what they see where each part has its process."""
    cfg, losses = dict(by_epoch=True, max_epochs=2, parts=2), Losses()
    runner = build(train_cfg=cfg, custom_hooks=[losses])
    runner.train()
    assert (runner.iter, runner.max_iters, len(runner.train_dataloader)) == (4, 4, 2)
    assert len(runner.model.seen) == 2 * LENGTH
    assert runner.message_hub.get_info("samples_seen") == 2 * LENGTH
    parts = torch.tensor(runner.model.losses).view(-1, 2)
    assert losses.seen == pytest.approx(parts.mean(1).tolist())


@pytest.mark.parametrize("kind", ["DefaultSampler", DefaultSampler])
def test_evaluation_has_no_sample_twice(build, kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda: (3, 4))
    sampler = dict(type=kind, shuffle=False)
    loader = dict(batch_size=2, num_workers=0, sampler=sampler, dataset=Points())
    for name in ("val", "test"):
        settings = {f"{name}_dataloader": loader, f"{name}_cfg": {}, f"{name}_evaluator": []}
        runner = build(**settings)
        loop = getattr(runner, f"{name}_loop")
        # Of 6 rows the last of four processes has one; mmengine fills it up with row 1.
        assert list(loop.dataloader.sampler) == [3]
    assert "round_up" not in sampler


def test_a_seed_that_was_drawn_is_resumed(build) -> None:
    """Without `randomness.seed` each process draws one: the sampler too must get the first."""
    hook = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1))
    whole = build(randomness=dict(seed=None), default_hooks=hook)
    whole.train()
    torch.manual_seed(99)
    path = Path(whole.work_dir) / "iter_2.pth"
    resumed = build(
        randomness=dict(seed=None), default_hooks=hook, load_from=str(path), resume=True
    )
    resumed.train()
    assert resumed.model.seen == whole.model.seen[2 * BATCH :]
    assert torch.equal(resumed.model.head.weight, whole.model.head.weight)


class FillDisk(Hook):
    """Lets no file grow beyond a kilobyte while the second checkpoint is saved."""

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if checkpoint["meta"]["epoch"] == 2:
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))


def test_no_room_for_a_checkpoint_keeps_the_one_before(build) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoint = dict(type="CheckpointHook", interval=1, max_keep_ckpts=1)
    runner = build(custom_hooks=[FillDisk()], default_hooks=dict(checkpoint=checkpoint))
    try:
        with pytest.raises(
            OSError, match=says("epoch_2.pth", "epoch_1.pth", "make room", "--resume")
        ):
            runner.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = Path(runner.work_dir)
    assert [path.name for path in folder.glob("*.pth*")] == ["epoch_1.pth"]
    assert load_checkpoint_file(folder / "epoch_1.pth")["meta"]["epoch"] == 1
    assert (folder / "last_checkpoint").read_text() == str(folder / "epoch_1.pth")


def test_outdated_checkpoints_are_removed(build) -> None:
    checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=1, max_keep_ckpts=2)
    runner = build(default_hooks=dict(checkpoint=checkpoint))
    runner.train()
    names = sorted(path.name for path in Path(runner.work_dir).glob("*.pth*"))
    assert names == ["iter_5.pth", "iter_6.pth"]


def test_named_parts_are_not_read(build) -> None:
    first = build()
    first.train()
    path = Path(first.work_dir) / "epoch_2.pth"
    for skip, same in ((["head."], ["body"]), (["body.", "head.bias"], ["head"])):
        runner = build(load_from=str(path), custom_hooks=[PartialWeightsHook(skip)])
        own = {name: getattr(runner.model, name).weight.clone() for name in ("body", "head")}
        runner.load_or_resume()
        for name in ("body", "head"):
            weight = getattr(runner.model, name).weight
            expected = getattr(first.model, name).weight if name in same else own[name]
            assert torch.equal(weight, expected)


def test_parts_that_are_not_there_are_an_error(build) -> None:
    first = build()
    first.train()
    path = str(Path(first.work_dir) / "epoch_2.pth")
    runner = build(load_from=path, custom_hooks=[PartialWeightsHook(["roi_head."])])
    with pytest.raises(ValueError, match=says("'roi_head.'", "body., head.")):
        runner.load_or_resume()
    for skip in ("head.", []):
        with pytest.raises(ValueError, match="give a list"):
            PartialWeightsHook(skip)
