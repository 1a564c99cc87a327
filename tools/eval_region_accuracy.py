"""Prints how often an encoder prefers a region's caption to its hard negatives (FG-OVD format)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fgclip_det.encoders import FGCLIP
from fgclip_det.evaluation import region_accuracy


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", help="directory or hub id of an FG-CLIP")
    parser.add_argument("annotations", help="JSON in FG-OVD's format")
    parser.add_argument("image_root", help="folder that the file names are relative to")
    parser.add_argument("--n-negatives", type=int, default=10, help="negatives of each region")
    parser.add_argument("--image-size", type=int, help="side in px; the encoder's own by default")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures in a batch")
    parser.add_argument("--device", default="cpu", help="where the encoder runs")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""
    args = parse_args(argv)
    try:
        result = region_accuracy(
            FGCLIP.from_pretrained(args.encoder).to(args.device),
            args.annotations,
            args.image_root,
            n_negatives=args.n_negatives,
            image_size=args.image_size,
            batch_size=args.batch_size,
            progress=True,
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
