"""CVAT for images 1.1: ``cvat/{train,val}.xml``, boxes as shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.apis.labelling.formats.xml_text import as_xml
from fgclip_det.apis.labelling.labels import LabelledPicture
from fgclip_det.io import write_bytes


def write(folder: Path, splits: LabelSplits) -> None:
    """Write a file for each split, to be uploaded to a task that holds its pictures.

    Raises:
        ValueError: A picture's name cannot stand in XML.
        OSError: Writing failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, pictures in splits.pictures.items():
        write_bytes(folder / f"{split}.xml", as_xml(_annotations(split, splits.names, pictures)))


def _annotations(
    split: str, names: Sequence[str], pictures: Sequence[LabelledPicture]
) -> ElementTree.Element:
    root = ElementTree.Element("annotations")
    _text(root, "version", "1.1")
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    _text(task, "name", split)
    _text(task, "size", str(len(pictures)))
    labels = ElementTree.SubElement(task, "labels")
    for name in names:
        label = ElementTree.SubElement(labels, "label")
        _text(label, "name", name)
        ElementTree.SubElement(label, "attributes")
    for number, picture in enumerate(pictures):
        width, height = picture.size("shown")
        told = {"id": number, "name": picture.file, "width": width, "height": height}
        image = ElementTree.SubElement(
            root, "image", {key: str(value) for key, value in told.items()}
        )
        for label in picture.labels:
            corners = zip(("xtl", "ytl", "xbr", "ybr"), label.box, strict=True)
            ElementTree.SubElement(
                image,
                "box",
                {
                    "label": names[label.name],
                    "source": "auto",
                    "occluded": "0",
                    **{key: f"{value:.2f}" for key, value in corners},
                    "z_order": "0",
                },
            )
    return root


def _text(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text
