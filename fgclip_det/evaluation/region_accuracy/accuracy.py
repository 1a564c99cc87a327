"""Accuracy of a dual encoder at telling a region's caption from its hard negatives.

The protocol of FG-CLIP: each annotated box counts once; its feature is pooled from the dense map;
it is right if no negative has a higher cosine than its own caption. A result holds, in shares,

* ``accuracy``, ``chance`` (mean of 1 / captions), and ``text_only``, the accuracy of a scorer that
  sees no picture, or None;
* ``attributes`` (see `attribute_breakdown`) and ``pairwise``: by attribute, the share of negatives
  that score no higher than the right caption. There an attribute is a set of words that are swapped
  for one another in the file's negatives, named by its first three; negatives that change several
  words have none;

and in numbers

* ``n`` annotations used; of those ``fewer`` with fewer negatives than the most, and ``undefined``
  without a feature or with a cosine that is no number, which count as wrong;
* ``skipped`` annotations with too few negatives; ``missing_images`` with their ``missing_boxes``;
* distinct ``captions``, and ``long_captions`` of these, which are cut to ``max_tokens`` tokens;
* ``confused`` words (see `confused_words`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fgclip_det.encoders import FGCLIP, FGCLIP2
from fgclip_det.evaluation.processes import process_number, put_together
from fgclip_det.evaluation.region_accuracy.features import check_image_size, region_features
from fgclip_det.fg_ovd.confusions import attribute_breakdown, confused_words
from fgclip_det.fg_ovd.files import FGOVDLine, check_n_negatives
from fgclip_det.fg_ovd.regions import read_fg_ovd_regions
from fgclip_det.fg_ovd.text_prior import CaptionScorer
from fgclip_det.io import check_stored_size, listed, read_header

# Texts that are encoded at once, and boxes that are compared at once.
_TEXTS, _BOXES = 256, 1024


def region_accuracy(
    encoder: FGCLIP | FGCLIP2,
    annotation_file: str | Path,
    image_root: str | Path,
    n_negatives: int | None = None,
    image_size: int | None = None,
    batch_size: int = 32,
    text_length: str | None = None,
    progress: bool = False,
    *,
    keep_ratio: bool = False,
    skip_missing: bool = False,
    scorer: CaptionScorer | None = None,
) -> dict[str, Any]:
    """Share of ground-truth boxes whose own caption has the highest cosine (a tie is right).

    Args:
        encoder: The dual encoder.
        annotation_file: JSON of FG-OVD, or FG-CLIP's lines of it (``.jsonl``).
        image_root: Folder that the pictures' names are relative to.
        n_negatives: Use the first so many negatives of each annotation, and leave out those with
            fewer; None takes all that each has, as FG-CLIP's evaluation does.
        image_size: Side of the square, or with `keep_ratio` the longest side, in px. If None, and
            without `keep_ratio`, pictures go in as the encoder's authors evaluate it.
        batch_size: Pictures in a batch.
        text_length: Of the text tower; None takes the one made for regions.
        progress: Whether to show progress bars.
        keep_ratio: Whether to keep the aspect ratio of pictures, as a detector does.
        skip_missing: Whether to go on without pictures that are not on the disk.
        scorer: For ``text_only``; see `fit_scorer`.

    Returns:
        What the module describes.

    Raises:
        ValueError: The file or a picture cannot be read, pictures are missing (the first ten are
            named) or annotated as viewers turn them, or no annotation has enough negatives.
    """
    return region_accuracies(
        encoder,
        [annotation_file],
        image_root,
        n_negatives,
        image_size,
        batch_size,
        text_length,
        progress,
        keep_ratio=keep_ratio,
        skip_missing=skip_missing,
        scorers=[scorer],
    )[0]


def region_accuracies(
    encoder: FGCLIP | FGCLIP2,
    annotation_files: Sequence[str | Path],
    image_root: str | Path,
    n_negatives: int | None = None,
    image_size: int | None = None,
    batch_size: int = 32,
    text_length: str | None = None,
    progress: bool = False,
    *,
    keep_ratio: bool = False,
    skip_missing: bool = False,
    scorers: Sequence[CaptionScorer | None] | None = None,
) -> list[dict[str, Any]]:
    """`region_accuracy` of several files, with each picture and each caption encoded once.

    The subsets of FG-OVD share their pictures. All files are checked before anything is encoded.
    Arguments are those of `region_accuracy`; `scorers` has one for each file.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    check_image_size(encoder, image_size, keep_ratio)
    length = text_length or encoder.region_text_length
    root = Path(image_root)
    chosen = [_select(file, root, n_negatives, skip_missing) for file in annotation_files]
    counts = [_count_captions(encoder, selection.lines, length) for selection in chosen]
    lines = [line for selection in chosen for line in selection.lines]
    _check_sizes(root, lines)
    paths, boxes = [root / line.file_name for line in lines], [line.box for line in lines]
    # Before the captions: a broken picture should not cost the time that they take.
    regions = region_features(
        encoder, paths, boxes, image_size, keep_ratio, batch_size, progress=progress
    )
    captions = [line.captions for line in lines]
    with warnings.catch_warnings():
        # They are counted above, all of them.
        warnings.filterwarnings("ignore", r"\d+ caption\(s\) are longer than")
        cosines = caption_cosines(encoder, regions, captions, length, progress)
    ends = np.cumsum([len(selection.lines) for selection in chosen])
    parts = np.split(cosines, ends[:-1])
    results = []
    for selection, count, rows, scorer in zip(
        chosen, counts, parts, scorers or [None] * len(chosen), strict=True
    ):
        groups = [line.captions for line in selection.lines]
        text_only = None if scorer is None else scorer.accuracy(groups)
        results.append(
            {**_summary(groups, rows), "text_only": text_only, **selection.left_out, **count}
        )
    return results


