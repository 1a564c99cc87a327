"""FG-OVD with one look at each picture, whatever is asked of it, and in spite of interruptions."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import ConcatDataset
from tqdm import tqdm

import fgclip_det
from fgclip_det.apis.detector_loading import OpenVocabDetector
from fgclip_det.apis.fg_ovd.subsets import Subset
from fgclip_det.encoders.pretrained import fingerprint
from fgclip_det.evaluation.fg_ovd_metric import predictions_of
from fgclip_det.fg_ovd.predictions import FGOVDPrediction, to_entry, to_prediction
from fgclip_det.io.resumable_lines import ResumableLines
from fgclip_det.models.regions.image_vocabularies import classify_vocabularies

# What a detector says does not depend on these.
_NOT_IN_KEY = ("train_cfg", "text_cache_dir")


class _Question(NamedTuple):
    """A vocabulary that is to be asked of a picture, and what it is asked for."""

    place: tuple[str, int]
    annotation_id: int
    captions: list[str]


class _Answers:
    """Predictions for one subset and one number of negatives, on the disk as they come."""

    def __init__(self, path: Path, key: str) -> None:
        self._lines = ResumableLines(path, key)
        self.items: dict[int, FGOVDPrediction] = {}
        try:
            for entry in self._lines:
                self._take(to_prediction(**entry))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{str(path)!r} was altered ({error}): remove it") from error

    def add(self, predictions: Sequence[FGOVDPrediction]) -> None:
        checked = [to_prediction(*one) for one in predictions]
        self._lines.append([to_entry(one) for one in checked])
        for one in checked:
            self._take(one)

    def _take(self, prediction: FGOVDPrediction) -> None:
        self.items[prediction.annotation_id] = prediction


def run_subsets(
    detector: OpenVocabDetector, subsets: Sequence[Subset], config: Config, folder: Path
) -> dict[str, dict[int, list[FGOVDPrediction]]]:
    """Ask a detector for the vocabularies of subsets.

    A picture goes through the network once for all subsets and numbers of negatives. Predictions
    are kept in `folder`, one file for each subset and number, under a name that changes with the
    detector's weights and settings, its pipeline, the pictures' folder and the annotations; what is
    there already is not asked again. Lines of these files are entries of `fg_ovd_predictions`.

    Args:
        detector: On the device where it is to run.
        subsets: From `find_subsets`.
        config: Its ``model`` made the detector; its ``test_dataloader`` reads the pictures.
        folder: Made if missing.

    Returns:
        By subset and number of negatives, one prediction for each vocabulary whose picture is
        there.

    Raises:
        ValueError: Scores are not finite, or the pipeline does not tell a picture's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_by = _key_of(detector, config)
    answers = {}
    for subset in subsets:
        annotations = hashlib.sha256(subset.path.read_bytes()).hexdigest()
        for number in subset.numbers:
            text = f"{made_by} {annotations} {number}"
            key = hashlib.sha256(text.encode()).hexdigest()[:16]
            path = folder / f"{subset.name}_n{number}_{key}.jsonl"
            answers[subset.name, number] = _Answers(path, key)
    questions = _open_questions(subsets, answers)
    if questions:
        open_subsets = {place[0] for asked in questions.values() for place, _, _ in asked}
        captions = (t for s in subsets if s.name in open_subsets for t in s.captions)
        # All of those at once, and not only of open questions: the file in the cache is found
        # again when an interrupted run goes on.
        detector.captions.add(captions, cache_dir=detector.text_cache_dir)
        _ask(detector, config, _pictures(subsets, questions), questions, answers)
    found: dict[str, dict[int, list[FGOVDPrediction]]] = {}
    for subset in subsets:
        shown = subset.img_paths
        there = {v.annotation_id for v in subset.file.vocabularies(0) if v.image_id in shown}
        # A picture that was there in an earlier run counts as missing like any other.
        found[subset.name] = {
            n: [one for number, one in answers[subset.name, n].items.items() if number in there]
            for n in subset.numbers
        }
    return found


def _key_of(detector: OpenVocabDetector, config: Config) -> str:
    model = {key: value for key, value in config.model.items() if key not in _NOT_IN_KEY}
    data = config.test_dataloader.dataset
    settings: dict[str, Any] = {
        "version": fgclip_det.__version__,
        "encoder": detector.encoder.fingerprint,
        "model": model,
        "pipeline": data.get("pipeline"),
        "pictures": [os.path.abspath(data.get("data_root") or ""), data.get("data_prefix")],
        "orientation": "stored",
    }
    plain = Config(settings).to_dict()
    return fingerprint({"settings": json.dumps(plain, default=str)}, detector.state_dict())


def _open_questions(
    subsets: Sequence[Subset], answers: dict[tuple[str, int], _Answers]
) -> dict[str, list[_Question]]:
    """By path of a picture what is to be asked of it."""
    questions = defaultdict(list)
    for subset in subsets:
        img_paths = subset.img_paths
        for number in subset.numbers:
            place = (subset.name, number)
            for one in subset.file.vocabularies(number):
                path = img_paths.get(one.image_id)
                if path is not None and one.annotation_id not in answers[place].items:
                    captions = subset.file.captions_of(one)
                    questions[path].append(_Question(place, one.annotation_id, captions))
    return questions


def _pictures(subsets: Sequence[Subset], wanted: Iterable[str]) -> ConcatDataset:
    """Each wanted picture once, from the first subset that has it."""
    left = set(wanted)
    parts = []
    for subset in subsets:
        rows = []
        for row, path in enumerate(subset.img_paths.values()):
            if path in left:
                left.remove(path)
                rows.append(row)
        if rows:
            # Not MMEngine's `get_subset`, which mixes up objects of data sets that are gone.
            parts.append(torch.utils.data.Subset(subset.dataset, rows))
    return ConcatDataset(parts)


@torch.no_grad()
def _ask(
    detector: OpenVocabDetector,
    config: Config,
    pictures: ConcatDataset,
    questions: dict[str, list[_Question]],
    answers: dict[tuple[str, int], _Answers],
) -> None:
    loader = Runner.build_dataloader({**config.test_dataloader, "dataset": pictures})
    with tqdm(total=len(pictures), desc="FG-OVD", unit="image", disable=None) as shown:
        for batch in loader:
            data = detector.data_preprocessor(batch, False)
            samples = data["data_samples"]
            if "img_path" not in samples[0]:
                raise ValueError("FG-OVD needs 'img_path' in the meta_keys of PackDetInputs")
            for sample, regions in zip(
                samples, detector.propose(data["inputs"], samples), strict=True
            ):
                asked = questions[sample.img_path]
                found = classify_vocabularies(
                    detector.region_classifier,
                    regions,
                    [question.captions for question in asked],
                    detector.captions,
                )
                _keep(asked, predictions_of(_as_sample(asked, list(found))), answers)
            shown.update(len(samples))


def _as_sample(asked: Sequence[_Question], found: list[Any]) -> dict[str, Any]:
    vocabularies = [{"annotation_id": question.annotation_id} for question in asked]
    return {"vocabularies": vocabularies, "vocabulary_predictions": found}


def _keep(
    asked: Sequence[_Question],
    predictions: Sequence[FGOVDPrediction],
    answers: dict[tuple[str, int], _Answers],
) -> None:
    by_place = defaultdict(list)
    for question, prediction in zip(asked, predictions, strict=True):
        by_place[question.place].append(prediction)
    for place, own in by_place.items():
        answers[place].add(own)
