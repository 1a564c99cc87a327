"""Output of the benchmarks of whole detectors: tables, JSON and Markdown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import report, timing


def announce(args: argparse.Namespace) -> dict[str, Any]:
    """Prints and gives the settings, and warns where the machine is busy."""
    settings = timing.describe_settings(args)
    print(report.settings_list(settings), flush=True)
    if warning := timing.busy_warning(settings):
        print(warning, file=sys.stderr)
    return settings


def publish(
    out: Path,
    title: str,
    settings: dict[str, Any],
    records: list[dict[str, Any]],
    summary: str,
    differing: Iterable[str],
) -> int:
    """Writes the JSON and the page beside it, and prints the page's summary.

    Args:
        out: JSON to write.
        title: Of the page.
        settings: From `announce`.
        records: One for each case.
        summary: Markdown.
        differing: Names of the cases whose results differ.

    Returns:
        The exit code; 1: results differ somewhere.
    """
    report.write_json(out, {"settings": settings, "cases": records})
    head = f"# {title}\n\n## Settings\n\n{report.settings_list(settings)}\n\n## Summary\n\n"
    out.with_suffix(".md").write_text(f"{head}{summary.strip()}\n", encoding="utf-8")
    print("\n" + summary.strip())
    print("\nwritten:", out, out.with_suffix(".md"))
    names = list(dict.fromkeys(differing))
    for name in names:
        print(f"error: results differ: {name}", file=sys.stderr)
    return 1 if names else 0
