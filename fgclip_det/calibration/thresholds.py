"""The least confidence of a name, and what is guaranteed of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from fgclip_det.io import quoted

# Above every confidence: the name is never reported.
NEVER = 2.0
# What risk is: the share of pictures with a false alarm, or the mean number of false alarms.
KINDS = ("pictures", "alarms")


@dataclass(frozen=True)
class Threshold:
    """The least figure of reported boxes of one name, and its guarantee.

    With probability 1 - `delta` over the pictures that it was made with, the risk on others of
    their kind is at most `risk`.

    Attributes:
        value: The least figure that is reported, in [0, 1] as float32 has it; or `NEVER`.
        risk: Bound of the risk; 0 excluded.
        delta: Chance that the bound does not hold, this name's part of it, in (0, 1).
        kind: "pictures": risk is the share of pictures with a false alarm of the name; "alarms":
            the mean number of its false alarms in a picture.
        pictures: How many pictures it was made with.
        alarms: What was seen on them: pictures with a false alarm, or clipped false alarms.
        on: "confidence", or "evidence" where no curve was fitted; see `Calibration.evidence`.
        clip: Of kind "alarms", the most alarms that are counted in a picture; else None.
        words: 16 hex digits of the name's prompts and templates; "" where they do not matter.
    """

    value: float
    risk: float
    delta: float
    kind: str
    pictures: int
    alarms: int
    on: str = "confidence"
    clip: int | None = None
    words: str = ""

    def __post_init__(self) -> None:
        is_value = _is_number(self.value) and (0 <= self.value <= 1 or self.value == NEVER)
        _expect(is_value, "value", self.value, f"0 to 1, or {NEVER} for never")
        _expect(self.kind in KINDS, "kind", self.kind, " or ".join(KINDS))
        has_clip = self.kind == "alarms"
        is_clip = _is_count(self.clip) and self.clip > 0 if has_clip else self.clip is None
        _expect(is_clip, "clip", self.clip, "1 or more" if has_clip else "null: it is for alarms")
        most = self.clip if has_clip else 1
        _expect(_is_number(self.risk) and 0 < self.risk < most, "risk", self.risk, f"0 to {most}")
        _expect(_is_number(self.delta) and 0 < self.delta < 1, "delta", self.delta, "0 to 1")
        _expect(_is_count(self.pictures) and self.pictures, "pictures", self.pictures, "1 or more")
        is_seen = _is_count(self.alarms) and self.alarms <= self.pictures * most
        _expect(is_seen, "alarms", self.alarms, f"0 to {self.pictures * most}")
        _expect(self.on in ("confidence", "evidence"), "on", self.on, "confidence or evidence")
        _expect(isinstance(self.words, str), "words", self.words, "hex digits")

    @classmethod
    def from_dict(cls, values: Any, where: str) -> Threshold:
        """Read what `to_dict` made.

        Raises:
            ValueError: It is no such thing; names `where`.
        """
        if not isinstance(values, Mapping) or {*values} != {one.name for one in fields(cls)}:
            raise ValueError(f"{where} is {quoted(values)}: make the file again with calibrate")
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        return asdict(self)


def _expect(holds: Any, key: str, value: Any, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{key} of a threshold is {quoted(value)}: give {wanted}")


def _is_number(value: Any) -> bool:
    is_kind = isinstance(value, int | float) and not isinstance(value, bool)
    return is_kind and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
