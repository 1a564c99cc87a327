"""Similarity maps of texts over a picture, and a drawing of them."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from fgclip_det.apis.drawing.fonts import advise_font, families
from fgclip_det.apis.drawing.visualization import shortened
from fgclip_det.apis.inputs.picture_lists import as_shown
from fgclip_det.apis.region_texts import encode_texts
from fgclip_det.encoders import FGCLIP, FGCLIP2, RegionEncoder
from fgclip_det.encoders.picture_frames import to_tensor
from fgclip_det.io import open_regular, write_bytes

_MOST_TEXTS = 35
# The size FG-CLIP 2's authors draw dense maps at; twice the side takes gigabytes.
_MOST_PATCHES = 16_384
_COLORS = "inferno"
_DPI = 150
_PANEL_INCHES = 2.6
_MOST_COLUMNS = 6
_SHOWN_SIDE = 512
_CAPTIONS = {"shared": "one scale for all texts", "text": "each text with a scale of its own"}


@torch.no_grad()
def similarity_maps(
    encoder: FGCLIP | FGCLIP2,
    image: np.ndarray | Image.Image,
    texts: Any,
    *,
    image_size: int | None = None,
    max_patches: int | None = None,
    box_cells: Sequence[int] = (3, 5, 7),
) -> Tensor:
    """Cosine of each place of a picture with each text.

    FG-CLIP learns from averages of tokens over boxes, and no single token was ever compared with a
    text: the tokens at the edges of a thing may tell more of it than those inside. So a value is
    the best cosine of a few square boxes around its cell, each as `encode_regions` sees it.

    Args:
        encoder: Either generation.
        image: (H, W, 3) uint8 RGB, or a Pillow image, which is taken as viewers show it.
        texts: See `encode_texts`.
        image_size: Longer side in pixels that the picture is resized to, its aspect ratio kept up
            to whole patches; None for the size that the encoder was trained at.
        max_patches: For FG-CLIP 2, instead of `image_size`: the most patches that the picture is
            resized to.
        box_cells: Sides of these boxes in cells, odd numbers; ``(1,)`` is each token by itself.

    Returns:
        (T, h, w) float32 on the CPU, in [-1, 1]; cell (y, x) covers the picture from
        (x W / w, y H / h) to ((x + 1) W / w, (y + 1) H / h) pixels.

    Raises:
        ValueError: A setting is out of range, or the text embeddings are another encoder's.
    """
    check_settings(encoder, image_size, max_patches, box_cells)
    texts = encode_texts(encoder, texts)
    dense = _dense(encoder, _as_pillow(image), image_size, max_patches).float().permute(2, 0, 1)
    rows = F.normalize(texts.embeddings.to(dense), dim=1)
    best = dense.new_full((len(rows), *dense.shape[1:]), -1.0)
    for side in dict.fromkeys(box_cells):
        # Boxes are clipped at the border, as any box of a picture is.
        means = F.avg_pool2d(dense, side, 1, side // 2, count_include_pad=False)
        cosines = torch.einsum("td,dhw->thw", rows, F.normalize(means, dim=0))
        best = torch.maximum(best, cosines)
    return best.clamp(-1, 1).cpu()


def check_settings(
    encoder: FGCLIP | FGCLIP2,
    image_size: int | None,
    max_patches: int | None,
    box_cells: Sequence[int],
) -> None:
    """Refuse settings that `similarity_maps` cannot take, before any picture is read.

    Raises:
        ValueError: One is out of range, or is not for this encoder.
    """
    if not box_cells or any(side < 1 or side % 2 == 0 for side in box_cells):
        raise ValueError(f"box_cells is {list(box_cells)}: give odd numbers, such as 3, 5 and 7")
    if image_size is not None and max_patches is not None:
        raise ValueError("image_size and max_patches both say how large: give one of them")
    patch = encoder.patch_size
    longest = patch * math.isqrt(_MOST_PATCHES)
    if image_size is not None and not patch <= image_size <= longest:
        raise ValueError(f"image_size is {image_size}: it must be from {patch} to {longest} pixels")
    if max_patches is None:
        return
    if not isinstance(encoder, FGCLIP2):
        raise ValueError("max_patches is FG-CLIP 2's: give image_size for this encoder")
    if not 1 <= max_patches <= _MOST_PATCHES:
        raise ValueError(f"max_patches is {max_patches}: it must be from 1 to {_MOST_PATCHES}")


def check_count(texts: int) -> None:
    """Refuse a number of texts that no grid can show.

    Raises:
        ValueError: There are too many.
    """
    if not 1 <= texts <= _MOST_TEXTS:
        raise ValueError(f"{texts} texts for one grid of heat maps: give 1 to {_MOST_TEXTS}")


def peaks(maps: Tensor, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Centre (x, y) of the highest cell of each map, in pixels of the picture.

    Args:
        maps: (T, h, w) from `similarity_maps`.
        size: Height and width of the picture in pixels.
    """
    rows, columns = maps.shape[1:]
    height, width = size
    cells = (divmod(place, columns) for place in maps.flatten(1).argmax(dim=1).tolist())
    return [((x + 0.5) * width / columns, (y + 0.5) * height / rows) for y, x in cells]


