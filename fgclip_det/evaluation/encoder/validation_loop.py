"""FG-CLIP's own evaluation while an encoder trains, in the place of MMEngine's validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.registry import LOOPS
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from fgclip_det.evaluation.encoder.evaluate import evaluate_encoder
from fgclip_det.evaluation.encoder.features import process_number
from fgclip_det.evaluation.encoder.protocols import find_protocol
from fgclip_det.io import quoted


@LOOPS.register_module()
class EncoderEvaluationLoop(BaseLoop):
    """Runs protocols every ``val_interval`` iterations of the training loop.

    A metric is named ``PROTOCOL/METRIC``; a checkpoint hook takes it, such as by
    ``save_best="coco-retrieval/i2t_r1", rule="greater"``. There is nothing to load: the config
    says ``val_dataloader=[]`` and ``val_evaluator=[]``.

    Args:
        runner: Whose model has the `encoder`.
        dataloader: Not used.
        evaluator: Not used.
        protocols: Keywords of `evaluate_encoder` for each: ``dict(protocol=..., root=...)``.
        as_published: Whether metrics are of the authors' population, or of the whole one.

    Raises:
        ValueError: There is no protocol, one is unknown or there twice, or lacks its `root`.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: Any,
        evaluator: Any,
        protocols: Sequence[Mapping[str, Any]],
        as_published: bool = False,
    ) -> None:
        super().__init__(runner, dataloader)
        self.evaluator = evaluator
        self.protocols = [dict(one) for one in protocols]
        self.as_published = as_published
        if not self.protocols:
            raise ValueError("protocols is empty: give one, or leave out val_cfg")
        for one in self.protocols:
            if not {"protocol", "root"} <= {*one}:
                raise ValueError(f"{quoted(one)} lacks protocol or root: give both")
            find_protocol(one["protocol"])
        names = [one["protocol"] for one in self.protocols]
        if len({*names}) < len(names):
            raise ValueError(f"protocols has one twice ({', '.join(names)}): give each once")

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Evaluates; returns the metrics, in shares."""
        self.runner.call_hook("before_val")
        self.runner.call_hook("before_val_epoch")
        model = self.runner.model
        encoder = (model.module if is_model_wrapper(model) else model).encoder
        model.eval()
        metrics = {}
        for one in self.protocols:
            result = evaluate_encoder(encoder, progress=process_number()[0] == 0, **one)
            found = result.as_published if self.as_published else result.whole_population
            metrics |= {f"{result.protocol}/{name}": v for name, v in found.metrics.items()}
        self.runner.call_hook("after_val_epoch", metrics=metrics)
        self.runner.call_hook("after_val")
        return metrics
