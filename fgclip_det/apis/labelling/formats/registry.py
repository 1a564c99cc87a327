"""The formats by name, and what their names cannot be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from fgclip_det.apis.labelling.formats import coco, cvat, label_studio, yolo
from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.apis.labelling.formats.xml_text import is_xml
from fgclip_det.exit_codes import UNSAFE
from fgclip_det.io import quoted

FORMATS: dict[str, Callable[[Path, LabelSplits], None]] = {
    "coco": coco.write,
    "yolo": yolo.write,
    "labelstudio": label_studio.write,
    "cvat": cvat.write,
}
# Their tools strip names and show them in one line.
_ONE_LINE = ("labelstudio", "cvat", "yolo")


def check_names(formats: Collection[str], names: Sequence[str]) -> None:
    """Find out before the work whether formats can hold names.

    Raises:
        ValueError: A format is unknown, or cannot hold a name.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        told = f"format {quoted(unknown[0])} is unknown" if unknown else "no format is named"
        raise ValueError(f"{told}: choose from {', '.join(FORMATS)}")
    for kind in formats:
        for name in names:
            if not name.strip():
                raise ValueError(f"{kind} cannot hold the name {quoted(name)}: give it a word")
            if kind in _ONE_LINE and (UNSAFE.search(name) or not is_xml(name)):
                raise ValueError(
                    f"{kind} cannot hold the name {quoted(name)}, which has a line end or a "
                    "control character: write it without, in a vocabulary file with the old text "
                    "as its prompt"
                )
            if kind in _ONE_LINE and name != name.strip():
                raise ValueError(
                    f"{kind} cannot hold the name {quoted(name)}, which begins or ends with a "
                    "space: write it without"
                )


def check_files(formats: Collection[str], files: Iterable[str]) -> None:
    """Find out before the work whether formats can hold the names of pictures.

    Raises:
        ValueError: One cannot.
    """
    for file in files if "cvat" in formats else ():
        if not is_xml(file):
            raise ValueError(
                f"cvat cannot hold the picture {quoted(file)}, whose name has a control character: "
                "rename it, or ask for another format"
            )


def write_labels(out: Path, formats: Collection[str], splits: LabelSplits) -> None:
    """Write each format to a folder of its name in `out`.

    Raises:
        ValueError: See `check_names`, or a picture's name cannot be held.
        OSError: Writing failed.
    """
    check_names(formats, splits.names)
    for name in formats:
        FORMATS[name](out / name, splits)
