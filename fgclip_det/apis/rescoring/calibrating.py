"""A calibration of boxes that come from a results file: `rescore` reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fgclip_det.apis.calibrating.evidence import Evidence, Found, to_found
from fgclip_det.apis.calibrating.run import Calibrator
from fgclip_det.apis.calibrating.truth import KnownPicture
from fgclip_det.apis.rescoring.job import Job
from fgclip_det.apis.rescoring.rescoring import open_job
from fgclip_det.calibration import Calibration
from fgclip_det.datasets.annotation_files import image_file_name
from fgclip_det.datasets.proposal_files import Proposals
from fgclip_det.models import Regions
from fgclip_det.models.regions.region_classification import Figure, Rules
from fgclip_det.vocabulary import TextEmbeddings


def results_calibrator(
    proposals: str | os.PathLike,
    annotations: str | os.PathLike,
    image_root: str | os.PathLike,
    encoder: Any,
    texts: Any,
    *,
    device: str | torch.device | None = None,
    trust_pickle: bool = False,
    **options: Any,
) -> Calibrator:
    """Asks the boxes of a results file for what is known of their pictures.

    Args:
        proposals: See `rescore`; so are the others. They are named as `rescore` does by default.
        device: Where to compute; None takes CUDA where there is one.
        trust_pickle: Whether to read `proposals` where they are a pickle.
        options: `features`, `conf_thr`, `batch_size` and `progress` of `Calibrator`; pictures are
            read one by one, whatever the batch size.

    Raises:
        ValueError: See `rescore`.
    """
    job, file, given, _ = open_job(
        proposals,
        annotations,
        image_root,
        encoder,
        texts,
        competes=True,
        device=device,
        trust_pickle=trust_pickle,
    )
    images = {str(Path(image_root) / image_file_name(image)): image for image in file.images}
    return _ResultsCalibrator(job, given, images, **options)


class _BoxesSource:
    """Asks boxes of a file; see `Source`. Each name is asked by itself: a box has one name."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.detector = job.boxes_hash
        self.encoder = job.reader.encoder.fingerprint
        self.competition = dict(job.competition.settings)
        self.attributes = job.competition.attributes
        self.iou_threshold = job.head.test_cfg["nms"]["iou_threshold"]
        self._rivals = job.competition.against(job.texts)
        self._of_all = Rules(self._rivals).ready(job.texts.embeddings).competitors
        self._kept: tuple[Calibration, list[tuple[dict[str, Any], Rules]]] | None = None

    @torch.no_grad()
    def evidence(self, image: Regions, texts: TextEmbeddings) -> Evidence:
        """The evidence of a picture."""
        found = self.job.head.evidence(image, **self.job.ready, competitors=self._of_all)
        return Evidence(image.boxes, found.features, found.beaten)

    @torch.no_grad()
    def found(self, image: Regions, texts: TextEmbeddings, calibration: Calibration) -> Found:
        """What is reported with a calibration, before its thresholds."""
        parts = []
        for row, (ready, rules) in enumerate(self._asked(calibration)):
            own = self.job.head.classify(image, **ready, rules=rules)
            own.labels += row
            parts.append(to_found(own, own.get(rules.figure.name)))
        figures = np.concatenate([one.figures for one in parts])
        order = np.argsort(-figures, kind="stable")
        boxes = np.concatenate([one.boxes for one in parts])
        labels = np.concatenate([one.labels for one in parts])
        return Found(boxes[order], labels[order], figures[order])

    def _asked(self, calibration: Calibration) -> list[tuple[dict[str, Any], Rules]]:
        """What each name is asked with; made once for a calibration."""
        if self._kept is None or self._kept[0] is not calibration:
            figure = Figure.from_calibration(calibration)
            asked = []
            for row in range(len(self.job.texts)):
                ready = {key: values[row : row + 1] for key, values in self.job.ready.items()}
                rules = Rules(self._rivals.subset([row]), figure)
                asked.append((ready, rules.ready(ready["text_embeddings"])))
            self._kept = calibration, asked
        return self._kept[1]


class _ResultsCalibrator(Calibrator):
    """Takes regions from a file."""

    def __init__(
        self, job: Job, given: Proposals, images: Mapping[str, Mapping[str, Any]], **options: Any
    ) -> None:
        super().__init__(None, _BoxesSource(job), job.texts, **options)
        self.given, self.images = given, images

    def regions(self, pictures: Sequence[KnownPicture]) -> Iterator[Regions]:
        """The boxes of each picture, those without any among them."""
        job = self.source.job
        for picture in tqdm(pictures, desc="pictures", disable=not self.progress):
            image = self.images[picture.path]
            if image["id"] in self.given.by_image:
                (found,) = job.regions([image], self.given)
            else:
                found = _no_regions(job, image)
            yield found


def _no_regions(job: Job, image: Mapping[str, Any]) -> Regions:
    texts = job.texts.embeddings
    return Regions(
        boxes=texts.new_zeros(0, 4),
        objectness=texts.new_zeros(0),
        region_embeddings=texts.new_zeros(0, texts.shape[1]),
        image_meta={"img_shape": (image["height"], image["width"])},
    )
