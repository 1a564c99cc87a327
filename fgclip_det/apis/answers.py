"""Answers of one call, and the pictures that got none."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypeVar

import numpy as np

from fgclip_det.apis.detections import Detections

Answer = TypeVar("Answer")


class Answers(list[Answer]):
    """A list of answers, in the order of the pictures.

    Attributes:
        failures: (picture, reason) of each picture that could not be read.
    """

    def __init__(self, answers: Iterator[Answer], failures: list[tuple[str, str]]) -> None:
        super().__init__(answers)
        self.failures = failures


class Stream(Iterator[Detections]):
    """Answers of one call of `OpenVocabInferencer.stream`, one after the other.

    Attributes:
        failures: (picture, reason) of each picture so far that could not be read.
        pixels: (H, W, 3) uint8, RGB: the picture of the latest answer, if they are kept.
    """

    def __init__(
        self,
        answers: Generator[tuple[Detections, np.ndarray | None]],
        failures: list[tuple[str, str]],
    ) -> None:
        self._answers = answers
        self.failures = failures
        self.pixels: np.ndarray | None = None

    def __next__(self) -> Detections:
        self.pixels = None
        answer, self.pixels = next(self._answers)
        return answer

    def close(self) -> None:
        """Answer no more."""
        self._answers.close()
