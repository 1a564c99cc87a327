"""Results of FG-OVD's subsets, as values for JSON and as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgclip_det.apis.fg_ovd.subsets import Subset
from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.engine.resume.checkpoint_files import replaced_file
from fgclip_det.evaluation import evaluate_fg_ovd
from fgclip_det.evaluation.region_accuracy.accuracy import long_captions
from fgclip_det.fg_ovd import tables
from fgclip_det.fg_ovd.confusions import mistakes
from fgclip_det.fg_ovd.files import read_fg_ovd
from fgclip_det.fg_ovd.predictions import FGOVDPrediction
from fgclip_det.fg_ovd.references import reference_rows
from fgclip_det.fg_ovd.text_prior import CaptionScorer, caption_groups


def read_scorers(subsets: Sequence[Subset], folder: str | Path) -> dict[str, CaptionScorer]:
    """What a bag of words learns from the validation file of each subset.

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
    paths = {name: path for name, path in paths.items() if path.is_file()}
    if not paths:
        wanted = ", ".join(subset.path.name for subset in subsets)
        raise ValueError(f"--validation {str(folder)!r} has no {wanted}: give the validation sets'")
    if any(one.path.samefile(paths[one.name]) for one in subsets if one.name in paths):
        raise ValueError(
            "--validation has the files to be scored: give the validation sets' folder"
        )
    return {
        name: CaptionScorer(caption_groups(read_fg_ovd(path)), progress=True)
        for name, path in paths.items()
    }


def score_subset(
    subset: Subset,
    predictions: Mapping[int, Sequence[FGOVDPrediction]],
    encoder: FGCLIP | FGCLIP2,
    scorer: CaptionScorer | None = None,
    *,
    strict: bool = False,
    sweep: bool = False,
) -> dict[str, Any]:
    """Everything that is told of a subset.

    Args:
        subset: Of `find_subsets`.
        predictions: By number of negatives, from `run_subsets`.
        encoder: The detector's, which knows which captions it cuts.
        scorer: For the text-only row.
        strict: See `evaluate_fg_ovd`.
        sweep: Whether to give the results with other numbers of negatives.

    Returns:
        ``result`` of `evaluate_fg_ovd`; ``references`` of `reference_rows`, where the row with
        N = 0 is what the detector says if asked so; ``attributes`` and ``confused`` of `mistakes`;
        ``sweep``, by number of negatives; ``annotations``, ``images``, ``missing_images``,
        ``captions``, distinct ones, and ``cut_captions``, those longer than the encoder reads.
    """
    captions = subset.captions
    file, number = subset.file, subset.n_negatives
    options = {"strict": strict}
    result = evaluate_fg_ovd(file, predictions[number], number, with_choices=True, **options)
    words = mistakes(file, result.pop("choices"), number)
    values = {
        "annotations": str(subset.path),
        "images": len(subset.dataset),
        "missing_images": int(subset.dataset.metainfo["missing_images"]),
        "captions": len(captions),
        "cut_captions": len(long_captions(encoder, captions, encoder.region_text_length)),
        "result": result,
        "references": reference_rows(file, number, predictions[0], scorer, **options),
        **words,
    }
    if sweep:
        values["sweep"] = {
            n: evaluate_fg_ovd(file, predictions[n], n, **options) for n in predictions
        }
    return values


def write_report(
    folder: Path,
    about: Mapping[str, str],
    subsets: Mapping[str, Mapping[str, Any]],
    left_out: Mapping[str, str],
) -> str:
    """Write ``fg_ovd.json`` and, with all tables, ``fg_ovd.md``; both whole or not at all.

    Args:
        folder: It exists.
        about: What was run: names and values.
        subsets: By name `score_subset`'s answer.
        left_out: By name why a subset was not run.

    Returns:
        The tables over all subsets.
    """
    page = summary(subsets, left_out)
    values = {**about, "left_out": left_out, "subsets": subsets}
    head = "\n".join(f"- {name}: `{value}`" for name, value in about.items())
    for name, text in (
        ("fg_ovd.json", json.dumps(values, indent=1, allow_nan=False)),
        ("fg_ovd.md", "\n\n".join(["# FG-OVD", head, page, details(subsets)])),
    ):
        with replaced_file(folder / name) as partial:
            partial.write_text(f"{text}\n", encoding="utf-8")
    return page


def summary(subsets: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, str]) -> str:
    """The tables over all subsets as Markdown.

    Args:
        subsets: By name `score_subset`'s answer.
        left_out: By name why a subset was not run.
    """
    results = {name: values["result"] for name, values in subsets.items()}
    references = {
        f"{name}: {row}": result
        for name, values in subsets.items()
        for row, result in values["references"].items()
    }
    head = ["", "images", "missing images", "captions", "of these cut"]
    keys = ("images", "missing_images", "captions", "cut_captions")
    rows = [[name, *(str(values[key]) for key in keys)] for name, values in subsets.items()]
    parts = [tables.result_table(results), "To be compared with:", tables.result_table(references)]
    parts += ["What was run:", tables.table(head, rows)]
    parts += [f"{name} is left out: {reason}." for name, reason in left_out.items()]
    swept = {name: values["sweep"] for name, values in subsets.items() if "sweep" in values}
    if swept:
        parts += ["mAP by number of negatives:", _sweep_table(swept)]
    return "\n\n".join(parts)


def details(subsets: Mapping[str, Mapping[str, Any]]) -> str:
    """What is mistaken for what in each subset, as Markdown."""
    parts = []
    for name, values in subsets.items():
        parts += [f"## {name}", tables.attribute_table(values["attributes"])]
        parts.append(tables.confusion_table(values["confused"]))
        if "sweep" in values:
            parts.append(tables.sweep_table(values["sweep"]))
    return "\n\n".join(parts)


def _sweep_table(swept: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    numbers = range(1 + max(max(results) for results in swept.values()))
    rows = [
        [name, *(f"{100 * results[n]['map']:.2f}" if n in results else "-" for n in numbers)]
        for name, results in swept.items()
    ]
    return tables.table(["", *map(str, numbers)], rows)
