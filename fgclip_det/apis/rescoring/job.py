"""What names the boxes of a results file, picture by picture."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from tqdm import tqdm

from fgclip_det.apis.rescoring.results_evaluation import Result
from fgclip_det.calibration import Calibration
from fgclip_det.datasets.annotation_files import AnnotationFile, image_file_name
from fgclip_det.datasets.proposal_categories import check_categories
from fgclip_det.datasets.proposal_files import ImageProposals, Proposals
from fgclip_det.encoders import RegionEncoder
from fgclip_det.io import check_stored_size, read_image, replaced_text
from fgclip_det.io.resumable_lines import ResumableLines
from fgclip_det.models import Regions, RegionTextHead
from fgclip_det.models.regions.region_classification import Figure, Rules
from fgclip_det.vocabulary import TextEmbeddings
from fgclip_det.vocabulary.competition import Competition, Competitors

# Of the way results are made: what another version left half done is not gone on with.
_VERSION = 2


@dataclass(frozen=True, eq=False)
class Job:
    """All that results depend on, beside the boxes.

    Attributes:
        reader: Pools boxes.
        head: Names them.
        texts: What with.
        words: Of the texts as they were given. Where they were encoded here, it is no hash of the
            embeddings, whose last bits depend on the number of threads.
        ids: Category id of each of `texts`.
        image_root: Where the pictures are.
        competition: What competes with names where there is a calibration.
        calibration: Of these boxes: results have confidences, and those below are left out.
    """

    reader: RegionEncoder
    head: RegionTextHead
    texts: TextEmbeddings
    words: str
    ids: list[int]
    image_root: Path
    competition: Competition | None = None
    calibration: Calibration | None = None

    @property
    def boxes_hash(self) -> str:
        """16 hex digits of all that makes evidence of boxes, beside them and the encoder's weights,
        and of what is suppressed.

        It stands for the detector in a calibration: a file of boxes does not tell who made them.
        """
        evidence = self.head.evidence_settings()
        told = ["boxes of a file", self._frame(), evidence, self.head.test_cfg]
        text = json.dumps(told, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def ready(self) -> dict[str, Tensor]:
        """Keywords of the head's methods, a row for each text."""
        is_base = self._is_base()
        # Columns of `class_scores`: the base names, one after another.
        classes = torch.where(is_base, is_base.cumsum(0) - 1, -1)
        return {"text_embeddings": self.texts.embeddings, "is_base": is_base, "classes": classes}

    def check(self, given: Proposals, file: AnnotationFile) -> None:
        """Refuse boxes that the fusion cannot use, before any picture is read.

        Raises:
            ValueError: The fusion needs the detector's classes or those of its boxes, and they are
                not known, or are not those of the annotation file, or the calibration is of others.
        """
        if self.calibration is not None:
            self._check_calibration()
        if self.head.fusion != "ensemble":
            return
        is_base = self._is_base().tolist()
        if not any(is_base):
            raise ValueError(
                'fusion "ensemble" needs to know what the detector was trained on: give a '
                'vocabulary with a base group, {"names": [...], "groups": {"base": [...]}}'
            )
        base = [i for i, base in zip(self.ids, is_base, strict=True) if base]
        check_categories(given, file, base)

    def run(
        self,
        images: Sequence[Mapping[str, Any]],
        given: Proposals,
        batch_size: int,
        progress: bool,
        out: Path,
        sources: Sequence[str | os.PathLike],
    ) -> dict[int, list[Result]]:
        """Results of each image id, which are also written to `out`."""
        lines = ResumableLines(Path(f"{out}.part"), self.key(sources))
        done = {line["image_id"] for line in lines}
        left = [image for image in images if image["id"] not in done]
        shown = {"total": len(images), "initial": len(done), "disable": not progress}
        with tqdm(desc="pictures", **shown) as bar:
            for start in range(0, len(left), batch_size):
                batch = left[start : start + batch_size]
                lines.append(self.rescore(batch, given))
                bar.update(len(batch))
        results = {line["image_id"]: line["results"] for line in lines}
        _write_results(out, results.values())
        lines.remove()
        return results

    def key(self, sources: Sequence[str | os.PathLike]) -> str:
        """Hex digits that change with the files that were read and with every setting."""
        head = self.head
        told = [
            _VERSION,
            # Pictures of another folder may be others.
            str(self.image_root.resolve()),
            *(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in sources),
            self.reader.encoder.fingerprint,
            [self.words, self.texts.text_length],
            self._frame(),
            [head.fusion, head.temperature, head.alpha, head.beta, head.one_label, head.test_cfg],
        ]
        if self.calibration is not None:
            told.append([self.calibration.hash, self.texts.vocabulary.thresholds])
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[
            :16
        ]

    def rescore(self, images: Sequence[Mapping[str, Any]], given: Proposals) -> list[dict]:
        """``image_id`` and ``results`` of each of some images, which have boxes."""
        return [
            {"image_id": image["id"], "results": self._results(image["id"], regions, given)}
            for image, regions in zip(images, self.regions(images, given), strict=True)
        ]

    def regions(self, images: Sequence[Mapping[str, Any]], given: Proposals) -> list[Regions]:
        """The boxes of some images, which have some, with their embeddings.

        Raises:
            ValueError: A picture cannot be read, or is of another size than the file says.
        """
        device = self.reader.encoder.device
        own = [given.by_image[image["id"]] for image in images]
        pictures = [self._read(image) for image in images]
        boxes = [torch.from_numpy(one.boxes).to(device) for one in own]
        embeddings = self.reader(pictures, boxes)
        parts = zip(images, own, map(Tensor.float, boxes), embeddings, strict=True)
        return [self._as_regions(*part) for part in parts]

    def classify(self, regions: Regions) -> InstanceData:
        """Detections in regions; with a calibration those that are above their thresholds."""
        if self.calibration is None:
            return self.head.classify(regions, **self.ready, rules=self._own_rules)
        found = self.head.classify(regions, **self.ready, rules=self._rules)
        least = torch.tensor(self.calibration.least(self.texts.vocabulary))
        figures = found.get(self._rules.figure.name)
        return found[figures.cpu() >= least[found.labels.cpu()]]

    @cached_property
    def _own_rules(self) -> Rules:
        """What single names are told apart from competes, calibration or not."""
        own = Competitors.own(self.texts)
        return Rules(own).ready(self.texts.embeddings)

    @cached_property
    def _rules(self) -> Rules:
        figure = Figure.from_calibration(self.calibration)
        rules = Rules(self.competition.against(self.texts), figure)
        return rules.ready(self.texts.embeddings)

    def _check_calibration(self) -> None:
        try:
            self.calibration.check(
                self.boxes_hash, self.reader.encoder.fingerprint, self.competition.settings
            )
        except ValueError as error:
            raise ValueError(
                f"{error}; boxes of a file need one of their own, of results of the same detector "
                "on other pictures (fgclip-det calibrate --results)"
            ) from None

    def _frame(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self.reader).items() if name != "encoder"}

    def _is_base(self) -> Tensor:
        return self.texts.is_base(())

    def _read(self, image: Mapping[str, Any]) -> Tensor:
        """(3, H, W) uint8, RGB, as it is stored."""
        path = self.image_root / image_file_name(image)
        rgb = torch.from_numpy(read_image(path, "stored"))
        stored, annotated = rgb.shape[1::-1], (image["width"], image["height"])
        check_stored_size(path, stored, annotated)
        if stored != annotated:
            raise ValueError(
                f"picture {str(path)!r} is {stored[0]} x {stored[1]} pixels, and the annotation "
                f"file says {annotated[0]} x {annotated[1]}: its boxes are in another frame"
            )
        return rgb.permute(2, 0, 1)

    def _as_regions(
        self,
        image: Mapping[str, Any],
        own: ImageProposals,
        boxes: Tensor,
        embeddings: Tensor,
    ) -> Regions:
        class_scores = None
        if self.head.fusion == "ensemble":
            base_ids = torch.tensor(self.ids)[self._is_base().cpu()]
            same = torch.from_numpy(own.category_ids)[:, None] == base_ids
            class_scores = (same * torch.from_numpy(own.scores)[:, None]).to(boxes)
        return Regions(
            boxes=boxes,
            objectness=torch.from_numpy(own.scores).to(boxes),
            region_embeddings=embeddings,
            class_scores=class_scores,
            image_meta={"img_shape": (image["height"], image["width"])},
        )

    def _results(self, number: int, regions: Regions, given: Proposals) -> list[Result]:
        with torch.no_grad():
            found = self.classify(regions)
        xywh, masks = found.bboxes.clone(), given.by_image[number].segmentations
        xywh[:, 2:] -= xywh[:, :2]
        confidences = found.get("confidences")
        more = [{}] * len(found)
        if confidences is not None:
            more = [{"confidence": round(value, 7)} for value in confidences.tolist()]
        return [
            {
                "image_id": number,
                "category_id": self.ids[label],
                "bbox": [round(value, 3) for value in box],
                "score": round(score, 7),
                **own,
                **({} if masks[row] is None else {"segmentation": masks[row]}),
            }
            for label, box, score, row, own in zip(
                *(found.labels.tolist(), xywh.tolist(), found.scores.tolist()),
                found.regions.tolist(),
                more,
                strict=True,
            )
        ]


def _write_results(path: Path, results: Iterable[Sequence[Result]]) -> None:
    with replaced_text(path) as stream:
        stream.write("[")
        separator = "\n"
        for own in results:
            for one in own:
                stream.write(f"{separator}{json.dumps(one)}")
                separator = ",\n"
        stream.write("\n]\n")
