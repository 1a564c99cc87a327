"""FG-OVD: one item for each picture, with all the vocabularies that are asked of it."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any, ClassVar

import cv2
from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS

from fgclip_det.datasets.annotation_files import check_images
from fgclip_det.datasets.image_files import missing_image_paths
from fgclip_det.datasets.stored_pictures import StoredPictures
from fgclip_det.fg_ovd.files import FGOVDFile, read_fg_ovd
from fgclip_det.io import listed


@DATASETS.register_module()
class FGOVDDataset(StoredPictures, BaseDetDataset):
    """The benchmark files of FG-OVD (arXiv 2311.17518), or others in their format.

    The official scripts run a detector once for each caption with its negatives. Here an item is
    an image: a record has ``vocabularies``, a list of ``{"annotation_id", "captions"}`` (the right
    caption, then its first N negatives), beside mmdet's ``img_path``, ``img_id``, ``height``,
    ``width`` and ``instances`` (``bbox`` xyxy in pixels; ``bbox_label``, the place of its caption's
    vocabulary in the list). ``metainfo`` holds ``captions``, all distinct ones, and
    ``missing_images``, how many were left out.

    Images without a vocabulary of N negatives are left out, as the protocol says.

    Args:
        ann_file: JSON of FG-OVD; ``file_name`` carries COCO's split: ``val2017/...``.
        n_negatives: N. The published tables have 5 for the difficulty subsets and 2 for the
            attribute subsets; scores of more negatives serve all smaller numbers.
        skip_missing: Whether to go on without pictures that are not on the disk.
        file: What ``ann_file`` holds, where that was read already.
        **kwargs: Of mmdet's ``BaseDetDataset``: ``data_prefix=dict(img=...)``, COCO's folder;
            ``pipeline`` and the like. A ``data_root`` is put before ``ann_file`` too.

    Raises:
        ValueError: The file cannot be used, no annotation has so many negatives, or pictures are
            missing (the first ten are named) or have no name or size.
    """

    METAINFO: ClassVar[dict[str, Any]] = {"classes": ()}

    def __init__(
        self,
        *args: Any,
        n_negatives: int = 10,
        skip_missing: bool = False,
        file: FGOVDFile | None = None,
        **kwargs: Any,
    ) -> None:
        self.n_negatives = n_negatives
        self.skip_missing = skip_missing
        self._file = file
        kwargs.setdefault("test_mode", True)
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Reads the annotation file into mmdet's records, in its order of images."""
        file = read_fg_ovd(self._file or self.ann_file)
        self._file = None  # workers need not carry it
        records = self._records(file)
        missing = missing_image_paths(record["img_path"] for record in records)
        if missing and not self.skip_missing:
            named = listed(list(map(repr, missing)), "missing pictures")
            raise ValueError(
                f"{len(missing)} of {len(records)} pictures of {file.source} are missing, the "
                f"first: {named}: FG-OVD needs COCO's train2017 and val2017 below data_prefix; "
                "skip_missing=True (--skip-missing) goes on without them, and the scores tell that"
            )
        gone = set(missing)
        kept = [record for record in records if record["img_path"] not in gone]
        if not kept:
            raise ValueError(f"none of the {len(records)} pictures of {file.source} is there")
        captions = (text for r in kept for v in r["vocabularies"] for text in v["captions"])
        self._metainfo["captions"] = tuple(dict.fromkeys(captions))
        self._metainfo["missing_images"] = len(missing)
        return kept

    def prepare_data(self, idx: int) -> Any:
        """The pipeline's result for one picture.

        Raises:
            ValueError: The picture cannot be read.
        """
        try:
            return super().prepare_data(idx)
        except (AssertionError, OSError, cv2.error) as error:
            path, reason = self.get_data_info(idx)["img_path"], " ".join(str(error).split())
            raise ValueError(
                f"picture {path!r} cannot be read ({reason}): copy it again, or remove it and set "
                "skip_missing=True (--skip-missing)"
            ) from error

    def _records(self, file: FGOVDFile) -> list[dict[str, Any]]:
        vocabularies = defaultdict(list)
        for vocabulary in file.eligible(self.n_negatives):
            vocabularies[vocabulary.image_id].append(vocabulary)
        images = [image for image in file.images if image["id"] in vocabularies]
        check_images(file.source, images)
        boxes = defaultdict(list)
        for annotation in file.annotations:
            boxes[annotation["image_id"], annotation["category_id"]].append(annotation["bbox"])
        root = self.data_prefix.get("img") or ""
        return [
            {
                "img_path": os.path.join(root, image["file_name"]),
                "img_id": image["id"],
                "height": image["height"],
                "width": image["width"],
                "vocabularies": [
                    {"annotation_id": v.annotation_id, "captions": file.captions_of(v)}
                    for v in vocabularies[image["id"]]
                ],
                "instances": [
                    {"bbox": [x, y, x + w, y + h], "bbox_label": place, "ignore_flag": 0}
                    for place, v in enumerate(vocabularies[image["id"]])
                    for x, y, w, h in boxes[image["id"], v.category_ids[0]]
                ],
            }
            for image in images
        ]
