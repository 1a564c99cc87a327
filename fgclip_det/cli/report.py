"""What a command says of the pictures that it looked into."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fgclip_det.exit_codes import (
    EXIT_PARTLY_DONE,
    EXIT_USER_ERROR,
    is_full,
    lacks_memory,
    say,
    say_error,
)

_SHOWN_ROWS = 20


class Report:
    """The first rows of what was found, how many there are, and what could not be done.

    Args:
        is_quiet: Whether nothing is told but what could not be done.

    Attributes:
        done: Pictures and videos that were done.
        videos: Videos among them.
        rows: Rows that were found in them.
        failures: One reason for each picture that was not done.
    """

    def __init__(self, is_quiet: bool = False) -> None:
        self.is_quiet = is_quiet
        self.done = 0
        self.videos = 0
        self.rows = 0
        self.failures: list[str] = []
        self._shown: list[str] = []
        self._left_out = 0

    def add(
        self,
        picture: str,
        rows: Iterable[tuple[float, str, Sequence[float]]],
        closest: str | None = None,
    ) -> None:
        """A picture that is done.

        Args:
            picture: Its name.
            rows: Certainty, name and place of all that was found in it.
            closest: What came closest, where nothing was found.
        """
        self.done += 1
        if closest is not None and not self.is_quiet and len(self._shown) < _SHOWN_ROWS:
            self._shown.append(f"{picture:24}    -  nothing found; closest: {closest}")
        for score, name, place in rows:
            self.rows += 1
            if not self.is_quiet and len(self._shown) < _SHOWN_ROWS:
                where = [round(value) for value in place]
                self._shown.append(f"{picture:24} {score:5.2f}  {name}  {where}")
            else:
                self._left_out += 1

    def add_video(self, line: str, rows: int) -> None:
        """A video that is done: what is told of it, and how much was found in it."""
        self.done += 1
        self.videos += 1
        self.rows += rows
        if not self.is_quiet:
            self._shown.append(line)

    @property
    def looked_into(self) -> str:
        """How many pictures and videos were done."""
        pictures, videos = self.done - self.videos, f"{self.videos} video(s)"
        if not self.videos:
            return f"{pictures} picture(s)"
        return f"{pictures} picture(s) and {videos}" if pictures else videos

    @contextmanager
    def collected(self, path: str) -> Iterator[None]:
        """Whatever of one picture goes wrong is told in the end, and the others are done.

        Raises:
            OSError: The disk is full, or standard output closed: so it is for the others.
        """
        try:
            yield
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            is_bug = isinstance(error, RuntimeError) and not lacks_memory(error)
            # Where nobody reads the results of one, nobody reads those of the others.
            if is_full(error) or is_bug or isinstance(error, BrokenPipeError):
                raise
            reason = str(error)
            if lacks_memory(error):
                reason = f"picture {path!r} does not fit into memory: make it smaller"
            elif isinstance(error, OSError):
                place = f"{str(error.filename)!r}: " if error.filename else ""
                reason = (
                    f"the result of picture {path!r} cannot be written "
                    f"({place}{error.strerror or error}): free the place, or rename the picture"
                )
            self.failures.append(reason)

    def tell(self, summary: str) -> int:
        """Print all that there is to say; returns the exit code.

        Args:
            summary: The line below the rows, where a picture was done.
        """
        if not self.is_quiet:
            say(*self._shown)
            if self._left_out:
                say(f"... and {self._left_out} more")
            if self.done:
                say(summary)
        return tell_failures(self.failures, self.done, "files" if self.videos else "pictures")


def note_shares(detector: Any, arguments: argparse.Namespace) -> None:
    """Say, once, what the numbers are where a detector has no confidences and nobody said so.

    And where it has them, and the least score is given, which hides what it is sure of.

    Args:
        detector: An `OpenVocabInferencer`.
        arguments: With `calibration`, `score_thr` and perhaps `quiet`.
    """
    is_quiet = getattr(arguments, "quiet", False)
    if detector.calibration is not None and arguments.score_thr and not is_quiet:
        warnings.warn(
            "--score-thr is of the scores, shares of what competes, which are small for what is "
            "found for certain too; --conf-thr is of the confidences",
            stacklevel=2,
        )
    if detector.calibration is None and arguments.calibration == "auto" and not is_quiet:
        warnings.warn(
            "this detector is not calibrated: its scores are shares of what competes, and change "
            "with what else is asked for; `fgclip-det calibrate` makes a file for --calibration, "
            "which gives confidences",
            stacklevel=2,
        )


def tell_failures(failures: Sequence[str], done: int, kind: str = "pictures") -> int:
    """Print why some were not done, where there are such; returns the exit code.

    Args:
        failures: A reason for each.
        done: How many were done.
        kind: What they are.
    """
    if not failures:
        return 0
    for reason in failures:
        say_error(reason)
    say(f"{done} of {done + len(failures)} {kind} were done", file=sys.stderr)
    return EXIT_PARTLY_DONE if done else EXIT_USER_ERROR
