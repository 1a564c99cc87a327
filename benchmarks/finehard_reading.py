"""What reading FineHARD from shards costs: memory of a worker, and time against a file a picture.

Both on generated data, on the CPU. Memory: what a worker of a data loader has for itself alone
(Private in /proc/PID/smaps_rollup) after it read so many items of data sets of 0.1, 1 and 10
million, the larger ones as hard links to the shards of the smallest. Time: the same pictures in
files and in shards, items in random order each; "bytes" is without parsing and decoding, "samples"
with both and tokens; "cold" after the kernel was told to forget the files. The two are read in
turns, so that what else the machine does meets both. Parts of a sample are CPU time.

    python benchmarks/finehard_reading.py --out benchmarks/results/finehard_reading_cpu.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from fgclip_det.datasets import FineHARDDataset, FineHARDStream, ShardSampler
from fgclip_det.datasets.finehard import prepare_shards
from fgclip_det.datasets.finehard.shards import read_record, write_index

TOKENIZER = str(Path(__file__).resolve().parents[1] / "fgclip_det/assets/shapes/encoder")
ITEMS_PER_SHARD = 5000
FIRST = 100_000
PARTS = ("reading its bytes", "decoding the picture", "resizing it", "tokens")


def generate(folder: Path, items: int, size: tuple[int, int]) -> tuple[Path, Path]:
    """An annotation file and its pictures, JPEG of smooth noise."""
    draw = np.random.default_rng(0)
    records = []
    for number in range(items):
        path = f"coyo_image_0/00000/{number:09d}.jpg"
        target = folder / "images" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        noise = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(target, quality=92)
        region = {
            "bbox": [0.1, 0.1, 0.6, 0.7],
            "short_expr": f"a red cup {number}",
            "long_expr": f"a red cup {number} on a wooden table",
            "flag_short_neg": 1,
            "short_expr_negs": {str(i): f"a blue cup {number} {i}" for i in range(10)},
        }
        caption = f"A long caption of picture {number}. " * 8
        records.append(
            {
                "f_path": path,
                "caption": caption,
                "short_caption": f"cup {number}",
                "bbox_info": [region] * 4,
            }
        )
    (folder / "items.json").write_text(json.dumps(records), encoding="utf-8")
    return folder / "items.json", folder / "images"


def grow(source: Path, target: Path, times: int) -> Path:
    """A data set of hard links to the shards of another, each a number of times."""
    target.mkdir()
    records = {}
    for path in sorted(source.glob("*.tar")):
        record = replace(read_record(path), places=[])
        for copy in range(times):
            name = f"{path.stem}-{copy:05d}"
            os.link(path, target / f"{name}.tar")
            os.link(path.with_suffix(".json"), target / f"{name}.json")
            records[f"{name}.tar"] = record
    write_index(target, records)
    return target


def private_memory() -> int:
    """Bytes that no other process shares."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


class Measured(FineHARDStream):
    """A stream whose samples tell the memory of whoever reads them."""

    def __getitem__(self, number: int) -> int:
        super().__getitem__(number)
        self.reads = getattr(self, "reads", 0) + 1
        return private_memory() if self.reads % 500 == 0 else 0


