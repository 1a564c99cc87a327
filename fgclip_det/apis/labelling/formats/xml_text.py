"""XML that every reader takes back as it was."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from fgclip_det.io import quoted

# All but what XML 1.0 can hold, escaped or not.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_xml(text: str) -> bool:
    """Whether XML can hold a text."""
    return _NO_XML.search(text) is None


def as_xml(root: ElementTree.Element) -> bytes:
    """UTF-8 XML of an element.

    Raises:
        ValueError: A text in it is none that XML can hold.
    """
    for element in root.iter():
        for text in (element.text or "", *element.attrib.values()):
            if not is_xml(text):
                raise ValueError(
                    f"{quoted(text)} holds a character that XML cannot: rename it, or ask for coco "
                    "or yolo"
                )
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
