"""Another detector's boxes, from its results file, named anew by FG-CLIP: nothing is trained.

FG-CLIP 2's detection results (arXiv 2510.10921) are made so: a detector's boxes and scores are
kept, each box is pooled from the picture, compared with the texts of all categories, and takes the
one that fits best; its score is the geometric mean of the detector's and FG-CLIP's. A mask stays
with its box.

Pictures are read as they are stored, whatever their EXIF entry says.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from fgclip_det.apis.detector_loading import resolve_device
from fgclip_det.apis.region_texts import encode_texts
from fgclip_det.apis.rescoring.results_evaluation import Result, evaluate, metric_of
from fgclip_det.datasets.annotation_files import AnnotationFile, image_file_name, read_annotations
from fgclip_det.datasets.image_files import check_image_paths
from fgclip_det.datasets.proposal_categories import check_categories
from fgclip_det.datasets.proposal_files import ImageProposals, Proposals, read_proposals
from fgclip_det.encoders import FGCLIP, FGCLIP2, RegionEncoder, build_encoder
from fgclip_det.engine.command_line import check_target
from fgclip_det.io import check_stored_size, read_image, replaced_text
from fgclip_det.io.resumable_lines import ResumableLines
from fgclip_det.models import Regions, RegionTextHead
from fgclip_det.models.detectors.open_vocabulary import read_texts
from fgclip_det.models.roi_heads.settings import check_count
from fgclip_det.vocabulary import TextEmbeddings

# Of the way results are made: what another version left half done is not gone on with.
_VERSION = 2


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
        device: Where to compute; None takes CUDA where there is one.
        batch_size: Pictures at once.
        trust_pickle: Whether to read `proposals` where they are a pickle.
        with_metrics: Whether to evaluate the results where `annotations` hold ground truth.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: A file, a picture or a setting cannot be used, or parts do not fit another.
    """
    check_count("batch_size", batch_size)
    head = RegionTextHead(**(region_head or {}))
    target = check_target(Path(out), proposals, annotations)
    file, given, images = _read_inputs(proposals, annotations, image_root, trust_pickle)
    frozen = build_encoder(encoder).to(resolve_device(device))
    reader = RegionEncoder(frozen, **(frame or {}))
    words = read_texts(texts)
    encoded = encode_texts(reader.encoder, words).to(reader.encoder.device)
    ids = category_ids(file, encoded.names)
    job = _Job(reader, head, encoded, words.hash, ids, Path(image_root))
    job.check(given, file)
    metric = metric_of(file, encoded.vocabulary) if with_metrics and file.annotations else None
    results = job.run(images, given, batch_size, progress, target, [proposals, annotations])
    boxes, detections = (sum(map(len, d.values())) for d in (given.by_image, results))
    metrics = evaluate(metric, file, results, ids) if metric is not None else {}
    return Rescored(target, len(images), boxes, detections, metrics)


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


@dataclass(frozen=True, eq=False)
class _Job:
    """All that results depend on, beside the boxes.

    Attributes:
        reader: Pools boxes.
        head: Names them.
        texts: What with.
        words: Of the texts as they were given. Where they were encoded here, it is no hash of the
            embeddings, whose last bits depend on the number of threads.
        ids: Category id of each of `texts`.
        image_root: Where the pictures are.
    """

    reader: RegionEncoder
    head: RegionTextHead
    texts: TextEmbeddings
    words: str
    ids: list[int]
    image_root: Path

    def check(self, given: Proposals, file: AnnotationFile) -> None:
        """Refuse boxes that the fusion cannot use, before any picture is read.

        Raises:
            ValueError: The fusion needs the detector's classes or those of its boxes, and they are
                not known, or are not those of the annotation file.
        """
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
        reader, head = self.reader, self.head
        told = [
            _VERSION,
            # Pictures of another folder may be others.
            str(self.image_root.resolve()),
            *(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in sources),
            reader.encoder.fingerprint,
            [self.words, self.texts.text_length],
            {name: value for name, value in vars(reader).items() if name != "encoder"},
            [head.fusion, head.temperature, head.alpha, head.beta, head.one_label, head.test_cfg],
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[
            :16
        ]

    def rescore(self, images: Sequence[Mapping[str, Any]], given: Proposals) -> list[dict]:
        """``image_id`` and ``results`` of each of some images, which have boxes."""
        device = self.reader.encoder.device
        own = [given.by_image[image["id"]] for image in images]
        pictures = [self._read(image) for image in images]
        boxes = [torch.from_numpy(one.boxes).to(device) for one in own]
        embeddings = self.reader(pictures, boxes)
        return [
            {"image_id": image["id"], "results": self._results(image, *rest)}
            for image, *rest in zip(images, own, map(Tensor.float, boxes), embeddings, strict=True)
        ]

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

    def _results(
        self,
        image: Mapping[str, Any],
        own: ImageProposals,
        boxes: Tensor,
        embeddings: Tensor,
    ) -> list[Result]:
        is_base, shape = self._is_base(), (image["height"], image["width"])
        class_scores = None
        if self.head.fusion == "ensemble":
            base_ids = torch.tensor(self.ids)[is_base.cpu()]
            same = torch.from_numpy(own.category_ids)[:, None] == base_ids
            class_scores = (same * torch.from_numpy(own.scores)[:, None]).to(boxes)
        regions = Regions(
            boxes=boxes,
            objectness=torch.from_numpy(own.scores).to(boxes),
            region_embeddings=embeddings,
            class_scores=class_scores,
            image_meta={"img_shape": shape},
        )
        with torch.no_grad():
            # Columns of `class_scores`: the base names, one after another.
            classes = torch.where(is_base, is_base.cumsum(0) - 1, -1)
            found = self.head.classify(regions, self.texts.embeddings, is_base, classes=classes)
        xywh, masks = found.bboxes.clone(), own.segmentations
        xywh[:, 2:] -= xywh[:, :2]
        return [
            {
                "image_id": image["id"],
                "category_id": self.ids[label],
                "bbox": [round(value, 3) for value in box],
                "score": round(score, 7),
                **({} if masks[row] is None else {"segmentation": masks[row]}),
            }
            for label, box, score, row in zip(
                *(found.labels.tolist(), xywh.tolist(), found.scores.tolist()),
                found.regions.tolist(),
                strict=True,
            )
        ]


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


def _write_results(path: Path, results: Iterable[Sequence[Result]]) -> None:
    with replaced_text(path) as stream:
        stream.write("[")
        separator = "\n"
        for own in results:
            for one in own:
                stream.write(f"{separator}{json.dumps(one)}")
                separator = ",\n"
        stream.write("\n]\n")
