"""Fit a curve, and find thresholds that keep a bound, on pictures whose truth is known."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import fgclip_det
from fgclip_det.apis.calibrating.evidence import Found, Source, best_of_each
from fgclip_det.apis.calibrating.truth import KnownPicture
from fgclip_det.apis.image_regions import ImageRegions
from fgclip_det.apis.inferencer import OpenVocabInferencer
from fgclip_det.calibration import Calibration, Goal, check_pictures, control, fit_curve
from fgclip_det.io import check_stored_size, quoted, read_image
from fgclip_det.vocabulary import TextEmbeddings

# Of each name in a picture, the best so many boxes: far more than any picture shows of one thing.
_MOST_FITTED = 20
# Of thousands of names at once: what a curve is fitted to has to fit into memory.
_MOST_OF_A_PICTURE = 2000
# Right and wrong boxes that are needed before a curve is bent.
_LEAST_BENT = 200
# Fewer right boxes than this are told of: any curve is a guess then.
_FEW_RIGHT = 20
# Pictures that the network looks into before their evidence is read.
_AT_ONCE = 16


class Sample(NamedTuple):
    """Candidates of several pictures, one below the other.

    Attributes:
        places: (M,) int64, the picture of each.
        labels: (M,) int64, rows of the texts.
        figures: (M,) float32 in [0, 1].
        features: (M, F) float32 log-odds.
        right: (M,) bool.
        there: (M,) bool, whether the picture shows what the label means.
    """

    places: np.ndarray
    labels: np.ndarray
    figures: np.ndarray
    features: np.ndarray
    right: np.ndarray
    there: np.ndarray


def halves(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the pictures that a curve is fitted to, and of those for thresholds.

    Returns:
        Each rising; the second has one more of an odd count.
    """
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


