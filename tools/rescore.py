"""Names another detector's boxes anew with FG-CLIP; nothing is trained, masks stay with boxes.

python tools/rescore.py results.bbox.json annotations/instances_val2017.json data/coco/val2017 \
    --encoder qihoo360/fg-clip2-base --texts coco --out rescored.bbox.json

Run again, it goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Last, so that it serves a clone that was not installed and never hides an installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from fgclip_det.exit_codes import Parser, needed_packages, notes, run_tool, say

with needed_packages():
    from fgclip_det.apis import rescore


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proposals", help="results of COCO or LVIS in JSON, or a .pkl of mmdet's")
    parser.add_argument("annotations", help="COCO-style annotation file of the pictures")
    parser.add_argument("image_root", help="folder that the file names are relative to")
    parser.add_argument("--encoder", required=True, help="directory or hub id of an FG-CLIP")
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument("--texts", help="'cat. dog', a .txt or .json file, coco, lvis or ov_coco")
    words.add_argument("--vocabulary", type=Path, help="file of names, or TextEmbeddings")
    parser.add_argument("--out", type=Path, required=True, help="results in JSON to write")
    parser.add_argument("--trust-pickle", action="store_true", help="read a .pkl")
    fusion = parser.add_argument_group("scores")
    fusion.add_argument("--fusion", choices=("geometric_mean", "ensemble"))
    fusion.add_argument("--alpha", type=float, help="weight of FG-CLIP for base names (0.5)")
    fusion.add_argument("--beta", type=float, help="weight of FG-CLIP for other names (0.5)")
    fusion.add_argument("--temperature", type=float, help="of FG-CLIP's softmax (100)")
    fusion.add_argument("--calibration", help="file of fgclip-det calibrate --results")
    fusion.add_argument("--nms", type=float, help="IoU from which on boxes are suppressed (0.5)")
    fusion.add_argument("--max-per-image", type=int, help="detections of a picture (300)")
    frame = parser.add_argument_group("pictures", "by default FG-CLIP's own protocol")
    frame.add_argument("--resize", choices=("canvas", "squash", "keep_ratio", "patches"))
    frame.add_argument("--image-size", type=int, help="px, of squash and keep_ratio")
    frame.add_argument("--max-patches", type=int, help="of patches, with an FG-CLIP 2")
    parser.add_argument("--device", help="cpu, cuda, cuda:0; cuda by default where there is one")
    parser.add_argument("--batch-size", type=int, default=1, help="pictures at once")
    parser.add_argument("--no-metrics", action="store_true", help="do not evaluate the results")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Writes the results and prints what they are worth."""
    nms = None if args.nms is None else {"iou_threshold": args.nms}
    test_cfg = {"nms": nms, "max_per_img": args.max_per_image}
    head = {name: getattr(args, name) for name in ("fusion", "alpha", "beta", "temperature")}
    frame = {"resize": args.resize, "size": args.image_size, "max_patches": args.max_patches}
    done = rescore(
        args.proposals,
        args.annotations,
        args.image_root,
        args.encoder,
        args.texts if args.vocabulary is None else args.vocabulary,
        args.out,
        frame=frame,
        region_head={**_given(head), "test_cfg": _given(test_cfg)},
        calibration=args.calibration,
        device=args.device,
        batch_size=args.batch_size,
        trust_pickle=args.trust_pickle,
        with_metrics=not args.no_metrics,
    )
    say(f"{done.boxes} boxes in {done.images} pictures, {done.detections} detections")
    if done.metrics:
        say("  ".join(f"{key} {value:.2f}" for key, value in done.metrics.items()))
    say(f"written to {done.out}")


def _given(options: dict) -> dict:
    return {name: value for name, value in options.items() if value is not None}


def main(argv: list[str] | None = None) -> int:
    """Runs the tool; returns its exit code (2: the user can mend it)."""
    with notes():
        return run_tool(lambda: run(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
