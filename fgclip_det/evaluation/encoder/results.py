"""The file of results of one encoder, and the details beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fgclip_det.evaluation.encoder.evaluate import Result
from fgclip_det.io import quoted, read_json, write_json


def details_path(out: Path) -> Path:
    """``a/results.json`` -> ``a/results.details.json``."""
    return out.with_name(f"{out.stem}.details.json")


def check_results(out: Path, fingerprint: str) -> None:
    """Make sure that results of an encoder can be added to a file, before anything is computed.

    Raises:
        ValueError: The file is of another kind or of another encoder, or cannot be read.
    """
    _read(out, fingerprint)


def add_result(out: Path, result: Result, name: str | None = None) -> None:
    """Add ``{name: {"as_published.METRIC": ..., ...}}`` to a file, and the details beside it.

    Args:
        out: The file; it is made where there is none. What it holds under `name` is replaced.
        result: Of the encoder that the file belongs to.
        name: The key; None for the name of the protocol.

    Raises:
        ValueError: See `check_results`.
        OSError: Writing failed.
    """
    results, details = _read(out, result.fingerprint)
    key = result.protocol if name is None else name
    # First, for it tells whose the results are.
    write_json(details_path(out), {**details, key: result.details()})
    write_json(out, {**results, key: result.numbers()})


def _read(out: Path, fingerprint: str) -> tuple[dict[str, Any], dict[str, Any]]:
    beside = details_path(out)
    results = read_json(out, "file of results") if out.exists() else {}
    if out.exists() and not beside.exists():
        raise ValueError(
            f"{str(out)!r} has no {beside.name!r} beside it, which tells whose results it holds: "
            "name another file"
        )
    # Without results they are of a run that was killed, or somebody's own file.
    details = read_json(beside, "file of details") if beside.exists() else {}
    for path, values in ((out, results), (beside, details)):
        if not _are_objects(values):
            raise ValueError(f"{str(path)!r} is no file of this tool: name another file")
    unknown = results.keys() - details.keys()
    if unknown:
        raise ValueError(
            f"{str(beside)!r} does not tell whose results {quoted(min(unknown))} in {str(out)!r} "
            "is: name another file"
        )
    others = {quoted(one.get("fingerprint")) for one in details.values()} - {repr(fingerprint)}
    if others:
        raise ValueError(
            f"{str(out)!r} holds results of another encoder ({', '.join(sorted(others))}, this one "
            f"is {fingerprint!r}): name another file for each encoder"
        )
    return results, details


def _are_objects(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(one, dict) for one in values.values())
