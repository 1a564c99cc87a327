"""Thresholds of names in the file of their vocabulary, with whose figures they are of.

``{"of": HASH, "names": {NAME: THRESHOLD}}``: the hash is `Calibration.figures_hash`, a threshold
what `Threshold.to_dict` gives. They are read by `Calibration.least`, which alone knows figures.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fgclip_det.io import quoted

_KEYS = {"of", "names"}
_MEND = "save the vocabulary again (fgclip-det calibrate --save-vocabulary), or leave them out"


def thresholds_of(calibration: Any, names: Collection[str]) -> dict[str, Any]:
    """Those of some names.

    Args:
        calibration: A `Calibration`: `thresholds` by name, and `figures_hash`.
        names: Of a vocabulary.

    Raises:
        ValueError: It has none of these names.
    """
    own = {
        name: calibration.thresholds[name].to_dict()
        for name in names
        if name in calibration.thresholds
    }
    if not own:
        raise ValueError(
            f"the calibration has no threshold of {quoted(next(iter(names)))} or any other of "
            f"{len(names)} names: calibrate them (fgclip-det calibrate --risk)"
        )
    return {"of": calibration.figures_hash, "names": own}


def of_names(
    thresholds: Mapping[str, Any] | None, wanted: Collection[str]
) -> dict[str, Any] | None:
    """Those of some names; None where there are none."""
    own = {k: v for k, v in (thresholds or {"names": {}})["names"].items() if k in wanted}
    return {**thresholds, "names": own} if thresholds is not None and own else None


def check_thresholds(thresholds: Any, names: Collection[str]) -> None:
    """Make sure that they are of these names; None is right.

    Raises:
        ValueError: They are of another form, or of another name.
    """
    if thresholds is None:
        return
    is_form = isinstance(thresholds, Mapping) and {*thresholds} == _KEYS
    if (
        not is_form
        or not isinstance(thresholds["of"], str)
        or not isinstance(thresholds["names"], Mapping)
    ):
        raise ValueError(f"thresholds of a vocabulary are {quoted(thresholds)}: {_MEND}")
    known = {*names}
    for name in thresholds["names"]:
        if name not in known:
            raise ValueError(
                f"a vocabulary has a threshold of {quoted(name)}, which is none of its names: "
                f"{_MEND}"
            )
