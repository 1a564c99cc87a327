"""How the frames of a video are looked into, and what all results depend on."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgclip_det.apis.detections import Detections
from fgclip_det.apis.inferencer import OpenVocabInferencer
from fgclip_det.apis.scores.limits import Limits
from fgclip_det.apis.video.frame_lines import replay, to_detections, to_line
from fgclip_det.apis.video.source import VideoFrame, VideoSource
from fgclip_det.apis.video.tracking import ObjectTracker
from fgclip_det.io import sha256_of
from fgclip_det.vocabulary import TextEmbeddings

# Of the way results are made: what another version left half done is not gone on with.
_VERSION = 2


@dataclass(frozen=True, eq=False)
class Looking:
    """All that results depend on beside the video.

    Attributes:
        detector: Finds objects.
        texts: What is looked for.
        score_thr: Least score, in [0, 1]; see `OpenVocabInferencer.stream`.
        track: Whether objects are told apart.
        tile: Side of the tiles of a frame, in pixels; None for whole frames.
        overlap: Of neighbouring tiles.
        conf_thr: Least confidence, likewise.
        one_name: Whether of boxes that overlap the best is reported alone.

    Raises:
        ValueError: A setting is out of range.
    """

    detector: OpenVocabInferencer
    texts: TextEmbeddings
    score_thr: float | None = None
    track: bool = True
    tile: int | None = None
    overlap: float = 0.2
    conf_thr: float | None = None
    one_name: bool = False

    def __post_init__(self) -> None:
        _ = self.limits

    @property
    def limits(self) -> Limits:
        """The least score and confidence of what is reported."""
        return self.detector.limits(self.score_thr, self.conf_thr)

    @property
    def vocabulary(self) -> list[str]:
        """The names that are looked for."""
        return list(self.texts.names)

    def found(self, pixels: np.ndarray) -> Detections:
        """What is in a frame, (H, W, 3) uint8, RGB."""
        tiles = {} if self.tile is None else {"tile": self.tile, "overlap": self.overlap}
        stream = self.detector.stream(
            [pixels],
            self.texts,
            score_thr=self.score_thr,
            conf_thr=self.conf_thr,
            one_name=self.one_name,
            progress=False,
            **tiles,
        )
        return next(iter(stream))

    def detections(self, line: dict[str, Any], video: VideoSource) -> Detections:
        """What a line of a video tells."""
        return to_detections(line, self.vocabulary, video.source, self.limits.told)

    def lines(
        self, video: VideoSource, kept: Iterable[dict[str, Any]] = ()
    ) -> Iterator[tuple[VideoFrame, dict[str, Any], bool]]:
        """Look through a video.

        Args:
            video: The video.
            kept: Lines of its first frames, from an earlier time.

        Returns:
            Of each frame the frame, its line (see `to_line`), and whether that was kept.

        Raises:
            ValueError: Kept lines are of other frames.
        """
        tracker = ObjectTracker(video.rate / video.every) if self.track else None
        known = iter(kept)
        for frame in video:
            line = next(known, None)
            is_kept = line is not None
            if line is None:
                line = to_line(frame, self.found(frame.pixels), tracker)
            elif (line["frame"], line["time_s"]) != (frame.index, frame.time_s):
                raise ValueError(
                    f"results of frame {line['frame']} of {video.name} were kept where frame "
                    f"{frame.index} comes: another version of PyAV read it; begin anew"
                )
            else:
                replay(line, tracker)
            yield frame, line, is_kept

    def key(self, video: VideoSource) -> str:
        """Hex digits that change with the file's content and with all settings of results."""
        detector, limits = self.detector, self.limits
        told = [
            _VERSION,
            # What a camera saw is not seen again: no earlier run is gone on with.
            secrets.token_hex(16) if video.is_live else sha256_of(video.source, "video"),
            [video.every, limits.score_thr, limits.conf_thr, self.track, self.tile],
            # The thresholds of names hold where no other confidence was asked for.
            [limits.calibration is not None, self.one_name],
            self.overlap if self.tile is not None else None,
            [detector.weights_hash, detector.model.encoder.fingerprint],
            # Not of the embeddings, whose last bits depend on the number of threads.
            [self.texts.vocabulary.hash, self.texts.text_length],
            detector.competing,
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def stream_video(
    detector: OpenVocabInferencer,
    source: str | os.PathLike,
    texts: Any = None,
    *,
    every: int = 1,
    score_thr: float | None = None,
    conf_thr: float | None = None,
    one_name: bool = False,
    track: bool = True,
    tile: int | None = None,
    overlap: float = 0.2,
) -> Iterator[tuple[VideoFrame, Detections]]:
    """Detect in a video, frame by frame, and write nothing.

    Args:
        detector: What finds objects.
        source: A file, or "webcam" (which was not tried): see `VideoSource`.
        texts: What to look for, in any form that the detector takes.
        every: N, to look into each Nth frame.
        score_thr: Least score of a detection that is kept; see `OpenVocabInferencer.stream`.
        conf_thr: Least confidence, likewise.
        one_name: Likewise.
        track: Whether detections have `ids`: which object each is.
        tile: Side of the tiles that a large frame is looked into by, in pixels; None for none.
        overlap: Share that neighbouring tiles have in common.

    Returns:
        Frames with what was found in them; boxes rounded to 0.01 px, scores to 4 digits.

    Raises:
        ValueError: The video cannot be read, texts name nothing, or a setting is out of range.
        ImportError: The extra for videos is not installed.
    """
    video = VideoSource(source, every)
    asked = detector.encode(texts)
    looking = Looking(detector, asked, score_thr, track, tile, overlap, conf_thr, one_name)
    return ((frame, looking.detections(line, video)) for frame, line, _ in looking.lines(video))
