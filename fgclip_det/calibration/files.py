"""The file of a calibration: JSON that says what it is, strictly read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgclip_det.calibration.thresholds import Threshold
from fgclip_det.io import listed, quoted, read_json, to_json, write_text

KIND, VERSION = "fgclip_det.Calibration", 1
_MEND = "make it again with fgclip-det calibrate"
_LISTS, _OBJECTS = ("features", "weights", "knots"), ("competition", "thresholds", "about")


def told_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a file holds of the attributes of a `Calibration`, its hash among it.

    Raises:
        ValueError: They hold what JSON does not know.
    """
    thresholds = {name: one.to_dict() for name, one in values["thresholds"].items()}
    told = {"kind": KIND, "version": VERSION, **values, "thresholds": thresholds}
    return {**told, "hash": _hash(told)}


def write_calibration(path: str | os.PathLike, values: Mapping[str, Any]) -> None:
    """Write the attributes of a `Calibration`; makes the file's folder.

    Raises:
        ValueError: They hold what JSON does not know.
        OSError: Writing failed.
    """
    path = Path(path)
    text = to_json(told_of(values), f"calibration {str(path)!r}", indent=1, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"{text}\n")


def read_calibration(path: str | os.PathLike, keys: Sequence[str]) -> dict[str, Any]:
    """The attributes of a `Calibration` that a file holds.

    Args:
        path: The file.
        keys: Names of the attributes, all of which it must hold.

    Raises:
        ValueError: The file is missing, no JSON, of another kind or version, or was altered.
    """
    where = f"calibration {str(path)!r}"
    told = read_json(path, "calibration")
    if not isinstance(told, dict) or told.get("kind") != KIND:
        raise ValueError(f"{where} is no calibration of fgclip_det: {_MEND}")
    version = told.get("version")
    if version != VERSION or isinstance(version, bool):
        raise ValueError(
            f"{where} has the version {quoted(version)}, and this package reads {VERSION}: {_MEND}"
        )
    wanted = {"kind", "version", "hash", *keys}
    differ = sorted(map(quoted, told.keys() ^ wanted))
    if differ:
        raise ValueError(f"{where} lacks or has beside others {listed(differ, 'keys')}: {_MEND}")
    if told["hash"] != _hash(told):
        raise ValueError(
            f"{where} was altered after it was written, so that its guarantees are void: {_MEND}"
        )
    for kind, members in ((list, _LISTS), (dict, _OBJECTS)):
        for key in members:
            if not isinstance(told[key], kind):
                raise ValueError(f"{where}: {key} is {quoted(told[key])}, no {kind.__name__}")
    values = {key: told[key] for key in keys}
    values |= {"features": tuple(values["features"]), "weights": tuple(values["weights"])}
    if not all(isinstance(knot, list) and len(knot) == 2 for knot in values["knots"]):
        raise ValueError(f"{where}: knots are {quoted(values['knots'])}, no pairs")
    values["knots"] = tuple(map(tuple, values["knots"]))
    values["thresholds"] = {
        name: Threshold.from_dict(one, f"{where}, threshold of {quoted(name)}")
        for name, one in values["thresholds"].items()
    }
    return values


def hash_of(values: Mapping[str, Any]) -> str:
    """16 hex digits of some attributes of a `Calibration`, whatever file they are in."""
    return _hash(values)


def _hash(told: Mapping[str, Any]) -> str:
    """16 hex digits of all but the hash itself."""
    held = sorted((key, value) for key, value in told.items() if key != "hash")
    # Tuples and lists are one to JSON, and so are the numbers before and after a file.
    return hashlib.sha256(to_json(held, "a calibration").encode()).hexdigest()[:16]
