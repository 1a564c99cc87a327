"""Videos among what a command is told to look into."""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fgclip_det.apis.inputs.kinds import is_webcam
from fgclip_det.apis.video.detection import VideoResult, detect_video
from fgclip_det.apis.video.frame_lines import read_lines
from fgclip_det.apis.video.looking import Looking
from fgclip_det.apis.video.source import VideoSource
from fgclip_det.cli.outputs import candidates, check_folder, print_line
from fgclip_det.cli.report import Report
from fgclip_det.io import path_text, read_json

_LONGEST_ENDING = ".jsonl.part"


def run_videos(
    detector: Any,
    videos: Mapping[str, str] | Iterable[str],
    arguments: argparse.Namespace,
    report: Report,
) -> None:
    """Detect in videos, one after the other, and write and report what is found.

    Writes ``OUT/preds/<name>.jsonl``, ``OUT/preds/<name>.video.json`` and ``OUT/vis/<name>.mp4``.
    What goes wrong with one is told in the end, and the others are done.

    Args:
        detector: An `OpenVocabInferencer` that knows what is looked for.
        videos: Files, or "webcam"; where it is a mapping, with the names of their results.
        arguments: With `out_dir` (None for no files), `every`, `score_thr`, `conf_thr`,
            `one_name`, `no_track`, `no_save_vis`, `labels`, `tile`, `overlap`, `json` and `quiet`.
        report: What is told of them.

    Raises:
        ValueError: `out_dir` cannot be written to.
        OSError: The disk is full.
    """
    out_dir = None if arguments.out_dir is None else Path(arguments.out_dir)
    if out_dir is None and not arguments.json:
        out_dir = Path("outputs")
    if out_dir is not None:
        for folder in ("preds",) if arguments.no_save_vis else ("preds", "vis"):
            check_folder(out_dir / folder, str(out_dir))
    settings = {
        "every": arguments.every,
        "score_thr": arguments.score_thr,
        "conf_thr": arguments.conf_thr,
        "one_name": arguments.one_name,
        "track": not arguments.no_track,
        "tile": arguments.tile,
        "overlap": 0.2 if arguments.overlap is None else arguments.overlap,
    }
    taken: set[str] = set()
    for path, name in _named(videos).items():
        with report.collected(path):
            if out_dir is None:
                report.add_video("", _print(path, detector, dict(settings)))
                continue
            name = _free_name(path, name, out_dir / "preds", taken)
            result = _written(path, name, detector, out_dir, arguments, settings)
            report.add_video(f"{path_text(path)}: {_told(result)}", result.detections)
            if arguments.json:
                for line in read_lines(result.lines):
                    _print_line(path, line)


def _written(
    path: str,
    name: str,
    detector: Any,
    out_dir: Path,
    arguments: argparse.Namespace,
    settings: dict[str, Any],
) -> VideoResult:
    way = Path(name).parent
    return detect_video(
        detector,
        path,
        out_dir=out_dir / "preds" / way,
        vis_dir=out_dir / "vis" / way,
        name=Path(name).name,
        save_video=not arguments.no_save_vis,
        labels=arguments.labels,
        progress=not arguments.quiet,
        **settings,
    )


def _print(path: str, detector: Any, settings: dict[str, Any]) -> int:
    """Prints all lines; returns how many detections they hold."""
    video, found = VideoSource(path, settings.pop("every")), 0
    looking = Looking(detector, detector.encode(), **settings)
    for _, line, _ in looking.lines(video):
        found += len(line["detections"])
        _print_line(path, line)
    return found


def _print_line(path: str, line: Mapping[str, Any]) -> None:
    print_line({"video": path_text(path), **line}, f"a result of {path!r}")


def _told(result: VideoResult) -> str:
    objects = "" if result.objects is None else f" of {result.objects} object(s)"
    where = result.lines if result.drawn is None else result.drawn
    return (
        f"{result.detections} detections{objects} in {result.frames} frame(s); written to {where}"
    )


def _named(videos: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    if isinstance(videos, Mapping):
        return dict(videos)
    return {os.fspath(path): Path(path).stem for path in videos}


def _free_name(path: str, name: str, folder: Path, taken: set[str]) -> str:
    """A name that is not another video's, and that can be written.

    One that is taken, by another of this run or by a finished one, is told apart by 8 hex digits of
    the video's path.
    """
    if is_webcam(path):
        name = f"{name.replace(':', '-')}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    mine = path_text(os.path.realpath(path))
    for candidate in candidates(name, mine, _LONGEST_ENDING):
        if candidate not in taken and not _is_foreign(folder / f"{candidate}.video.json", mine):
            taken.add(candidate)
            return candidate
    raise FileExistsError(f"all names for the results of {path!r} are taken")


def _is_foreign(about: Path, mine: str) -> bool:
    try:
        told = read_json(about)
    except ValueError:
        return False
    return not isinstance(told, dict) or told.get("video") != mine