def save_maps(
    path: str | os.PathLike, maps: Tensor, names: Sequence[str], size: tuple[int, int]
) -> None:
    """Write what `pack_maps` packs to a file, whatever its name ends in."""
    write_bytes(path, pack_maps(maps, names, size))


def pack_maps(maps: Tensor, names: Sequence[str], size: tuple[int, int], image: str = "") -> bytes:
    """The numbers as a NumPy archive: ``maps``, ``texts``, ``peaks`` (x, y), ``size``, ``image``.

    Args:
        maps: (T, h, w) from `similarity_maps`.
        names: The T texts.
        size: Height and width of the picture in pixels.
        image: Path of the picture; empty where it has none.
    """
    written = io.BytesIO()
    np.savez_compressed(
        written,
        maps=maps.numpy(),
        texts=np.array(list(names)),
        peaks=np.array(peaks(maps, size)),
        size=np.array(size),
        image=np.array(image),
    )
    return written.getvalue()


def packed_image(path: str | os.PathLike) -> str:
    """The ``image`` that `pack_maps` put into an archive.

    Raises:
        ValueError: The file cannot be read, or is no such archive.
    """
    with open_regular(path, "heat map") as stream:
        try:
            with np.load(stream, allow_pickle=False) as kept:
                return str(kept["image"])
        except Exception as error:  # broken archives raise whatever zip and NumPy run into
            raise ValueError(f"{str(path)!r} is no archive of heat maps ({error})") from None


def draw_heatmap(
    image: np.ndarray | Image.Image,
    maps: Tensor,
    names: Sequence[str],
    scale: Literal["shared", "text"] = "shared",
) -> Image.Image:
    """A grid: the picture, then for each text the picture in the colours of its map.

    Args:
        image: (H, W, 3) uint8 RGB, or a Pillow image.
        maps: (T, h, w) from `similarity_maps`.
        names: The T texts.
        scale: "shared": one colour is one cosine throughout, so that texts can be compared;
            "text": from each text's lowest to its highest, which tells best where it is, and
            nothing of whether it is there at all.

    Returns:
        The grid, RGB, with the scale beside it.

    Raises:
        ValueError: Too many texts for a grid, or an unknown scale.
    """
    check_count(len(names))
    if scale not in _CAPTIONS:
        raise ValueError(f'scale is {scale!r}: it must be "shared" or "text"')
    picture = _as_pillow(image)
    picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    figure, panels = _grid(picture, len(names) + 1)
    panels[0].imshow(picture)
    norms = _norms(maps, scale)
    marks = peaks(maps, (picture.height, picture.width))
    for panel, values, norm, (x, y) in zip(panels[1:], maps, norms, marks, strict=True):
        panel.imshow(_colored(picture, values, norm))
        for color, wide in (("black", 2.6), ("white", 1.2)):
            panel.plot(x - 0.5, y - 0.5, "+", color=color, markersize=9, markeredgewidth=wide)
        if scale == "text":
            _add_bar(figure, norm, [panel])
    if scale == "shared":
        _add_bar(figure, norms[0], panels)
    fonts = families()
    highest = maps.flatten(1).amax(dim=1).tolist()
    titles = [f"{shortened(name)}\n{value:.2f}" for name, value in zip(names, highest, strict=True)]
    for panel, title in zip(panels, ["picture\n", *titles], strict=True):
        panel.set_title(title, fontsize=8, fontfamily=fonts, parse_math=False)
    figure.supxlabel(f"cosine, {_CAPTIONS[scale]}; + marks the highest", fontsize=7, color="0.35")
    return _rendered(figure)


