"""Frames of a video file or a webcam, as they are shown."""

from __future__ import annotations

import os
import struct
import sys
import time
import warnings
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from fgclip_det.apis.argument_checks import check_path
from fgclip_det.apis.inputs.kinds import is_url, is_webcam
from fgclip_det.apis.video.packages import needed
from fgclip_det.io import one_line, open_regular

# FFmpeg's names of what reads cameras, and what it calls the first of them.
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
_USUAL_RATE = 25.0
_WAIT = 0.005
# A container tells its length only roughly: that of its sound, or of a frame that is hidden.
_MISSING_SHARE, _MISSING_SECONDS = 0.02, 1.0


class VideoFrame(NamedTuple):
    """A frame that is looked into.

    Attributes:
        index: Its place among all frames of the video, from 0.
        time_s: When it is shown, in seconds after the first frame; rises from frame to frame.
        pixels: (H, W, 3) uint8, RGB.
    """

    index: int
    time_s: float
    pixels: np.ndarray


class VideoSource:
    """Each Nth frame of a video, in order; one is in memory at a time.

    Frames are turned as the file says that they are shown, and pixels that are not square are made
    so. Parts that cannot be decoded are passed over; a file that ends early gives its frames up to
    there. Of both there is a warning when the last frame was given.

    It can be iterated again, which begins anew.

    Args:
        source: A file, or "webcam", "webcam:1" for the second; cameras were not tried.
        every: N: frames 0, N, 2N and so on are given.

    Attributes:
        name: What it is called in messages.
        is_live: Whether it is a camera, whose frames come as they are taken.
        width: Of a frame as it is shown, in pixels; those of a later frame may be others.
        height: Of a frame as it is shown, in pixels.
        rate: Frames in a second, on average, of all frames.
        frame_count: How many frames there are, as the file says or by its length; None where it
            does not tell.
        problem: Why not all frames were given, once they were; None where they were.

    Raises:
        ValueError: The file cannot be read, is no video or holds no frame, or `every` is below 1.
        ImportError: PyAV is not installed.
    """

    def __init__(self, source: str | os.PathLike, every: int = 1) -> None:
        check_path(source, "a video")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every is {every!r}: it must be 1 or more, a whole number")
        self.source, self.every = os.fspath(source), every
        self.is_live = is_webcam(self.source)
        self.name = self.source if self.is_live else f"video {self.source!r}"
        self.rate, self.frame_count = _USUAL_RATE, None
        self.problem: str | None = None
        self._length_s: float | None = None
        self._is_counted = False
        frames = self._frames()
        first = next(frames, None)
        if first is None:
            raise ValueError(f"{self.name} holds no frame that can be decoded: get it again")
        self.height, self.width = first.pixels.shape[:2]
        self._begun: tuple[VideoFrame, Iterator[VideoFrame]] | None = (first, frames)

    def __iter__(self) -> Generator[VideoFrame]:
        begun, self._begun = self._begun, None
        if begun is not None:
            yield begun[0]
            yield from begun[1]
        else:
            yield from self._frames()

    def _frames(self) -> Generator[VideoFrame]:
        self.problem = None
        index, last, start = -1, -1.0, None
        with self._opened() as container:
            stream = self._stream(container)
            self._read_header(container, stream)
            aspect = float(stream.sample_aspect_ratio or 1)
            for index, frame in enumerate(self._decoded(container, stream)):
                shown = frame.time
                if start is None:
                    start = shown
                now = shown - start if shown is not None and start is not None else -1.0
                # Some files tell no times, or such as do not rise.
                if now <= last:
                    now = last + 1 / self.rate if index else 0.0
                last = now
                if index % self.every == 0:
                    yield VideoFrame(index, round(now, 6), _pixels(frame, aspect))
        self._compare(index + 1, start or 0.0, last)

    def _opened(self) -> Any:
        av = needed("av")
        if is_url(self.source):
            raise ValueError(f"{self.source!r} is an address: download it, and name the file")
        if self.is_live:
            options = {}
            form, place = _CAMERAS.get(sys.platform, ("dshow", "video={}"))
            place = place.format(self.source.partition(":")[2] or 0)
        else:
            # Anything that an end and a size can be asked of: no pipe waits for its writer.
            with open_regular(self.source, "video"):
                pass
            # The protocol is named, or "concat:" and the like at the beginning of a name would do
            # what they say; and no list of addresses in a file is followed to elsewhere.
            form, place = None, f"file:{self.source}"
            options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
        try:
            return av.open(place, format=form, options=options)
        except av.error.FFmpegError as error:
            reason = one_line(error.strerror or error)
            mend = "is it connected, and free?" if self.is_live else "is it a whole video?"
            raise ValueError(f"{self.name} cannot be opened ({reason}): {mend}") from error

    def _stream(self, container: Any) -> Any:
        # The cover of a piece of music is a stream of pictures too.
        streams = [one for one in container.streams.video if not _is_cover(one)]
        if not streams:
            held = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
            raise ValueError(f"{self.name} holds no pictures, but {held}: name a video")
        stream = streams[0]
        stream.thread_type = "AUTO"
        return stream

    def _read_header(self, container: Any, stream: Any) -> None:
        rate = stream.average_rate or stream.guessed_rate
        if rate:
            self.rate = float(rate)
        if self.is_live:
            return
        if stream.duration is not None and stream.time_base:
            self._length_s = float(stream.duration * stream.time_base)
        elif container.duration is not None and len(container.streams) == 1:
            self._length_s = container.duration / 1e6
        if stream.frames:
            self.frame_count, self._is_counted = stream.frames, True
        elif self._length_s is not None:
            self.frame_count = max(1, round(self._length_s * self.rate))

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        av = needed("av")
        broken, damaged, packets = 0, 0, container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.BlockingIOError:
                # A camera has no new frame yet.
                time.sleep(_WAIT)
                packets = container.demux(stream)
                continue
            except av.error.FFmpegError as error:
                self.problem = f"it cannot be read further ({one_line(error.strerror)})"
                packet = None
            try:
                # Without a packet, what the decoder still holds.
                frames = stream.decode(packet)
            except av.error.EOFError:
                frames = []
            except av.error.FFmpegError:
                frames, broken = [], broken + 1
            yield from frames
            if packet is None:
                break
            # Of a transport stream that lacks pieces; the decoder makes up what it can.
            damaged += packet.is_corrupt
        if broken and self.problem is None:
            self.problem = f"{broken} of its packets cannot be decoded"
        if damaged and self.problem is None:
            self.problem = f"{damaged} of its packets are damaged"

    def _compare(self, count: int, start: float, last: float) -> None:
        """Warn of a video that is shorter than it says, or broken otherwise."""
        if self.is_live or not count:
            return
        told = self.frame_count
        if self._is_counted:
            is_short = told - count > max(1, _MISSING_SHARE * told)
        else:
            # Some lengths are counted from zero, others from the first frame.
            length = self._length_s
            is_short = length is not None and length - start - last > _MISSING_SECONDS
        if is_short and self.problem is None:
            self.problem = f"it ends after {count} frames, and should have {told}"
        if self.problem is not None:
            warnings.warn(
                f"{self.name} is broken: {self.problem}; what could be decoded was looked into, up "
                f"to {last:.1f} s",
                stacklevel=2,
            )


