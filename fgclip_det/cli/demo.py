"""``fgclip-det demo``: boxes with names, drawn and as JSON."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from fgclip_det.apis import inferencer
from fgclip_det.apis.argument_checks import check_path
from fgclip_det.apis.detections import Detections
from fgclip_det.apis.detector_loading import BUNDLED, resolve_device
from fgclip_det.apis.drawing.visualization import draw_detections, shortened
from fgclip_det.apis.inputs.picture_lists import named_images
from fgclip_det.cli.arguments.common import check_asked, read_vocabulary
from fgclip_det.cli.outputs import FOLDERS, check_folder, path_text, write_drawing, write_result
from fgclip_det.cli.report import Report
from fgclip_det.io import read_json, to_json
from fgclip_det.vocabulary import Vocabulary


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
    vocabulary, negatives = read_vocabulary(arguments), _negatives(arguments)
    if not 0 <= arguments.score_thr <= 1:
        raise ValueError(f"--score-thr is {arguments.score_thr}: it must be between 0 and 1")
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size is {arguments.batch_size}: it must be 1 or more")
    for folder in ("preds",) if arguments.no_save_vis else ("preds", "vis"):
        check_folder(out_dir / folder, arguments.out_dir)
    device = resolve_device(arguments.device)
    detector = inferencer.OpenVocabInferencer(
        arguments.model, arguments.weights, arguments.encoder, device
    )
    detector.set_vocabulary(vocabulary)
    detector.set_negatives(negatives)
    report = Report()
    stream = detector.stream(
        list(names),
        score_thr=arguments.score_thr,
        batch_size=arguments.batch_size,
        on_error="collect",
        keep_pixels=not arguments.no_save_vis,
    )
    for answer in stream:
        path = answer.image_path
        with report.collected(path):
            _write(out_dir, names[path], answer, stream.pixels)
            found = zip(answer.scores.tolist(), answer.names, answer.boxes.tolist(), strict=True)
            told = ((score, shortened(name), box) for score, name, box in found)
            report.add(names[path] + Path(path).suffix, told)
    report.failures += (reason for _, reason in stream.failures)
    return report.tell(
        f"{report.rows} detections in {report.done} picture(s); written to {out_dir}"
    )


def _negatives(arguments: argparse.Namespace) -> Vocabulary | None:
    if arguments.negatives is not None:
        return Vocabulary.parse(arguments.negatives)
    return None if arguments.images else Vocabulary.parse(BUNDLED / "vocabulary.json")


def _write(out_dir: Path, name: str, answer: Detections, pixels: np.ndarray | None) -> None:
    """Write the JSON file and, with pixels, the drawing under the same name."""
    told = answer.to_dict()
    # Absolute, so that it tells the picture to whoever reads it, wherever that is.
    told["image"] = path_text(os.path.abspath(answer.image_path))
    text = to_json(told, f"the result of {answer.image_path!r}", indent=1, ensure_ascii=False)

    def drawing_of(name: str) -> Path:
        return out_dir / "vis" / f"{name}.png"

    name = write_result(
        out_dir / "preds",
        name,
        ".json",
        f"{text}\n".encode(),
        answer.image_path,
        lambda path: _string(read_json(path), "image"),
        None if pixels is None else drawing_of,
    )
    if pixels is not None:
        drawn = draw_detections(pixels, answer)
        write_drawing(drawing_of(name), drawn, out_dir / "preds" / f"{name}.json")


def _string(values: Any, key: str) -> str:
    """A string of a JSON object.

    Raises:
        ValueError: There is none.
    """
    if not isinstance(values, dict) or not isinstance(values.get(key), str):
        raise ValueError(f"no {key!r}")
    return values[key]
