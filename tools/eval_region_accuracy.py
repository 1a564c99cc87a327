"""Prints how often an encoder prefers a box's caption to its negatives: FG-CLIP's accuracy.

Annotations are JSON of FG-OVD or FG-CLIP's lines of it (`*_llava.jsonl`); several files make one
table. Without `--image-size` and `--keep-ratio` pictures go in as the encoder's authors evaluate
it: FG-CLIP on squares, FG-CLIP 2 with the aspect ratio kept. Under torchrun the processes share the
work.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, leave, needed_packages, run_tool, say

with needed_packages():
    from fgclip_det.apis import resolve_device
    from fgclip_det.encoders import load_encoder
    from fgclip_det.engine import check_target
    from fgclip_det.evaluation import joined_processes, own_device, process_number
    from fgclip_det.evaluation.region_accuracy import (
        described,
        fit_scorer,
        region_accuracies,
        region_page,
    )
    from fgclip_det.io import write_json

OPTIONS = (
    "n_negatives", "image_size", "keep_ratio", "text_length", "batch_size", "skip_missing",
)  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("encoder", help="directory or hub id of an FG-CLIP or FG-CLIP 2")
    parser.add_argument("annotations", nargs="+", help="JSON of FG-OVD, or .jsonl of FG-CLIP")
    parser.add_argument("image_root", help="folder that the file names are relative to")
    parser.add_argument("--n-negatives", type=int, help="of each box; all that it has by default")
    parser.add_argument("--image-size", type=int, help="side of the square, px")
    kept = "keep the aspect ratio, as a detector does; --image-size is the longest side"
    parser.add_argument("--keep-ratio", action="store_true", help=kept)
    parser.add_argument("--text-length", choices=("short", "box", "long"), help="regions' if unset")
    adds = "validation file, or one for each annotation file: adds a text-only row"
    parser.add_argument("--validation", action="append", help=adds)
    parser.add_argument("--skip-missing", action="store_true", help="go on without lost pictures")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures in a batch")
    parser.add_argument("--device", default="cpu", help="where the encoder runs")
    parser.add_argument("--out", type=Path, help="JSON to write")
    return parser.parse_args(argv)


@joined_processes()
def evaluate(args: argparse.Namespace) -> None:
    """Prints the table and writes the JSON."""
    files, validation = args.annotations, args.validation or []
    if args.out:
        check_target(args.out, *files, *validation)
    if len(validation) not in (0, 1, len(files)):
        raise ValueError(f"{len(validation)} --validation for {len(files)} files: give one or each")
    if {*map(os.path.realpath, validation)} & {*map(os.path.realpath, files)}:
        raise ValueError("--validation is a file to be scored: give the validation set's")
    stems = [Path(file).stem for file in files]
    names = stems if len({*stems}) == len(files) else files
    if len({*names}) < len(files):
        raise ValueError("an annotation file is given twice: give each once")
    scorers = [fit_scorer(one, progress=True) for one in validation] or [None]
    scorers *= len(files) // len(scorers)
    encoder = load_encoder(args.encoder).to(resolve_device(own_device(args.device)))
    options = {key: getattr(args, key) for key in OPTIONS}
    is_first = not process_number()[0]
    found = region_accuracies(
        encoder, files, args.image_root, progress=is_first, scorers=scorers, **options
    )
    if not is_first:
        return
    results = dict(zip(names, found, strict=True))
    way = described(encoder, args.image_size, args.keep_ratio)
    if args.out:
        values = {"encoder": args.encoder, "annotations": files, "validation": validation}
        values |= {**options, "pictures": way, "results": results}
        write_json(args.out, values)
    say(*region_page(results, Path(args.encoder).name, way).split("\n"))


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""
    return run_tool(lambda: evaluate(parse_args(argv)))


if __name__ == "__main__":
    leave(main())
