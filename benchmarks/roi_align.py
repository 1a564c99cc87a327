"""Times our RoIAlign against torchvision's (and mmcv's, where it is compiled).

Rows: (a) ViT tokens, (b) a pyramid of one 640-px image, (c) two large images. Every case first
compares results; where they differ no ratio is printed.

    python benchmarks/roi_align.py --memory --plot
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tqdm import tqdm

from benchmarks import memory, report, timing
from benchmarks.roi_align_calls import PASSES, calls_of, difference, implementations, peak_of
from benchmarks.roi_align_cases import Case, cases_of, make_parts

ROOT = Path(__file__).resolve().parents[1]
# The largest difference from a peer that still counts as the same result; see `difference`.
TOLERANCE = {"float32": 1e-4, "float64": 1e-4, "float16": 2e-3, "bfloat16": 2e-2}
MIN_SECONDS = 0.01
NOTES = (
    "Sizes are images x grid x channels, bins, boxes of one image. Times are medians of the "
    "rounds; a ratio is torchvision's time over ours within a round: median (min to max). For "
    "tokens torchvision's time includes the permute to maps, or back; `without permute` leaves it "
    "out. Memory is the peak above what was there before the call, result included, and "
    "the permuted copy. The difference is the largest one between the results."
)
CPU_NOTE = (
    "torchvision's CPU operators run on one thread whatever their number; `1 thread each` compares "
    "core with core, in the same run."
)
MIB = 1 << 20


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    timing.add_common_arguments(parser)
    parser.add_argument("--rows", default="a,b,c", help="which of a, b and c, with commas")
    parser.add_argument("--memory", action="store_true", help="measure peak memory as well")
    parser.add_argument(
        "--plot", nargs="?", const="", metavar="PNG", help="draw speed-ups; docs/images by default"
    )
    return parser.parse_args(argv)


def measure(
    case: Case, which: str, args: argparse.Namespace, executor: ProcessPoolExecutor | None
) -> dict[str, Any]:
    """Times one pass of a case.

    Args:
        case: What to pool.
        which: "forward" or "backward".
        args: The command line, checked.
        executor: Where peak memory is measured; None leaves it out.

    Returns:
        What JSON holds of it: times, ratios to each peer (None where results differ), the same
        with one thread for all (None where that is the run itself, or on CUDA), memory.
    """
    parts = make_parts(case, timing.DTYPES[args.dtype], args.device, args.seed)
    calls = calls_of(case, parts, which)
    ours = calls["ours"]()
    differences = {
        name: difference(case, which, ours, calls[name]())
        for name in implementations()
        if name != "ours"
    }
    del ours

    def timed() -> dict[str, Any]:
        times = timing.interleave(
            calls,
            args.rounds,
            args.device,
            seed=args.seed,
            min_seconds=0 if args.quick else MIN_SECONDS,
        )
        ratios = {}
        for name in calls:
            if name != "ours":
                same = differences[name.removesuffix("_map_ready")] <= TOLERANCE[args.dtype]
                ratios[name] = timing.ratio_of(times[name], times["ours"]) if same else None
        return {"seconds": times, "ratio": ratios}

    measured = timed()
    one_thread = None
    if args.device == "cpu" and args.threads > 1:
        torch.set_num_threads(1)
        one_thread = timed()
        torch.set_num_threads(args.threads)
    peaks = None
    if executor is not None:
        job = (case, args.dtype, args.device, args.seed, which)
        found = {name: executor.submit(peak_of, *job, name) for name in implementations()}
        peaks = {name: future.result() for name, future in found.items()}
    return {
        "difference": {k: v if math.isfinite(v) else None for k, v in differences.items()},
        **measured,
        "one_thread": one_thread,
        "peak_bytes": peaks,
    }


def run(args: argparse.Namespace, cases: list[Case]) -> list[dict[str, Any]]:
    """Measures every case, forward and backward, behind a progress bar."""
    records = []
    with contextlib.ExitStack() as stack:
        executor = (
            stack.enter_context(memory.measuring_process(args.threads)) if args.memory else None
        )
        for case in tqdm(cases, unit="case", disable=None):
            record = {
                "row": case.row,
                "group": case.group,
                "name": case.name,
                "images": case.images,
                "channels": case.channels,
                "grids": [list(case.grids[level]) for level in case.levels],
                "boxes": case.boxes,
                "bins": case.bins,
            }
            record |= {which: measure(case, which, args, executor) for which in PASSES}
            records.append(record)
    return records


def _ratio(entry: dict[str, Any], peer: str) -> str:
    if peer not in entry["ratio"]:
        return "n/a"
    ratio = entry["ratio"][peer]
    if ratio is None:
        return "results differ"
    low, middle, high = (report.number(ratio[key]) for key in ("min", "median", "max"))
    return f"**{middle}x** ({low} to {high})"


def _mib(entry: dict[str, Any], name: str) -> str:
    value = (entry["peak_bytes"] or {}).get(name)
    return "n/a" if value is None else f"{value / MIB:.1f}"


def detail_table(records: list[dict[str, Any]], which: str) -> str:
    """One line for each case: times, ratios, memory, difference."""
    has_mmcv = any("mmcv" in record[which]["ratio"] for record in records)
    head = ["Case", "ours ms", "torchvision ms", "ratio", "without permute"]
    head += ["ratio to mmcv"] * has_mmcv + ["ours MiB", "torchvision MiB", "difference"]
    rows = []
    for record in records:
        entry = record[which]
        middle = {k: statistics.median(v) * 1000 for k, v in entry["seconds"].items()}
        worst = entry["difference"]["torchvision"]
        row = [f"({record['row']}) {record['name']}"]
        row += [f"{middle[name]:.3g}" for name in ("ours", "torchvision")]
        row += [_ratio(entry, "torchvision"), _ratio(entry, "torchvision_map_ready")]
        row += [_ratio(entry, "mmcv")] * has_mmcv
        row += [_mib(entry, "ours"), _mib(entry, "torchvision")]
        rows.append([*row, "not finite" if worst is None else f"{worst:.0e}"])
    return report.table(head, rows)


def summarize(
    records: list[dict[str, Any]], one_thread: bool = False
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """By group and pass: median, min and max over the cases' median ratios to torchvision.

    A pass in which the results of a case differ is left out. `one_thread`: those with one thread
    for all, where they were measured.
    """
    summary: dict[str, dict[str, tuple[float, float, float]]] = {}
    for group in dict.fromkeys(record["group"] for record in records):
        summary[group] = {}
        for which in PASSES:
            entries = [record[which] for record in records if record["group"] == group]
            if one_thread:
                entries = [entry["one_thread"] or entry for entry in entries]
            ratios = [entry["ratio"]["torchvision"] for entry in entries]
            if None not in ratios:
                found = [ratio["median"] for ratio in ratios]
                summary[group][which] = statistics.median(found), min(found), max(found)
    return summary


def summary_table(records: list[dict[str, Any]], threads: int | None = None) -> str:
    """One line for each group of cases; with more `threads` than one, each pass has two columns.

    The first is what users see, where torchvision's operators take one thread whatever there is;
    the second has one thread for both.
    """
    columns = {which: (which, False) for which in PASSES}
    if threads is not None and threads > 1:
        columns = {}
        for which in PASSES:
            columns[f"{which}, {threads} threads"] = which, False
            columns[f"{which}, 1 thread each"] = which, True
    summaries = {one: summarize(records, one) for one in (False, True)}
    rows = []
    for group in summaries[False]:
        row = [group, str(sum(record["group"] == group for record in records))]
        for which, one in columns.values():
            row.append("results differ")
            if which in summaries[one][group]:
                middle, low, high = map(report.number, summaries[one][group][which])
                row[-1] = f"**{middle}x** ({low} to {high})"
        rows.append(row)
    return report.table(["torchvision's time / ours", "cases", *columns], rows)


def markdown(settings: dict[str, Any], records: list[dict[str, Any]]) -> str:
    """The page that goes beside the JSON."""
    parts = ["# RoIAlign: speed and memory", "## Settings", report.settings_list(settings)]
    threads = settings["threads"] if settings["device"] == "cpu" else None
    parts += ["## Summary", summary_table(records, threads)]
    for which in PASSES:
        parts += [f"## {which.capitalize()}", detail_table(records, which)]
    notes = [NOTES] + [CPU_NOTE] * (settings["device"] == "cpu")
    parts.append(" ".join(notes))
    return "\n\n".join(parts) + "\n"


def prepare(args: argparse.Namespace) -> tuple[list[Case], Path, Path | None]:
    """Completes `args` in place; gives the cases, the JSON's path and the chart's, if any.

    Raises:
        ValueError: Something on the command line that cannot be done.
        OSError: A folder that cannot be made.
    """
    cases = cases_of(args.rows, quick=args.quick)
    timing.check_common_arguments(args)
    stem = f"roi_align_{args.device}" + "_quick" * args.quick
    out = Path(args.out or ROOT / "benchmarks" / "results" / f"{stem}.json")
    if out.suffix != ".json":
        raise ValueError(f"--out is the JSON, e.g. {out.with_suffix('.json')}, not {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    if args.plot is None:
        return cases, out, None
    report.check_chart_is_possible()
    chart = Path(args.plot or ROOT / "docs" / "images" / f"{stem}.png")
    chart.parent.mkdir(parents=True, exist_ok=True)
    return cases, out, chart


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark.

    Returns:
        The exit code; 1: results differ somewhere, 2: the user can mend it.
    """
    args = parse_args(argv)
    try:
        cases, out, chart = prepare(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    settings = timing.describe_settings(args)
    print(report.settings_list(settings), flush=True)
    if warning := timing.busy_warning(settings):
        print(warning, file=sys.stderr)
    records = run(args, cases)
    page = markdown(settings, records)
    report.write_json(out, {"settings": settings, "cases": records})
    out.with_suffix(".md").write_text(page, encoding="utf-8")
    if chart is not None:
        report.bar_chart(
            chart,
            title=f"RoIAlign, {settings['processor']}, {args.threads} threads, {args.dtype}"
            if args.device == "cpu"
            else f"RoIAlign, {settings['processor']}, {args.dtype}",
            axis="times as fast as torchvision",
            bars=summarize(records),
        )
    print("\n" + page.partition("## Summary")[2].strip())
    print("\nwritten:", *(str(path) for path in (out, out.with_suffix(".md"), chart) if path))
    differing = [r["name"] for r in records if any(None in r[w]["ratio"].values() for w in PASSES)]
    for name in differing:
        print(f"error: results differ: {name}", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