def fit_scorer(validation_file: str | Path, progress: bool = False) -> CaptionScorer:
    """A scorer that never sees a picture, fitted on the captions of a file of either format.

    Raises:
        ValueError: The file cannot be read, or none of its captions has negatives.
    """
    lines = read_fg_ovd_regions(validation_file)
    # Boxes of one caption are one group, as in the detection protocol.
    groups = dict.fromkeys((line.file_name, line.captions) for line in lines)
    return CaptionScorer([captions for _, captions in groups], progress=progress)


def long_captions(encoder: FGCLIP | FGCLIP2, texts: Sequence[str], text_length: str) -> list[str]:
    """Those of some captions that the encoder cuts, since they have too many tokens."""
    limit = encoder.text_model.max_length(text_length)
    # Both generations read captions in lower case.
    lowered = [text.lower() for text in texts]
    rows = encoder.tokenizer(lowered, verbose=False)["input_ids"] if texts else []
    return [text for text, row in zip(texts, rows, strict=True) if len(row) > limit]


def _count_captions(
    encoder: FGCLIP | FGCLIP2, lines: Sequence[FGOVDLine], text_length: str
) -> dict[str, int]:
    distinct = list(dict.fromkeys(text for line in lines for text in line.captions))
    return {
        "captions": len(distinct),
        "long_captions": len(long_captions(encoder, distinct, text_length)),
        "max_tokens": encoder.text_model.max_length(text_length),
    }


@torch.no_grad()
def caption_cosines(
    encoder: FGCLIP | FGCLIP2,
    regions: Tensor,
    groups: Sequence[Sequence[str]],
    text_length: str,
    progress: bool = False,
) -> np.ndarray:
    """Cosine of each region with each of its captions.

    Args:
        encoder: Encodes every distinct caption once, in one of the processes.
        regions: (K, D), of unit length.
        groups: Captions of each region, any number.
        text_length: Of the text tower.
        progress: Whether to show a progress bar.

    Returns:
        (K, M) float32, M the most captions of a region; -inf where it has fewer. A caption that
        reads as the first of its group has the same cosine, to the bit.
    """
    index: dict[str, int] = {}
    numbers = [[index.setdefault(text, len(index)) for text in group] for group in groups]
    texts = list(index)
    number, processes = process_number()
    parts = [slice(start, start + _TEXTS) for start in range(0, len(texts), _TEXTS)]
    own = parts[number::processes]
    embeddings = torch.zeros(len(texts), encoder.projection_dim)
    total = sum(len(texts[part]) for part in own)
    with tqdm(total=total, desc="captions", disable=None if progress else True) as bar:
        for part in own:
            embeddings[part] = encoder.encode_text(texts[part], text_length).cpu()
            bar.update(len(texts[part]))
    table = F.normalize(put_together(embeddings).to(encoder.device), dim=-1)
    width = max(map(len, numbers))
    rows = torch.tensor([[*row, *[-1] * (width - len(row))] for row in numbers])
    parts = [
        torch.einsum("kd,kmd->km", regions[start : start + _BOXES], table[chosen]).cpu()
        for start in range(0, len(rows), _BOXES)
        for chosen in (rows[start : start + _BOXES].to(table.device),)
    ]
    # The places of a row may be summed up in different orders.
    cosines = torch.cat(parts)
    cosines = torch.where(rows == rows[:, :1], cosines[:, :1], cosines)
    return cosines.masked_fill(rows < 0, -torch.inf).numpy()


class _Selection(NamedTuple):
    """Lines of a file that count, with the negatives that count, and numbers of what is not."""

    lines: list[FGOVDLine]
    left_out: dict[str, int]


