"""What several commands are told, and how it is read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

# As `apis.presets` has them, whose import takes too long for --help.
PRESETS = ("default", "balanced", "fast")
_BUNDLED_TEXTS = "a blue dotted star. a green checkered star. a cyan striped ring"


def add_common_arguments(command: argparse.ArgumentParser) -> None:
    """Pictures, words, encoder, device and the place of results."""
    command.add_argument("images", nargs="*", metavar="IMAGE", help="pictures or folders")
    add_words(command)
    add_device_arguments(command)
    command.add_argument("--out-dir", default="outputs", metavar="DIR", help="(default: outputs)")


def add_words(command: argparse.ArgumentParser, required: bool = False) -> None:
    """What is looked for."""
    words = command.add_mutually_exclusive_group(required=required)
    words.add_argument(
        "--texts", help="'a red mug. a blue plate', 'mug, plate', a .txt or .json file, or coco"
    )
    words.add_argument(
        "--vocabulary", metavar="FILE", help="file of names: a line each, JSON, or TextEmbeddings"
    )


def add_device_arguments(command: argparse.ArgumentParser) -> None:
    """The encoder, and where it computes."""
    command.add_argument("--encoder", metavar="DIR|ID", help="FG-CLIP directory or hub id")
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
