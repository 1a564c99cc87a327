"""D³, described objects: sentences of what is there, and of what is not ("a dog without leash")."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from mmdet.datasets import BaseDetDataset, DODDataset
from mmdet.registry import DATASETS

from fgclip_det.datasets.image_files import check_image_paths
from fgclip_det.datasets.stored_pictures import StoredPictures
from fgclip_det.io import quoted, read_pickle

# What is read of each file: keys of an entry, and what they must be.
_FILES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "sentences": {"raw_sent": str},
    "images": {
        "file_name": str,
        "height": Integral,
        "width": Integral,
        "group_id": (Integral, str),
    },
    "groups": {"inner_sent_id": (list, tuple)},
}


class D3Files:
    """The part of the data set's own reader that MMDetection's `DODDataset` asks.

    That reader unpickles whatever the files hold; this one takes plain data alone.

    Args:
        folder: ``d3_pkl``, with ``sentences.pkl``, ``images.pkl`` and ``groups.pkl``.
        protocol: Whether a picture is asked its group's sentences, or all.

    Raises:
        ValueError: A file is missing or holds anything but what it must.
    """

    def __init__(self, folder: str | os.PathLike, protocol: Literal["intra", "inter"]) -> None:
        if protocol not in ("intra", "inter"):
            raise ValueError(f"protocol is {quoted(protocol)}: choose 'intra' or 'inter'")
        self.protocol = protocol
        self.sentences, self.images, self.groups = (
            _read(Path(folder, f"{name}.pkl"), keys) for name, keys in _FILES.items()
        )
        for name, image in self.images.items():
            if image["group_id"] not in self.groups:
                raise ValueError(
                    f"D³'s image {name} is of group {image['group_id']}, which is none"
                )
        for name, group in self.groups.items():
            lost = [one for one in group["inner_sent_id"] if one not in self.sentences]
            if lost:
                raise ValueError(
                    f"D³'s group {name} has the sentence {quoted(lost[0])}, which is none"
                )

    def get_img_ids(self) -> list[int]:
        """All pictures."""
        return list(self.images)

    def load_imgs(self, img_ids: int) -> list[Mapping[str, Any]]:
        """The entry of a picture, in a list."""
        return [self.images[img_ids]]

    def get_group_ids(self, img_ids: Sequence[int]) -> list[int]:
        """The groups of pictures, each once."""
        return list(dict.fromkeys(self.images[one]["group_id"] for one in img_ids))

    def get_sent_ids(self, group_ids: Sequence[int]) -> list[int]:
        """What pictures of these groups are asked."""
        if self.protocol == "inter":
            return list(self.sentences)
        return sorted({one for group in group_ids for one in self.groups[group]["inner_sent_id"]})

    def load_sents(self, sent_ids: Sequence[int] | None = None) -> list[Mapping[str, Any]]:
        """Entries of sentences; None for all."""
        ids = self.sentences if sent_ids is None else sent_ids
        return [self.sentences[one] for one in ids]


@DATASETS.register_module()
class D3Dataset(StoredPictures, DODDataset):
    """D³ (arXiv 2307.12813), as MMDetection's `DODDataset` gives it, without the package d_cube.

    A picture comes with its sentences as ``text``, and their numbers as ``sent_ids``; detectors
    with `OpenVocabulary` are asked those and no others. Predictions are the same whichever of the
    annotation files is read: one pass serves the metrics of all three.

    Args:
        data_root: Put before ``ann_file`` and ``data_prefix``.
        data_prefix: ``img``, the folder of pictures, and ``anno``, that of ``*.pkl``.
        protocol: "intra", the published one: a picture is asked the sentences of its own group;
            or "inter": all 422.
        check_images: Whether to make sure at once that the file of every image is there.
        **kwargs: Of mmdet's ``BaseDetDataset``: ``ann_file``, ``pipeline`` and the like.

    Raises:
        ValueError: A file is missing or cannot be used.
    """

    def __init__(
        self,
        *args: Any,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        protocol: Literal["intra", "inter"] = "intra",
        check_images: bool = True,
        **kwargs: Any,
    ) -> None:
        folders = {"img": "d3_images", "anno": "d3_pkl", **(data_prefix or {})}
        self.img_root = os.path.join(data_root, folders["img"])
        self.d3 = D3Files(os.path.join(data_root, folders["anno"]), protocol)
        classes = tuple(sentence["raw_sent"] for sentence in self.d3.load_sents())
        # Not DODDataset's own, which wants d_cube.
        BaseDetDataset.__init__(
            self,
            *args,
            data_root=data_root,
            data_prefix=folders,
            metainfo={"classes": classes},
            **kwargs,
        )
        if check_images:
            check_image_paths(self.get_data_info(place)["img_path"] for place in range(len(self)))

    def load_data_list(self) -> list[dict[str, Any]]:
        """Reads the annotation file into mmdet's records, in the order of ``images.pkl``."""
        if not os.path.isfile(self.ann_file):
            raise ValueError(f"there is no file {self.ann_file!r}: unpack D³'s annotations there")
        return super().load_data_list()


def _read(path: Path, keys: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """A dict of entries by number.

    Raises:
        ValueError: The file is no such thing.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{str(path)!r} holds no dict of entries: take the file of D³")
    for name, entry in content.items():
        for key, kind in keys.items():
            value = entry.get(key) if isinstance(entry, Mapping) else None
            if not isinstance(value, kind):
                raise ValueError(
                    f"{str(path)!r}: entry {quoted(name)} has {quoted(value)} as {key!r}"
                )
    return content
