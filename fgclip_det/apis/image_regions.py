"""Regions of a picture that can be asked for one vocabulary after another, and kept in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from fgclip_det.apis.argument_checks import check_path
from fgclip_det.apis.detections import Detections, picture_of, png_of
from fgclip_det.apis.detector_loading import OpenVocabDetector
from fgclip_det.models.regions.region_classification import to_original
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
        score_thr: float | None = None,
        conf_thr: float | None = None,
        one_name: bool = False,
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

    def classify(
        self,
        texts: Any = None,
        score_thr: float | None = None,
        conf_thr: float | None = None,
        one_name: bool = False,
    ) -> Detections:
        """Detections for a vocabulary, from the regions alone: the network does not run.

        Args:
            texts: What to look for, in any form that `OpenVocabInferencer.stream` takes; new texts
                are encoded first.
            score_thr: Least score of a detection that is kept, see `OpenVocabInferencer.stream`.
            conf_thr: Least confidence, likewise.
            one_name: Likewise.

        Raises:
            ValueError: Texts name nothing or are another encoder's, or a setting is out of range.
        """
        encoded = self.detector.encode(texts)
        return self.detector.classify([self], [encoded], score_thr, conf_thr, one_name)[0]

    def draw(self, image: np.ndarray | None = None, most: int = 20) -> Image.Image:
        """The picture with the regions that are likeliest to hold a thing, and their rows.

        What is shown so can be an exemplar: ``Exemplar(regions=picture, row=3)``.

        Args:
            image: (H, W, 3) uint8, RGB; None to read `image_path`.
            most: How many regions.

        Raises:
            ValueError: The picture was given as pixels, or cannot be read any more.
        """
        regions = self.regions.to("cpu")
        rows = regions.objectness.argsort(descending=True, stable=True)[:most]
        names = [str(row) for row in rows.tolist()]
        drawn = Detections(
            names=names,
            boxes=to_original(regions.boxes[rows], regions.image_meta),
            scores=regions.objectness[rows],
            labels=torch.arange(len(rows)),
            vocabulary=names,
            width=self.width,
            height=self.height,
        )
        return drawn.draw(picture_of(self, image), "short")

    def _repr_png_(self) -> bytes | None:
        """For notebooks; None where the picture is not at hand."""
        return png_of(self)

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
