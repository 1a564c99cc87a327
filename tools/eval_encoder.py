"""Runs one protocol of FG-CLIP's own evaluation of an encoder, from the data set's stock files.

Retrieval, classification of pictures and of boxes, and FG-OVD's captions of boxes, equal to the
authors' code. Both populations are computed and written: everything that the files hold, and what
the authors' scripts take of it. Under torchrun the processes share the work.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, leave, needed_packages, notes, run_tool, say

with needed_packages():
    from fgclip_det.apis import resolve_device
    from fgclip_det.encoders import load_encoder
    from fgclip_det.engine import check_target, given_path
    from fgclip_det.evaluation.encoder import (
        DEFAULT_LIMIT_GB,
        PROTOCOLS,
        add_result,
        check_results,
        check_sheet,
        evaluate_encoder,
        joined_processes,
        own_device,
        process_number,
        result_page,
        write_sheet,
    )

OPTIONS = (
    "images", "limit", "num_classes", "image_size", "batch_size", "amp", "cache", "cache_limit",
)  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=__doc__)
    names = ", ".join(PROTOCOLS)
    parser.add_argument("protocol", choices=PROTOCOLS, metavar="PROTOCOL", help=names)
    parser.add_argument("encoder", help="directory or hub id: FG-CLIP, FG-CLIP 2, CLIP, SigLIP 2")
    parser.add_argument("root", type=given_path, help="folder of the protocol's stock files")
    parser.add_argument("--as-published", action="store_true", help="print the authors' population")
    parser.add_argument("--out", type=Path, help="JSON of this encoder's results, to be added to")
    parser.add_argument("--name", help="key in --out; the protocol's name by default")
    parser.add_argument("--images", type=given_path, help="folder of the pictures, if elsewhere")
    parser.add_argument("--limit", type=int, help="in place of ShareGPT4V's 1,000 pictures")
    parser.add_argument("--num-classes", type=int, help="in place of ImageNet's 1,000 classes")
    parser.add_argument("--image-size", type=int, help="side of the square in generation 1, px")
    parser.add_argument("--batch-size", type=int, help="pictures in a batch; 2 on a CPU, else 32")
    parser.add_argument("--amp", action="store_true", help="compute in bfloat16: other last digits")
    parser.add_argument("--cache", type=given_path, help="folder of features kept for other runs")
    parser.add_argument("--cache-limit", type=float, default=DEFAULT_LIMIT_GB, help="its gigabytes")
    parser.add_argument("--sheet", type=Path, help="HTML of the ten worst misses of a retrieval")
    parser.add_argument("--device", default="cpu", help="where the encoder runs")
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> None:
    """Prints the table and writes the JSON."""
    if args.name is not None and args.out is None:
        raise ValueError("--name is the key in --out: give both")
    if args.out:
        check_target(args.out)
    if args.sheet:
        check_sheet(args.sheet, PROTOCOLS[args.protocol].kind)
    encoder = load_encoder(args.encoder).to(resolve_device(own_device(args.device)))
    if args.out:
        check_results(args.out, encoder.fingerprint)
    options = {key: getattr(args, key) for key in OPTIONS}
    result = evaluate_encoder(encoder, args.protocol, args.root, progress=True, **options)
    if process_number()[0]:
        return
    if args.out:
        add_result(args.out, result, args.name)
    if args.sheet:
        write_sheet(args.sheet, result)
    say(*result_page(result, Path(args.encoder).name, args.as_published).split("\n"))


def run(args: argparse.Namespace) -> None:
    """Evaluates, alone or as one of torchrun's processes."""
    with notes(), joined_processes():
        evaluate(args)


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""
    return run_tool(lambda: run(parse_args(argv)))


if __name__ == "__main__":
    leave(main())
