"""The protocols that FG-CLIP's numbers stand for: whose files, which texts, which metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fgclip_det.evaluation.encoder.data_sets import (
    Record,
    imagenet_templates,
    read_boxclass_cn,
    read_coco_boxes,
    read_coco_captions,
    read_coco_cn,
    read_dci,
    read_fg_ovd,
    read_flickr30k,
    read_flickr30k_cna,
    read_imagenet,
    read_imagenet_v2,
    read_lit_cn,
    read_lvis_boxes,
    read_sharegpt4v,
    read_urban1k,
)
from fgclip_det.io import quoted

Kind = Literal["retrieval", "classification", "boxes", "box captions"]


@dataclass(frozen=True)
class Protocol:
    """How one data set is read and scored.

    Attributes:
        name: Of the command line and the results.
        kind: Which metrics there are.
        read: ``read(root, images)`` gives the record, and takes `option` where there is one.
        texts: Text tower: "short", "long", or "box", which is "short" in generation 1.
        lowercase: Whether generation 2 takes case away.
        ks: Of recall at k.
        patches: Budget of every picture in generation 2; None for that of its size.
        templates: Sentences of class prompts.
        drops_last: Whether the authors' script leaves the last incomplete batch out.
        option: Keyword of `read` that a small copy needs.
    """

    name: str
    kind: Kind
    read: Callable[..., Record]
    texts: Literal["short", "long", "box"] = "short"
    lowercase: bool = True
    ks: tuple[int, ...] = (1, 5, 10)
    patches: int | None = None
    templates: tuple[str, ...] = ()
    drops_last: bool = False
    option: Literal["limit", "num_classes"] | None = None

    def record(
        self,
        root: Path,
        images: Path | None = None,
        limit: int | None = None,
        num_classes: int | None = None,
    ) -> Record:
        """What the stock files hold.

        Args:
            root: The folder that holds them.
            images: Folder of the pictures, if elsewhere.
            limit: In place of ShareGPT4V's 1,000.
            num_classes: In place of ImageNet's 1,000.

        Raises:
            ValueError: A file is missing or broken, or an option is another protocol's.
        """
        if not root.is_dir():
            raise ValueError(f"{str(root)!r} is no folder: give the one of the stock files")
        if images is not None and not images.is_dir():
            raise ValueError(f"{str(images)!r} is no folder: give the one of the pictures")
        given = {"limit": limit, "num_classes": num_classes}
        options = {name: value for name, value in given.items() if value is not None}
        for name in options:
            if name != self.option:
                raise ValueError(
                    f"{name} is not for {self.name}: it is for "
                    f"{', '.join(one.name for one in PROTOCOLS.values() if one.option == name)}"
                )
        return self.read(root, images, **options)


_EIGHTY = tuple(imagenet_templates())
_CLASSES = {"kind": "classification", "templates": _EIGHTY, "patches": 1024}
_BOXES = {"kind": "boxes", "texts": "box", "templates": _EIGHTY}
_PAIRS = {"kind": "retrieval", "texts": "long", "ks": (1,)}

_ALL: Sequence[Protocol] = (
    Protocol("coco-retrieval", "retrieval", read_coco_captions),
    Protocol("flickr30k", "retrieval", read_flickr30k),
    Protocol("sharegpt4v-1k", read=read_sharegpt4v, option="limit", **_PAIRS),
    Protocol("dci", read=read_dci, **_PAIRS),
    Protocol("urban-1k", read=read_urban1k, **_PAIRS),
    Protocol("imagenet", read=read_imagenet, drops_last=True, option="num_classes", **_CLASSES),
    Protocol("imagenet-v2", read=read_imagenet_v2, option="num_classes", **_CLASSES),
    Protocol("coco-boxes", read=read_coco_boxes, **_BOXES),
    Protocol("lvis-boxes", read=read_lvis_boxes, **_BOXES),
    Protocol("fg-ovd", "box captions", read_fg_ovd, texts="box"),
    Protocol("coco-cn", "retrieval", read_coco_cn),
    Protocol("flickr30k-cna", "retrieval", read_flickr30k_cna, lowercase=False),
    Protocol("boxclass-cn", "boxes", read_boxclass_cn, "box", lowercase=False, templates=("{}",)),
    Protocol("lit-cn", read=read_lit_cn, lowercase=False, **_PAIRS),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}


def find_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        ValueError: There is none.
    """
    if name not in PROTOCOLS:
        raise ValueError(
            f"protocol {quoted(name)} is unknown: choose one of {', '.join(PROTOCOLS)}"
        )
    return PROTOCOLS[name]
