"""Times the evaluation of encoders against the way of FG-CLIP's authors, and ranks of many.

B-size encoders of random weights, pictures of 640 x 480 px and captions of random words. The
authors' way: a picture a pass, with its captions padded to the full length, and of boxes a pass for
each of the seven that a picture has. The features of both ways are compared first; where they
differ, no ratio is printed. Then the same evaluation again, from features that were kept, and ranks
of random features, both ways, with what memory they take.

    python benchmarks/encoder_evaluation.py --threads 2
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report, timing
from benchmarks.publishing import announce, publish
from fgclip_det.encoders import (
    FGCLIP,
    FGCLIP2,
    FGCLIP2Config,
    FGCLIPConfig,
    train_tokenizer,
)
from fgclip_det.evaluation.encoder import EncoderRules
from fgclip_det.evaluation.encoder.features import Features, FeatureStore
from fgclip_det.evaluation.encoder.ranks import TILE, Ranks, rank_pairs
from fgclip_det.io import read_image, write_image

ROOT = Path(__file__).resolve().parents[1]
BOXES = 7
CAPTIONS = {"short": 5, "long": 1}
# Words of a caption, at least and at most: as many tokens as COCO's and ShareGPT4V's have.
WORDS = {"short": (7, 14), "long": (100, 220)}
WIDTH = 512
RANKS, QUICK_RANKS = ((2_000, 10_000), (20_000, 100_000)), ((200, 1_000),)
EXTRAPOLATED = (200_000, 1_000_000)
TOLERANCE = 1e-4
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Case:
    """One kind of evaluation, of one generation; `target` is the ratio that is asked for."""

    name: str
    second: bool
    kind: str
    target: float | None


CASES = (
    Case("v1 boxes", False, "boxes", 5),
    Case("v2 boxes", True, "boxes", 5),
    Case("v1 short", False, "short", 1.5),
    Case("v1 long", False, "long", 0.95),
    Case("v2 short", True, "short", 0.95),
    Case("v2 long", True, "long", 0.95),
)
Way = Callable[[], list[Tensor]]


def make_encoder(second: bool, quick: bool) -> FGCLIP | FGCLIP2:
    """One of B size, or tiny, of random weights, with a tokenizer of letters."""
    tokenizer = train_tokenizer([_LETTERS], 530)
    count, end = len(tokenizer), tokenizer.eos_token_id
    if second:
        sizes = FGCLIP2Config.tiny() if quick else FGCLIP2Config.base()
        config = replace(sizes, text=replace(sizes.text, vocab_size=count))
        return FGCLIP2(config, tokenizer).eval().requires_grad_(False)
    first = FGCLIPConfig.tiny() if quick else FGCLIPConfig.base()
    text = replace(first.text, vocab_size=count, eos_token_id=end)
    return FGCLIP(replace(first, text=text), tokenizer).eval().requires_grad_(False)


def make_pictures(folder: Path, count: int, seed: int) -> list[Path]:
    """JPEG files of 640 x 480 px."""
    noise = np.random.default_rng(seed)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path in paths:
        coarse = noise.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        write_image(path, Image.fromarray(coarse).resize((640, 480)))
    return paths


def make_captions(count: int, kind: str, seed: int) -> list[str]:
    """So many captions, each of its own length."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(_LETTERS, k=draw.randint(*WORDS[kind]))) for _ in range(count)]


