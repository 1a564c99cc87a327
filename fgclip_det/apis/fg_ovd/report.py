"""Results of FG-OVD's subsets, as values for JSON and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fgclip_det.apis.fg_ovd.subsets import Subset
from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.evaluation.region_accuracy.accuracy import long_captions
from fgclip_det.fg_ovd import tables
from fgclip_det.fg_ovd.predictions import FGOVDPrediction
from fgclip_det.fg_ovd.summary import Summary, summarize
from fgclip_det.fg_ovd.text_prior import CaptionScorer, read_scorer
from fgclip_det.io import write_json, write_text


class SubsetScores(NamedTuple):
    """The results of a subset.

    Attributes:
        about: What was run: ``annotations``; ``images`` and ``missing_images``; ``captions``,
            distinct ones, and ``cut_captions`` of these, which are longer than the encoder reads.
        summary: What came of it.
    """

    about: dict[str, Any]
    summary: Summary


def read_scorers(subsets: Sequence[Subset], folder: str | Path) -> dict[str, CaptionScorer]:
    """One `CaptionScorer` for each subset, fitted on its validation file.

    Args:
        subsets: To be scored.
        folder: With files of the subsets' names; a subset without one gets no scorer.

    Returns:
        By name of the subset.

    Raises:
        ValueError: There is none of these files, they are those to be scored, or one cannot be
            used.
    """
    paths = {subset.name: Path(folder) / subset.path.name for subset in subsets}
    if not any(path.is_file() for path in paths.values()):
        wanted = ", ".join(path.name for path in paths.values())
        raise ValueError(f"--validation {str(folder)!r} has no {wanted}: give the validation sets'")
    return {
        subset.name: read_scorer(paths[subset.name], subset.path, progress=True)
        for subset in subsets
        if paths[subset.name].is_file()
    }


def score_subset(
    subset: Subset,
    predictions: Mapping[int, Sequence[FGOVDPrediction]],
    encoder: FGCLIP | FGCLIP2,
    scorer: CaptionScorer | None = None,
    *,
    strict: bool = False,
    sweep: bool = False,
) -> SubsetScores:
    """Score what a detector said of a subset.

    Args:
        subset: Of `find_subsets`.
        predictions: By number of negatives, from `run_subsets`.
        encoder: The detector's, which knows which captions it cuts.
        scorer: For the text-only row.
        strict: See `summarize`.
        sweep: See `summarize`.
    """
    captions = subset.captions
    about = {
        "annotations": str(subset.path),
        "images": len(subset.dataset),
        "missing_images": int(subset.dataset.metainfo["missing_images"]),
        "captions": len(captions),
        "cut_captions": len(long_captions(encoder, captions, encoder.region_text_length)),
    }
    options = {"strict": strict, "sweep": sweep, "scorer": scorer}
    return SubsetScores(about, summarize(subset.file, predictions, subset.n_negatives, **options))


def write_report(
    folder: Path,
    about: Mapping[str, str],
    subsets: Mapping[str, SubsetScores],
    left_out: Mapping[str, str],
) -> str:
    """Write ``fg_ovd.json`` and, with all tables, ``fg_ovd.md``; both whole or not at all.

    Args:
        folder: It exists.
        about: What was run: names and values.
        subsets: By name.
        left_out: By name why a subset was not run.

    Returns:
        The tables over all subsets.
    """
    page = overview(subsets, left_out)
    told = {name: {**one.about, **one.summary.values} for name, one in subsets.items()}
    values = {**about, "left_out": left_out, "subsets": told}
    parts = ["# FG-OVD", "\n".join(f"- {name}: `{value}`" for name, value in about.items()), page]
    for name, one in subsets.items():
        parts += [f"## {name}", *one.summary.details()]
    write_json(folder / "fg_ovd.json", values)
    write_text(folder / "fg_ovd.md", "\n\n".join(parts) + "\n")
    return page


def overview(subsets: Mapping[str, SubsetScores], left_out: Mapping[str, str]) -> str:
    """The tables over all subsets as Markdown.

    Args:
        subsets: By name.
        left_out: By name why a subset was not run.
    """
    results = {name: one.summary.result for name, one in subsets.items()}
    references = {
        f"{name}: {row}": result
        for name, one in subsets.items()
        for row, result in one.summary.references.items()
    }
    head = ["", "images", "missing images", "captions", "of these cut"]
    keys = ("images", "missing_images", "captions", "cut_captions")
    rows = [[name, *(str(one.about[key]) for key in keys)] for name, one in subsets.items()]
    parts = [tables.result_table(results), "To be compared with:", tables.result_table(references)]
    parts += ["What was run:", tables.table(head, rows)]
    parts += [f"{name} is left out: {reason}." for name, reason in left_out.items()]
    swept = {name: one.summary.sweep for name, one in subsets.items() if one.summary.sweep}
    if swept:
        parts += ["mAP by number of negatives:", _sweep_table(swept)]
    return "\n\n".join(parts)


def _sweep_table(swept: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    numbers = range(1 + max(max(results) for results in swept.values()))
    rows = [
        [name, *(f"{100 * results[n]['map']:.2f}" if n in results else "-" for n in numbers)]
        for name, results in swept.items()
    ]
    return tables.table(["", *map(str, numbers)], rows)
