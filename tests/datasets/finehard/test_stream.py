"""A stream goes on in its middle with the same items, on any number of processes and workers."""

from __future__ import annotations

import itertools
import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from fgclip_det.datasets import FineHARDStream, ShardSampler, collate_region_captions
from fgclip_det.datasets.finehard import prepare_shards
from fgclip_det.engine.resume.seeded_batches import ResumableBatchSampler
from tests.messages import says


@pytest.fixture(scope="module")
def folder(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    prepare_shards(*published, folder, items_per_shard=6)
    return str(folder)


def captions(samples):
    """What tells an item, and what was drawn for it."""
    return [(sample["long_caption"], *sample["region_captions"]) for sample in samples]


def set_processes(monkeypatch, rank, processes):
    for module in ("mmengine.dataset.sampler", "fgclip_det.engine.resume.seeded_batches"):
        monkeypatch.setattr(f"{module}.get_dist_info", lambda: (rank, processes))


def test_iterating_goes_on_where_its_state_is_from(folder):
    unbroken = captions(itertools.islice(FineHARDStream(folder, lanes=4), 130))
    assert len({one[0] for one in unbroken[:55]}) == len({one[0] for one in unbroken[55:110]}) == 55
    for taken in (0, 1, 54, 55, 71):
        first = FineHARDStream(folder, lanes=4)
        assert captions(itertools.islice(first, taken)) == unbroken[:taken]
        state = first.state_dict()
        assert state["samples_seen"] == taken
        second = pickle.loads(pickle.dumps(FineHARDStream(folder, lanes=4)))
        second.load_state_dict(state)
        assert captions(itertools.islice(second, 50)) == unbroken[taken : taken + 50]


def test_a_state_moves_to_another_number_of_processes(folder, monkeypatch):
    unbroken = captions(itertools.islice(FineHARDStream(folder, lanes=4), 100))
    for rank in range(2):
        set_processes(monkeypatch, rank, 2)
        stream = FineHARDStream(folder, lanes=4)
        assert captions(itertools.islice(stream, 21)) == unbroken[rank:42:2]
        assert stream.state_dict()["samples_seen"] == 42
    for rank in range(3):
        set_processes(monkeypatch, rank, 3)
        other = FineHARDStream(folder, lanes=4)
        other.load_state_dict(stream.state_dict())
        assert captions(itertools.islice(other, 15)) == unbroken[42 + rank : 87 : 3]


@pytest.mark.parametrize(("changes", "name"), [({"seed": 1}, "seed"), ({"lanes": 2}, "lanes")])
def test_a_state_of_another_order_is_refused(folder, changes, name):
    state = FineHARDStream(folder, lanes=4).state_dict()
    other = FineHARDStream(folder, **{"lanes": 4, **changes})
    with pytest.raises(ValueError, match=says(name)):
        other.load_state_dict(state)
    with pytest.raises(ValueError, match=says("samples_seen", -2)):
        FineHARDStream(folder, lanes=4).load_state_dict({**state, "samples_seen": -2})


def batches(folder, batch_size, begin, end, workers):
    """Batches that the training loop of this process takes, from one iteration to another."""
    stream = FineHARDStream(folder, lanes=4)
    order = ResumableBatchSampler(ShardSampler(stream, seed=5), batch_size, endless=True)
    order.start(seed=7, iteration=begin, skip=begin)
    loader = DataLoader(
        stream, batch_sampler=order, num_workers=workers, collate_fn=collate_region_captions
    )
    taken = list(itertools.islice(loader, end - begin))
    texts = [
        list(zip(batch["long_caption"], map(tuple, batch["region_captions"]), strict=True))
        for batch in taken
    ]
    return texts


@pytest.mark.parametrize(("workers", "other"), [(0, 0), pytest.param(2, 3, marks=pytest.mark.slow)])
def test_training_goes_on_in_the_middle_of_a_stream(folder, monkeypatch, workers, other):
    """On two processes with some workers each, and then on another number of both."""
    unbroken = []
    for rank in range(2):
        set_processes(monkeypatch, rank, 2)
        unbroken.append(batches(folder, 4, 0, 14, workers))
        for number in {workers, other}:
            assert batches(folder, 4, 9, 14, number) == unbroken[rank][9:]
    first, second = unbroken
    joined = [
        [one for pair in zip(*both, strict=True) for one in pair]
        for both in zip(first, second, strict=True)
    ]
    set_processes(monkeypatch, 0, 1)
    assert batches(folder, 8, 9, 14, other) == joined[9:]
    for rank in range(4):
        set_processes(monkeypatch, rank, 4)
        parts = batches(folder, 2, 9, 14, 0)
        assert parts == [batch[rank::4] for batch in joined[9:]]
    seen = [text for batch in joined for text, _ in batch]
    assert len({*seen[:55]}) == len({*seen[55:110]}) == 55


def test_few_shards_are_open_at_a_time(folder, monkeypatch):
    monkeypatch.setattr("fgclip_det.datasets.finehard.stream._SPARE", 1)
    stream = FineHARDStream(folder, lanes=2)
    for _ in itertools.islice(stream, 60):
        assert 1 <= len(stream._shards._open) <= 3


def test_lanes_that_cannot_be_are_refused(folder):
    with pytest.raises(ValueError, match=says("lanes", 0)):
        FineHARDStream(folder, lanes=0)


def test_token_ids_are_made_in_workers_as_in_this_process(folder, golden_dir):
    tokenizer = str(golden_dir / "training" / "finehard" / "tokenizer_v1")
    stream = FineHARDStream(folder, tokenizer=tokenizer, region_text="short")
    here = [stream[number] for number in range(6)]
    loader = DataLoader(stream, batch_size=6, num_workers=1, collate_fn=collate_region_captions)
    there = next(iter(loader))
    assert there["hard_captions"] == [sample["hard_captions"] for sample in here]
    assert there["long_caption"] == [sample["long_caption"] for sample in here]
    assert all(ids[0] == 49406 and ids[-1] == 49407 for ids in there["short_caption"])
    assert torch.equal(torch.stack(there["image"]), torch.stack([s["image"] for s in here]))
