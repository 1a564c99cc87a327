"""``fgclip-det detect``: boxes with names in photographs, drawn and as JSON."""

from __future__ import annotations

import argparse
import os
from collections import deque
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from fgclip_det.apis import inferencer
from fgclip_det.apis.argument_checks import check_path
from fgclip_det.apis.detections import Detections
from fgclip_det.apis.detector_loading import resolve_device
from fgclip_det.apis.drawing.visualization import shortened
from fgclip_det.apis.inputs.kinds import is_video, is_webcam
from fgclip_det.apis.inputs.picture_lists import name_of, named_images
from fgclip_det.cli.arguments.common import (
    check_scores,
    check_words,
    model_of,
    read_calibration,
    read_negatives,
    read_vocabulary,
)
from fgclip_det.cli.outputs import FOLDERS
from fgclip_det.cli.report import Report, note_shares
from fgclip_det.cli.results import Results, about_run
from fgclip_det.io import path_text, quoted

# What was found in a picture, and the writing of it.
_Written = tuple[Detections, Future]
# Results, a few kB each, that wait for a disk that is slow once in a while.
_WAITING = 16


def run(arguments: argparse.Namespace) -> int:
    """Detect in the named pictures; returns the exit code.

    Raises:
        ValueError: An argument is wrong; nothing was written then.
    """
    check_words(arguments)
    check_settings(arguments)
    _check_detector(arguments)
    _check_video(arguments)
    out_dir = _out_dir(arguments)
    videos = _videos(arguments.images)
    if videos and arguments.masks:
        raise ValueError("--masks is for pictures: leave it out where videos are named")
    pictures = _pictures(arguments, out_dir, videos)
    vocabulary = read_vocabulary(arguments)
    negatives, calibration = read_negatives(arguments), read_calibration(arguments)
    results = Results(
        out_dir,
        with_drawings=out_dir is not None and not arguments.no_save_vis,
        with_lines=True,
        to_stdout=arguments.json,
        drawing={"labels": arguments.labels},
    )
    results.check(str(out_dir))
    device = resolve_device(arguments.device)
    detector = inferencer.OpenVocabInferencer(
        model_of(arguments), arguments.weights, arguments.encoder, device, calibration
    )
    limits = detector.limits(arguments.score_thr, arguments.conf_thr)
    limits.check(vocabulary)
    detector.set_vocabulary(vocabulary)
    detector.set_negatives(negatives)
    model = arguments.model or f"photos/{arguments.preset}"
    results.about = partial(about_run, detector, path_text(model), limits.score_thr)
    note_shares(detector, arguments)
    report = Report(arguments.quiet or arguments.json)
    if pictures:
        with results:
            look_into(detector, pictures, arguments, results, report, **_options(arguments))
    if videos:
        # Imported late: it needs packages of an extra.
        from fgclip_det.cli.videos import run_videos

        run_videos(detector, videos, arguments, report)
    where = "" if out_dir is None else f"; written to {out_dir}"
    return report.tell(f"{report.rows} detections in {report.looked_into}{where}")


def check_settings(arguments: argparse.Namespace) -> None:
    """Check what `look_into` is told.

    Raises:
        ValueError: A setting is out of range.
    """
    check_scores(arguments)
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size is {arguments.batch_size}: it must be 1 or more")


