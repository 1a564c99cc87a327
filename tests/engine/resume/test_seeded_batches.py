import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import Runner
from torch.utils.data import Dataset

import fgclip_det.engine  # noqa: F401  (registers)
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


def _loader(workers=0, sampler="DefaultSampler", endless=False, **settings):
    config = dict(
        batch_size=3,
        num_workers=workers,
        sampler=dict(type=sampler, shuffle=True),
        dataset=Draws(),
        collate_fn=dict(type=list),
        **settings,
    )
    loader = Runner.build_dataloader(resumable_loader(config, endless), seed=5)
    loader.batch_sampler.start(seed=5, rank=0, iteration=0)
    return loader


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


def test_seed_rank_and_iteration_change_the_samples_but_not_the_rows():
    expected = _take(_loader(), 3)
    for start in (dict(seed=6), dict(rank=1), dict(iteration=9)):
        loader = _loader()
        loader.batch_sampler.start(**{"seed": 5, "rank": 0, "iteration": 0, **start})
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
    loader.batch_sampler.start(seed=5, rank=0, iteration=4, skip=4)
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
    sampler = ResumableBatchSampler(
        InfiniteSampler([], shuffle=False, seed=0), 3, drop_last=True, endless=endless
    )
    sampler.batch_sampler = []
    with pytest.raises(
        ValueError, match=says("batch of 3", "train_dataloader.batch_size", "drop_last")
    ):
        next(iter(sampler))


def test_sending_a_batch_to_a_worker_draws_nothing():
    before = torch.get_rng_state()
    batch = pickle.loads(pickle.dumps(SeededBatch([4, 2], (0, 0, 1))))
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
