"""The plain recipe is the same detector: the same losses, gradients and detections."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
import torchvision

# Before mmdet.
import fgclip_det.compat  # noqa: F401

# isort: split
from mmengine.config import Config


@pytest.fixture
def cases(import_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return import_benchmark("detector_cases")


@pytest.fixture
def calls(import_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return import_benchmark("detector_calls")


@pytest.fixture
def bench(cases: ModuleType) -> Iterator:
    """Detectors on the bundled weights, two pictures of Shapes."""
    bench = cases.Workbench(cases.QUICK, "cpu", 0)
    yield bench
    bench.close()


def test_losses_and_gradients_are_equal(bench) -> None:
    batch, found = bench.batch(training=True), {}
    for recipe in ("ours", "plain"):
        detector = bench.build(recipe)
        torch.manual_seed(0)
        data = detector.data_preprocessor(batch, True)
        total, values = detector.parse_losses(detector(**data, mode="loss"))
        total.backward()
        gradients = {n: p.grad for n, p in detector.named_parameters() if p.grad is not None}
        found[recipe] = {n: float(value.detach()) for n, value in values.items()}, gradients
    (own_losses, own), (plain_losses, plain) = found["ours"], found["plain"]
    assert set(own_losses) >= {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss"}
    assert own_losses == pytest.approx(plain_losses, abs=1e-5)
    assert own.keys() == plain.keys() and len(own) > 20
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    for name, gradient in own.items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-5 * largest, rtol=1e-3)


def test_a_step_trains(bench, calls: ModuleType) -> None:
    step = calls.train_call(bench, "ours", torch.float32)
    losses = [step()["loss"] for _ in range(2)]
    # The same pictures and the same choice of boxes: what differs is the weights.
    assert losses[0] != losses[1]
    assert calls.train_call(bench, "ours", torch.float32)()["loss"] == losses[0]


def test_detections_are_equal(bench, calls: ModuleType) -> None:
    (own_regions, own), (plain_regions, plain) = (
        calls.detect_call(bench, recipe, torch.float32)() for recipe in ("ours", "plain")
    )
    for mine, theirs in zip(own_regions, plain_regions, strict=True):
        torch.testing.assert_close(mine.boxes, theirs.boxes, atol=1e-3, rtol=0)
        for name in ("objectness", "detector_embeddings", "region_embeddings"):
            values = (getattr(regions, name) for regions in (mine, theirs))
            torch.testing.assert_close(*values, atol=1e-5, rtol=0)
    assert sum(len(image) for image in own) > 2
    for mine, theirs in zip(own, plain, strict=True):
        assert mine.labels.equal(theirs.labels) and mine.regions.equal(theirs.regions)
        torch.testing.assert_close(mine.scores, theirs.scores, atol=1e-5, rtol=0)


def test_each_recipe_pools_by_its_own_operator(
    bench, calls: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts: list[bool] = []
    correct = torchvision.ops.roi_align

    def watched(features: torch.Tensor, *given):
        layouts.append(features.is_contiguous())
        return correct(features, *given)

    monkeypatch.setattr(torchvision.ops, "roi_align", watched)
    for which, pools in ((calls.train_call, 3), (calls.detect_call, 4)):
        which(bench, "ours", torch.float32)()
        assert layouts == []
        which(bench, "plain", torch.float32)()
        # One for each level, and in detection one for the dense map.
        assert len(layouts) == pools
        layouts.clear()


def test_the_dense_map_is_made_in_training_by_the_plain_recipe_alone(
    bench, calls: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for recipe, times in (("ours", 0), ("plain", 1)):
        made: list[torch.Tensor] = []
        detector = bench.build(recipe)
        own = detector.encoder.project_dense
        monkeypatch.setattr(
            detector.encoder,
            "project_dense",
            lambda tap, own=own, made=made: made.append(tap) or own(tap),
        )
        data = detector.data_preprocessor(bench.batch(training=True), True)
        detector(**data, mode="loss")
        assert len(made) == times
        maps = detector.backbone(data["inputs"]).maps
        assert all(one.is_contiguous() for one in maps) == (recipe == "plain")


def test_what_a_config_says_is_changed_in_three_places(bench) -> None:
    plain = importlib.import_module("benchmarks.plain_recipe")
    config = Config(bench.config.to_dict())
    plain.make_plain(config)
    own, other = bench.config.model.to_dict(), config.model.to_dict()
    for part in (own, other):
        part["backbone"].pop("type")
        part["roi_head"].pop("type")
        part["roi_head"]["bbox_roi_extractor"].pop("type")
    assert own == other
