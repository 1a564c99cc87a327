"""Data sets of one long caption a picture: ShareGPT4V-1K, DCI and Urban-1K."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from fgclip_det.evaluation.encoder.data_sets.records import Retrieval
from fgclip_det.evaluation.encoder.data_sets.stock_files import (
    check_once,
    entries_of,
    picture_paths,
    read_entries,
    stock_path,
)
from fgclip_det.io import quoted, read_json, read_text


def paired(
    pictures: Sequence[Path], captions: Sequence[str], source: Path, limit: int | None = None
) -> Retrieval:
    """Pictures with a caption each, of which the authors take the first `limit`.

    Raises:
        ValueError: A picture stands twice.
    """
    check_once([str(one) for one in pictures], source, "picture")
    count = len(pictures)
    taken = None if limit is None or limit >= count else range(limit)
    return Retrieval(pictures, captions, range(count), taken, taken)


def read_sharegpt4v(root: Path, images: Path | None = None, limit: int = 1000) -> Retrieval:
    """Pictures and captions in the order of the file, of which the authors take the first 1,000.

    Args:
        root: Holds ``share-captioner_coco_lcs_sam_1246k_1107.json``, and pictures in ``images/``,
            ``sam_pre50/`` or where the file says.
        images: Folder of the pictures, if elsewhere.
        limit: In place of the 1,000.

    Raises:
        ValueError: The file is missing or broken, or `limit` is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}: it must be at least 1")
    path = stock_path(root, "share-captioner_coco_lcs_sam_1246k_1107.json")
    of = "ShareGPT4V's share-captioner_coco_lcs_sam_1246k_1107.json"
    entries = read_entries(path, None, {"image": str, "conversations": list}, of)
    captions = []
    for number, entry in enumerate(entries):
        turns = entry["conversations"]
        answer = turns[1] if len(turns) > 1 and isinstance(turns[1], dict) else {}
        if not isinstance(answer.get("value"), str):
            raise ValueError(
                f"{str(path)!r}: number {number} has no caption in conversations[1]: it is another "
                f"file than {of}, or broken: get it again"
            )
        captions.append(answer["value"])
    names = [entry["image"] for entry in entries]
    places = (root / "images", root / "sam_pre50", root)
    return paired(picture_paths(images, names, *places), captions, path, limit)


def read_dci(root: Path, images: Path | None = None) -> Retrieval:
    """Densely Captioned Images: the ``extra_caption`` of each file; an empty one is a caption.

    Args:
        root: Holds ``densely_captioned_images/annotations/*.json`` and, beside these,
            ``photos/``.
        images: Folder of the pictures, if elsewhere.

    Raises:
        ValueError: A file is missing or broken; it is named.
    """
    folder = stock_path(root, "densely_captioned_images/annotations")
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"{str(folder)!r} holds no .json file: get DCI's annotations again")
    fields, of = {"image": str, "extra_caption": str}, "an annotation of DCI"
    entries = [entries_of([read_json(path)], path, None, fields, of)[0] for path in files]
    names = [entry["image"] for entry in entries]
    paths = picture_paths(images, names, folder.parent / "photos", root / "photos")
    return paired(paths, [entry["extra_caption"] for entry in entries], folder)


def read_urban1k(root: Path, images: Path | None = None) -> Retrieval:
    """Urban-1K as Long-CLIP reads it: the first line of a caption, with its line end.

    Args:
        root: Holds ``Urban1k/caption/X.txt`` and ``Urban1k/image/X.jpg``.
        images: Folder of the pictures, if elsewhere.

    Raises:
        ValueError: A file is missing or no text; it is named.
    """
    folder = stock_path(root, "Urban1k/caption", "caption")
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise ValueError(f"{str(folder)!r} holds no .txt file: get Urban1k again")
    captions = [_first_line(path) for path in files]
    names = [f"{path.stem}.jpg" for path in files]
    return paired(picture_paths(images, names, folder.parent / "image"), captions, folder)


def read_lit_cn(root: Path, images: Path | None = None) -> Retrieval:
    """Lines of ``path<TAB>caption``: LIT-CN, and DCI-CN and DOCCI-CN too.

    Args:
        root: Holds ``image_caption_long_cn.txt`` or ``image_caption_trans.txt``, and the pictures
            where that says.
        images: Folder that the paths are relative to, if another.

    Raises:
        ValueError: The file is missing, or a line is none of these.
    """
    path = stock_path(root, "image_caption_long_cn.txt", "image_caption_trans.txt")
    lines = caption_lines(path)
    names = [name for name, _ in lines]
    return paired(picture_paths(images, names, root), [text for _, text in lines], path)


def caption_lines(path: Path) -> list[tuple[str, str]]:
    """What stands before and behind the first tab of each line that is not blank.

    Raises:
        ValueError: The file cannot be read or is empty, or a line has no tab.
    """
    found = []
    for number, line in text_lines(path):
        name, mark, caption = line.partition("\t")
        if not mark or not name:
            raise ValueError(
                f"line {number} of {str(path)!r} is {quoted(line)}: a name, a tab and a caption "
                "are needed"
            )
        found.append((name, caption))
    return found


def text_lines(path: Path) -> list[tuple[int, str]]:
    """Lines of a text that are not blank, with their numbers; one that has no end is warned of.

    Raises:
        ValueError: The file cannot be read or is empty.
    """
    text = read_text(path)
    # Not splitlines, which ends lines at Unicode's separators too.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    found = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise ValueError(f"{str(path)!r} is empty: get it again")
    if lines[-1]:
        warnings.warn(f"{str(path)!r} ends within a line: is it truncated?", stacklevel=2)
    return found


def _first_line(path: Path) -> str:
    line, end, _ = read_text(path).replace("\r\n", "\n").partition("\n")
    if not line + end:
        raise ValueError(f"{str(path)!r} is empty: get Urban1k again")
    return line + end
