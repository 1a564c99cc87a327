"""Check annotations and their pictures: the data of a config, or an annotation file.

python tools/check_data.py configs/ov_coco/ovdet_fgclip_b_640_3e_ov_coco.py
python tools/check_data.py data/my/train.json data/my/images
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, needed_packages, run_tool, say

with needed_packages():
    from fgclip_det.datasets.check import DataSource, check_source, sources_of
    from fgclip_det.engine import ConfigOptionsAction, read_config


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="config (.py), or annotation file (.json, .jsonl)")
    parser.add_argument("image_root", nargs="?", help="folder of an annotation file's pictures")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptionsAction, help="overrides: key.sub=value"
    )
    return parser


def find_sources(args: argparse.Namespace) -> list[DataSource]:
    if Path(args.data).suffix != ".py":
        if args.image_root is None:
            raise ValueError(f"{args.data!r} is no config (.py): name the folder of its pictures")
        return [DataSource(args.data, args.image_root)]
    if args.image_root is not None:
        raise ValueError(f"config {args.data!r} names its pictures: leave out {args.image_root!r}")
    found = sources_of(read_config(args.data, args.cfg_options))
    if not found:
        raise ValueError(f"config {args.data!r} has no data on this disk that can be checked")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    args = argparse.Namespace()

    def check() -> None:
        build_parser().parse_args(argv, args)
        wrong = []
        for source in find_sources(args):
            try:
                odd = check_source(source)
            except ValueError as error:
                wrong.append(str(error))
                continue
            say(f"{source.ann_file}: " + ("; ".join(odd) if odd else "nothing odd"))
        if wrong:
            raise ValueError("; ".join(wrong))

    return run_tool(check, args)


if __name__ == "__main__":
    sys.exit(main())
