"""Another detector's boxes, from its results file, named anew by FG-CLIP: nothing is trained.

FG-CLIP 2's detection results (arXiv 2510.10921) are made so: a detector's boxes and scores are
kept, each box is pooled from the picture, compared with the texts of all categories, and takes the
one that fits best; its score is the geometric mean of the detector's and FG-CLIP's. A mask stays
with its box.

Pictures are read as they are stored, whatever their EXIF entry says.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fgclip_det.apis.detector_loading import resolve_device
from fgclip_det.apis.region_texts import encode_texts
from fgclip_det.apis.rescoring.job import Job
from fgclip_det.apis.rescoring.results_evaluation import evaluate, metric_of
from fgclip_det.apis.scores.limits import check_saved_thresholds
from fgclip_det.calibration import Calibration
from fgclip_det.datasets.annotation_files import AnnotationFile, image_file_name, read_annotations
from fgclip_det.datasets.image_files import check_image_paths
from fgclip_det.datasets.proposal_files import Proposals, read_proposals
from fgclip_det.encoders import FGCLIP, FGCLIP2, RegionEncoder, build_encoder
from fgclip_det.engine.command_line import check_target
from fgclip_det.hub import cache_folder
from fgclip_det.io import quoted
from fgclip_det.models import RegionTextHead
from fgclip_det.models.detectors.open_vocabulary import read_texts
from fgclip_det.models.roi_heads.settings import check_count
from fgclip_det.vocabulary.competition import Competition


@dataclass(frozen=True)
class Rescored:
    """The result of `rescore`.

    Attributes:
        out: The results file.
        images: Pictures that had boxes.
        boxes: Boxes that were given.
        detections: Results that were written.
        metrics: ``AP50_base`` and so on of `OVCocoMetric`, or of `OVLVISMetric` where the
            annotations are LVIS's; empty where there is no ground truth or none was asked for.
    """

    out: Path
    images: int
    boxes: int
    detections: int
    metrics: dict[str, float] = field(default_factory=dict)


def rescore(
    proposals: str | os.PathLike,
    annotations: str | os.PathLike,
    image_root: str | os.PathLike,
    encoder: FGCLIP | FGCLIP2 | str | os.PathLike,
    texts: Any,
    out: str | os.PathLike,
    *,
    frame: Mapping[str, Any] | None = None,
    region_head: Mapping[str, Any] | None = None,
    calibration: Calibration | str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 1,
    trust_pickle: bool = False,
    with_metrics: bool = True,
    progress: bool = True,
) -> Rescored:
    """Name a detector's boxes anew, and write results in COCO's format.

    Goes on where an earlier call with the same files and settings was cut off; what is done is kept
    beside `out` until the end.

    Args:
        proposals: Results of the detector: see `proposal_files`.
        annotations: COCO-style annotation file of the pictures; gives sizes and category ids.
        image_root: Folder that the pictures' names are relative to.
        encoder: An FG-CLIP of either generation, or its directory or hub id.
        texts: What to name boxes with, see `encode_texts`; each name is a category of
            `annotations`. Base names of its groups are what the detector was trained on.
        out: JSON to write: ``image_id``, ``category_id``, ``bbox`` (xywh, px), ``score`` and, of
            boxes that have one in `proposals`, the ``segmentation``. Boxes alone are evaluated.
        frame: At which size the encoder reads pictures: keywords of `RegionEncoder`, by default
            FG-CLIP's own protocol.
        region_head: Keywords of `RegionTextHead`: how scores are fused.
        calibration: What the evidence of such boxes means, or its file: see `results_calibrator`.
            With it names compete unseen, results have a ``confidence`` if a curve was fitted, and
            those below their name's threshold are left out. Without it scores are as published.
        device: Where to compute; None takes CUDA where there is one.
        batch_size: Pictures at once.
        trust_pickle: Whether to read `proposals` where they are a pickle.
        with_metrics: Whether to evaluate the results where `annotations` hold ground truth.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: A file, a picture or a setting cannot be used, or parts do not fit another.
    """
    check_count("batch_size", batch_size)
    target = check_target(Path(out), proposals, annotations)
    settings = {"frame": frame, "region_head": region_head, "calibration": calibration}
    where = {"device": device, "trust_pickle": trust_pickle}
    job, file, given, images = open_job(
        proposals, annotations, image_root, encoder, texts, **settings, **where
    )
    words, ids = job.texts.vocabulary, job.ids
    metric = metric_of(file, words) if with_metrics and file.annotations else None
    results = job.run(images, given, batch_size, progress, target, [proposals, annotations])
    boxes, detections = (sum(map(len, d.values())) for d in (given.by_image, results))
    metrics = evaluate(metric, file, results, ids) if metric is not None else {}
    return Rescored(target, len(images), boxes, detections, metrics)


def open_job(
    proposals: str | os.PathLike,
    annotations: str | os.PathLike,
    image_root: str | os.PathLike,
    encoder: FGCLIP | FGCLIP2 | str | os.PathLike,
    texts: Any,
    *,
    frame: Mapping[str, Any] | None = None,
    region_head: Mapping[str, Any] | None = None,
    calibration: Calibration | str | os.PathLike | None = None,
    competes: bool = False,
    device: str | torch.device | None = None,
    trust_pickle: bool = False,
) -> tuple[Job, AnnotationFile, Proposals, list[dict[str, Any]]]:
    """Read what is named and what with.

    Args:
        proposals: See `rescore`; so are the others.
        competes: Whether names are to have competitors without a calibration too.

    Returns:
        What names boxes, the annotation file, the boxes, and the images that have some.

    Raises:
        ValueError: See `rescore`.
    """
    head = RegionTextHead(**(region_head or {}))
    if isinstance(calibration, str | os.PathLike):
        calibration = Calibration.load(calibration)
    file, given, images = _read_inputs(proposals, annotations, image_root, trust_pickle)
    frozen = build_encoder(encoder).to(resolve_device(device))
    reader = RegionEncoder(frozen, **(frame or {}))
    words = read_texts(texts)
    encoded = encode_texts(reader.encoder, words, reader).to(reader.encoder.device)
    if calibration is not None and encoded.vocabulary.shown is not None:
        raise ValueError(
            f"{quoted(next(iter(encoded.vocabulary.shown)))} is shown, and a calibration is of "
            "what is said: leave one of them out"
        )
    ids = category_ids(file, encoded.names)
    competition = None
    if competes or calibration is not None:
        kept = cache_folder() / "fgclip_det" / "texts"
        competition = Competition(reader.encoder, cache_dir=kept)
    job = Job(reader, head, encoded, words.hash, ids, Path(image_root), competition, calibration)
    job.check(given, file)
    check_saved_thresholds(calibration, encoded.vocabulary)
    return job, file, given, images


def category_ids(file: AnnotationFile, names: Sequence[str]) -> list[int]:
    """Ids of the categories of these names.

    Raises:
        ValueError: A name is no category of the file, or of several.
    """
    known: dict[str, list[int]] = {}
    for category in file.categories:
        known.setdefault(category["name"], []).append(category["id"])
    missing = [name for name in names if len(known.get(name, ())) != 1]
    if missing:
        count = len(known.get(missing[0], ()))
        raise ValueError(
            f"{len(missing)} of {len(names)} names are not one category of {str(file.path)!r}, the "
            f"first is {missing[0]!r}, of which it has {count}: name its categories; what is said "
            'of each is for prompts: {"names": {"cup": ["a white cup"]}}'
        )
    return [known[name][0] for name in names]


def _read_inputs(
    proposals: str | os.PathLike,
    annotations: str | os.PathLike,
    image_root: str | os.PathLike,
    trust_pickle: bool,
) -> tuple[AnnotationFile, Proposals, list[dict[str, Any]]]:
    """The annotation file, the boxes, and the images that have some."""
    file = read_annotations(annotations, image_name=None, unlabelled=True)
    given = read_proposals(proposals, file.images, trust_pickle)
    for note in given.notes:
        warnings.warn(note, stacklevel=3)
    images = [image for image in file.images if image["id"] in given.by_image]
    check_image_paths(os.path.join(image_root, image_file_name(image)) for image in images)
    return file, given, images
