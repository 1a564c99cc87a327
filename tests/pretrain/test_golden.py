"""Losses and gradients of the authors' code on one process."""

from __future__ import annotations

import pytest
import torch

from tests.pretrain.golden_batches import Golden, own_gradients, total, unweighted

LOSS, GRADIENT = 2e-5, 1e-5


@pytest.fixture(scope="module", params=["fgclip", "fgclip2"])
def golden(request, golden_dir):
    if not (golden_dir / "training").is_dir():
        pytest.skip("reference numbers not present: no folder training beside the golden tensors")
    return Golden(golden_dir, request.param)


def _steps(golden, case):
    steps = golden.expected["one_process"][case]
    return [steps] if golden.is_first else [step["losses"] for step in steps]


@pytest.mark.parametrize(
    ("case", "pictures"), [("both", range(10)), ("rank0", range(5)), ("rank1", range(5, 10))]
)
def test_losses_equal_the_authors(golden, case, pictures):
    model, batch = golden.pretrainer(), golden.batch(pictures)
    for expected in _steps(golden, case):
        losses = model(**batch)
        for name, value in unweighted(golden, model, losses).items():
            assert value == pytest.approx(expected[name], abs=LOSS), name
        assert total(losses).item() == pytest.approx(expected["total"], abs=LOSS)


def test_gradients_equal_the_authors(golden):
    model = golden.pretrainer()
    total(model(**golden.batch(range(10)))).backward()
    gradients = own_gradients(model)
    assert {*gradients} == {*golden.expected["parameters"]}
    case = "one_process/both" if golden.is_first else "one_process/both/step1"
    assert golden.worst_gradient(case, gradients) < GRADIENT


def test_the_papers_weights_give_the_papers_loss(golden):
    if golden.is_first:
        pytest.skip("FG-CLIP's paper and code have the same weights")
    model = golden.pretrainer("objectives_fgclip2_paper")
    losses = model(**golden.batch(range(10)))
    expected = _steps(golden, "both")[0]["total_paper_weights"]
    assert total(losses).item() == pytest.approx(expected, abs=LOSS)
    assert "loss_hard_contrastive" not in losses


def test_threshold_is_of_the_step_before_and_survives_a_resume(golden):
    if golden.is_first:
        pytest.skip("FG-CLIP has no threshold")
    first, second = golden.expected["one_process"]["both"]
    model, batch = golden.pretrainer(), golden.batch(range(10))
    assert model(**batch)["ranking_threshold"].item() == 0.0
    assert model.ranking_threshold.item() == pytest.approx(first["threshold_after"], abs=LOSS)
    resumed = golden.pretrainer()
    resumed.load_state_dict(model.state_dict())
    resumed.eval()(**batch)
    assert resumed.ranking_threshold.item() == model.ranking_threshold.item()
    loss = unweighted(golden, resumed, resumed.train()(**batch))["cmr"]
    assert loss == pytest.approx(second["losses"]["cmr"], abs=LOSS)


def test_fewer_than_ten_regions_are_trained_on(golden):
    batch = golden.batch(range(5))
    for name in ("boxes", "region_captions", "hard_captions"):
        batch[name] = [own[:2] for own in batch[name]]
    batch["hard_captions"] = [[[]] * len(own) for own in batch["boxes"]]
    model = golden.pretrainer()
    losses = unweighted(golden, model, model(**batch))
    if not golden.is_first:  # whose authors' code has no such case
        (expected,) = _steps(golden, "fewer_than_ten_regions")
        for name in ("long", "short", "region"):
            assert losses[name] == pytest.approx(expected[name], abs=LOSS), name
        assert 0 < losses["tic"] < torch.tensor(8.0).log() + 0.95
    assert losses["region"] > 0
