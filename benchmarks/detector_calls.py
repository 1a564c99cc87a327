"""Timed calls of the benchmarks of whole detectors: a training step, and detection."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData

from benchmarks.detector_cases import Case, Workbench
from benchmarks.memory import peak_bytes
from fgclip_det.models import OpenVocabTwoStageDetector, Regions
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

Losses = dict[str, float]
Found = tuple[list[Regions], list[InstanceData]]


def train_call(bench: Workbench, recipe: str, dtype: torch.dtype) -> Callable[[], Losses]:
    """A step as the runner takes it: pixels to the device, losses, gradients, optimizer.

    Each call takes one, on the same pictures. The random choice of boxes is the same in each, so
    that recipes can be compared.

    Args:
        bench: Where the detector and the batch come from.
        recipe: "ours" or "plain".
        dtype: float32, or bfloat16 for mixed precision.

    Returns:
        The call; it gives the losses before the step, by name.
    """
    detector = bench.build(recipe)
    optim_wrapper = build_optim_wrapper(detector, bench.config.optim_wrapper)
    batch = bench.batch(training=True)

    def step() -> Losses:
        torch.manual_seed(bench.seed)
        data = detector.data_preprocessor(batch, True)
        with torch.autocast(bench.device, dtype, enabled=dtype != torch.float32):
            losses = detector(**data, mode="loss")
        total, values = detector.parse_losses(losses)
        optim_wrapper.update_params(total)
        return {name: float(value.detach()) for name, value in values.items()}

    return step


def detect_call(
    bench: Workbench, recipe: str, dtype: torch.dtype, names: int | None = None
) -> Callable[[], Found]:
    """`propose` and `classify` on a batch whose pixels are on the device.

    Args:
        bench: Where the detector and the batch come from.
        recipe: "ours" or "plain".
        dtype: float32, or bfloat16 for mixed precision.
        names: How many names are looked for, see `random_texts`; None takes the config's.

    Returns:
        The call; it gives regions and detections of each picture.
    """
    detector = bench.build(recipe).eval()
    texts = detector.text_embeddings if names is None else random_texts(detector, names, bench.seed)
    return detection(bench, detector, texts, dtype)


def detection(
    bench: Workbench,
    detector: OpenVocabTwoStageDetector,
    texts: TextEmbeddings,
    dtype: torch.dtype,
) -> Callable[[], Found]:
    """`detect_call` with a detector that is in eval mode, and given texts."""
    data = detector.data_preprocessor(bench.batch(training=False), False)

    def detect() -> Found:
        with torch.autocast(bench.device, dtype, enabled=dtype != torch.float32):
            regions = detector.propose(data["inputs"], data["data_samples"])
            return regions, detector.classify(regions, texts)

    return detect


def random_texts(detector: OpenVocabTwoStageDetector, names: int, seed: int) -> TextEmbeddings:
    """Unit embeddings in random directions for so many names; nothing is encoded."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(names, detector.encoder.projection_dim, generator=generator)
    vocabulary = Vocabulary.parse([f"name {index}" for index in range(names)])
    values = torch.nn.functional.normalize(values, dim=-1).to(detector.encoder.device)
    return TextEmbeddings(vocabulary, values, detector.encoder.fingerprint)


CALLS = {"train_step": train_call, "inference": detect_call}


def peak_of(
    which: str, case: Case, recipe: str, dtype: torch.dtype, device: str, seed: int
) -> int | None:
    """Peak bytes of a call of `CALLS`, above what the detector and its optimizer hold.

    It builds the detector itself, so that it can run in a process of its own.
    """
    bench = Workbench(case, device, seed)
    call = CALLS[which](bench, recipe, dtype)
    bench.close()
    return peak_bytes(call, device)
