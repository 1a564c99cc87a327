"""Metrics of several processes, however long they take."""

from __future__ import annotations

import itertools
from typing import Any

from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.utils import apply_to

from fgclip_det.engine.launch.first_process import gathered_objects, on_first_process


class PatientEvaluator(Evaluator):
    """MMEngine's evaluator, except that the others wait without limit for the first process.

    There they wait in a collective of the GPUs, and a metric that takes longer than its timeout
    ends the run. Results are sent to the first process instead of laid into a folder which all
    machines must share. An error of a metric ends every process, with its reason.

    Metrics that have an ``evaluate`` or a ``collect_dir`` of their own are left to MMEngine.
    """

    def evaluate(self, size: int) -> dict[str, Any]:
        """Compute the metrics.

        Args:
            size: Length of the data set. The results beyond, of samples that were given twice so
                that every process has as many, are left out.

        Returns:
            In every process, the metrics by name.

        Raises:
            ValueError: Two metrics give one name.
        """
        found: dict[str, Any] = {}
        for metric in self.metrics:
            is_plain = type(metric).evaluate is BaseMetric.evaluate
            if is_plain and metric.collect_dir is None and get_world_size() > 1:
                values = _evaluate(metric, size)
            else:
                values = metric.evaluate(size)
            double = sorted({*values} & {*found})
            if double:
                raise ValueError(f"two metrics give {double[0]!r}: set `prefix` of one of them")
            found |= values
        return found


def _evaluate(metric: BaseMetric, size: int) -> dict[str, Any]:
    results = apply_to(metric.results, lambda one: hasattr(one, "cpu"), lambda one: one.cpu())
    parts = gathered_objects(results)
    values = on_first_process(lambda: metric.compute_metrics(_in_order(parts)[:size]))
    metric.results.clear()
    prefix = f"{metric.prefix}/" if metric.prefix else ""
    return {f"{prefix}{name}": value for name, value in values.items()}


def _in_order(parts: list[list]) -> list:
    """The order of the data set: sample n is in part n modulo the number of parts."""
    absent = object()
    rows = itertools.zip_longest(*parts, fillvalue=absent)
    return [one for row in rows for one in row if one is not absent]