def _as_pillow(image: np.ndarray | Image.Image) -> Image.Image:
    """An RGB copy, turned as viewers turn it."""
    return Image.fromarray(as_shown(image) if isinstance(image, Image.Image) else image)


def _dense(
    encoder: FGCLIP | FGCLIP2, picture: Image.Image, image_size: int | None, max_patches: int | None
) -> Tensor:
    """(h, w, D) tokens of a picture."""
    by_patches = isinstance(encoder, FGCLIP2) and image_size is None
    resize = "patches" if by_patches else "keep_ratio"
    reader = RegionEncoder(encoder, resize, image_size, max_patches)
    return reader.encode_dense(to_tensor(picture))


def _norms(maps: Tensor, scale: str) -> list[Normalize]:
    """The cosines that each map's darkest and brightest colours stand for."""
    lows, highs = maps.flatten(1).amin(dim=1), maps.flatten(1).amax(dim=1)
    if scale == "shared":
        lows, highs = lows.min().expand_as(lows), highs.max().expand_as(highs)
    pairs = zip(lows.tolist(), highs.tolist(), strict=True)
    # A map of one value has no range: it is all dark.
    return [Normalize(low, max(high, low + 1e-6)) for low, high in pairs]


def _colored(picture: Image.Image, values: Tensor, norm: Normalize) -> np.ndarray:
    """(H, W, 3) in 0..1: the picture in grey, the more covered by colour the higher the cosine."""
    size = (picture.height, picture.width)
    options = {"mode": "bilinear", "align_corners": False}
    full = norm(F.interpolate(values[None, None], size, **options)[0, 0].numpy())
    colors = matplotlib.colormaps[_COLORS](full)[..., :3]
    grey = np.asarray(picture.convert("L"), np.float32)[..., None] / 255
    cover = 0.45 + 0.35 * full[..., None]
    return (1 - cover) * grey + cover * colors


def _grid(picture: Image.Image, count: int) -> tuple[Figure, list[Axes]]:
    columns = min(_MOST_COLUMNS, count if count <= 4 else math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    tall = min(max(picture.height / picture.width, 0.15), 4.0)
    inches = (columns * _PANEL_INCHES + 0.7, rows * (_PANEL_INCHES * tall + 0.5) + 0.3)
    figure = Figure(figsize=inches, dpi=_DPI, layout="compressed")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.set_axis_off()
    for panel in panels[count:]:
        panel.remove()
    return figure, panels[:count]


def _add_bar(figure: Figure, norm: Normalize, panels: list[Axes]) -> None:
    bar = figure.colorbar(
        ScalarMappable(norm, _COLORS), ax=panels, fraction=0.04, pad=0.02, aspect=30
    )
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def _rendered(figure: Figure) -> Image.Image:
    written = io.BytesIO()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.savefig(written, format="png", bbox_inches="tight", pad_inches=0.08)
    if any(str(one.message).startswith("Glyph") for one in said):
        # One for each letter, otherwise.
        advise_font()
    return Image.open(written).convert("RGB")
