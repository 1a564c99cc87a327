"""Makes a bank of regions of pictures, by which is told how near a text lies to whatever there is.

python tools/make_region_bank.py photos --out bank.safetensors
python tools/make_region_bank.py data/shapes/pretrain_val --model bundled --number 1024 \
    --out fgclip_det/assets/shapes/region_bank.safetensors

Of each picture one region, then of each a second, drawn by chance, until there are enough.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, needed_packages, notes, run_tool, say

with needed_packages():
    from fgclip_det.apis import OpenVocabInferencer, make_region_bank
    from fgclip_det.io import check_writable


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", help="pictures, folders or patterns")
    parser.add_argument("--out", type=Path, required=True, help="file to write, .safetensors")
    parser.add_argument("--number", type=int, default=2048, help="regions (default: 2048)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: 0)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--preset", default="default", help="default, balanced or fast")
    which.add_argument("--model", metavar="CONFIG", help="config of a detector, or bundled")
    parser.add_argument("--weights", metavar="FILE", help="checkpoint that belongs to --model")
    parser.add_argument("--encoder", metavar="DIR|ID", help="FG-CLIP directory or hub id")
    parser.add_argument("--device", help="cpu, cuda, cuda:0; cuda by default where there is one")
    parser.add_argument("--batch-size", type=int, default=1, help="pictures at once (default: 1)")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Makes the bank and writes it."""
    if args.weights is not None and args.model is None:
        raise ValueError("--weights belongs to --model: give its config too")
    if args.out.is_dir():
        raise ValueError(f"--out {str(args.out)!r} is a folder: name a file")
    # A slip of the hand must not cost a picture.
    if args.out.suffix != ".safetensors":
        raise ValueError(f"--out {str(args.out)!r} is no .safetensors file: name one")
    # Before what takes long.
    check_writable(args.out.parent)
    model = None if args.model == "bundled" else args.model or f"photos/{args.preset}"
    detector = OpenVocabInferencer(model, args.weights, args.encoder, args.device)
    bank = make_region_bank(
        detector, args.pictures, args.number, args.seed, batch_size=args.batch_size
    )
    bank.save(args.out)
    say(f"{len(bank)} regions; written to {args.out}")


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""

    def noted() -> None:
        with notes():
            run(parse_args(argv))

    return run_tool(noted)


if __name__ == "__main__":
    sys.exit(main())