def _select(
    source: str | Path, root: Path, n_negatives: int | None, skip_missing: bool
) -> _Selection:
    lines = read_fg_ovd_regions(source)
    enough = _with_negatives(lines, n_negatives, source)
    names = list(dict.fromkeys(line.file_name for line in enough))
    missing = [name for name in names if not (root / name).is_file()]
    if missing and not skip_missing:
        named = listed([repr(str(root / name)) for name in missing], "missing pictures")
        raise ValueError(
            f"{len(missing)} of {len(names)} pictures of {str(source)!r} are missing, the first: "
            f"{named}: check the folder of the pictures (FG-OVD needs COCO's train2017 and "
            "val2017 there); skip_missing goes on without them, and the result tells that"
        )
    gone = set(missing)
    kept = [line for line in enough if line.file_name not in gone]
    if not kept:
        raise ValueError(
            f"none of the {len(names)} pictures of {str(source)!r} is in {str(root)!r}: check it"
        )
    left_out = {
        "skipped": len(lines) - len(enough),
        "missing_images": len(missing),
        "missing_boxes": len(enough) - len(kept),
    }
    return _Selection(kept, left_out)


def _check_sizes(root: Path, lines: Sequence[FGOVDLine]) -> None:
    """Refuse boxes of turned pictures, before any picture is encoded."""
    for name, size in {line.file_name: line.size for line in lines}.items():
        if size is not None:
            header = read_header(root / name)
            check_stored_size(root / name, (header.width, header.height), size)


def _with_negatives(
    lines: Sequence[FGOVDLine], n_negatives: int | None, source: str | Path
) -> list[FGOVDLine]:
    """Lines with enough negatives, of which they keep the first."""
    if n_negatives is not None:
        check_n_negatives(n_negatives)
    least = 1 if n_negatives is None else n_negatives
    if least < 1:
        raise ValueError("n_negatives is 0: without a wrong caption every box is right")
    kept = [
        replace(line, captions=line.captions if n_negatives is None else line.captions[: 1 + least])
        for line in lines
        if len(line.captions) > least
    ]
    if not kept:
        most = max(len(line.captions) for line in lines) - 1
        raise ValueError(
            f"no annotation of {str(source)!r} has {least} negatives: use fewer, at most {most}"
        )
    return kept


def _summary(groups: Sequence[Sequence[str]], cosines: np.ndarray) -> dict[str, Any]:
    """Accuracy and mistakes from the (K, M) cosines of K groups, the right caption's first."""
    sizes = np.array([len(group) for group in groups])
    # -inf is where a group has no caption; that of a caption is a number or NaN.
    defined = ~np.isnan(cosines).any(axis=1)
    right = defined & (cosines[:, 0] >= cosines[:, 1:].max(axis=1))
    chosen = np.where(defined, cosines.argmax(axis=1), -1)
    return {
        "accuracy": float(right.mean()),
        "chance": float((1 / sizes).mean()),
        "n": len(groups),
        "fewer": int((sizes < sizes.max()).sum()),
        "undefined": int((~defined).sum()),
        "attributes": attribute_breakdown(groups, chosen.tolist()),
        "confused": confused_words(groups, chosen.tolist()),
        "pairwise": _pairwise(groups, cosines),
    }


def _swapped_words(positive: str, negative: str) -> tuple[str, str] | None:
    """The one word that differs in each of two captions, or None if that is not all."""
    a, b = positive.split(), negative.split()
    pairs = [pair for pair in zip(a, b, strict=False) if pair[0] != pair[1]]
    return pairs[0] if len(a) == len(b) and len(pairs) == 1 else None


def _attribute_names(swaps: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Word -> name of its attribute: words that are swapped, even through others, are one."""
    members: dict[str, set[str]] = {}
    for a, b in swaps:
        merged = members.get(a, {a}) | members.get(b, {b})
        for word in merged:
            members[word] = merged
    return {w: "/".join(sorted(m)[:3]) + "/..." * (len(m) > 3) for w, m in members.items()}


def _pairwise(groups: Sequence[Sequence[str]], cosines: np.ndarray) -> dict[str, float]:
    found = {
        (k, m): swap
        for k, group in enumerate(groups)
        for m, negative in enumerate(group[1:], start=1)
        if (swap := _swapped_words(group[0], negative)) is not None
    }
    names = _attribute_names(set(found.values()))
    outcomes: dict[str, list[bool]] = {}
    right = (cosines[:, :1] >= cosines).tolist()
    for (k, m), swap in found.items():
        outcomes.setdefault(names[swap[0]], []).append(right[k][m])
    return {name: sum(values) / len(values) for name, values in sorted(outcomes.items())}
