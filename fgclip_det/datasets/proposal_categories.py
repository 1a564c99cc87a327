"""Whether the category ids of a detector's boxes are those of the annotation file."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from fgclip_det.compat import box_iou
from fgclip_det.datasets.annotation_files import AnnotationFile
from fgclip_det.datasets.proposal_files import Proposals

# Boxes that overlap an object by more than this are taken for boxes of it.
_IOU = 0.5
# Of so many boxes of objects, twice as many must fit another reading of the ids than fit as ids.
_LEAST, _RATIO = 5, 2


def check_categories(given: Proposals, file: AnnotationFile, base: Sequence[int]) -> None:
    """Make sure that category ids of boxes are ids of the annotation file; warns of others.

    Args:
        given: The boxes.
        file: The annotation file; objects in it, where it has some, tell whether ids are counted
            otherwise.
        base: Ids of what the detector was trained on.

    Raises:
        ValueError: The ids of some boxes are not known, no categories of the file or those of other
            categories than meant, or no box is of one of `base`.
    """
    columns = [own.category_ids for own in given.by_image.values()]
    found = np.concatenate(columns) if columns else np.zeros(0, np.int64)
    if (found < 0).any():
        raise ValueError(
            'fusion "ensemble" needs the category_id of each box, which this file does not '
            f"tell of {int((found < 0).sum())} of {len(found)}: give results in JSON that do"
        )
    known = [category["id"] for category in file.categories]
    foreign = found[~np.isin(found, known)]
    if len(foreign):
        raise ValueError(
            f"{len(foreign)} of {len(found)} boxes have a category_id that {str(file.path)!r} does "
            f"not list, the first has {foreign[0]}; the boxes' ids go from {found.min()} to "
            f"{found.max()}, the file's {len(known)} from {min(known)} to {max(known)}: are they "
            'of another dataset, or places in a list? fusion "ensemble" needs results with the '
            "ids of this file"
        )
    _check_reading(given, file, known)
    others = int((~np.isin(found, base)).sum())
    if others and others == len(found):
        raise ValueError(
            f"none of the {len(found)} boxes is of a category of the vocabulary's base group, "
            "which tells what the detector was trained on: give the base group of this detector, "
            'or fusion "geometric_mean"'
        )
    if others:
        warnings.warn(
            f"{others} of {len(found)} boxes are of categories outside the vocabulary's base "
            "group: they count as none of its names",
            stacklevel=4,
        )


def _check_reading(given: Proposals, file: AnnotationFile, known: Sequence[int]) -> None:
    """Refuse places in the list of categories, counted from 0 or 1, in place of its ids."""
    ids, objects = _of_objects(given, file)
    own = int((ids == objects).sum())
    by_place = np.array(known)
    for first in (0, 1):
        places = ids - first
        inside = (places >= 0) & (places < len(by_place))
        fitting = int((by_place[places[inside]] == objects[inside]).sum())
        if fitting >= _LEAST and fitting > _RATIO * own:
            raise ValueError(
                f"of {len(ids)} boxes that lie on an object, {own} have its category_id, and "
                f"{fitting} have its place, counted from {first}, in the list of the "
                f"{len(known)} categories of {str(file.path)!r}: give results with its ids"
            )


def _of_objects(given: Proposals, file: AnnotationFile) -> tuple[np.ndarray, np.ndarray]:
    """Category ids (N,) of the boxes that lie on an object, and (N,) of those objects."""
    of_image = defaultdict(list)
    for one in file.annotations:
        of_image[one["image_id"]].append(one)
    ids, objects = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for image, own in given.by_image.items():
        if not of_image[image]:
            continue
        boxes = torch.tensor([one["bbox"] for one in of_image[image]], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        overlap, nearest = box_iou(torch.from_numpy(own.boxes), boxes).max(dim=1)
        on_one = (overlap > _IOU).numpy()
        categories = np.array([one["category_id"] for one in of_image[image]])
        ids.append(own.category_ids[on_one])
        objects.append(categories[nearest.numpy()[on_one]])
    return np.concatenate(ids), np.concatenate(objects)