# What holds videos: neither lists of other files, nor texts and pictures that FFmpeg also "plays".
_FORMATS = ",".join(
    (
        *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "flv", "mpegts"),
        *("mpeg", "mpegvideo", "h264", "hevc", "ogg", "asf", "gif", "m4v", "ivf", "mp3", "wav"),
        *("flac", "aac", "nut", "mxf", "dv"),
    )
)


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition)


def _pixels(frame: Any, aspect: float) -> np.ndarray:
    """(H, W, 3) uint8, RGB, as it is shown; `aspect` is that of a pixel, width by height."""
    width = max(1, round(frame.width * aspect))
    rgb = frame.reformat(width=width, format="rgb24").to_ndarray()
    for entry in frame.side_data:
        if entry.type.name == "DISPLAYMATRIX":
            return _turned(rgb, bytes(entry))
    return rgb


def _turned(rgb: np.ndarray, matrix: bytes) -> np.ndarray:
    """A frame turned by the first two rows of a display matrix, to the nearest right angle.

    A point (x, y) is shown at (a x + c y, b x + d y), up to a shift.
    """
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    if abs(b) + abs(c) > abs(a) + abs(d):
        rgb, a, d = rgb.transpose(1, 0, 2), c, b
    rows, columns = (-1 if d < 0 else 1), (-1 if a < 0 else 1)
    return np.ascontiguousarray(rgb[::rows, ::columns])
