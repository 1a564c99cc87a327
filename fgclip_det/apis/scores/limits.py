"""The least scores and confidences of what is reported."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from fgclip_det.apis.argument_checks import check_conf_thr, check_score_thr
from fgclip_det.calibration.calibration import Calibration
from fgclip_det.io import quoted
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

# Of shares, where there is nothing better.
_SCORE_THR = 0.3


@dataclass(frozen=True)
class Limits:
    """What is reported.

    Attributes:
        score_thr: Least share, in [0, 1].
        conf_thr: Least confidence of names without a threshold of their own, in [0, 1]; None of a
            detector that is not calibrated.
        calibration: Has the thresholds of names; None where `conf_thr` holds for all.
        is_fitted: Whether there are confidences; if not, `conf_thr` is of the evidence.
        shown_thr: Least share of what is shown, of which there are no confidences.
    """

    score_thr: float
    conf_thr: float | None = None
    calibration: Calibration | None = None
    is_fitted: bool = True
    shown_thr: float = _SCORE_THR

    @property
    def told(self) -> float | None:
        """`conf_thr`, where there are confidences."""
        return self.conf_thr if self.is_fitted else None

    @classmethod
    def of(cls, calibration: Calibration | None, score_thr: Any, conf_thr: Any) -> Limits:
        """Limits of a detector.

        Args:
            calibration: The detector's.
            score_thr: None for 0.3, or for 0 where there is a calibration.
            conf_thr: None for what the calibration says, of each name.

        Raises:
            ValueError: One is out of range, or there is no calibration.
        """
        if conf_thr is not None:
            check_conf_thr(conf_thr)
            if calibration is None:
                raise ValueError(
                    f"conf_thr is {conf_thr}, and this detector is not calibrated, so that it has "
                    "no confidences: calibrate it (fgclip-det calibrate), or give score_thr"
                )
        shown_thr = _SCORE_THR if score_thr is None else score_thr
        check_score_thr(shown_thr)
        if calibration is None:
            return cls(float(shown_thr), shown_thr=float(shown_thr))
        return cls(
            0.0 if score_thr is None else float(score_thr),
            calibration.conf_thr if conf_thr is None else float(conf_thr),
            calibration if conf_thr is None else None,
            calibration.is_fitted,
            float(shown_thr),
        )

    @property
    def of_shown(self) -> Limits:
        """Limits of what is shown.

        Raises:
            ValueError: A least confidence was given.
        """
        if self.conf_thr is not None and self.calibration is None:
            raise ValueError(
                f"conf_thr is {self.conf_thr}, and what is shown instead of said has no "
                "confidences: give score_thr"
            )
        return Limits(self.shown_thr)

    def check(self, texts: TextEmbeddings | Vocabulary) -> None:
        """Refuse a least confidence of what is shown, before any picture is read.

        Raises:
            ValueError: It was given.
        """
        if getattr(texts, "vocabulary", texts).shown is not None:
            _ = self.of_shown

    def confidences(self, vocabulary: Vocabulary) -> list[float] | None:
        """The least confidence of each name; None of a detector that is not calibrated."""
        if self.conf_thr is None:
            return None
        if self.calibration is None:
            return [self.conf_thr] * len(vocabulary)
        return self.calibration.least(vocabulary)


def check_saved_thresholds(calibration: Calibration | None, vocabulary: Vocabulary) -> None:
    """Make sure that thresholds which a vocabulary brings can be used; tells where they are not.

    And where something is shown, which a calibration knows nothing of.

    Args:
        calibration: The detector's.
        vocabulary: Names, perhaps with thresholds.

    Raises:
        ValueError: They are of another calibration, or broken.
    """
    if vocabulary.shown is not None and calibration is not None:
        warnings.warn(
            f"{quoted(next(iter(vocabulary.shown)))} is shown, and what is shown has no "
            "confidences: what is reported goes by scores",
            stacklevel=3,
        )
        return
    if vocabulary.thresholds is None:
        return
    if calibration is None:
        warnings.warn(
            "the vocabulary brings thresholds, and the calibration that they are of is not loaded: "
            "what is reported goes by scores",
            stacklevel=3,
        )
    else:
        calibration.least(vocabulary)
