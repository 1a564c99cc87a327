"""Metrics of results that several processes have parts of."""

from __future__ import annotations

import pytest
from mmengine.evaluator import BaseMetric

from fgclip_det.engine.launch import patient_evaluator
from fgclip_det.engine.launch.patient_evaluator import PatientEvaluator
from tests.messages import says


class Listed(BaseMetric):
    """Gives back the results in their order."""

    default_prefix = "listed"

    def process(self, data_batch: object, data_samples: list[dict]) -> None:
        self.results += data_samples

    def compute_metrics(self, results: list) -> dict:
        return {"rows": results}


@pytest.fixture
def second_part(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    part: list[int] = []
    monkeypatch.setattr(patient_evaluator, "get_world_size", lambda: 2)
    monkeypatch.setattr(patient_evaluator, "gathered_objects", lambda mine: [mine, part])
    return part


def test_results_are_in_the_order_of_the_data_without_what_was_padded(
    second_part: list[int],
) -> None:
    metric = Listed()
    metric.results = [0, 2, 4]
    second_part += [1, 3, 0]  # five samples: the first is given again
    assert PatientEvaluator([metric]).evaluate(5) == {"listed/rows": [0, 1, 2, 3, 4]}
    assert metric.results == []


def test_a_result_that_is_none_is_one(second_part: list[int]) -> None:
    metric = Listed()
    metric.results = [None, 2]
    second_part += [1]
    assert PatientEvaluator([metric]).evaluate(3) == {"listed/rows": [None, 1, 2]}


def test_alone_it_is_mmengine_s() -> None:
    metric = Listed(prefix="p")
    metric.results = [0, 1, 0]
    assert PatientEvaluator([metric]).evaluate(2) == {"p/rows": [0, 1]}


def test_two_metrics_of_one_name() -> None:
    metrics = [Listed(), Listed()]
    for metric in metrics:
        metric.results = [0]
    with pytest.raises(ValueError, match=says("two metrics give 'listed/rows'")):
        PatientEvaluator(metrics).evaluate(1)
