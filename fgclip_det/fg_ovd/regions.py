"""Boxes with their captions, one by one, from either format of FG-OVD's files.

The accuracy protocol asks of each annotated box whether its own caption fits best, so it needs no
vocabularies and no images: a list of boxes, each with its picture and its captions.
"""

from __future__ import annotations

from pathlib import Path

from fgclip_det.fg_ovd.files import FGOVDLine, read_fg_ovd, read_fg_ovd_lines


def read_fg_ovd_regions(path: str | Path) -> list[FGOVDLine]:
    """Read every annotated box of a file, whatever its number of negatives.

    Args:
        path: JSON lines of FG-CLIP's accuracy protocol where the name ends in ``.jsonl``, else JSON
            of FG-OVD. Of the latter the subset is the name of the file.

    Returns:
        In the order of the file; at least one.

    Raises:
        ValueError: The file is missing, truncated, of another kind or without a box, or an entry is
            broken; it is named, by its line in a file of lines.
    """
    path = Path(path)
    if path.suffix == ".jsonl":
        return read_fg_ovd_lines(path)
    file = read_fg_ovd(path)
    if not file.annotations:
        raise ValueError(f"{file.source} has no annotation: get it again")
    images = {image["id"]: image for image in file.images}
    regions = []
    for one in file.annotations:
        image = images[one["image_id"]]
        name, size = image.get("file_name"), (image.get("width"), image.get("height"))
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"{file.source}: image {one['image_id']} has the file_name {name!r}: a path below "
                "the folder of the pictures is needed"
            )
        x, y, width, height = one["bbox"]
        captions = (one["category_id"], *one["neg_category_ids"])
        regions.append(
            FGOVDLine(
                name,
                (x, y, x + width, y + height),
                tuple(file.captions[number] for number in captions),
                path.stem,
                size if None not in size else None,
            )
        )
    return regions
