"""Memory and time of the contrastive loss in one of many processes.

``python -m benchmarks.contrastive_memory`` compares `contrastive_loss`, whose processes compare
their own rows with everybody's columns, with an implementation in which each process computes the
square of all rows. The other processes are torch's "fake" group, which moves no data but has their
number: all tensors have the shapes, and take the memory, that they have in real training.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed.nn.functional as dist_nn
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from benchmarks import report, timing
from benchmarks.memory import measuring_process, peak_bytes
from fgclip_det.pretrain.losses import RowShares, contrastive_loss

MIB = 2**20
Loss = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def ours(images: Tensor, texts: Tensor, scale: Tensor, world: int) -> Tensor:
    """Own rows against all columns."""
    return contrastive_loss(images, texts, scale, RowShares((len(images),) * world))


def whole_matrix(images: Tensor, texts: Tensor, scale: Tensor, world: int) -> Tensor:
    """All rows against all columns, on every process."""
    rows, columns = (torch.cat(dist_nn.all_gather(side)) for side in (images, texts))
    logits = scale * rows @ columns.t()
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2


LOSSES: dict[str, Loss] = {"own rows x all": ours, "all x all": whole_matrix}


def _step(name: str, world: int, rows: int, width: int) -> Callable[[], Tensor]:
    """Forward and backward of a loss by name, as one of `world` processes."""
    if not distributed.is_initialized():
        distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    generator = torch.Generator().manual_seed(0)
    sides = F.normalize(torch.randn(2, rows, width, generator=generator), dim=-1)
    images, texts = (side.clone().requires_grad_() for side in sides)
    scale = torch.tensor(50.0, requires_grad=True)

    def step() -> Tensor:
        loss = LOSSES[name](images, texts, scale, world)
        return torch.stack([x.sum() for x in torch.autograd.grad(loss, [images, texts, scale])])

    return step


def measure(name: str, world: int, rows: int, width: int, rounds: int) -> tuple[int | None, float]:
    """Peak of forward and backward in bytes, and the median of its times in seconds."""
    step = _step(name, world, rows, width)
    peak = peak_bytes(step, "cpu")
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return peak, statistics.median(seconds)


def compare(world: int, rows: int, width: int, args: argparse.Namespace) -> list[str]:
    """One line of the table: peaks, their ratio, and times; each loss in a process of its own.

    Raises:
        ValueError: The system does not tell a process's peak.
    """
    found = {}
    for name in LOSSES:
        with measuring_process(args.threads) as executor:
            found[name] = executor.submit(measure, name, world, rows, width, args.rounds).result()
    (own, own_seconds), (square, square_seconds) = (found[name] for name in LOSSES)
    if own is None or square is None:
        raise ValueError("this system does not tell the peak memory of a process: run it on Linux")
    peaks = [f"{peak / MIB:.0f}" for peak in (own, square)]
    times = [f"{seconds:.3f}" for seconds in (own_seconds, square_seconds)]
    return [str(world), str(rows), *peaks, f"{square / max(own, 1):.1f}", *times]


def main(argv: list[str] | None = None) -> int:
    """Measure, print a page, and write it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, nargs="+", default=[8, 64], help="processes")
    parser.add_argument("--rows", type=int, default=256, help="pictures of a process")
    parser.add_argument("--width", type=int, default=512, help="of the embeddings")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="of which times are medians")
    parser.add_argument("--out", help="Markdown to write")
    args = parser.parse_args(argv)
    for name in ("rows", "width", "threads", "rounds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(args, name)}")
    if min(args.worlds) < 2:
        parser.error(f"--worlds must be at least 2 each, not {args.worlds}")
    try:
        lines = [compare(world, args.rows, args.width, args) for world in args.worlds]
    except ValueError as error:
        parser.error(str(error))
    head = ["processes", "pictures each", "own rows, MiB", "all rows, MiB", "ratio"]
    head += ["own rows, s", "all rows, s"]
    settings = {
        "date": datetime.datetime.now(datetime.timezone.utc).date(),
        "processor": timing.processor("cpu"),
        "threads": args.threads,
        "rounds": args.rounds,
        "width of embeddings": args.width,
        "torch": torch.__version__,
    }
    page = f"# Contrastive loss of one process among many\n\n{report.settings_list(settings)}\n\n"
    page += report.table(head, lines)
    print(page)
    if args.out:
        Path(args.out).write_text(page + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
