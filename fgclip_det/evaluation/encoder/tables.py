"""A protocol's numbers as a Markdown table: beside what is published, and why they may differ."""

from __future__ import annotations

from fgclip_det.evaluation.encoder.evaluate import Result
from fgclip_det.evaluation.encoder.published import SOURCE, published_row, published_sizes
from fgclip_det.evaluation.encoder.scoring import Population

# Where a difference of rounding ends, in percent.
_ROUNDING = 0.05


def result_page(result: Result, encoder: str, as_published: bool = False) -> str:
    """The table of one population.

    Args:
        result: Of a protocol.
        encoder: What the encoder is called.
        as_published: Whether the authors' population is shown, or the whole one.
    """
    population = result.as_published if as_published else result.whole_population
    which = "as published" if as_published else "whole population"
    name, published = published_row(result.protocol, result.family, result.width)
    size = result.settings.get("image_size")
    way = f"{result.family}, at {size} px" if size else result.family
    lines = [
        f"{encoder} ({way}), {result.protocol}, {which}: {coverage(result, population)}",
        "",
        f"| metric, % | {encoder} | ties at random | {name or 'published'} | difference |",
        "|---|---:|---:|---:|---:|",
    ]
    for metric, share in population.metrics.items():
        value, other = 100 * share, published.get(metric)
        cells = [metric, f"{value:.2f}", f"{100 * population.expected[metric]:.2f}"]
        cells += ["", ""] if other is None else [f"{other:.1f}", f"{value - other:+.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if not population.metrics:
        lines.append("| nothing is in this population | | | | |")
    tied = [f"{count} of {metric}" for metric, count in population.ties.items() if count]
    if tied:
        lines += ["", "Ties: " + ", ".join(tied)]
    if published:
        lines += ["", f"Published: {SOURCE}."]
        lines += [f"It may differ since {cause}." for cause in causes(result, population)]
    return "\n".join(lines)


def coverage(result: Result, population: Population) -> str:
    """What a population holds of what the files list, such as "27 of 28 pictures"."""
    parts = []
    for what, count in population.counts.items():
        listed = result.listed.get(what)
        parts.append(f"{count} {what}" if listed is None else f"{count} of {listed} {what}")
    if result.missing:
        parts.append(f"missing pictures: {len(result.missing)}")
    return ", ".join(parts)


def causes(result: Result, population: Population) -> list[str]:
    """Why numbers may differ from the published ones of the encoder of the same size.

    Empty where they do not differ by more than rounding.
    """
    _, published = published_row(result.protocol, result.family, result.width)
    found = population.metrics
    both = [(100 * found[name], value) for name, value in published.items() if name in found]
    if all(abs(one - other) <= _ROUNDING for one, other in both):
        return []
    reasons = [
        f"{population.counts.get(what, 0)} {what} are {number} there"
        for what, number in published_sizes(result.protocol).items()
        if what in population.counts and population.counts[what] != number
    ]
    if result.missing:
        reasons.append(f"pictures are missing: {len(result.missing)}")
    if population != result.as_published:
        reasons.append("the authors' scripts take another population: see --as-published")
    if result.protocol == "lvis-boxes":
        reasons.append("the authors do not say whether they have the pictures of train2017")
    if result.settings.get("image_size"):
        reasons.append(f"pictures are read at {result.settings['image_size']} px")
    if result.settings.get("amp"):
        reasons.append("it is computed in bfloat16")
    if any(population.ties.values()):
        reasons.append("ties are decided by a sort that differs between machines")
    if result.family in ("clip", "siglip2"):
        reasons.append("the authors do not give the scripts of CLIP and SigLIP 2")
    reasons.append("the weights may be others than the published ones of this size")
    return reasons
