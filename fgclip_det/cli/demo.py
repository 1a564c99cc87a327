"""``fgclip-det demo``: boxes with names, drawn and as JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from fgclip_det.apis import inferencer
from fgclip_det.apis.argument_checks import check_path
from fgclip_det.apis.detector_loading import BUNDLED, resolve_device
from fgclip_det.apis.inputs.picture_lists import named_images
from fgclip_det.cli.arguments.common import (
    check_asked,
    read_calibration,
    read_negatives,
    read_vocabulary,
)
from fgclip_det.cli.detect import check_settings, look_into
from fgclip_det.cli.outputs import FOLDERS
from fgclip_det.cli.report import Report, note_shares
from fgclip_det.cli.results import Results
from fgclip_det.exit_codes import say


def run(arguments: argparse.Namespace) -> int:
    """Detect in the named pictures; returns the exit code.

    Raises:
        ValueError: An argument is wrong; nothing was written then.
    """
    check_asked(arguments, arguments.model)
    check_path(arguments.out_dir, "--out-dir")
    out_dir = Path(arguments.out_dir)
    made = [out_dir / folder for folder in FOLDERS]
    names = named_images(arguments.images or [BUNDLED / "images"], without=made)
    vocabulary, negatives = read_vocabulary(arguments), read_negatives(arguments)
    calibration = read_calibration(arguments)
    check_settings(arguments)
    results = Results(out_dir, with_drawings=not arguments.no_save_vis)
    results.check(arguments.out_dir)
    device = resolve_device(arguments.device)
    detector = inferencer.OpenVocabInferencer(
        arguments.model, arguments.weights, arguments.encoder, device, calibration
    )
    detector.limits(arguments.score_thr, arguments.conf_thr).check(vocabulary)
    detector.set_vocabulary(vocabulary)
    detector.set_negatives(negatives)
    note_shares(detector, arguments)
    report = Report()
    with results:
        look_into(detector, names, arguments, results, report)
    code = report.tell(
        f"{report.rows} detections in {report.done} picture(s); written to {out_dir}"
    )
    if arguments.model is None and not _are_bundled(names):
        say(
            "the bundled model knows coloured shapes alone; for photographs: fgclip-det detect",
            file=sys.stderr,
        )
    return code


def _are_bundled(pictures: Iterable[str]) -> bool:
    folder = os.path.realpath(BUNDLED / "images")
    return all(os.path.dirname(os.path.realpath(path)) == folder for path in pictures)