def box_ways(rules: EncoderRules, paths: list[Path], batch: int | None) -> tuple[Way, Way]:
    """Ours and the authors'."""
    draw = np.random.default_rng(0)
    corners = draw.uniform(0, 400, (len(paths) * BOXES, 4))
    corners[:, 2:] = corners[:, :2] + draw.uniform(5, 80, (len(corners), 2))
    owners = [number // BOXES for number in range(len(corners))]

    def alone() -> list[Tensor]:
        found = []
        for owner, box in zip(owners, corners, strict=True):
            picture = read_image(paths[owner], "stored")
            found += rules.encode_boxes([picture], [box[None]])
        return [torch.cat(found).cpu()]

    return lambda: [Features(rules, batch).boxes(paths, owners, corners)], alone


def pair_ways(
    rules: EncoderRules, paths: list[Path], captions: list[str], batch: int | None
) -> tuple[Way, Way]:
    """Ours and the authors'."""
    longest = rules.encoder.text_model.max_length(rules.text_length)
    end = rules.encoder.config.text.eos_token_id if rules.generation == 1 else 0
    each = len(captions) // len(paths)

    def ours() -> list[Tensor]:
        features = Features(rules, batch)
        return [features.pictures(paths), features.texts(captions)]

    def alone() -> list[Tensor]:
        pictures, texts = [], []
        for number, path in enumerate(paths):
            pictures.append(rules.encode_pictures([read_image(path, "stored")]))
            rows = rules.tokens(captions[number * each : (number + 1) * each])
            full = [(*row, *[end] * (longest - len(row))) for row in rows]
            texts.append(full_length(rules, full))
        return [torch.cat(pictures).cpu(), torch.cat(texts).cpu()]

    return ours, alone


@torch.no_grad()
def full_length(rules: EncoderRules, rows: list[tuple[int, ...]]) -> Tensor:
    """Features of padded texts; generation 1's tower itself would cut them behind their end."""
    encoder = rules.encoder
    if not isinstance(encoder, FGCLIP):
        return rules.encode_tokens(rows)
    ids, tower = torch.tensor(rows, device=encoder.device), encoder.text_model
    with torch.autocast(encoder.device.type, torch.bfloat16, enabled=rules.amp):
        hidden = tower.embeddings(ids, rules.text_length)
        for block in tower.encoder.layers:
            hidden = block(hidden, is_causal=True)
        end = (ids == encoder.config.text.eos_token_id).int().argmax(dim=1)
        pooled = tower.final_layer_norm(hidden[torch.arange(len(ids)), end])
        is_long = rules.text_length == "long"
        project = encoder.text_filip_projection if is_long else encoder.text_projection
        return project(pooled).float()


def measure(case: Case, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Times both ways, and ours again with kept features."""
    torch.manual_seed(args.seed)
    encoder = make_encoder(case.second, args.quick).to(args.device)
    paths = make_pictures(folder, args.pictures, args.seed)
    texts = "box" if case.kind == "boxes" else case.kind
    rules = EncoderRules(encoder, texts, amp=args.dtype == "bfloat16")
    if case.kind == "boxes":
        ours, alone = box_ways(rules, paths, args.batch_size)
        again = None
    else:
        captions = make_captions(CAPTIONS[case.kind] * len(paths), case.kind, args.seed)
        ours, alone = pair_ways(rules, paths, captions, args.batch_size)
        again = seconds_again(rules, paths, captions, args.batch_size, folder / "kept")
    pairs = zip(ours(), alone(), strict=True)
    apart = max(float((one - other).abs().max()) for one, other in pairs)
    calls = {"ours": ours, "authors": alone}
    times = timing.interleave(calls, args.rounds, args.device, seed=args.seed, min_seconds=0)
    ratio = timing.ratio_of(times["authors"], times["ours"])
    alike = apart <= TOLERANCE or args.dtype == "bfloat16"
    return {
        "name": case.name,
        "pictures": len(paths),
        "target": case.target,
        "largest_difference": apart,
        "seconds": times,
        "ratio": ratio if alike else None,
        "again": again,
    }


def seconds_again(
    rules: EncoderRules, paths: list[Path], captions: list[str], batch: int | None, folder: Path
) -> list[float]:
    """Seconds of an evaluation, ranks and all, and of the same again."""
    owners = [number * len(paths) // len(captions) for number in range(len(captions))]
    found = []
    for _ in range(2):
        start = time.perf_counter()
        features = Features(rules, batch, store=FeatureStore(folder, rules))
        rank_pairs(features.pictures(paths), features.texts(captions), owners)
        found.append(time.perf_counter() - start)
    return found


def measure_ranks(pictures: int, texts: int, device: str) -> dict[str, Any]:
    """Times ranks of random features both ways, and watches the memory that they take."""
    images = torch.nn.functional.normalize(torch.randn(pictures, WIDTH), dim=1).to(device)
    owners = [number * pictures // texts for number in range(texts)]
    captions = images[owners] + 0.15 * torch.randn(texts, WIDTH, device=device)
    captions = torch.nn.functional.normalize(captions, dim=1)
    both: list[Ranks] = []
    with Watched(device) as watched:
        start = time.perf_counter()
        both += rank_pairs(images, captions, owners)
        seconds = time.perf_counter() - start
    return {
        "name": f"ranks {pictures} x {texts}",
        "pictures": pictures,
        "texts": texts,
        "seconds": seconds,
        "nanoseconds_a_pair": 1e9 * seconds / pictures / texts,
        "more_megabytes": watched.more / 1e6,
        "whole_table_megabytes": 4e-6 * pictures * texts,
        "tile": TILE,
        "recall": {k: [ranks.recall(k) for ranks in both] for k in (1, 5, 10)},
    }


class Watched:
    """How many bytes more than before were in use at most: of the GPU, or of this process."""

    def __init__(self, device: str) -> None:
        self._device, self.more = device, 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watched:
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._before = self._used()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self.more = max(self.more, self._used() - self._before)

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.more = max(self.more, self._used() - self._before)

    def _used(self) -> int:
        if self._device == "cuda":
            return torch.cuda.max_memory_allocated()
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * 4096


def page(records: list[dict[str, Any]], ranks: list[dict[str, Any]]) -> str:
    """Two tables and what a million texts would take."""
    rows = []
    for record in records:
        ours, authors = (statistics.median(record["seconds"][way]) for way in ("ours", "authors"))
        ratio = record["ratio"]
        told = "results differ"
        if ratio:
            told = f"**{ratio['median']:.2f}x** ({ratio['min']:.2f} to {ratio['max']:.2f})"
        first, second = record["again"] or (0, 0)
        again = f"{first / second:.0f}x" if record["again"] else "-"
        times = [report.number(seconds) for seconds in (ours, authors)]
        rows.append([record["name"], *times, told, f"{record['target']:g}x", again])
    head = ["evaluation", "ours s", "authors' way s", "faster", "asked for", "again"]
    parts = [report.table(head, rows)] if rows else []
    rows = [
        [
            f"{record['pictures']:,} x {record['texts']:,}",
            report.number(record["seconds"]),
            f"{record['nanoseconds_a_pair']:.2f}",
            f"{record['more_megabytes']:.0f}",
            f"{record['whole_table_megabytes']:,.0f}",
        ]
        for record in ranks
    ]
    head = ["pictures x texts", "s", "ns a pair", "MB more", "MB of the whole table"]
    parts += [report.table(head, rows)] if rows else []
    if ranks:
        each = ranks[-1]["nanoseconds_a_pair"]
        pictures, texts = EXTRAPOLATED
        parts.append(
            f"At {each:.2f} ns a pair {pictures:,} x {texts:,} take "
            f"{each * 1e-9 * pictures * texts / 60:.0f} minutes (extrapolated)."
        )
    return "\n\n".join(parts)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Reads and completes the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    timing.add_common_arguments(parser)
    names = ",".join(case.name for case in CASES)
    parser.add_argument("--cases", default=names, help=f"which, with commas, or none: {names}")
    parser.add_argument("--pictures", type=int, help="of a case: 32, with --quick 3")
    parser.add_argument("--batch-size", type=int, help="pictures in a batch of ours")
    parser.add_argument("--ranks", help="PICTURESxTEXTS, with commas, or none")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code (1: results differ, 2: the user can mend it)."""
    args = parse_args(argv)
    try:
        timing.check_common_arguments(args)
        args.pictures = args.pictures or (3 if args.quick else 32)
        wanted = [] if args.cases == "none" else args.cases.split(",")
        cases = [next(case for case in CASES if case.name == name) for name in wanted]
        sizes = QUICK_RANKS if args.quick else RANKS
        if args.ranks:
            told = [] if args.ranks == "none" else args.ranks.split(",")
            sizes = tuple((int(one), int(other)) for one, other in (t.split("x") for t in told))
    except (ValueError, StopIteration) as error:
        print(f"error: {error or 'no such case: see --help'}", file=sys.stderr)
        return 2
    stem = f"encoder_evaluation_{args.device}" + "_quick" * args.quick
    out = Path(args.out or ROOT / "benchmarks" / "results" / f"{stem}.json")
    settings = {**announce(args), "pictures": args.pictures, "batch_size": args.batch_size}
    records = []
    for case in tqdm(cases, unit="case", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            records.append(measure(case, args, Path(folder)))
    ranks = [measure_ranks(*size, args.device) for size in tqdm(sizes, disable=None)]
    differing = [record["name"] for record in records if record["ratio"] is None]
    title = "Evaluation of encoders"
    return publish(out, title, settings, [*records, *ranks], page(records, ranks), differing)


if __name__ == "__main__":
    sys.exit(main())
