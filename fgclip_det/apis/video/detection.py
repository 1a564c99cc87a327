"""A video in, a video with named boxes and JSON lines out."""

from __future__ import annotations

import datetime
import math
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import fgclip_det
from fgclip_det.apis.argument_checks import check_path
from fgclip_det.apis.drawing.visualization import Labels, check_labels, draw_detections
from fgclip_det.apis.inferencer import OpenVocabInferencer
from fgclip_det.apis.video.frame_lines import read_lines
from fgclip_det.apis.video.looking import Looking
from fgclip_det.apis.video.source import VideoSource
from fgclip_det.apis.video.writer import VideoWriter, written_video
from fgclip_det.exit_codes import printable
from fgclip_det.io import (
    ResumableLines,
    check_writable,
    path_text,
    read_json,
    replaced_text,
    to_json,
    write_json,
)

_Line = dict[str, Any]


@dataclass(frozen=True)
class VideoResult:
    """The result of `detect_video`.

    Attributes:
        lines: The file of JSON lines.
        drawn: The annotated video, where one was asked for.
        frames: Frames that were looked into, at this or an earlier time.
        detections: Boxes in them.
        objects: How many objects they are of; None where they were not tracked.
        problem: Why not all frames of the video were looked into; None where they were.
    """

    lines: Path
    drawn: Path | None
    frames: int
    detections: int
    objects: int | None
    problem: str | None = None


def detect_video(
    detector: OpenVocabInferencer,
    source: str | os.PathLike,
    texts: Any = None,
    *,
    out_dir: str | os.PathLike,
    vis_dir: str | os.PathLike | None = None,
    name: str | None = None,
    every: int = 1,
    score_thr: float | None = None,
    conf_thr: float | None = None,
    one_name: bool = False,
    track: bool = True,
    save_video: bool = True,
    labels: Labels = "full",
    tile: int | None = None,
    overlap: float = 0.2,
    resume: bool = True,
    progress: bool = True,
) -> VideoResult:
    """Detect in a video, and write what is found.

    Writes ``<name>.jsonl``, a line for each frame that was looked into; ``<name>.video.json``,
    which tells of the video and the run; and ``<name>.mp4``, those frames with their boxes, each at
    its own time: with `every` above 1 it plays as long as the video, with fewer frames, and each
    box is on the frame that it was found in. All but the lines of a run in progress are whole files
    or as they were.

    A run that was cut off goes on where it was, with what is in ``<name>.jsonl.part``. One that is
    finished is done again only as far as something of it is missing.

    Args:
        detector: See `stream_video`.
        source: See `stream_video`. A webcam is looked at until Ctrl-C, which is no error then.
        texts: See `stream_video`.
        out_dir: Where files go; made if missing.
        vis_dir: Where the annotated video goes instead.
        name: Of the files; that of the video by default, of a webcam with the time.
        every: See `stream_video`.
        score_thr: See `stream_video`; so are conf_thr, one_name and track.
        save_video: Whether to draw a video.
        labels: What is drawn at a box, see `draw_detections`.
        tile: See `stream_video`, as for `overlap`.
        resume: Whether to go on with what an earlier run began.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: The video cannot be read, texts name nothing, a setting is out of range, or an
            earlier run with other settings is not finished.
        OSError: Writing failed; what was found so far is kept.
        ImportError: The extra for videos is not installed.
    """
    check_labels(labels)
    video = VideoSource(source, every)
    asked = detector.encode(texts)
    looking = Looking(detector, asked, score_thr, track, tile, overlap, conf_thr, one_name)
    files = _Files.of(video, out_dir, vis_dir, name)
    files.make_folders(video, save_video)
    run = _Run(video, looking, files, labels if save_video else None, progress)
    return run.done(resume)


@dataclass(frozen=True)
class _Files:
    """Where results go."""

    lines: Path
    about: Path
    drawn: Path

    @classmethod
    def of(
        cls,
        video: VideoSource,
        out_dir: str | os.PathLike,
        vis_dir: str | os.PathLike | None,
        name: str | None,
    ) -> _Files:
        if name is None:
            name = Path(video.source).stem
            if video.is_live:
                name = f"webcam-{datetime.datetime.now():%Y%m%d-%H%M%S}"
        check_path(out_dir, "out_dir")
        out, vis = Path(out_dir), Path(out_dir if vis_dir is None else vis_dir)
        return cls(out / f"{name}.jsonl", out / f"{name}.video.json", vis / f"{name}.mp4")

    @property
    def part(self) -> Path:
        return Path(f"{self.lines}.part")

    def make_folders(self, video: VideoSource, with_drawn: bool) -> None:
        if with_drawn and os.path.realpath(self.drawn) == os.path.realpath(video.source):
            raise ValueError(
                f"{str(self.drawn)!r} is the video itself: name another folder for results"
            )
        made = (self.lines, self.drawn) if with_drawn else (self.lines,)
        # What no run tells of is no result, but somebody's own file.
        is_known = self.about.exists() or self.part.exists()
        for path in made:
            if not is_known and os.path.lexists(path):
                raise ValueError(
                    f"{str(path)!r} is there already, and no result of a video: move it, or name "
                    "another folder or name for results"
                )
            check_writable(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)


