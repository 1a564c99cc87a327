"""``fgclip-det label``: a folder of pictures becomes a data set for training."""

from __future__ import annotations

import argparse
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fgclip_det.apis import inferencer
from fgclip_det.apis.argument_checks import check_path
from fgclip_det.apis.detector_loading import resolve_device
from fgclip_det.apis.drawing.visualization import shortened
from fgclip_det.apis.labelling.data_set import REVIEW, check_val_share, write_data_set
from fgclip_det.apis.labelling.formats import check_files, check_names
from fgclip_det.apis.labelling.labels import by_split, read_thresholds
from fgclip_det.apis.labelling.run import Labels, folder_pictures, label_folder
from fgclip_det.cli.arguments.common import (
    check_scores,
    model_of,
    read_calibration,
    read_negatives,
    read_vocabulary,
)
from fgclip_det.cli.outputs import check_folder
from fgclip_det.cli.report import note_shares, tell_failures
from fgclip_det.exit_codes import say
from fgclip_det.io import quoted, read_json
from fgclip_det.vocabulary import TextEmbeddings

_SHOWN_NAMES = 20


def run(arguments: argparse.Namespace) -> int:
    """Label a folder; returns the exit code.

    Raises:
        ValueError: An argument is wrong, or OUT holds the beginning of another run.
    """
    check_path(arguments.folder, "FOLDER")
    check_path(arguments.out, "--out")
    folder, out = Path(arguments.folder), Path(arguments.out)
    formats = list(dict.fromkeys(arguments.formats or ["coco"]))
    vocabulary = read_vocabulary(arguments)
    is_encoded = isinstance(vocabulary, TextEmbeddings)
    names = (vocabulary.vocabulary if is_encoded else vocabulary).names
    check_names(formats, names)
    thresholds = _thresholds(arguments.thresholds)
    check_scores(arguments)
    read_thresholds(names, 0.0, thresholds)
    negatives, calibration = read_negatives(arguments), read_calibration(arguments)
    check_val_share(arguments.val_share)
    if arguments.review < 0:
        raise ValueError(f"--review is {arguments.review}: it must be 0 or more")
    if not folder.is_dir():
        raise ValueError(f"no folder {str(folder)!r}: name the one that holds the pictures")
    if os.path.realpath(folder) == os.path.realpath(out):
        raise ValueError(f"--out {str(out)!r} is the folder of the pictures: name another")
    check_files(formats, (str(path.relative_to(folder)) for path in folder_pictures(folder, out)))
    check_folder(out, arguments.out, "--out")
    detector = _detector(arguments, calibration)
    detector.limits(arguments.score_thr, arguments.conf_thr).check(vocabulary)
    detector.set_vocabulary(vocabulary)
    detector.set_negatives(negatives)
    note_shares(detector, arguments)
    out.mkdir(parents=True, exist_ok=True)
    labels = label_folder(
        detector,
        folder,
        out,
        arguments.score_thr,
        thresholds,
        arguments.iou,
        arguments.batch_size,
        progress=not arguments.quiet,
        conf_thr=arguments.conf_thr,
    )
    for note in labels.notes:
        warnings.warn(note, stacklevel=2)
    if labels.pictures:
        share, seed = arguments.val_share, arguments.seed
        write_data_set(out, folder, labels, formats, share, seed, arguments.review)
    return _tell(arguments, labels, formats)


def _detector(
    arguments: argparse.Namespace, calibration: str | None
) -> inferencer.OpenVocabInferencer:
    device = resolve_device(arguments.device)
    return inferencer.OpenVocabInferencer(
        model_of(arguments), arguments.weights, arguments.encoder, device, calibration
    )


def _thresholds(given: list[str]) -> dict[str, Any]:
    """Thresholds by name, of ``NAME=X`` and of files; what is given last holds.

    Raises:
        ValueError: One is neither.
    """
    thresholds: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.rpartition("=")
        if sign and name:
            try:
                thresholds[name.strip()] = float(value)
            except ValueError:
                raise ValueError(
                    f"--thresholds {quoted(text)}: {quoted(value)} is no number, "
                    "write 'red mug=0.4'"
                ) from None
            continue
        values = read_json(text, "file of thresholds")
        if not isinstance(values, dict):
            raise ValueError(
                f"--thresholds {quoted(text)} holds no object: write {{'red mug': 0.4}} with "
                "double quotes"
            )
        thresholds |= values
    return thresholds


def _tell_names(names: Sequence[str], counts: Counter[int]) -> None:
    """How often the names were found that were found most, and which never were."""
    for place, count in counts.most_common(_SHOWN_NAMES):
        say(f"{count:8d}  {shortened(names[place])}")
    if len(counts) > _SHOWN_NAMES:
        say(f"... and {len(counts) - _SHOWN_NAMES} more names")
    never = [shortened(name) for place, name in enumerate(names) if place not in counts]
    if never:
        more = ", ..." if len(never) > _SHOWN_NAMES else ""
        say(f"never found: {', '.join(never[:_SHOWN_NAMES])}{more}")


def _tell(arguments: argparse.Namespace, labels: Labels, formats: list[str]) -> int:
    if labels.pictures and not arguments.quiet:
        counts = Counter(label.name for one in labels.pictures for label in one.labels)
        splits = by_split(labels.pictures, arguments.val_share, arguments.seed)
        empty = sum(not picture.labels for picture in labels.pictures)
        _tell_names(labels.settings.names, counts)
        say(
            f"{counts.total()} labels in {len(labels.pictures)} picture(s), {empty} without: "
            f"{len(splits['train'])} to train, {len(splits['val'])} to validate; written to "
            f"{arguments.out} ({', '.join(formats)})"
        )
        if arguments.review:
            say(f"look at the least certain: {Path(arguments.out) / REVIEW / 'index.html'}")
    return tell_failures(labels.failures, len(labels.pictures))
