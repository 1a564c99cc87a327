"""From evidence to confidence: the fitted curve, and the thresholds of names."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fgclip_det.calibration.files import hash_of, read_calibration, told_of, write_calibration
from fgclip_det.calibration.logits import LARGEST_LOGIT, checked_logits, has_nan, held, to_float32
from fgclip_det.calibration.thresholds import Threshold
from fgclip_det.io import listed, quoted

_OF_FIGURES = ("detector", "encoder", "competition", "features", "weights")
_OF_FIGURES += ("bias", "knots", "is_fitted")


# Compared by identity, as all that stands for a file here.
@dataclass(frozen=True, eq=False)
class Calibration:
    """What the evidence of one detector and one encoder means.

    The confidence is ``sigmoid(curve(bias + sum_f weight_f * feature_f))``, each feature held
    within `LARGEST_LOGIT`. NumPy arrays and tensors are treated alike, element by element.

    Attributes:
        detector: Fingerprint of the detector, its `evidence_hash`.
        encoder: Fingerprint of the encoder.
        competition: Settings of what competed when it was made, as JSON holds them.
        features: Names of what the evidence is made of.
        weights: One for each of them.
        bias: In log-odds.
        knots: Points (x, y) of the curve, both in log-odds, x rising and y never falling; beyond
            them its slope is 1. Empty for no curve.
        is_fitted: Whether the figures were fitted to what is right and wrong. If not there is no
            confidence, only evidence, with which thresholds are as good.
        conf_thr: The least figure of a reported box whose name has no threshold of its own.
        thresholds: By name, those with a guarantee.
        about: For people: pictures, versions, errors.

    Raises:
        ValueError: Something is of another kind, not finite, or does not fit the others.
    """

    detector: str
    encoder: str
    competition: Mapping[str, Any]
    features: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()
    is_fitted: bool = True
    conf_thr: float = 0.5
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("detector", "encoder"):
            value = getattr(self, key)
            _expect(isinstance(value, str) and value, key, value, "a fingerprint")
        names = self.features
        are_names = bool(names) and all(isinstance(name, str) and name for name in names)
        _expect(are_names and len({*names}) == len(names), "features", names, "distinct names")
        _expect(len(self.weights) == len(names), "weights", self.weights, f"{len(names)} numbers")
        for key in ("weights", "bias", "conf_thr", "knots"):
            value = getattr(self, key)
            _expect(_are_finite(value), key, value, "finite numbers")
        _expect(0 <= self.conf_thr <= 1, "conf_thr", self.conf_thr, "0 to 1")
        _expect(isinstance(self.is_fitted, bool), "is_fitted", self.is_fitted, "true or false")
        steps = np.diff(np.asarray(self.knots, np.float64).reshape(-1, 2), axis=0)
        is_rising = len(self.knots) != 1 and (steps[:, 0] > 0).all() and (steps[:, 1] >= 0).all()
        _expect(is_rising, "knots", self.knots, "two or more points that rise, or none")
        on = "confidence" if self.is_fitted else "evidence"
        others = [name for name, one in self.thresholds.items() if one.on != on]
        if others:
            raise ValueError(
                f"thresholds of a calibration are not on its {on}: "
                f"{listed(others, 'names')}; make the file again with calibrate"
            )

    def confidence(self, features: Mapping[str, Any]) -> Any:
        """The estimated probability of being right.

        Args:
            features: By name arrays or tensors of one shape, or of shapes that broadcast, of any
                float type: log-odds. There may be more than are needed.

        Returns:
            float32 in [0, 1], of that shape.

        Raises:
            ValueError: One is missing or holds NaN, or no curve was fitted.
        """
        if not self.is_fitted:
            raise ValueError(
                "this calibration has thresholds and no fitted curve, hence no confidences: "
                "use evidence, or calibrate with true boxes"
            )
        return self.evidence(features)

    def evidence(self, features: Mapping[str, Any]) -> Any:
        """The figure that thresholds act on: the confidence, or as long as it is not fitted
        a number in [0, 1] that rises with the evidence and is no probability.

        Args:
            features: As of `confidence`.

        Returns:
            As of `confidence`.

        Raises:
            ValueError: One is missing or holds NaN.
        """
        logit: Any = self.bias
        for name, weight in zip(self.features, self.weights, strict=True):
            if name not in features:
                raise ValueError(
                    f"the calibration needs the feature {quoted(name)}, and there are "
                    f"{', '.join(features) or 'none'}: calibrate this detector again"
                )
            logit = logit + weight * held(features[name])
        if has_nan(logit):
            for name in self.features:
                checked_logits(features[name], name)
        logit = self._curve(logit).clip(-LARGEST_LOGIT, LARGEST_LOGIT)
        return to_float32(1 / (1 + math.e**-logit))

    def _curve(self, logit: Any) -> Any:
        """The piecewise linear map, with the slope 1 beyond its knots."""
        if not self.knots:
            return logit
        is_tensor = hasattr(logit, "new_tensor")
        values = logit.detach().cpu().numpy() if is_tensor else logit
        places, mapped = np.array(self.knots).T
        found = np.interp(values, places, mapped) + (values - values.clip(places[0], places[-1]))
        return logit.new_tensor(found) if is_tensor else found

    def least(self, vocabulary: Any) -> list[float]:
        """The least figure of each name: its own threshold, where it was made for its words.

        Args:
            vocabulary: A `Vocabulary`: `names`, `subset([name]).hash`, and `thresholds` of its own,
                which come first.

        Returns:
            C numbers in [0, 1], or `NEVER`.

        Raises:
            ValueError: Its own thresholds are not of this calibration's figures, or broken.
        """
        thresholds = {**self.thresholds, **self._saved_in(vocabulary)}
        return [
            one.value
            if (one := thresholds.get(name)) and _fits(one, vocabulary, name)
            else self.conf_thr
            for name in vocabulary.names
        ]

    def _saved_in(self, vocabulary: Any) -> dict[str, Threshold]:
        """Thresholds that a vocabulary brings along; None are in most."""
        if vocabulary.thresholds is None:
            return {}
        if vocabulary.thresholds["of"] != self.figures_hash:
            raise ValueError(
                "the vocabulary's thresholds are of the calibration "
                f"{quoted(vocabulary.thresholds['of'])}, and the detector's is "
                f"{self.figures_hash}: "
                "load the one that they were made with, or save the vocabulary again (fgclip-det "
                "calibrate --save-vocabulary)"
            )
        return {
            name: Threshold.from_dict(one, f"the vocabulary's threshold of {quoted(name)}")
            for name, one in vocabulary.thresholds["names"].items()
        }

    def check(self, detector: str, encoder: str, competition: Mapping[str, Any]) -> None:
        """Make sure that it belongs to a detector, an encoder and what competes.

        Args:
            detector: The detector's `evidence_hash`.
            encoder: The encoder's fingerprint.
            competition: `settings` of the competition.

        Raises:
            ValueError: It was made with another; names what differs.
        """
        mend = "calibrate this one (fgclip-det calibrate), or go without"
        for what, own, other in (
            ("detector", self.detector, detector),
            ("encoder", self.encoder, encoder),
        ):
            if own != other:
                raise ValueError(f"the calibration is of {what} {own}, not of {other}: {mend}")
        keys = [*self.competition, *(key for key in competition if key not in self.competition)]
        for key in keys:
            own, other = self.competition.get(key), competition.get(key)
            if own != other:
                raise ValueError(
                    f"the calibration was made with the competition's {key} {quoted(own)}, not "
                    f"{quoted(other)}: {mend}"
                )

    def with_thresholds(
        self, thresholds: Mapping[str, Threshold], about: Mapping[str, Any]
    ) -> Calibration:
        """The same with more thresholds, in place of those of the same names.

        Args:
            thresholds: By name.
            about: What is added to `about`.
        """
        return replace(
            self,
            thresholds={**self.thresholds, **thresholds},
            about={**self.about, **about},
        )

    @property
    def figures_hash(self) -> str:
        """16 hex digits of all that makes figures: what a threshold of any name is of."""
        return hash_of({key: getattr(self, key) for key in _OF_FIGURES})

    @property
    def hash(self) -> str:
        """16 hex digits of all that it holds.

        Raises:
            ValueError: It holds what JSON does not know.
        """
        return told_of(vars(self))["hash"]

    def save(self, path: str | os.PathLike) -> None:
        """Write it to a JSON file, whole or not at all; makes its folder.

        Raises:
            ValueError: It holds what JSON does not know.
            OSError: Writing failed.
        """
        write_calibration(path, vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Calibration:
        """Read what `save` wrote.

        Raises:
            ValueError: The file is missing, truncated, of another kind, or was altered.
        """
        values = read_calibration(path, [*cls.__dataclass_fields__])
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"calibration {str(path)!r}: {error}") from None


def _fits(threshold: Threshold, vocabulary: Any, name: str) -> bool:
    return threshold.words in ("", vocabulary.subset([name]).hash)


def _expect(holds: Any, key: str, value: Any, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{key} of a calibration is {quoted(value)}: give {wanted}")


def _are_finite(value: Any) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(map(_are_finite, value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
