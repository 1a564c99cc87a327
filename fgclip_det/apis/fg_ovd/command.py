"""FG-OVD's subsets as one command: its flags, and the way from a config to the tables."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from fgclip_det.apis.detector_loading import load_detector
from fgclip_det.apis.fg_ovd.report import read_scorers, score_subset, write_report
from fgclip_det.apis.fg_ovd.run import run_subsets
from fgclip_det.apis.fg_ovd.sheets import write_sheet
from fgclip_det.apis.fg_ovd.subsets import find_subsets
from fgclip_det.apis.inferencer import resolve_device
from fgclip_det.fg_ovd.predictions import write_predictions

_SWITCH: dict[str, Any] = {"action": "store_true", "default": None}
# Arguments of `evaluate_subsets`, whose defaults hold where a flag is not given.
_FLAGS: dict[str, dict[str, Any]] = {
    "subsets": {"help": "all that lie beside the config's own, or hard,medium,..."},
    "n_negatives": {"type": int, "help": "the published numbers by default"},
    "sweep": {**_SWITCH, "help": "also each smaller number"},
    "strict": {**_SWITCH, "help": "what is missing was not found"},
    "skip_missing": {**_SWITCH, "help": "go on without lost pictures"},
    "validation": {"help": "folder of validation sets: adds text-only rows"},
    "predictions": {"type": Path, "help": "folder for files of predictions"},
    "sheets": {"type": int, "help": "objects on a contact sheet of each subset"},
    "device": {"help": "such as cpu or cuda:0"},
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--subsets`` and the flags that go with it."""
    group = parser.add_argument_group("FG-OVD, with one look at each picture for all subsets")
    for name, settings in _FLAGS.items():
        group.add_argument("--" + name.replace("_", "-"), **settings)


def given_flags(
    parser: argparse.ArgumentParser, args: argparse.Namespace, without: Sequence[str] = ()
) -> dict[str, Any]:
    """Arguments for `evaluate_subsets`; empty where FG-OVD's subsets are not asked for.

    Args:
        parser: It has the flags of `add_flags`.
        args: What it parsed.
        without: Other arguments of the parser that mean nothing to FG-OVD's subsets.

    Raises:
        ValueError: A flag is given without ``--subsets``, or one of `without` with it.
    """
    given = {name: getattr(args, name) for name in _FLAGS if getattr(args, name) is not None}
    if given and "subsets" not in given:
        flag = next(iter(given)).replace("_", "-")
        raise ValueError(f"--{flag} is for FG-OVD's subsets: give --subsets too, such as all")
    for name in without if given else ():
        if getattr(args, name) != parser.get_default(name):
            raise ValueError(f"--subsets goes without --{name.replace('_', '-')}: leave it out")
    return given


def evaluate_subsets(
    config: Config,
    checkpoint: str | os.PathLike,
    subsets: str = "all",
    *,
    n_negatives: int | None = None,
    sweep: bool = False,
    strict: bool = False,
    skip_missing: bool = False,
    validation: str | os.PathLike | None = None,
    predictions: Path | None = None,
    sheets: int = 0,
    device: str | None = None,
) -> str:
    """Evaluate a detector on subsets of FG-OVD, with one look at each picture.

    Writes ``fg_ovd.json`` and ``fg_ovd.md`` into the config's work dir. A run that was cut off goes
    on where it was; what was asked once is not asked again.

    Args:
        config: Of the detector; its test data set is a file of FG-OVD, beside which the others lie.
        checkpoint: The detector's weights.
        subsets: See `find_subsets`.
        n_negatives: See `find_subsets`.
        sweep: Whether to ask for each smaller number of negatives too.
        strict: See `evaluate_fg_ovd`.
        skip_missing: See `FGOVDDataset`.
        validation: Folder of validation sets, for text-only rows; see `read_scorers`.
        predictions: Folder for a file of predictions of each subset; None writes none.
        sheets: Objects on the contact sheet of each subset; 0 writes none.
        device: Such as "cpu" or "cuda:0"; None takes the first GPU that is there.

    Returns:
        The tables over all subsets as Markdown, and where all was written.

    Raises:
        ValueError: An argument or a file cannot be used.
    """
    _check_outputs(predictions, sheets)
    work_dir = Path(config.work_dir)
    data = config.test_dataloader.dataset
    wanted, left_out = find_subsets(
        data, subsets, n_negatives, sweep=sweep, skip_missing=skip_missing
    )
    scorers = read_scorers(wanted, validation) if validation else {}
    detector = load_detector(config, checkpoint)[0].to(resolve_device(device)).eval()
    found = run_subsets(detector, wanted, config, work_dir / "predictions")
    scores = {}
    for subset in wanted:
        name, number, answers = subset.name, subset.n_negatives, found[subset.name]
        scores[name] = score_subset(
            subset, answers, detector.encoder, scorers.get(name), strict=strict, sweep=sweep
        )
        if predictions is not None:
            write_predictions(predictions / f"{name}_n{number}.json", answers[number], number)
        if sheets:
            write_sheet(work_dir / "sheets" / name, subset, answers[number], sheets)
    about = {"config": str(config.filename), "checkpoint": str(checkpoint)}
    page = write_report(work_dir, about, scores, left_out)
    return f"{page}\n\nwritten to {work_dir}: fg_ovd.json, fg_ovd.md" + ", sheets/" * bool(sheets)


def _check_outputs(predictions: Path | None, sheets: int) -> None:
    if predictions is not None:
        if predictions.is_file():
            raise ValueError(f"--predictions {str(predictions)!r} is a file: name a folder")
        # A place that cannot be written is no news for after the work.
        predictions.mkdir(parents=True, exist_ok=True)
    if sheets < 0:
        raise ValueError(f"--sheets is {sheets}: give a number from 0")
