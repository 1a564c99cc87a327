"""Accuracy of a dual encoder at telling a region's caption from its hard negatives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm


class RegionEncoder(Protocol):
    """What is needed of an encoder; ``fgclip_det.encoders.FGCLIP`` has it."""

    image_mean: Sequence[float]
    image_std: Sequence[float]
    image_size: int

    def encode_regions(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(N, 3, H, W) normalised pixels, N (K_i, 4) xyxy in their pixels -> (sum K_i, D)."""

    def encode_text(self, texts: Sequence[str], text_length: str) -> Tensor:
        """B captions -> (B, D)."""


def region_accuracy(
    encoder: RegionEncoder,
    annotation_file: str | Path,
    image_root: str | Path,
    n_negatives: int = 10,
    image_size: int | None = None,
    batch_size: int = 32,
    text_length: str = "short",
    progress: bool = False,
) -> dict[str, Any]:
    """Share of ground-truth boxes whose own caption has the highest cosine (a tie is right).

    The protocol of FG-CLIP: the picture is resized to a square, the box with it, and the box is
    pooled from the dense features. Annotations with fewer than ``n_negatives`` negatives are left
    out.

    Args:
        encoder: The dual encoder.
        annotation_file: JSON in FG-OVD's benchmark format (boxes xywh, px).
        image_root: Folder that ``file_name`` is relative to.
        n_negatives: Use the first so many negatives of each annotation.
        image_size: Side of the square in px; the encoder's own if None.
        batch_size: Pictures in a batch.
        text_length: "short" or "long" text tower.
        progress: Whether to show a progress bar.

    Returns:
        ``accuracy`` and ``chance`` (0..1), ``n`` annotations used, ``skipped`` annotations with too
        few negatives, and ``pairwise``: by attribute, the share of negatives that score no higher
        than the positive. An attribute is a set of words that are swapped for one another in the
        file's negatives, named by its first three; negatives that change several words have none.

    Raises:
        ValueError: The file or a picture cannot be read, or no annotation has enough negatives.
    """
    if n_negatives < 1 or batch_size < 1:
        raise ValueError(
            f"n_negatives {n_negatives} and batch_size {batch_size} must be at least 1"
        )
    data = _read(Path(annotation_file))
    by_image = _eligible(data, n_negatives, annotation_file)
    groups = _captions(data, by_image, n_negatives)
    file_names = {image["id"]: image["file_name"] for image in data["images"]}
    files = [Path(image_root) / file_names[i] for i in by_image]
    batches = _batches(
        encoder, files, list(by_image.values()), image_size or encoder.image_size, batch_size
    )
    count = -(-len(files) // batch_size)
    shown = tqdm(batches, total=count, desc="regions", unit="batch", disable=not progress)
    cosines = _cosines(encoder, shown, groups, text_length)
    right = cosines[:, 0] >= cosines[:, 1:].amax(dim=1)
    return {
        "accuracy": right.float().mean().item(),
        "chance": 1 / (1 + n_negatives),
        "n": len(groups),
        "skipped": len(data["annotations"]) - len(groups),
        "pairwise": _pairwise(groups, cosines),
    }


def _eligible(
    data: dict[str, Any], n_negatives: int, annotation_file: str | Path
) -> dict[int, list[dict[str, Any]]]:
    """Annotations with enough negatives, by image."""
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in data["annotations"]:
        if len(annotation["neg_category_ids"]) >= n_negatives:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
    if not by_image:
        raise ValueError(
            f"no annotation of {str(annotation_file)!r} has {n_negatives} negatives: use fewer"
        )
    return by_image


def _captions(
    data: dict[str, Any], by_image: dict[int, list[dict[str, Any]]], n_negatives: int
) -> list[list[str]]:
    """Of each annotation, its own caption and then its negatives."""
    names = {category["id"]: category["name"] for category in data["categories"]}
    return [
        [names[i] for i in (a["category_id"], *a["neg_category_ids"][:n_negatives])]
        for annotations in by_image.values()
        for a in annotations
    ]


@torch.no_grad()
def _cosines(
    encoder: RegionEncoder,
    batches: Iterable[tuple[Tensor, Sequence[Tensor]]],
    groups: Sequence[Sequence[str]],
    text_length: str,
) -> Tensor:
    """(K, 1 + N) on the CPU: each box against its own caption, then its negatives."""
    regions = [
        F.normalize(encoder.encode_regions(pixels, boxes).float(), dim=-1)
        for pixels, boxes in batches
    ]
    texts, rows = _encode_captions(encoder, groups, text_length)
    return torch.einsum("kd,kmd->km", torch.cat(regions), texts[rows]).cpu()


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"annotation file {str(path)!r} cannot be read ({error})") from None
    missing = {"images", "annotations", "categories"} - set(data)
    if missing or any("neg_category_ids" not in a for a in data["annotations"]):
        raise ValueError(
            f"{str(path)!r} is not in FG-OVD's format: it needs images, categories, and "
            "annotations with neg_category_ids"
        )
    return data


def _batches(
    encoder: RegionEncoder,
    files: list[Path],
    annotations: list[list[dict[str, Any]]],
    side: int,
    batch_size: int,
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Normalised (B, 3, side, side) pixels and the (K_i, 4) xyxy boxes of each, in px of them."""
    device = getattr(encoder, "device", "cpu")
    mean = torch.tensor(encoder.image_mean).view(3, 1, 1)
    std = torch.tensor(encoder.image_std).view(3, 1, 1)
    for start in range(0, len(files), batch_size):
        pixels, boxes = [], []
        for path, group in zip(
            files[start : start + batch_size], annotations[start : start + batch_size], strict=True
        ):
            image, (width, height) = _read_square(path, side)
            pixels.append((image - mean) / std)
            xywh = torch.tensor([a["bbox"] for a in group], dtype=torch.float32)
            xyxy = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
            scale = torch.tensor([side / width, side / height] * 2)
            boxes.append((xyxy * scale).to(device))
        yield torch.stack(pixels).to(device), boxes


def _read_square(path: Path, side: int) -> tuple[Tensor, tuple[int, int]]:
    """Pixels (3, side, side) in 0..1, and the (width, height) of the picture as stored."""
    try:
        with Image.open(path) as image:
            size = image.size
            image = image.convert("RGB")
    except OSError as error:
        raise ValueError(
            f"picture {str(path)!r} cannot be read ({error}): check image_root"
        ) from None
    if size != (side, side):
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255, size


def _encode_captions(
    encoder: RegionEncoder, groups: list[list[str]], text_length: str, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Unit embeddings (T, D) of the distinct captions, and the rows (K, 1 + N) of each group."""
    index: dict[str, int] = {}
    rows = [[index.setdefault(text, len(index)) for text in group] for group in groups]
    texts = list(index)
    embeddings = [
        encoder.encode_text(texts[i : i + batch_size], text_length)
        for i in range(0, len(texts), batch_size)
    ]
    return F.normalize(torch.cat(embeddings).float(), dim=-1), torch.tensor(rows)


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


def _pairwise(groups: list[list[str]], cosines: Tensor) -> dict[str, float]:
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
