import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.dataset import sampler as mmengine_samplers
from mmengine.runner import Runner
from torch.utils.data import Dataset

import fgclip_det.engine  # noqa: F401  (registers)
from fgclip_det.engine.resume import seeded_batches
from fgclip_det.engine.resume.seeded_batches import (
    ResumableBatchSampler,
    SeededBatch,
    resumable_loader,
    seed_step,
)
from tests.messages import says


class Draws(Dataset):
    """Row numbers with a number of each generator that pipelines draw from."""

    def __len__(self):
        return 7

    def __getitem__(self, row):
        return row, random.random(), float(np.random.rand()), float(torch.rand(()))


def _loader(workers=0, sampler="DefaultSampler", endless=False, parts=None, **settings):
    config = dict(
        batch_size=3,
        num_workers=workers,
        sampler=dict(type=sampler, shuffle=True),
        dataset=Draws(),
        collate_fn=dict(type=list),
    )
    config = resumable_loader({**config, **settings}, endless, parts)
    loader = Runner.build_dataloader(config, seed=5)
    loader.batch_sampler.start(seed=5, iteration=0)
    return loader


@pytest.fixture
def process(monkeypatch):
    """Lets what is built take this process for the one of a rank."""

    def process(rank, processes):
        for module in (seeded_batches, mmengine_samplers):
            monkeypatch.setattr(module, "get_dist_info", lambda: (rank, processes))

    return process


def _take(loader, count):
    return [batch for batch, _ in zip(loader, range(count), strict=False)]


def test_samples_depend_on_neither_workers_nor_what_was_drawn_before():
    expected = _take(_loader(), 3)
    assert [len(batch) for batch in expected] == [3, 3, 1]
    torch.rand(3), np.random.rand(3), random.random()
    assert _take(_loader(), 3) == expected
    assert _take(_loader(workers=2), 3) == expected
    numbers = [number for batch in expected for sample in batch for number in sample[1:]]
    assert len(set(numbers)) == 3 * 7


def test_seed_and_iteration_change_the_samples_but_not_the_rows():
    expected = _take(_loader(), 3)
    for start in (dict(seed=6), dict(iteration=9)):
        loader = _loader()
        loader.batch_sampler.start(**{"seed": 5, "iteration": 0, **start})
        found = _take(loader, 3)
        for batch, other in zip(expected, found, strict=True):
            for sample, changed in zip(batch, other, strict=True):
                assert sample[0] == changed[0]
                assert not set(sample[1:]) & set(changed[1:])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("sampler", ["DefaultSampler", "InfiniteSampler"])
def test_an_endless_pass_goes_on_where_it_stopped(workers, sampler):
    expected = _take(_loader(sampler=sampler, endless=True), 9)
    loader = _loader(workers, sampler, endless=True)
    loader.batch_sampler.start(seed=5, iteration=4, skip=4)
    assert _take(loader, 5) == expected[4:]


def test_rows_are_those_of_mmengine_epoch_after_epoch():
    loader = _loader(endless=True)
    found = [[row for row, *_ in batch] for batch in _take(loader, 6)]
    plain = DefaultSampler(Draws(), shuffle=True, seed=5)
    expected = []
    for epoch in range(2):
        plain.set_epoch(epoch)
        rows = list(plain)
        expected += [rows[:3], rows[3:6], rows[6:]]
    assert found == expected


def test_drop_last_and_another_batch_sampler():
    assert len(_loader(drop_last=True)) == 2
    assert [len(batch) for batch in _take(_loader(drop_last=True), 3)] == [3, 3]
    halves = dict(type=torch.utils.data.BatchSampler, drop_last=True)
    loader = _loader(batch_sampler=halves)
    assert isinstance(loader.batch_sampler.batch_sampler, torch.utils.data.BatchSampler)
    assert len(_take(loader, 3)) == 2


@pytest.mark.parametrize("endless", [True, False])
def test_no_batch_at_all_is_an_error(endless):
    order = DefaultSampler(range(2), shuffle=False, seed=0)
    batches = ResumableBatchSampler(order, 3, drop_last=True, endless=endless)
    with pytest.raises(
        ValueError, match=says("batch of 3", "train_dataloader.batch_size", "drop_last")
    ):
        next(iter(batches))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, "x"])
def test_a_batch_without_samples_is_an_error(batch_size):
    with pytest.raises(ValueError, match=says(f"batch_size is {batch_size!r}", "number from 1")):
        _loader(batch_size=batch_size)


def test_sending_a_batch_to_a_worker_draws_nothing():
    before = torch.get_rng_state()
    batch = pickle.loads(pickle.dumps(SeededBatch([4, 2], (0, 0, 1), range(2))))
    assert torch.equal(torch.get_rng_state(), before)
    assert list(batch) == [4, 2]
    assert not torch.equal(torch.get_rng_state(), before)