def worker_memory(folder: Path, reads: int) -> tuple[int, float]:
    """Items of a data set, and the most private memory of its worker in the second half, in MB."""
    stream = Measured(str(folder), image_size=224, tokenizer=TOKENIZER)
    loader = DataLoader(stream, 50, sampler=ShardSampler(stream, seed=0), num_workers=1)
    found = [batch.max().item() for batch in itertools.islice(loader, reads // 50)]
    return len(stream), max(found[len(found) // 2 :]) / 1e6


class Watched(FineHARDStream):
    """A stream that adds up what the processor works for each part of a sample, in seconds."""

    def __init__(self, folder: str, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def load(self, number: int) -> tuple[str, Callable[[Any], np.ndarray]]:
        text, read = self._timed("reading its bytes", super().load, number)
        return text, lambda item: self._timed("decoding the picture", read, item)

    def _resized(self, image: torch.Tensor) -> torch.Tensor:
        return self._timed("resizing it", super()._resized, image)

    def _caption(self, text: str, length: str) -> str | list[int]:
        return self._timed("tokens", super()._caption, text, length)

    def _timed(self, part: str, call: Callable[..., Any], *given: Any) -> Any:
        start = time.process_time()
        result = call(*given)
        self.seconds[part] += time.process_time() - start
        return result


def sample_parts(stream: Watched, numbers: list[int]) -> dict[str, float]:
    """Seconds of the processor for a sample, by part."""
    start = time.process_time()
    for number in numbers:
        stream[number]
    whole = time.process_time() - start
    parts = {**stream.seconds, "parsing and the rest": whole - sum(stream.seconds.values())}
    return {part: taken / len(numbers) for part, taken in parts.items()}


def forget(folder: Path) -> None:
    """Have the kernel drop what it keeps of the files of a folder."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(call: Callable[[int], Any], numbers: list[int]) -> float:
    """Of one item, in the mean."""
    start = time.perf_counter()
    for number in numbers:
        call(number)
    return (time.perf_counter() - start) / len(numbers)


def reading_times(folder: Path, items: int, repeats: int) -> dict[str, Any]:
    """Seconds of an item, of files and of shards, by what was read; and parts of a sample."""
    annotations, images = generate(folder, items, (640, 480))
    prepare_shards(annotations, images, folder / "shards", ITEMS_PER_SHARD)
    settings: dict[str, Any] = dict(image_size=224, tokenizer=TOKENIZER)
    data = FineHARDDataset(str(annotations), str(images), **settings)
    paths = [images / f"coyo_image_0/00000/{number:09d}.jpg" for number in range(items)]

    def file_bytes(number: int) -> None:
        data.load(number)
        paths[number].read_bytes()

    times: dict[str, dict[str, list[float]]] = {}
    for seed in range(repeats):
        stream = FineHARDStream(str(folder / "shards"), **settings)
        shuffled = np.random.default_rng(seed).permutation(items).tolist()
        order = list(itertools.islice(ShardSampler(stream, seed=seed), items))
        some = items // 10
        for name, is_cold, calls in (
            ("bytes, cold", True, (file_bytes, stream.load)),
            ("bytes, warm", False, (file_bytes, stream.load)),
            ("samples, warm", False, (data.__getitem__, stream.__getitem__)),
        ):
            count = some if name.startswith("samples") else items
            for kind, call, numbers in zip(
                ("files", "shards"), calls, (shuffled, order), strict=True
            ):
                if is_cold:
                    forget(folder)
                taken = seconds(call, numbers[:count])
                times.setdefault(name, {}).setdefault(kind, []).append(taken)
    watched = Watched(str(folder / "shards"), **settings)
    return {"times": times, "parts": sample_parts(watched, order[: items // 2])}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Both parts."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        folder = Path(name)
        result |= reading_times(folder, args.pictures, args.repeats)
    if not args.reads:
        return result
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        folder = Path(name)
        annotations, images = generate(folder, FIRST // 20, (32, 32))
        prepare_shards(annotations, images, folder / "once", ITEMS_PER_SHARD)
        result["memory"] = [
            worker_memory(grow(folder / "once", folder / str(times), times), args.reads)
            for times in (20, 200, 2000)
        ]
    return result


def tables(result: dict[str, Any]) -> str:
    """As Markdown."""
    pages = []
    if "memory" in result:
        smallest = result["memory"][0][1]
        memory = [
            [f"{items:,}", f"{megabytes:.1f}", f"{megabytes / smallest:.3f}"]
            for items, megabytes in result["memory"]
        ]
        pages.append(report.table(["items", "private memory, MB", "of the smallest"], memory))
    whole = sum(result["parts"].values())
    parts = [
        [part, f"{1e3 * taken:.2f}", f"{100 * taken / whole:.0f} %"]
        for part, taken in result["parts"].items()
    ]
    rows = []
    for name, kinds in result["times"].items():
        files, shards = (1e6 * statistics.median(kinds[kind]) for kind in ("files", "shards"))
        pairs = [a / b for a, b in zip(kinds["files"], kinds["shards"], strict=True)]
        spread = f"{min(pairs):.1f} to {max(pairs):.1f}"
        rows.append(
            [name, f"{files:.0f}", f"{shards:.0f}", f"{statistics.median(pairs):.1f}", spread]
        )
    head = ["an item", "files, us", "shards, us", "times faster", "over the repeats"]
    pages.append(report.table(head, rows))
    pages.append(report.table(["a sample from a shard", "CPU, ms", "of it"], parts))
    return "\n\n".join(pages)


def main() -> None:
    """Measures, prints, and writes what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=10_000, help="of the times")
    parser.add_argument("--repeats", type=int, default=5, help="of the times")
    parser.add_argument("--reads", type=int, default=20_000, help="items of a worker; 0: no memory")
    parser.add_argument("--scratch", type=Path, help="folder for a few GB; the temporary one")
    parser.add_argument("--out", type=Path, help="a .json file for all numbers")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"Python": platform.python_version(), "torch": torch.__version__}
    settings |= {"processor cores": os.cpu_count(), "load before": round(os.getloadavg()[0], 1)}
    settings |= {"pictures": args.pictures, "repeats": args.repeats, "reads": args.reads}
    result = {"settings": settings, **measure(args)}
    print(report.settings_list(settings), tables(result), sep="\n\n")
    if args.out:
        report.write_json(args.out, result)


if __name__ == "__main__":
    main()
