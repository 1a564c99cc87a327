"""The order of items in shards is a permutation that any place of can be begun at."""

from __future__ import annotations

import itertools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from fgclip_det.datasets import ShardSampler
from fgclip_det.datasets.finehard import ShardEpoch
from tests.messages import says

UNEVEN = np.array([7, 3, 9, 1, 4, 12, 5, 5, 8, 2])
EVEN = np.full(64, 10)


@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 16, 1000])
@pytest.mark.parametrize("counts", [UNEVEN, EVEN, np.array([5])], ids=["uneven", "even", "one"])
def test_each_item_comes_once_and_any_place_can_be_the_first(counts, lanes):
    epoch = ShardEpoch(counts, seed=0, epoch=0, lanes=lanes)
    whole = list(epoch.numbers())
    assert sorted(whole) == list(range(counts.sum())) and len(epoch) == len(whole)
    for first in (0, 1, 2, len(whole) // 2, len(whole) - 1, len(whole)):
        assert list(epoch.numbers(first)) == whole[first:]


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = [
        tuple(ShardEpoch(EVEN, seed, epoch, 8).numbers()) for seed in (0, 1) for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4
    assert tuple(ShardEpoch(EVEN, 1, 1, 8).numbers()) == orders[3]


def test_processes_read_no_shard_of_another():
    order = list(ShardEpoch(EVEN, 0, 0, lanes=8).numbers())
    shards = [{number // 10 for number in order[rank::4]} for rank in range(4)]
    assert all(len(of_one) == 16 for of_one in shards) and len(set.union(*shards)) == 64


def test_a_batch_has_items_of_as_many_shards_as_lanes_and_few_are_open():
    order = list(ShardEpoch(EVEN, 0, 0, lanes=8).numbers())
    for begin in range(0, len(order), 8):
        assert len({number // 10 for number in order[begin : begin + 8]}) == 8
    assert len({number // 10 for number in order[:80]}) == 8


class Shards(SimpleNamespace):
    def __len__(self):
        return int(self.shard_counts.sum())


def shards(counts):
    return Shards(shard_counts=counts, lanes=4)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_processes_share_one_list_across_epochs(processes, monkeypatch):
    one = ShardSampler(shards(UNEVEN), seed=3)
    whole = list(itertools.islice(one, 150))
    assert sorted(whole[:56]) == sorted(whole[56:112]) == list(range(56)) != whole[:56]
    assert list(itertools.islice(one.numbers(100), 50)) == whole[100:]
    for rank in range(processes):
        monkeypatch.setattr(
            "mmengine.dataset.sampler.get_dist_info", lambda rank=rank: (rank, processes)
        )
        own = ShardSampler(shards(UNEVEN), seed=3)
        assert list(itertools.islice(own, 30)) == whole[rank::processes][:30]
        assert (
            list(itertools.islice(pickle.loads(pickle.dumps(own)), 5)) == whole[rank::processes][:5]
        )


def test_data_without_shards_are_refused():
    with pytest.raises(ValueError, match=says("list", "InfiniteSampler")):
        ShardSampler([1, 2])
