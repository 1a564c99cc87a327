"""What is typed behind ``fgclip-det``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import fgclip_det
from fgclip_det.exit_codes import Parser

if TYPE_CHECKING:
    from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

_BUNDLED_TEXTS = "a blue dotted star. a green checkered star. a cyan striped ring"


def build_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = Parser(prog="fgclip-det", description="Open-vocabulary detection with FG-CLIP.")
    parser.add_argument("--version", action="version", version=fgclip_det.__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="detect what a text names in pictures",
        description="Detect what a text names in pictures; writes OUT/vis/*.png and OUT/preds/"
        "*.json, named as the pictures. Without pictures and texts it shows the bundled ones.",
    )
    _add_common_arguments(demo)
    demo.add_argument(
        "--negatives",
        metavar="TEXTS",
        help="what else may be in the pictures: competes for boxes and is not reported",
    )
    demo.add_argument("--model", metavar="CONFIG", help="config of a detector (default: bundled)")
    demo.add_argument("--weights", metavar="FILE", help="checkpoint that belongs to --model")
    demo.add_argument("--score-thr", type=float, default=0.3, help="least score (default: 0.3)")
    demo.add_argument("--batch-size", type=int, default=1, help="pictures at once (default: 1)")
    demo.add_argument("--no-save-vis", action="store_true", help="write the JSON files only")
    heatmap = commands.add_parser(
        "heatmap",
        help="show where in pictures an encoder sees what a text says",
        description="Show where in pictures an encoder sees what a text says; writes "
        "OUT/heatmaps/*.png, one grid for each picture, and the numbers as *.npz. Without pictures "
        "and texts it shows the bundled ones.",
    )
    _add_common_arguments(heatmap)
    heatmap.add_argument(
        "--image-size", type=int, metavar="PX", help="longer side (default: the encoder's own size)"
    )
    heatmap.add_argument("--max-patches", type=int, help="FG-CLIP 2: patches instead of pixels")
    heatmap.add_argument(
        "--box-cells",
        type=int,
        nargs="+",
        default=(3, 5, 7),
        metavar="N",
        help="sides of the boxes that are compared, in patches (default: 3 5 7; 1: bare patches)",
    )
    heatmap.add_argument(
        "--scale",
        choices=("shared", "text"),
        default="shared",
        help="one scale of colours for all texts, or each its own (default: shared)",
    )
    commands.add_parser("doctor", help="what works here, what does not, and how to mend it")
    return parser


def _add_common_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("images", nargs="*", metavar="IMAGE", help="pictures or folders")
    words = command.add_mutually_exclusive_group()
    words.add_argument(
        "--texts", help="'a red mug. a blue plate', 'mug, plate', a .txt or .json file, or coco"
    )
    words.add_argument(
        "--vocabulary", metavar="FILE", help="file of names: a line each, JSON, or TextEmbeddings"
    )
    command.add_argument("--encoder", metavar="DIR|ID", help="FG-CLIP directory or hub id")
    command.add_argument("--out-dir", default="outputs", metavar="DIR", help="(default: outputs)")
    command.add_argument("--device", help="cpu, cuda, cuda:0 (default: cuda where there is one)")


def check_asked(arguments: argparse.Namespace, own: str | None) -> None:
    """Whoever brings a model or an encoder of their own brings pictures and words too.

    Raises:
        ValueError: One is missing.
    """
    if own is not None and not arguments.images:
        raise ValueError("name the pictures to look into")
    if own is not None and not (arguments.texts or arguments.vocabulary):
        raise ValueError("say what to look for: --texts 'a red mug. a plate' or --vocabulary FILE")


def read_vocabulary(arguments: argparse.Namespace) -> TextEmbeddings | Vocabulary:
    """What is looked for.

    Raises:
        ValueError: It names nothing, or cannot be read.
    """
    # Imported late: --help and --version answer without loading torch and MMDetection.
    from fgclip_det.apis.argument_checks import check_path
    from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

    if arguments.vocabulary is not None:
        check_path(arguments.vocabulary, "--vocabulary")
    texts = _BUNDLED_TEXTS if arguments.texts is None else arguments.texts
    spec = Path(arguments.vocabulary) if arguments.vocabulary is not None else texts
    is_encoded = isinstance(spec, Path) and spec.suffix == ".safetensors"
    return TextEmbeddings.load(spec) if is_encoded else Vocabulary.parse(spec)
