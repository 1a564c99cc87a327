"""Frames written as a video that players and browsers show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from fgclip_det.apis.video.packages import needed
from fgclip_det.io import replaced_file

# Ticks in a second: each usual rate of frames is whole in it.
_TICKS = 90_000
_BT709, _STUDIO_RANGE = 1, 1
# As good as one sees, and a short queue of frames in memory. Several threads would give other bytes
# each time, and what takes long is to detect.
_OPTIONS = {"crf": "20", "preset": "veryfast", "threads": "1"}


class VideoWriter:
    """An H.264 stream (yuv420p, BT.709) in MP4, whose frames keep their times.

    Args:
        container: PyAV's, open for writing.
        rate: Frames in a second, on average.
    """

    def __init__(self, container: Any, rate: float) -> None:
        self._av, self._container = needed("av"), container
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stream: Any = None
        self._last = -1

    def write(self, pixels: np.ndarray, time_s: float) -> None:
        """Add a frame.

        Args:
            pixels: (H, W, 3) uint8, RGB. Odd sides grow by a pixel, as H.264 wants it; the first
                frame decides the size, and one of another size is fitted into it, on black.
            time_s: When it is shown, in seconds, later than the frame before.

        Raises:
            OSError: The disk is full.
        """
        if self._stream is None:
            height, width = pixels.shape[:2]
            self._begin(width + width % 2, height + height % 2)
        pixels = _fitted(pixels, self._stream.width, self._stream.height)
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        frame.colorspace = _BT709
        self._last = frame.pts = max(round(time_s * _TICKS), self._last + 1)
        frame.time_base = Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write the frames that the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))

    def _begin(self, width: int, height: int) -> None:
        stream = self._container.add_stream("libx264", rate=self._rate, options=_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = stream.time_base = Fraction(1, _TICKS)
        # What is not said is guessed by the size, and colours would differ.
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _STUDIO_RANGE
        self._stream = stream


@contextmanager
def written_video(path: str | os.PathLike, rate: float) -> Iterator[VideoWriter]:
    """A video to add frames to, which takes its name once it is whole.

    Args:
        path: The MP4; its folder exists.
        rate: Frames in a second, on average.

    Raises:
        OSError: Writing failed; `path` is as it was.
        ImportError: PyAV is not installed.
    """
    av = needed("av")
    with replaced_file(path) as partial:
        try:
            with av.open(f"file:{partial}", "w", format="mp4") as container:
                writer = VideoWriter(container, rate)
                yield writer
                writer.finish()
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, os.fspath(path)) from error
            raise


def _fitted(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    rows, columns = pixels.shape[:2]
    if 0 <= height - rows <= 1 and 0 <= width - columns <= 1:
        missing = ((0, height - rows), (0, width - columns), (0, 0))
        return np.ascontiguousarray(np.pad(pixels, missing, mode="edge"))
    scale = min(width / columns, height / rows)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    canvas = Image.new("RGB", (width, height))
    corner = ((width - size[0]) // 2, (height - size[1]) // 2)
    canvas.paste(Image.fromarray(pixels).resize(size, Image.BICUBIC), corner)
    return np.asarray(canvas)
