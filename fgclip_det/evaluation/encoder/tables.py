"""A protocol's numbers as a Markdown table, with what they cover and what ties could do."""

from __future__ import annotations

from fgclip_det.evaluation.encoder.evaluate import Result
from fgclip_det.evaluation.encoder.scoring import Population


def result_page(result: Result, encoder: str, as_published: bool = False) -> str:
    """The table of one population.

    Args:
        result: Of a protocol.
        encoder: What the encoder is called.
        as_published: Whether the authors' population is shown, or the whole one.
    """
    population = result.as_published if as_published else result.whole_population
    which = "as published" if as_published else "whole population"
    lines = [
        f"{encoder} ({result.family}), {result.protocol}, {which}: {coverage(result, population)}",
        "",
        "| metric | value | with ties broken at random |",
        "|---|---:|---:|",
    ]
    for name, value in population.metrics.items():
        lines.append(f"| {name} | {100 * value:.2f} | {100 * population.expected[name]:.2f} |")
    if not population.metrics:
        lines.append("| nothing is in this population | | |")
    tied = {name: count for name, count in population.ties.items() if count}
    if tied:
        lines += ["", "Ties: " + ", ".join(f"{count} of {name}" for name, count in tied.items())]
    return "\n".join(lines)


def coverage(result: Result, population: Population) -> str:
    """What a population holds of what the files list, such as "27 of 28 pictures"."""
    parts = []
    for what, count in population.counts.items():
        listed = result.listed.get(what)
        parts.append(f"{count} {what}" if listed is None else f"{count} of {listed} {what}")
    if result.missing:
        parts.append(f"{len(result.missing)} pictures are missing")
    return ", ".join(parts)