def look_into(
    detector: Any,
    names: dict[str, str],
    arguments: argparse.Namespace,
    results: Results,
    report: Report,
    with_masks: bool = False,
    **options: Any,
) -> None:
    """Detect in pictures, one after the other, and write and report what is found.

    Args:
        detector: An `OpenVocabInferencer` that knows what is looked for.
        names: Pictures and the names of their results.
        arguments: With `score_thr`, `conf_thr`, `one_name` and `batch_size`.
        results: Where results are written.
        report: What is told of them.
        with_masks: Whether masks are made of the boxes.
        options: Further ones of `OpenVocabInferencer.stream`.

    Raises:
        OSError: The disk is full.
    """
    if with_masks:
        from fgclip_det.apis.masks import MaskPredictor

        predictor = MaskPredictor(device=detector.device)
    stream = detector.stream(
        list(names),
        score_thr=arguments.score_thr,
        conf_thr=arguments.conf_thr,
        one_name=arguments.one_name,
        batch_size=arguments.batch_size,
        on_error="collect",
        keep_pixels=results.with_drawings or with_masks,
        **options,
    )
    # Answers call an address by what a terminal may see of it.
    names = {name_of(path): name for path, name in names.items()}
    # A disk takes as long as a small network: pictures are written while the next are looked into.
    waiting: deque[_Written] = deque()
    # Pictures that are drawn, and masks, do not heap up in memory.
    most = 1 if results.with_drawings or with_masks else _WAITING
    # Closed, so that the bar ends its line before an error has one.
    with closing(stream), ThreadPoolExecutor(1) as writer:
        for answer in stream:
            with report.collected(answer.image_path):
                if with_masks:
                    answer = predictor.with_masks(answer, stream.pixels)
                name = names[answer.image_path]
                pixels = stream.pixels if results.with_drawings else None
                waiting.append((answer, writer.submit(results.write, name, answer, pixels)))
            if len(waiting) > most:
                _tell(report, names, waiting.popleft())
        for written in waiting:
            _tell(report, names, written)
    report.failures += (reason for _, reason in stream.failures)


def _tell(report: Report, names: dict[str, str], written: _Written) -> None:
    """Report a picture once its results are written."""
    answer, done = written
    path = answer.image_path
    with report.collected(path):
        done.result()
        found = zip(answer.certainties.tolist(), answer.names, answer.boxes.tolist(), strict=True)
        told = ((certainty, shortened(name), box) for certainty, name, box in found)
        report.add(names[path] + Path(path).suffix, told, _closest(answer))


def _closest(answer: Detections) -> str | None:
    """What came closest, in words; None where something was found, or nothing came close."""
    if not answer.closest:
        return None
    best = answer.closest[0]
    rival = "" if best.rival is None else f" (more like {quoted(shortened(best.rival))})"
    return f"{quoted(shortened(best.name))} {best.certainty:.2f}{rival}"


def _check_detector(arguments: argparse.Namespace) -> None:
    if arguments.weights is not None and arguments.model is None:
        raise ValueError("--weights belongs to --model: give its config too")
    if arguments.model is not None:
        check_path(arguments.model, "--model")
    if arguments.tile is not None and arguments.tile < 1:
        raise ValueError(f"--tile is {arguments.tile}: it must be 1 or more pixels")
    if arguments.overlap is not None:
        if arguments.tile is None:
            raise ValueError("--overlap belongs to --tile: give its size too")
        if not 0 <= arguments.overlap < 1:
            raise ValueError(f"--overlap is {arguments.overlap}: it must be from 0 to below 1")


def _check_video(arguments: argparse.Namespace) -> None:
    if arguments.every < 1:
        raise ValueError(f"--every is {arguments.every}: it must be 1 or more")


def _out_dir(arguments: argparse.Namespace) -> Path | None:
    """Where files go; None where results are printed and no place is named."""
    if arguments.out_dir is None:
        return None if arguments.json else Path("outputs")
    check_path(arguments.out_dir, "--out-dir")
    return Path(arguments.out_dir)


def _pictures(
    arguments: argparse.Namespace, out_dir: Path | None, videos: Collection[str]
) -> dict[str, str]:
    made = [] if out_dir is None else [out_dir / folder for folder in FOLDERS]
    given = [one for one in arguments.images if one not in videos]
    return named_images(given, without=made, recursive=arguments.recursive) if given else {}


def _videos(images: Iterable[str]) -> dict[str, str]:
    """Videos and cameras among what is named, with the names of their results."""
    # A folder may be called like a camera or a video.
    named = [one for one in images if not os.path.isdir(one)]
    videos = {one: Path(one).stem for one in named if is_video(one)}
    return videos | {one: one for one in named if is_webcam(one) and not os.path.exists(one)}


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {"with_masks": arguments.masks}
    if arguments.quiet:
        options["progress"] = False
    if arguments.tile is not None:
        options["tile"] = arguments.tile
        options["overlap"] = 0.2 if arguments.overlap is None else arguments.overlap
    return options
