"""All that is told of a detector on one file of FG-OVD: as values for JSON, and as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from fgclip_det.fg_ovd import tables
from fgclip_det.fg_ovd.confusions import mistakes
from fgclip_det.fg_ovd.evaluate import evaluate_checked
from fgclip_det.fg_ovd.files import FGOVDFile
from fgclip_det.fg_ovd.predictions import FGOVDPrediction, FGOVDPredictions, check_predictions
from fgclip_det.fg_ovd.references import ALONE, reference_rows
from fgclip_det.fg_ovd.text_prior import CaptionScorer


@dataclass(frozen=True)
class Summary:
    """Everything that `summarize` computes for one file.

    Attributes:
        result: Of `evaluate_fg_ovd`, with N negatives.
        references: Results to compare it with, by name; see `references`.
        words: ``attributes`` and ``confused`` of `mistakes`; empty where not asked for.
        sweep: The result with each number of negatives from 0 to N; empty where not asked for.
    """

    result: dict[str, Any]
    references: dict[str, dict[str, Any]]
    words: dict[str, Any]
    sweep: dict[int, dict[str, Any]]

    @property
    def values(self) -> dict[str, Any]:
        """For JSON: all attributes, those of ``words`` by themselves, without what is empty."""
        swept = {"sweep": self.sweep} if self.sweep else {}
        return {"result": self.result, "references": self.references, **self.words, **swept}

    def page(self, name: str) -> str:
        """All tables as Markdown; `name` is the result's line in the first one."""
        rows = {name: self.result, **self.references}
        return "\n\n".join([tables.result_table(rows), *self.details()])

    def details(self) -> list[str]:
        """The tables beside that of the results: numbers of negatives, attributes, words."""
        parts = [tables.sweep_table(self.sweep)] if self.sweep else []
        if self.words:
            parts.append(tables.attribute_table(self.words["attributes"]))
            parts.append(tables.confusion_table(self.words["confused"]))
        return parts


def summarize(
    file: FGOVDFile,
    predictions: FGOVDPredictions | Mapping[int, Sequence[FGOVDPrediction]],
    n_negatives: int,
    *,
    strict: bool = False,
    sweep: bool = False,
    words: bool = True,
    references: bool = True,
    scorer: CaptionScorer | None = None,
    progress: bool = False,
) -> Summary:
    """Score predictions, and compute what the score means little without.

    Args:
        file: Ground truth.
        predictions: Of one inference, whose first scores serve smaller numbers of negatives; or, of
            a detector whose scores change with what else is asked for, by number of negatives: for
            N and, where the sweep or the references need them, 0 or all from 0 to N.
        n_negatives: N.
        strict: See `evaluate_fg_ovd`.
        sweep: Whether to score every number of negatives from 0 to N.
        words: Whether to tell what is mistaken for what.
        references: Whether to add the rows of `reference_rows` and, where every caption's score is
            known, the detector's own with N = 0.
        scorer: Fitted on the matching validation file; None leaves the text-only row out.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: See `evaluate_fg_ovd`; or the best scores alone are known, and the sweep or the
            words are asked for.
    """
    file.eligible(n_negatives)
    all_scores = not isinstance(predictions, FGOVDPredictions) or predictions.has_all_scores
    for name, wanted in (("sweep", sweep), ("words", words)):
        if wanted and not all_scores:
            raise ValueError(
                f"{name} needs every caption's score: these predictions have the best ones alone"
            )
    alone = references and all_scores
    least = {n_negatives, 0} if alone else {n_negatives}
    checked = _checked(file, predictions, range(n_negatives + 1) if sweep else sorted(least))
    results = {}
    for number in tqdm(checked, desc="negatives", disable=None if progress else True, leave=False):
        results[number] = evaluate_checked(
            file,
            checked[number],
            number,
            strict=strict,
            with_ranks=all_scores,
            with_choices=words and number == n_negatives,
        )
    result = results[n_negatives]
    told = mistakes(file, result.pop("choices"), n_negatives) if words else {}
    rows = {ALONE: results[0]} if alone else {}
    if references:
        rows |= reference_rows(file, n_negatives, scorer)
    return Summary(result, rows, told, results if sweep else {})


def _checked(
    file: FGOVDFile,
    predictions: FGOVDPredictions | Mapping[int, Sequence[FGOVDPrediction]],
    numbers: Iterable[int],
) -> dict[int, dict[int, FGOVDPrediction]]:
    """By number of negatives, then by annotation id."""
    if isinstance(predictions, FGOVDPredictions):
        return dict.fromkeys(numbers, check_predictions(file, predictions.items))
    return {number: check_predictions(file, predictions[number]) for number in numbers}
