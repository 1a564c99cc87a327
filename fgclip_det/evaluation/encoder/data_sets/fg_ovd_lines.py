"""FG-OVD's boxes as FG-CLIP's accuracy asks about them: those of its four files that are there."""

from __future__ import annotations

from pathlib import Path

from fgclip_det.evaluation.encoder.data_sets.records import BoxCaptions
from fgclip_det.evaluation.encoder.data_sets.stock_files import corner_array, picture_paths
from fgclip_det.fg_ovd.files import read_fg_ovd_lines

FILES = {
    "hard": "h_attributes_llava.jsonl",
    "medium": "m_attributes_llava.jsonl",
    "easy": "e_attributes_llava.jsonl",
    "trivial": "shuffle_negatives_llava.jsonl",
}


def read_fg_ovd(root: Path, images: Path | None = None) -> BoxCaptions:
    """Boxes file by file, in the order of the file.

    Args:
        root: Holds some of `FILES`, and the pictures in ``coco/`` or where the files say.
        images: Folder that the files' names are relative to, if another.

    Raises:
        ValueError: None of the files is there, or one is broken; it is named.
    """
    there = {name: root / file for name, file in FILES.items() if (root / file).exists()}
    if not there:
        raise ValueError(
            f"{str(root)!r} holds none of {', '.join(FILES.values())}: give the folder of FG-CLIP's"
            " lines of FG-OVD"
        )
    lines = {name: read_fg_ovd_lines(path) for name, path in there.items()}
    every = [line for own in lines.values() for line in own]
    names = list(dict.fromkeys(line.file_name for line in every))
    places = {name: place for place, name in enumerate(names)}
    return BoxCaptions(
        pictures=picture_paths(images, names, root / "coco", root),
        owners=[places[line.file_name] for line in every],
        corners=corner_array([line.box for line in every]),
        captions=[line.captions for line in every],
        subsets=[name for name, own in lines.items() for _ in own],
    )