class Calibrator:
    """Asks a detector for what is known of pictures.

    Args:
        detector: Finds the regions.
        source: Tells what they are.
        texts: Names that are looked for.
        features: Which of the evidence is used; None for all of it.
        conf_thr: The least figure of names without a threshold, below which none gets one, whatever
            its bound allows; None for what a calibration has, 0.5 of a new one.
        batch_size: Pictures that go through the network at once.
        progress: Whether to show a bar.

    Raises:
        ValueError: Something is shown instead of said.
    """

    def __init__(
        self,
        detector: OpenVocabInferencer,
        source: Source,
        texts: TextEmbeddings,
        features: Sequence[str] | None = None,
        conf_thr: float | None = None,
        batch_size: int = 1,
        progress: bool = True,
    ) -> None:
        if texts.vocabulary.shown is not None:
            raise ValueError(
                f"{quoted(next(iter(texts.vocabulary.shown)))} is shown, and evidence of what is "
                "shown is of another kind than of what is said: calibrate names in words"
            )
        self.detector, self.source, self.texts = detector, source, texts
        self.features, self.conf_thr = features, conf_thr
        self.batch_size, self.progress = batch_size, progress

    def fitted(
        self, pictures: Sequence[KnownPicture], seed: int = 0, prior: float | None = None
    ) -> Calibration:
        """A calibration with a curve, without thresholds.

        It is a logistic regression on one half of the pictures; where enough boxes are right and
        wrong on the other, what that shows is mended by a rising map.

        Args:
            pictures: What is looked into.
            seed: Of the halves.
            prior: How often what is asked for will be there, in (0, 1): questions for what is not
                there count for as much as makes it so. None for as often as in these pictures.

        Raises:
            ValueError: A picture cannot be read, all boxes are right, or all wrong, or the prior
                is no such share.
        """
        sample, plain = self._sample(pictures, None, to_fit=True)
        table = dict(zip(plain.features, sample.features.T, strict=True))
        in_second = np.zeros(len(pictures), bool)
        in_second[halves(len(pictures), seed)[1]] = True
        held_out = in_second[sample.places]
        bent = all(
            (kind & part).sum() >= _LEAST_BENT
            for kind in (sample.right, ~sample.right)
            for part in (held_out, ~held_out)
        )
        right = int(sample.right.sum())
        if 0 < right < _FEW_RIGHT:
            warnings.warn(
                f"the curve is fitted to {right} right box(es), and its confidences say little: "
                "add pictures that show what is named",
                stacklevel=2,
            )
        weights = self._weights(pictures, sample, prior)
        curve = fit_curve(table, sample.right, weights, held_out if bent else None)
        about = {
            "pictures": len(pictures),
            "names": len(self.texts),
            "boxes": len(sample.right),
            "right": right,
            "prior": prior,
        }
        return replace(
            plain,
            weights=curve.weights,
            bias=curve.bias,
            knots=curve.knots,
            is_fitted=True,
            conf_thr=plain.conf_thr if self.conf_thr is None else self.conf_thr,
            about={"version": fgclip_det.__version__, "curve": about},
        )

    def _weights(
        self, pictures: Sequence[KnownPicture], sample: Sample, prior: float | None
    ) -> np.ndarray | None:
        """What each box counts, so that the share of `prior` of all questions has an answer."""
        if prior is None:
            return None
        if not 0 < prior < 1:
            raise ValueError(
                f"prior is {prior}: give the share of questions whose thing is there, between 0 "
                "and 1"
            )
        there = sum(len(picture.boxes) for picture in pictures)
        absent = len(pictures) * len(self.texts) - there
        return np.where(sample.there, 1.0, there * (1 - prior) / prior / max(absent, 1))

    def bounded(
        self, pictures: Sequence[KnownPicture], goal: Goal, calibration: Calibration | None
    ) -> Calibration:
        """A calibration with thresholds for all names; without a curve they are on evidence.

        Args:
            pictures: That no curve was fitted to.
            goal: What is to hold for all names together.
            calibration: That gets the thresholds; None for a new one without a curve.

        Raises:
            ValueError: A picture cannot be read, or they are too few.
        """
        check_pictures(len(pictures), goal, len(self.texts))
        sample, calibration = self._sample(pictures, calibration, to_fit=False)
        alarms, words = {}, {}
        for label, name in enumerate(self.texts.names):
            own = (sample.labels == label) & ~sample.right
            alarms[name] = sample.figures[own], sample.places[own]
            words[name] = self.texts.vocabulary.subset([name]).hash
        on = "confidence" if calibration.is_fitted else "evidence"
        least = calibration.conf_thr if self.conf_thr is None else self.conf_thr
        thresholds = control(alarms, len(pictures), goal, on, words, least)
        about = {**goal._asdict(), "names": len(thresholds), "pictures": len(pictures)}
        told = {"version": fgclip_det.__version__, "thresholds": about}
        return replace(calibration, conf_thr=least).with_thresholds(thresholds, told)

    def _sample(
        self, pictures: Sequence[KnownPicture], calibration: Calibration | None, to_fit: bool
    ) -> tuple[Sample, Calibration]:
        """Boxes that count, and what ranked them."""
        parts: list[Sample] = []
        for place, image in enumerate(self.regions(pictures)):
            evidence = self.source.evidence(image, self.texts) if to_fit or not parts else None
            if calibration is None:
                calibration = self._plain(evidence.features)
            if to_fit:
                found = best_of_each(evidence, calibration, self.source.iou_threshold)
            else:
                found = self.source.found(image, self.texts, calibration), None
            parts.append(_judged(place, pictures[place], *found))
        if calibration is None:
            raise ValueError("there are no pictures to calibrate with: name some")
        return Sample(*(np.concatenate(column) for column in zip(*parts, strict=True))), calibration

    def regions(self, pictures: Sequence[KnownPicture]) -> Iterator[ImageRegions]:
        """What is asked about in each picture: what `source` takes for an image.

        Raises:
            ValueError: A picture cannot be read, or is of another size than the truth says.
        """
        size = max(_AT_ONCE, self.batch_size)
        with tqdm(total=len(pictures), desc="pictures", disable=not self.progress) as bar:
            for start in range(0, len(pictures), size):
                pixels = [_pixels(picture) for picture in pictures[start : start + size]]
                images = self.detector.propose(pixels, batch_size=self.batch_size, progress=False)
                for image in images:
                    yield image
                    bar.update()

    def _plain(self, found: Iterable[str]) -> Calibration:
        """Without a fit: the mean of the log-odds of all features."""
        features = tuple(found if self.features is None else self.features)
        unknown = [name for name in features if name not in found]
        if unknown:
            raise ValueError(
                f"this detector has no feature {quoted(unknown[0])}: it has {', '.join(found)}"
            )
        weights = (1 / max(1, len(features)),) * len(features)
        source = self.source
        competition = dict(source.competition)
        return Calibration(
            source.detector, source.encoder, competition, features, weights, is_fitted=False
        )