def test_seed_step_seeds_all_generators():
    def draw(*key):
        seed_step(*key)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first = draw(0, 0, 3)
    assert draw(0, 0, 3) == first
    for key in [(1, 0, 3), (0, 1, 3), (0, 0, 4), (2**40, 0, 3)]:
        assert not set(draw(*key)) & set(first)


def _joined(process, processes, count, batch_size, parts=None, **settings):
    """The samples of each of `count` iterations, by place, and the batches of each process."""
    dealt = []
    for rank in range(processes):
        process(rank, processes)
        loader = _loader(batch_size=batch_size, parts=parts, **settings)
        repeats = len(loader.batch_sampler.own_parts)
        batches = _take(loader, count * repeats)
        dealt.append([batches[i : i + repeats] for i in range(0, len(batches), repeats)])
    assert len({len(iterations) for iterations in dealt}) == 1
    joined = []
    for turns in zip(*dealt, strict=True):
        # Part p is turn p // processes of process p % processes.
        batches = [batch for turn in zip(*turns, strict=True) for batch in turn]
        places = range(max(map(len, batches)))
        joined.append([b[place] for place in places for b in batches if place < len(b)])
    return joined


@pytest.mark.parametrize(
    ("kind", "endless"),
    [("DefaultSampler", False), ("DefaultSampler", True), ("InfiniteSampler", True)],
)
def test_an_iteration_has_the_same_samples_however_it_is_dealt(process, kind, endless):
    """7 rows by 6: also the one row of the second iteration, filled up for several parts."""
    settings = dict(sampler=kind, endless=endless)
    count = 5 if endless else 2
    whole = _joined(process, 1, count, 6, **settings)
    filled = []
    for processes, batch_size, parts in [(1, 3, 2), (2, 3, 2), (3, 2, 3), (1, 1, 6), (2, 1, 6)]:
        dealt = _joined(process, processes, count, batch_size, parts, **settings)
        for samples, expected in zip(dealt, whole, strict=True):
            assert samples[: len(expected)] == expected
            filled.append(len(samples) - len(expected))
            assert filled[-1] < parts
    assert max(filled) == (5 if kind == "DefaultSampler" else 0)


def test_processes_get_the_rows_that_mmengine_gives_them(process):
    for rank in range(2):
        process(rank, 2)
        found = [[row for row, *_ in batch] for batch in _take(_loader(), 9)]
        rows = list(DefaultSampler(Draws(), shuffle=True, seed=5))
        assert found == [rows[:3], rows[3:]]


def test_an_incomplete_iteration_is_left_out_on_any_number_of_processes(process):
    # MMEngine's sampler would fill 7 rows up to 8, and those of a second iteration of 4.
    for processes, batch_size in [(1, 4), (2, 2), (4, 1)]:
        (only,) = _joined(process, processes, 9, batch_size, drop_last=True)
        assert len({row for row, *_ in only}) == 4


def test_samples_are_counted_once(process):
    for processes, batch_size in [(1, 6), (2, 3), (6, 1)]:
        process(0, processes)
        batches = _loader(batch_size=batch_size).batch_sampler
        assert [batches.samples_of(index) for index in range(4)] == [6, 1, 6, 1]
        endless = _loader(batch_size=batch_size, sampler="InfiniteSampler").batch_sampler
        assert endless.samples_of(1) == 6


def test_more_processes_than_samples_repeat_them(process):
    (only,) = _joined(process, 16, 2, 2)
    process(0, 1)
    rows = list(DefaultSampler(Draws(), shuffle=True, seed=5))
    assert [row for row, *_ in only] == [*rows, *rows, *rows[:2]]
    assert len({number for _, number, *_ in only}) == 16


def test_no_samples_are_an_error():
    with pytest.raises(ValueError, match=says("0 samples", "train_dataloader.dataset")):
        _loader(dataset=[])


def test_parts_that_cannot_be_dealt_are_an_error(process):
    process(0, 2)
    with pytest.raises(ValueError, match=says("parts is 3", "start 1 or 3", "multiple of 2")):
        _loader(parts=3)
    for parts in (0, -2, 1.5, True, "2"):
        with pytest.raises(ValueError, match=says("train_cfg.parts", "whole number from 1")):
            _loader(parts=parts)
    own = dict(type=torch.utils.data.BatchSampler, drop_last=True)
    with pytest.raises(ValueError, match=says("train_cfg.parts is 2", "deals by itself")):
        _loader(parts=2, batch_sampler=own)
