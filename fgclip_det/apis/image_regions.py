"""Regions of a picture that can be asked for one vocabulary after another, and kept in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from mmengine.structures import InstanceData

from fgclip_det.apis.argument_checks import check_path, check_score_thr
from fgclip_det.apis.detections import Detections
from fgclip_det.apis.detector_loading import OpenVocabDetector
from fgclip_det.models.regions.regions import Regions, read_regions
from fgclip_det.vocabulary import TextEmbeddings


class Answerer(Protocol):
    """The part of a detector that `ImageRegions` needs; `OpenVocabInferencer` has it.

    Attributes:
        model: The detector.
        device: Where it computes.
    """

    model: OpenVocabDetector
    device: torch.device

    @property
    def weights_hash(self) -> str:
        """16 hex digits of the weights and settings that make regions, beside the encoder's."""

    def encode(self, texts: Any = None) -> TextEmbeddings:
        """Embeddings of texts."""

    def classify(
        self,
        images: Sequence[ImageRegions],
        texts: Sequence[TextEmbeddings],
        score_thr: float = 0.3,
    ) -> list[Detections]:
        """Detections in regions, for embeddings of one vocabulary for each picture."""


@dataclass(frozen=True, eq=False)
class ImageRegions:
    """Regions of one picture, from `OpenVocabInferencer.propose`.

    Attributes:
        detector: Who found it, and answers.
        regions: Boxes and embeddings, in the frame of the network's input.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        image_path: Its file, or None where it was given as pixels.
    """

    detector: Answerer
    regions: Regions
    width: int
    height: int
    image_path: str | None = None

    def __len__(self) -> int:
        return len(self.regions)

    def classify(self, texts: Any = None, score_thr: float = 0.3) -> Detections:
        """Detections for a vocabulary, from the regions alone: the network does not run.

        Args:
            texts: What to look for, in any form that `OpenVocabInferencer.stream` takes; new texts
                are encoded first.
            score_thr: Least score of a detection that is kept, in [0, 1].

        Raises:
            ValueError: Texts name nothing or are another encoder's, or `score_thr` is out of range.
        """
        check_score_thr(score_thr)
        return self.detector.classify([self], [self.detector.encode(texts)], score_thr)[0]

    def save(self, path: str | os.PathLike) -> None:
        """Write them to one ``.safetensors`` file, for `OpenVocabInferencer.load_regions`."""
        check_path(path, "a file of regions")
        labels = {"weights": self.detector.weights_hash, "size": f"{self.width}x{self.height}"}
        if self.image_path is not None:
            labels["image_path"] = self.image_path
        self.regions.save(path, labels)


def read_image_regions(path: str | os.PathLike, detector: Answerer) -> ImageRegions:
    """Read what `ImageRegions.save` wrote, for the detector that made it.

    Args:
        path: The file.
        detector: Who is to answer.

    Raises:
        ValueError: The file is missing, broken or of another kind, or another encoder or detector
            made it.
    """
    check_path(path, "a file of regions")
    regions, labels = read_regions(path)
    regions.check_encoder(detector.model.encoder.fingerprint)
    if "weights" not in labels:
        raise ValueError(f"{str(path)!r} holds bare regions: read it with Regions.load")
    if labels["weights"] != detector.weights_hash:
        raise ValueError(
            f"the regions in {str(path)!r} are of a detector with other weights or settings: "
            "propose them again"
        )
    width, height = map(int, labels["size"].split("x"))
    regions = regions.to(detector.device)
    return ImageRegions(detector, regions, width, height, labels.get("image_path"))


def as_detections(
    instances: InstanceData, texts: TextEmbeddings, image: ImageRegions, score_thr: float
) -> Detections:
    """Turn the answer of a detector's `classify` for one picture into `Detections`.

    Args:
        instances: ``bboxes`` (M, 4) xyxy in pixels of the picture, ``scores`` (M,), ``labels``
            (M,): rows of `texts`; those beyond are of negatives, which are not reported.
        texts: What was asked for.
        image: Where it was looked for.
        score_thr: Least score that is kept.
    """
    boxes = instances.bboxes.float().cpu()
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, image.width)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, image.height)
    scores, labels = instances.scores.float().cpu(), instances.labels.cpu()
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    kept = (scores >= score_thr) & inside & (labels < len(texts))
    labels = labels[kept]
    return Detections(
        names=[texts.names[label] for label in labels.tolist()],
        boxes=boxes[kept],
        scores=scores[kept],
        labels=labels,
        vocabulary=list(texts.names),
        width=image.width,
        height=image.height,
        image_path=image.image_path,
    )
