"""Counts where a step of training makes the host wait for a GPU, by the place that asks.

A wait is an operator whose result the host needs before it can go on: a number read from a tensor,
or a result whose size depends on values (PyTorch's tuning guide, "Avoid unnecessary CPU-GPU
synchronization"; what `torch.cuda.set_sync_debug_mode` warns of). They are counted on a CPU, where
the same operators are called; copies to a GPU are none of them.

    python benchmarks/host_syncs.py --images 8
    python benchmarks/host_syncs.py --images 8 --plain
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import report
from benchmarks.detector_cases import SHAPES, Case, Workbench
from fgclip_det.models import OpenVocabTwoStageDetector

ROOT = Path(__file__).resolve().parents[1]
# Their result is a number for the host, or of a size that only the values tell.
WAITING = frozenset(
    {
        "aten::_local_scalar_dense",
        "aten::is_nonzero",
        "aten::equal",
        "aten::nonzero",
        "aten::masked_select",
        "aten::_unique",
        "aten::_unique2",
        "aten::unique_dim",
        "aten::unique_consecutive",
        "aten::bincount",
        "torchvision::nms",
    }
)
# They read values on a CPU without calling an operator.
_TO_HOST = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__}
_PACKAGES = ("fgclip_det", "mmdet", "mmcv", "mmengine", "torchvision")


class HostSyncs:
    """A context in which waits are counted.

    Attributes:
        places: How often each "package/file.py:function: operator" was met.
    """

    def __init__(self) -> None:
        self.places: Counter[str] = Counter()
        self._modes = (_Functions(self._count), _Operators(self._count))

    def __enter__(self) -> HostSyncs:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(kind, error, trace)

    def of(self, package: str) -> int:
        """Waits that code of a package asks for."""
        return sum(n for place, n in self.places.items() if place.startswith(f"{package}/"))

    def _count(self, operator: str) -> None:
        self.places[f"{_caller()}: {operator}"] += 1


class _Operators(TorchDispatchMode):
    def __init__(self, count: Callable[[str], None]) -> None:
        super().__init__()
        self._count = count

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        name = function.name().partition(".")[0]
        if name in WAITING or _by_mask(name, args) or _unsized_repeat(name, args, kwargs or {}):
            self._count(name)
        return function(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    def __init__(self, count: Callable[[str], None]) -> None:
        super().__init__()
        self._count = count

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        if function in _TO_HOST:
            self._count(function.__name__)
        return function(*args, **(kwargs or {}))


def _by_mask(name: str, args: tuple) -> bool:
    """Whether rows are chosen by a mask; filling with one number is done in place, without."""
    if name not in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"):
        return False
    if name != "aten::index" and args[2].dim() == 0:
        return False
    return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])


def _unsized_repeat(name: str, args: tuple, kwargs: dict) -> bool:
    return name == "aten::repeat_interleave" and kwargs.get("output_size") is None


def _caller() -> str:
    """The innermost function of a package that is no library of operators."""
    for frame in reversed(traceback.extract_stack()):
        parts = Path(frame.filename).parts
        for package in _PACKAGES:
            if package in parts and "compat" not in parts:
                place = "/".join(parts[len(parts) - parts[::-1].index(package) - 1 :])
                return f"{place}:{frame.name}"
    return "elsewhere"


@contextlib.contextmanager
def shapes_step(images: int, seed: int = 0) -> Iterator[tuple[OpenVocabTwoStageDetector, Any]]:
    """The detector of Shapes, and a batch of so many pictures as its preprocessor gives it."""
    bench = Workbench(Case(SHAPES.name, "", SHAPES.config, images), "cpu", seed)
    try:
        detector = bench.build("ours")
        yield detector, detector.data_preprocessor(bench.batch(training=True), True)
    finally:
        bench.close()


def set_batched(detector: OpenVocabTwoStageDetector, batched: bool) -> None:
    """Whether targets are made for the batch, or by MMDetection picture by picture."""
    for head in (detector.rpn_head, detector.roi_head):
        head.train_cfg["batched_targets"] = batched


def losses_syncs(detector: OpenVocabTwoStageDetector, data: dict[str, Any]) -> HostSyncs:
    """Waits of the losses of a batch, as the preprocessor gives it, and of their gradients."""
    # What is kept between steps, embeddings of texts above all, is there after one.
    detector(**data, mode="loss")
    with HostSyncs() as syncs:
        total, _ = detector.parse_losses(detector(**data, mode="loss"))
        total.backward()
    return syncs


def time_ratio(
    detector: OpenVocabTwoStageDetector, data: dict[str, Any], rounds: int
) -> list[float]:
    """CPU time of losses and gradients by MMDetection's targets over that by the batch's.

    Of the processor, not of the clock: a busy machine does not change it much.
    """

    def seconds(batched: bool) -> float:
        set_batched(detector, batched)
        start = time.process_time()
        total, _ = detector.parse_losses(detector(**data, mode="loss"))
        total.backward()
        return time.process_time() - start

    for batched in (True, False):
        seconds(batched)
    return sorted(seconds(False) / seconds(True) for _ in range(rounds))


def main(argv: list[str] | None = None) -> int:
    """Prints the counts, and how long a step takes where it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8, help="pictures of the batch")
    parser.add_argument("--plain", action="store_true", help="targets by MMDetection")
    parser.add_argument("--rounds", type=int, default=0, help="of timing both ways in turns")
    args = parser.parse_args(argv)
    if args.images < 1 or args.rounds < 0:
        print("error: --images must be at least 1, and --rounds at least 0", file=sys.stderr)
        return 2
    with shapes_step(args.images) as (detector, data):
        set_batched(detector, not args.plain)
        syncs = losses_syncs(detector, data)
        ratios = time_ratio(detector, data, args.rounds)
    rows = [[place, str(number)] for place, number in syncs.places.most_common()]
    rows.append(["all", str(syncs.places.total())])
    print(report.table(["place: operator", "waits"], rows))
    if ratios:
        low, middle, high = ratios[0], ratios[len(ratios) // 2], ratios[-1]
        print(
            f"\nCPU time of a step, MMDetection's targets over the batch's, {args.rounds} rounds, "
            f"{torch.get_num_threads()} threads: {middle:.2f}x ({low:.2f} to {high:.2f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
