"""Which library counts boxes: faster-coco-eval where it is installed, else pycocotools."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Choice = Literal["auto", "faster-coco-eval", "pycocotools"]
CHOICES = ("auto", "faster-coco-eval", "pycocotools")


@dataclass(frozen=True)
class Library:
    """What a library calls its two classes; both have the interface of pycocotools.

    Attributes:
        name: The distribution's.
        index: Of annotations.
        evaluation: Counts one kind of shape. A detection whose ``lvis_mark`` is true and that
            finds nothing is no false one.
    """

    name: str
    index: type
    evaluation: type


class _MarkedEval(COCOeval):
    """pycocotools, and what faster-coco-eval makes of ``lvis_mark``."""

    def evaluateImg(self, imgId: int, catId: int, aRng: list, maxDet: int) -> dict[str, Any] | None:
        """As pycocotools, but a marked detection without a match does not count."""
        result = super().evaluateImg(imgId, catId, aRng, maxDet)
        if result:
            marked = [self.cocoDt.anns[one]["lvis_mark"] for one in result["dtIds"]]
            unmatched = result["dtMatches"] == 0
            result["dtIgnore"] = np.logical_or(
                result["dtIgnore"], unmatched & np.array(marked, bool)
            )
        return result


def counting_library(choice: Choice = "auto") -> Library:
    """The library that counts.

    Args:
        choice: "auto" takes faster-coco-eval where it is installed (the extra ``fasteval``); both
            give the same numbers.

    Raises:
        ValueError: `choice` is none of these, or what it names is not installed.
    """
    check_choice(choice)
    if choice != "pycocotools":
        try:
            return _faster()
        except ImportError as error:
            if choice == "faster-coco-eval":
                raise ValueError(
                    f"library='faster-coco-eval' cannot be imported ({error}): "
                    "pip install 'fgclip-det[fasteval]', or take library='auto'"
                ) from None
            _announce_fallback()
    return Library("pycocotools", COCO, _MarkedEval)


def check_choice(choice: str) -> None:
    """Refuse what is none of `CHOICES`.

    Raises:
        ValueError: It is none.
    """
    if choice not in CHOICES:
        raise ValueError(f"library is {choice!r}: choose {', '.join(map(repr, CHOICES))}")


def _faster() -> Library:
    package = importlib.import_module("faster_coco_eval")
    return Library("faster-coco-eval", package.COCO, package.COCOeval_faster)


@cache
def _announce_fallback() -> None:
    MMLogger.get_current_instance().info(
        "faster-coco-eval is not installed: boxes are counted by pycocotools, which takes several "
        "times as long and gives the same numbers (pip install 'fgclip-det[fasteval]')"
    )
