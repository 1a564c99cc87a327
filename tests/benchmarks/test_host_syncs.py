"""Waits for a GPU are counted, and a step of training has few of them, with the same results."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from benchmarks.detector_cases import SHAPES, Case, Workbench


def test_what_counts(benchmark: ModuleType) -> None:
    values, mask = torch.arange(4.0), torch.tensor([True, False, True, True])
    waiting = [
        lambda: values[0].item(),
        lambda: bool(mask.any()),
        lambda: mask.nonzero(),
        lambda: values[mask],
        lambda: values.clone().__setitem__(mask, torch.ones(3)),
        lambda: values.tolist(),
        lambda: values.numpy(),
        lambda: values.unique(),
        lambda: torch.repeat_interleave(torch.tensor([1, 2])),
    ]
    for call in waiting:
        with benchmark.HostSyncs() as syncs:
            call()
        assert syncs.places.total() == 1, syncs.places
    with benchmark.HostSyncs() as syncs:
        values.clone()[mask] = 0
        torch.where(mask, values, 0)
        torch.nonzero_static(mask, size=3)
        values[torch.tensor([0, 2])] + len(values)
        mask.cumsum(0).argsort(stable=True)
        torch.repeat_interleave(torch.tensor([1, 2]), output_size=3)
    assert not syncs.places


@pytest.fixture
def bench():
    bench = Workbench(Case(SHAPES.name, "", SHAPES.config, 3), "cpu", 0)
    yield bench
    bench.close()


def test_waits_do_not_grow_with_pictures_or_objects(benchmark: ModuleType, bench) -> None:
    """Two stages read their counts, for any batch."""
    detector = bench.build("ours")
    data = detector.data_preprocessor(bench.batch(training=True), True)
    for count in (1, 3):
        part = {key: value[:count] for key, value in data.items()}
        syncs = benchmark.losses_syncs(detector, part)
        assert syncs.of("fgclip_det") == 2, syncs.places
        avoided = [place for place in syncs.places if "task_modules" in place or "unmap" in place]
        assert all(place.startswith("fgclip_det/") for place in avoided), syncs.places
        assert not syncs.of("elsewhere")
    benchmark.set_batched(detector, False)
    assert benchmark.losses_syncs(detector, part).places.total() > 2 * syncs.places.total()


def test_a_step_is_the_same_either_way(benchmark: ModuleType, bench) -> None:
    """Losses and gradients, bit for bit."""
    found = {}
    for batched in (True, False):
        detector = bench.build("ours")
        benchmark.set_batched(detector, batched)
        data = detector.data_preprocessor(bench.batch(training=True), True)
        torch.manual_seed(3)
        losses, values = detector.parse_losses(detector(**data, mode="loss"))
        losses.backward()
        gradients = {n: p.grad for n, p in detector.named_parameters() if p.grad is not None}
        found[batched] = {**values, **gradients}
    assert found[True].keys() == found[False].keys() and len(found[True]) > 20
    for name, value in found[True].items():
        assert torch.equal(value, found[False][name]), name
