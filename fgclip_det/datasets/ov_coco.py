"""COCO-format detection data whose labels follow a vocabulary."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS

from fgclip_det.datasets.annotation_files import read_annotations
from fgclip_det.datasets.image_files import check_image_paths
from fgclip_det.datasets.stored_pictures import StoredPictures
from fgclip_det.io import listed, read_header
from fgclip_det.vocabulary import Vocabulary


class _NamedCOCO(COCO):
    """COCO whose entries are checked and whose category ids come in the order of the names asked.

    Args:
        annotation_file: JSON file.

    Raises:
        ValueError: See `read_annotations`.
    """

    def __init__(self, annotation_file: str) -> None:
        super().__init__()
        file = read_annotations(annotation_file, unlabelled=True, sized=False)
        self.path = file.path
        lists = {key: getattr(file, key) for key in ("images", "annotations", "categories")}
        self.dataset = {**file.head, **lists}
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(self, cat_names: Any = (), sup_names: Any = (), cat_ids: Any = ()) -> list[int]:
        """Category ids in the order of ``cat_names``.

        Raises:
            ValueError: A name is missing from the file, or several categories bear it.
        """
        if not cat_names:
            return super().get_cat_ids(list(cat_names), list(sup_names), list(cat_ids))
        counts = Counter(category["name"] for category in self.dataset["categories"])
        missing = [name for name in cat_names if name not in counts]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(cat_names)} vocabulary names are no category of "
                f"{str(self.path)!r}, the first: "
                f"{listed(list(map(repr, missing)), 'unknown names')}: use the "
                "vocabulary that belongs to the file"
            )
        repeated = [name for name in cat_names if counts[name] > 1]
        if repeated:
            raise ValueError(
                f"{counts[repeated[0]]} categories of {str(self.path)!r} are named "
                f"{repeated[0]!r}: give each category its own name"
            )
        ids = {category["name"]: category["id"] for category in self.dataset["categories"]}
        return [ids[name] for name in cat_names]


@DATASETS.register_module()
class OVCocoDataset(StoredPictures, CocoDataset):
    """COCO-format boxes labelled by the names of a vocabulary.

    Label ``i`` is the ``i``-th kept name of the vocabulary whatever the order of the categories in
    the file. Boxes of other categories are dropped. ``metainfo`` holds ``classes`` (the kept names)
    and ``base_classes`` and ``novel_classes`` (those of them in each group), in vocabulary order.
    In training, images without a kept box are left out, unless
    ``filter_cfg=dict(filter_empty_gt=False)``.

    Args:
        vocabulary: Anything that ``Vocabulary.parse`` takes, such as the path of a JSON file.
        classes: Keep the boxes of all names, or of base classes only (training).
        check_images: Whether to make sure at once that the file of every image is there, so that a
            missing one stops a run before it begins and not within.
        **kwargs: Of mmdet's ``CocoDataset``: ``ann_file``, ``data_root``, ``data_prefix``,
            ``pipeline``, ``test_mode``, ``filter_cfg`` and the like.

    Raises:
        ValueError: ``classes`` is unknown, the vocabulary has no base group where one is needed,
            the annotation file is missing, broken (see `read_annotations`) or lacks a kept name, no
            image is left to train on, or ``check_images`` finds one missing.
    """

    METAINFO: ClassVar[dict[str, Any]] = {}
    COCOAPI = _NamedCOCO

    def __init__(
        self,
        vocabulary: Any,
        classes: Literal["all", "base"] = "all",
        check_images: bool = False,
        **kwargs: Any,
    ) -> None:
        if classes not in ("all", "base"):
            raise ValueError(f"classes is {classes!r}: choose 'all' or 'base'")
        parsed = Vocabulary.parse(vocabulary)
        groups = parsed.groups or {}
        if classes == "base" and not groups.get("base"):
            raise ValueError("classes='base' needs a vocabulary with a base group: add its groups")
        base, novel = set(groups.get("base", ())), set(groups.get("novel", ()))
        kept = [name for name in parsed.names if classes == "all" or name in base]
        metainfo = {
            **(kwargs.pop("metainfo", None) or {}),
            "classes": tuple(kept),
            "base_classes": tuple(name for name in kept if name in base),
            "novel_classes": tuple(name for name in kept if name in novel),
        }
        self.check_images = check_images
        super().__init__(metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Reads the annotation file into mmdet's records (``bbox`` xyxy, in pixels)."""
        if "://" not in self.ann_file and not Path(self.ann_file).is_file():
            raise ValueError(
                f"no annotation file {self.ann_file!r}: check data_root and ann_file, or make it "
                "first (tools/prepare_shapes.py for Shapes, prepare_ov_coco.py for OV-COCO)"
            )
        return super().load_data_list()

    def parse_data_info(self, raw_data_info: dict) -> dict[str, Any]:
        """An image's record; its size is read from the picture where the file does not tell."""
        image = raw_data_info["raw_img_info"]
        if not {"width", "height"} <= image.keys():
            header = read_header(os.path.join(self.data_prefix["img"], image["file_name"]))
            image.update(width=header.width, height=header.height)
        return super().parse_data_info(raw_data_info)

    def filter_data(self) -> list[dict[str, Any]]:
        """Leaves out images that cannot be trained on; keeps all in test mode."""
        kept = self.data_list if self.test_mode else self._trainable()
        if self.check_images:
            check_image_paths(record["img_path"] for record in kept)
        return kept

    def _trainable(self) -> list[dict[str, Any]]:
        config = self.filter_cfg or {}
        min_size = config.get("min_size", 0)
        # mmdet keeps an image if a kept category is listed for it, even when that box was dropped
        # as degenerate or is a crowd: the boxes that are really left decide here.
        drop_empty = config.get("filter_empty_gt", True)
        kept = [
            record
            for record in self.data_list
            if min(record["width"], record["height"]) >= min_size
            and not (drop_empty and all(box["ignore_flag"] for box in record["instances"]))
        ]
        if not kept:
            raise ValueError(
                f"no image of {self.ann_file!r} has a box of the {len(self.metainfo['classes'])} "
                "kept classes: check that the file and the vocabulary belong together"
            )
        return kept
