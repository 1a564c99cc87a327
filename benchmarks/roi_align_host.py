"""Times what a call of RoIAlign costs beside pooling: ours against torchvision's.

The inputs are so small that only checks, dispatch and autograd take time. CPU time of the process
is counted, on one thread.

    python benchmarks/roi_align_host.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torchvision
from torch import Tensor

from benchmarks import report, timing
from fgclip_det.ops import roi_align, roi_align_pyramid

ROOT = Path(__file__).resolve().parents[1]
GRID, CHANNELS, LEVELS = (4, 4), 8, 4
BOXES = torch.tensor([[0.0, 0.0, 3.0, 2.0], [1.0, 1.0, 2.5, 3.5]])
BOX_LEVELS = torch.tensor([0, LEVELS - 1])
SCALES = (1.0,) * LEVELS
MIN_SECONDS = 0.05
OURS, PEER = "ours", "torchvision"
NOTES = (
    "Microseconds of CPU time of one call: the median of the rounds. The ratio is ours over "
    "torchvision's within a round: median (min to max). Tokens are (1, 16, 8) with a list of two "
    "boxes, maps (1, 8, 4, 4); torchvision's time of tokens includes the permute to maps, and "
    "back where there are gradients. The pyramid has four such maps and two boxes, of which "
    "torchvision pools one map in its one call."
)


def tokens_ours(tokens: Tensor) -> Tensor:
    """(K, 1, 1, C) of tokens."""
    return roi_align(tokens, [BOXES], 1, grid=GRID)


def tokens_peer(tokens: Tensor) -> Tensor:
    """(K, C, 1, 1) of tokens, permuted to maps."""
    maps = tokens.transpose(1, 2).unflatten(2, GRID).contiguous()
    return torchvision.ops.roi_align(maps, [BOXES], 1, aligned=True)


def maps_ours(maps: Tensor) -> Tensor:
    """(K, C, 1, 1) of maps."""
    return roi_align(maps, [BOXES], 1)


def maps_peer(maps: Tensor) -> Tensor:
    """(K, C, 1, 1) of maps."""
    return torchvision.ops.roi_align(maps, [BOXES], 1, aligned=True)


def pyramid_ours(maps: Sequence[Tensor]) -> Tensor:
    """(K, C, 1, 1), each box from one of four maps (1, C, h, w)."""
    return roi_align_pyramid(maps, [BOXES], BOX_LEVELS, 1, SCALES)


def pyramid_peer(maps: Sequence[Tensor]) -> Tensor:
    """(K, C, 1, 1), all boxes from the first of four maps (1, C, h, w)."""
    return torchvision.ops.roi_align(maps[0], [BOXES], 1, aligned=True)


Features = Tensor | Sequence[Tensor]
Pool = Callable[[Any], Tensor]


def with_gradient(pool: Pool, features: Features) -> Callable[[], Any]:
    """A call of `pool`, forward and backward."""
    leaves = [features] if isinstance(features, Tensor) else list(features)
    for leaf in leaves:
        leaf.requires_grad_()
    pooled = pool(features)
    gradient = torch.ones_like(pooled)
    return lambda: torch.autograd.grad(pool(features), leaves, gradient, allow_unused=True)


def without_gradient(pool: Pool, features: Features) -> Callable[[], Any]:
    """A call of `pool`, forward alone."""
    return lambda: pool(features)


def tokens() -> Tensor:
    """(1, h * w, C)."""
    return torch.randn(1, GRID[0] * GRID[1], CHANNELS)


def maps() -> Tensor:
    """(1, C, h, w)."""
    return torch.randn(1, CHANNELS, *GRID)


def pyramid() -> list[Tensor]:
    """Four maps (1, C, h, w)."""
    return [maps() for _ in range(LEVELS)]


def cases() -> dict[str, dict[str, Callable[[], Any]]]:
    """Calls to time, by case and implementation."""
    kinds = (
        ("tokens", tokens, tokens_ours, tokens_peer),
        ("maps", maps, maps_ours, maps_peer),
        ("pyramid", pyramid, pyramid_ours, pyramid_peer),
    )
    passes = {"forward": without_gradient, "forward and backward": with_gradient}
    return {
        f"{kind}, {name}": {OURS: call(ours, make()), PEER: call(peer, make())}
        for kind, make, ours, peer in kinds
        for name, call in passes.items()
    }


def measure(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Seconds of each call and the ratio, by case."""
    results = {}
    for name, calls in cases().items():
        times = timing.interleave(
            calls,
            args.rounds,
            "cpu",
            seed=args.seed,
            min_seconds=0 if args.quick else MIN_SECONDS,
            clock=time.process_time,
        )
        ratio = timing.ratio_of(times[OURS], times[PEER])
        results[name] = {"seconds": times, "ratio": ratio}
    return results


def markdown(settings: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    """The page that goes beside the JSON."""
    rows = []
    for name, result in results.items():
        middle = {k: statistics.median(v) * 1e6 for k, v in result["seconds"].items()}
        low, ratio, high = (report.number(result["ratio"][k]) for k in ("min", "median", "max"))
        times = [report.number(middle[k]) for k in (OURS, PEER)]
        rows.append([name, *times, f"**{ratio}** ({low} to {high})"])
    table = report.table(["Case", "ours µs", "torchvision µs", "ours / torchvision"], rows)
    parts = ["# RoIAlign: time beside pooling", "## Settings", report.settings_list(settings)]
    return "\n\n".join([*parts, "## Result", table, NOTES]) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code, 2 where the user can mend it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help="rounds of a case: 15, with --quick 2")
    parser.add_argument("--seed", type=int, default=0, help="of the order in rounds")
    parser.add_argument("--quick", action="store_true", help="one call a round: does it run?")
    parser.add_argument("--out", help="JSON to write; the Markdown goes beside it")
    args = parser.parse_args(argv)
    args.device, args.threads, args.dtype = "cpu", 1, "float32"
    args.rounds = args.rounds if args.rounds is not None else 2 if args.quick else 15
    stem = "roi_align_host" + "_quick" * args.quick
    out = Path(args.out or ROOT / "benchmarks" / "results" / f"{stem}.json")
    try:
        timing.check_common_arguments(args)
        if out.suffix != ".json":
            raise ValueError(f"--out is the JSON, e.g. {out.with_suffix('.json')}, not {out}")
        out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    settings = timing.describe_settings(args)
    results = measure(args)
    page = markdown(settings, results)
    report.write_json(out, {"settings": settings, "cases": results})
    out.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
