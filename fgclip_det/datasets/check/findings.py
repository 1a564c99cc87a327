"""What sizes, boxes and names of annotated data give away: oddities, and what cannot be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fgclip_det.datasets.check.annotated_data import AnnotatedData

# Boxes overstep pictures by rounding.
_OVERHANG = 2.0
_NEARLY_ALL = 0.99
# Shares of a picture, rounded.
_ROUNDING = 1e-3
# So few boxes may fit as corners by chance, unless one reaches out by so much of its picture.
_FEW, _FAR = 4, 0.25


class Finding(NamedTuple):
    """Something that is odd.

    Attributes:
        text: What, how often, with an example, and where it is wrong also the mend.
        is_wrong: Whether the data cannot be what they claim to be, so that nothing should run.
    """

    text: str
    is_wrong: bool = False


def size_findings(
    data: AnnotatedData, read: np.ndarray, sideways: np.ndarray, turned: bool
) -> list[Finding]:
    """Annotated sizes against those of the files.

    Args:
        data: What the annotation file holds.
        read: (I, 2) width and height of each file, as it is read; NaN where it could not be.
        sideways: (I,) bool, whether viewers swap the sides by the EXIF entry.
        turned: Whether pictures are turned by that entry when they are read.
    """
    known = ~np.isnan(data.sizes).any(axis=1)
    both = known & ~np.isnan(read).any(axis=1)
    differs = both & (data.sizes != read).any(axis=1)
    swapped = differs & (data.sizes == read[:, ::-1]).all(axis=1)

    def shown(which: np.ndarray) -> str:
        return f"such as {_sizes(data, read, int(which.argmax()))}"

    findings = []
    if (other_way := swapped & sideways).any():
        findings.append(Finding(_other_way(other_way, shown(other_way), turned), True))
    if (plain := swapped & ~sideways).any():
        findings.append(
            Finding(
                f"{plain.sum()} images have width and height swapped: {shown(plain)}; swap "
                "them in the annotation file",
                True,
            )
        )
    if (other := differs & ~swapped).any():
        far = other & (np.abs(data.sizes - read) > _OVERHANG).any(axis=1)
        wrong = bool(far.sum() > both.sum() / 2)
        mend = "; take the pictures that were annotated, or scale the boxes" if wrong else ""
        findings.append(
            Finding(
                f"{other.sum()} pictures are of another size than annotated: {shown(other)}{mend}",
                wrong,
            )
        )
    if not known.all():
        findings.append(
            Finding(f"{(~known).sum()} images have no width and height: those of the files count")
        )
    return findings


def box_findings(data: AnnotatedData, sizes: np.ndarray) -> list[Finding]:
    """Boxes that reach out of their pictures, have no area, or are no xywh in pixels.

    Args:
        data: What the annotation file holds.
        sizes: (I, 2) width and height that count; NaN where nothing tells.
    """
    if not len(data.boxes):
        return []
    limit = sizes[data.image] + _OVERHANG
    x, y, width, height = data.boxes.T

    def shown(which: np.ndarray) -> str:
        return f"such as {_box(data, sizes, int(which.argmax()))}"

    within = (data.boxes <= 1 + _ROUNDING).all(axis=1)
    if within.sum() > _NEARLY_ALL * len(x) and (sizes > 2).any():
        text = (
            f"{within.sum()} of {len(x)} boxes lie within 0 and 1, {shown(within)}: they are "
            "shares of the picture; multiply them by its width and height"
        )
        return [Finding(text, True)]
    # Of a picture whose size is not known, NaN, nothing is over.
    over = (x < -_OVERHANG) | (y < -_OVERHANG)
    over |= (x + width > limit[:, 0]) | (y + height > limit[:, 1])
    corners = (width >= x) & (height >= y) & (width <= limit[:, 0]) & (height <= limit[:, 1])
    reach = np.maximum(x + width - limit[:, 0], y + height - limit[:, 1])
    is_sure = len(x) >= _FEW or (reach > _FAR * limit.min(axis=1)).any()
    if is_sure and over.sum() > len(x) / 2 and corners.sum() >= _NEARLY_ALL * len(x):
        return [
            Finding(
                f"{over.sum()} of {len(x)} boxes leave their picture as x, y, width, height, and "
                f"fit as corners x1, y1, x2, y2: {shown(over)}; take x1, y1 off x2, y2",
                True,
            )
        ]
    overlaps = np.minimum(x + width, sizes[data.image, 0]) > np.maximum(x, 0)
    overlaps &= np.minimum(y + height, sizes[data.image, 1]) > np.maximum(y, 0)
    outside = ~overlaps & ~np.isnan(limit).any(axis=1) & (width > 0) & (height > 0)
    empty = ((width < 1) | (height < 1)) & ~outside
    over &= ~outside & ~empty
    if (lost := outside | empty).sum() > len(x) / 2:
        text = (
            f"{lost.sum()} of {len(x)} boxes lie outside their picture or are less than a pixel "
            f"wide or high: {shown(lost)}; give x, y, width, height in pixels of the picture"
        )
        return [Finding(text, True)]
    kinds = {
        "boxes lie outside their picture (training leaves them out)": outside,
        "boxes are less than a pixel wide or high (training leaves them out)": empty,
        f"boxes reach more than {_OVERHANG:.0f} px over the border": over & ~data.is_crowd,
    }
    return [
        Finding(f"{which.sum()} of {len(x)} {what}: {shown(which)}")
        for what, which in kinds.items()
        if which.any()
    ]


def name_findings(data: AnnotatedData) -> list[Finding]:
    """Categories without a name."""
    empty = [number for number, name in data.categories if not name.strip()]
    if not empty:
        return []
    text = f"{len(empty)} categories have an empty name, such as id {empty[0]}: name them"
    return [Finding(text, True)]


def _other_way(which: np.ndarray, shown: str, turned: bool) -> str:
    if turned:
        return (
            f"{which.sum()} pictures are annotated as they are stored, and are read as viewers "
            f"turn them by their EXIF entry: {shown}; give LoadImageFromFile color_type="
            "'color_ignore_orientation', or take OVCocoDataset"
        )
    return (
        f"{which.sum()} pictures are annotated as viewers turn them by their EXIF entry, and boxes "
        f"must be of the stored ones: {shown}; save such pictures turned, without the entry "
        "(ImageMagick: mogrify -auto-orient)"
    )


def _sizes(data: AnnotatedData, stored: np.ndarray, place: int) -> str:
    (width, height), (own_width, own_height) = data.sizes[place], stored[place]
    return (
        f"{data.names[place]!r}, {own_width:.0f} x {own_height:.0f} px, annotated with "
        f"{width:g} x {height:g}"
    )


def _box(data: AnnotatedData, sizes: np.ndarray, place: int) -> str:
    box = ", ".join(f"{value:g}" for value in data.boxes[place])
    width, height = sizes[data.image[place]]
    name = data.names[data.image[place]]
    return f"[{box}] (id {data.ids[place]}) in {name!r} of {width:g} x {height:g} px"