@dataclass(eq=False)
class _Run:
    """A video that is looked through.

    Attributes:
        labels: Of the drawn video; None where there is none.
    """

    video: VideoSource
    looking: Looking
    files: _Files
    labels: Labels | None
    progress: bool

    def done(self, resume: bool) -> VideoResult:
        files, key = self.files, self.looking.key(self.video)
        if not resume:
            for path in (files.part, files.about):
                path.unlink(missing_ok=True)
        about = self._about_finished(key)
        if about is not None and not files.part.exists():
            if self.labels is not None and about["labels"] != self.labels:
                self._look_through(read_lines(files.lines), None)
                about["labels"] = self.labels
                write_json(files.about, about)
            return self._result(about)
        lines = ResumableLines(files.part, key)
        about = self._about(key) | self._look_through(lines, lines)
        with replaced_text(files.lines) as stream:
            for line in lines:
                stream.write(f"{to_json(line, 'a line', ensure_ascii=False)}\n")
        write_json(files.about, about)
        lines.remove()
        return self._result(about)

    def _about_finished(self, key: str) -> dict[str, Any] | None:
        """What a finished run tells of itself, if it is this one."""
        files = self.files
        try:
            about = read_json(files.about)
        except ValueError:
            return None
        if not isinstance(about, dict) or about.get("key") != key or not files.lines.is_file():
            return None
        if about["labels"] is not None and not files.drawn.is_file():
            about["labels"] = None
        return about

    def _about(self, key: str) -> dict[str, Any]:
        video, looking = self.video, self.looking
        return {
            "video": video.source if video.is_live else path_text(os.path.realpath(video.source)),
            "width": video.width,
            "height": video.height,
            "rate": video.rate,
            "every": video.every,
            "vocabulary": looking.vocabulary,
            "box_format": "xyxy",
            "threshold": looking.limits.score_thr,
            "conf_thr": looking.limits.told,
            "tracked": looking.track,
            "labels": self.labels,
            "weights_hash": looking.detector.weights_hash,
            "encoder_hash": looking.detector.model.encoder.fingerprint,
            "version": fgclip_det.__version__,
            "key": key,
        }

    def _result(self, about: dict[str, Any]) -> VideoResult:
        drawn = None if self.labels is None else self.files.drawn
        counts = (about[field] for field in ("frames", "detections", "objects", "problem"))
        return VideoResult(self.files.lines, drawn, *counts)

    def _look_through(
        self, kept: Iterable[_Line], growing: ResumableLines | None
    ) -> dict[str, Any]:
        """Draws all frames, and adds the lines of those that were not kept; tells their numbers."""
        video, count = self.video, {"frames": 0, "detections": 0, "objects": 0}
        rate = video.rate / video.every
        target = nullcontext() if self.labels is None else written_video(self.files.drawn, rate)
        total = None if video.frame_count is None else math.ceil(video.frame_count / video.every)
        shown = {"total": total, "unit": "frame", "disable": not self.progress}
        frames = self.looking.lines(video, kept)
        bar = tqdm(desc=printable(Path(video.source).name), **shown)
        with _noted_stop(video.is_live) as stop, bar, closing(frames), target as writer:
            for frame, line, is_kept in frames:
                if growing is not None and not is_kept:
                    growing.append([line])
                self._draw(writer, frame.pixels, line)
                count["frames"] += 1
                count["detections"] += len(line["detections"])
                ids = [row.get("id") or 0 for row in line["detections"]]
                count["objects"] = max(count["objects"], *ids, 0)
                bar.update()
                if stop:
                    break
        if not self.looking.track:
            count["objects"] = None
        return {**count, "problem": video.problem}

    def _draw(self, writer: VideoWriter | None, pixels: np.ndarray, line: _Line) -> None:
        if writer is not None:
            found = self.looking.detections(line, self.video)
            drawn = draw_detections(pixels, found, labels=self.labels)
            writer.write(np.asarray(drawn), line["time_s"])


@contextmanager
def _noted_stop(is_live: bool) -> Iterator[list[int]]:
    """Ctrl-C, while a camera is looked at, ends its video as a file ends; the second interrupts."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    if not is_live or threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