def _judged(place: int, picture: KnownPicture, found: Found, features: np.ndarray | None) -> Sample:
    """What is right and what is wrong of a picture; of what is fitted to, the best alone."""
    right, counts = picture.verdicts(found.boxes, found.labels)
    if features is None:
        features = np.zeros((len(right), 0), np.float32)
    else:
        # The boxes fall: of each name its first ones are its best.
        order = np.argsort(found.labels, kind="stable")
        own = found.labels[order]
        rank = np.empty(len(own), np.int64)
        rank[order] = np.arange(len(own)) - np.searchsorted(own, own, side="left")
        counts &= (rank < _MOST_FITTED) & (np.arange(len(own)) < _MOST_OF_A_PICTURE)
    return Sample(
        np.full(int(counts.sum()), place),
        found.labels[counts],
        found.figures[counts],
        features[counts],
        right[counts],
        np.isin(found.labels[counts], list(picture.boxes)),
    )


def _pixels(picture: KnownPicture) -> np.ndarray | str:
    """The picture as the boxes of its truth see it; as it is shown where there are none.

    Raises:
        ValueError: It cannot be read, or is of another size than the truth says.
    """
    if picture.size is None:
        return os.fspath(picture.path)
    rgb = read_image(picture.path, "stored")
    stored = rgb.shape[1], rgb.shape[0]
    check_stored_size(picture.path, stored, picture.size)
    if stored != picture.size:
        raise ValueError(
            f"picture {picture.path!r} is {stored[0]} x {stored[1]} pixels, and the annotation "
            f"file says {picture.size[0]} x {picture.size[1]}: give the pictures it was made for"
        )
    return rgb


def calibrate(
    calibrator: Calibrator,
    pictures: Sequence[KnownPicture],
    goal: Goal | None,
    calibration: Calibration | None = None,
    with_curve: bool = True,
    seed: int = 0,
    prior: float | None = None,
) -> Calibration:
    """A calibration from pictures whose truth is known.

    Args:
        calibrator: Of a detector and of names.
        pictures: What is looked into. With a curve and a goal the curve is of one half of them,
            and the thresholds are of the other, which no fit has seen.
        goal: What thresholds keep; None for a curve alone.
        calibration: That is to have more thresholds; its curve stays, and all pictures are for
            thresholds.
        with_curve: Whether a curve is fitted; no, where nothing that is looked for is there.
        seed: Of the halves.
        prior: See `Calibrator.fitted`.

    Raises:
        ValueError: Pictures are too few or cannot be read, there is nothing to do, or the
            calibration is of another detector, encoder or competition.
    """
    with_curve = with_curve and calibration is None
    if goal is None and not with_curve:
        raise ValueError("say what thresholds are to keep (--risk 0.1): there is no curve to fit")
    names = len(calibrator.texts)
    if calibration is not None:
        source = calibrator.source
        calibration.check(source.detector, source.encoder, source.competition)
    if not with_curve:
        return calibrator.bounded(pictures, goal, calibration)
    if goal is None:
        return calibrator.fitted(pictures, seed, prior)
    first, second = halves(len(pictures), seed)
    # Before the network looks into the first.
    check_pictures(len(second), goal, names)
    calibration = calibrator.fitted([pictures[place] for place in first], seed, prior)
    return calibrator.bounded([pictures[place] for place in second], goal, calibration)
