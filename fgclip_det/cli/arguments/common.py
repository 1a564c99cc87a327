"""What several commands are told, and how it is read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fgclip_det.cli.arguments.shown import add_exemplars, with_shown

if TYPE_CHECKING:
    from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

# As `apis.presets` has them, whose import takes too long for --help.
PRESETS = ("default", "balanced", "fast")
_BUNDLED_NAME = "bundled"
_BUNDLED_TEXTS = "a blue dotted star. a green checkered star. a cyan striped ring"


def add_common_arguments(command: argparse.ArgumentParser) -> None:
    """Pictures, words, encoder, device and the place of results."""
    command.add_argument("images", nargs="*", metavar="IMAGE", help="pictures or folders")
    add_words(command)
    add_exemplars(command)
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


def add_scores(command: argparse.ArgumentParser, one_name: bool | None = None) -> None:
    """Who competes, and the least that is reported.

    Args:
        command: Gets the arguments.
        one_name: The default of ``--one-name``; None for a command that has no such option.
    """
    command.add_argument(
        "--negatives",
        default="auto",
        metavar="auto|none|TEXTS",
        help="what else competes for boxes and is not reported: names and attributes that nobody "
        "asked for (auto, the default), nothing (none), or these texts beside those",
    )
    command.add_argument(
        "--conf-thr",
        type=float,
        metavar="X",
        help="least confidence (default: the calibration's)",
    )
    command.add_argument(
        "--score-thr",
        type=float,
        metavar="X",
        help="least score (default: 0.3; 0 where there are confidences)",
    )
    add_calibration(command)
    if one_name is not None:
        command.add_argument(
            "--one-name",
            action=argparse.BooleanOptionalAction,
            default=one_name,
            help="of boxes that overlap report the best alone, whatever their names (default: "
            f"{'yes' if one_name else 'no'})",
        )


def add_calibration(command: argparse.ArgumentParser) -> None:
    """What the detector's evidence means."""
    command.add_argument(
        "--calibration",
        default="auto",
        metavar="FILE",
        help="file of fgclip-det calibrate, from which confidences come; none for no confidences "
        "(default: the detector's own, if it has one)",
    )


def add_weights(command: argparse.ArgumentParser) -> None:
    """The checkpoint of a detector of one's own."""
    command.add_argument("--weights", metavar="FILE", help="checkpoint that belongs to --model")


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
    if own is not None:
        check_words(arguments)


def check_words(arguments: argparse.Namespace) -> None:
    """Something has to be said, or shown.

    Raises:
        ValueError: Nothing is.
    """
    if not (arguments.texts or arguments.vocabulary or arguments.shown):
        raise ValueError(
            "say what to look for: --texts 'a red mug. a plate' or --vocabulary FILE, or show it: "
            "--like crop.png"
        )


def model_of(arguments: argparse.Namespace) -> str | None:
    """The model of ``--model`` or ``--preset``, as `OpenVocabInferencer` takes it."""
    if arguments.model is None:
        return f"photos/{arguments.preset or PRESETS[0]}"
    return None if arguments.model == _BUNDLED_NAME else arguments.model


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
    given = getattr(arguments, "shown", [])
    texts = arguments.texts
    if texts is None and not given:
        texts = _BUNDLED_TEXTS
    spec = Path(arguments.vocabulary) if arguments.vocabulary is not None else texts
    is_encoded = isinstance(spec, Path) and spec.suffix == ".safetensors"
    if is_encoded and given:
        raise ValueError(
            "--vocabulary is a file of embeddings, to which nothing can be shown: give its names "
            "as text or JSON"
        )
    if is_encoded:
        return TextEmbeddings.load(spec)
    said = None if spec is None else Vocabulary.parse(spec)
    return with_shown(said, given) if given else said


def read_negatives(arguments: argparse.Namespace) -> Vocabulary | str | None:
    """What competes, as `OpenVocabInferencer.set_negatives` takes it.

    Raises:
        ValueError: It names nothing, or cannot be read.
    """
    from fgclip_det.vocabulary import Vocabulary

    given = arguments.negatives
    if given in ("auto", "none"):
        return None if given == "none" else "auto"
    try:
        return Vocabulary.parse(given)
    except ValueError as error:
        raise ValueError(f"--negatives: {error}") from None


def read_calibration(arguments: argparse.Namespace) -> str | None:
    """The calibration, as `OpenVocabInferencer` takes it.

    Raises:
        ValueError: It is no path.
    """
    from fgclip_det.apis.argument_checks import check_path

    if arguments.calibration != "auto":
        check_path(arguments.calibration, "--calibration")
    return None if arguments.calibration == "none" else arguments.calibration


def check_scores(arguments: argparse.Namespace) -> None:
    """Refuse least scores and confidences that are none.

    Raises:
        ValueError: One is out of range.
    """
    for option in ("--score-thr", "--conf-thr"):
        value = getattr(arguments, option[2:].replace("-", "_"))
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{option} is {value}: it must be between 0 and 1")
