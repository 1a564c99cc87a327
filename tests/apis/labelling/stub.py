"""A detector whose answers are known, for runs that no network is needed for."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import torch

from fgclip_det.apis.detections import Detections
from fgclip_det.apis.scores.limits import Limits
from fgclip_det.io import read_image
from fgclip_det.vocabulary import Vocabulary


class StubDetector:
    """Finds in each picture what it is told, and counts the pictures.

    Args:
        texts: What is asked for.
        rows: (label, score, box) of every picture.
        stop_after: Pictures after which it fails as a run that is interrupted does.
    """

    weights_hash = "00"
    negatives = calibration = None
    competing: Mapping[str, object] = {"auto": None, "own": None, "calibration": None}

    def __init__(self, texts, rows=((0, 0.9, (2, 3, 12, 13)),), stop_after: int | None = None):
        self.vocabulary = Vocabulary.parse(texts)
        self.rows, self.stop_after = rows, stop_after
        self.seen: list[str] = []

    def limits(self, score_thr=None, conf_thr=None) -> Limits:
        return Limits.of(None, score_thr, conf_thr)

    def encode(self):
        return SimpleNamespace(
            vocabulary=self.vocabulary, text_length="short", encoder_fingerprint="ff"
        )

    def stream(self, images, **settings):
        failures: list[tuple[str, str]] = []

        def answers():
            for image in images:
                if len(self.seen) == self.stop_after:
                    raise KeyboardInterrupt
                self.seen.append(image.name)
                try:
                    height, width = read_image(image).shape[:2]
                except ValueError as error:
                    failures.append((str(image), str(error)))
                    continue
                names = [self.vocabulary.names[row[0]] for row in self.rows]
                yield Detections(
                    names=names,
                    boxes=torch.tensor([row[2] for row in self.rows]).float().reshape(-1, 4),
                    scores=torch.tensor([row[1] for row in self.rows]).float(),
                    labels=torch.tensor([row[0] for row in self.rows]).long(),
                    vocabulary=list(self.vocabulary.names),
                    width=width,
                    height=height,
                    image_path=str(image),
                )

        return _Stream(answers(), failures)


class _Stream:
    def __init__(self, answers, failures):
        self.answers, self.failures = answers, failures

    def __iter__(self):
        return self.answers
