"""The worst misses of a retrieval, as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from fgclip_det.evaluation.encoder.data_sets import Retrieval
from fgclip_det.evaluation.encoder.evaluate import Result
from fgclip_det.io import check_writable, read_image, write_text

# Longest side of a picture on the page, in px, and the most answers shown above the right one.
_SIDE, _ABOVE = 240, 3
_STYLE = f"""
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 70em; color: #222; }}
section {{ display: flex; gap: 1.5em; padding: 1em 0; border-top: 1px solid #ccc; }}
figure {{ margin: 0; width: {_SIDE}px; flex: none; }}
figcaption {{ color: #666; font-size: 85%; overflow-wrap: anywhere; }}
.right {{ font-weight: 600; color: #2ca25f; }}
.score {{ color: #666; font-weight: 400; font-variant-numeric: tabular-nums; }}
"""


def check_sheet(path: Path, protocol_kind: str) -> None:
    """Say what is wrong with a sheet before anything is computed.

    Raises:
        ValueError: It is no ``.html`` file in a folder that is there, or not of a retrieval.
        OSError: The folder cannot be written to.
    """
    if protocol_kind != "retrieval":
        raise ValueError(f"a sheet shows misses of retrieval, not of {protocol_kind}: leave it out")
    if path.suffix != ".html" or not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"{str(path)!r} must be an .html file in a folder that is there")
    check_writable(path.parent)


def write_sheet(path: Path, result: Result, number: int = 10) -> None:
    """Write the misses of the whole population whose right answer has the worst places.

    Each is a picture with its best caption and the captions ranked above that, or a caption with
    its picture and the pictures ranked above that; by the cosine.

    Args:
        path: The page; what was there is replaced, whole or not at all.
        result: Of a retrieval.
        number: Misses of each direction, at most.

    Raises:
        ValueError: The result is none of a retrieval, or a picture cannot be read.
        OSError: Writing failed.
    """
    record = result.record
    if not isinstance(record, Retrieval):
        raise ValueError(f"a sheet shows misses of retrieval, not of {result.protocol}")
    pictures, texts = (
        result.arrays[name] / np.linalg.norm(result.arrays[name], axis=1, keepdims=True)
        for name in ("image_features", "text_features")
    )
    parts = [f"<h1>{html.escape(result.protocol)}: worst misses</h1>"]
    parts.append("<h2>Picture to captions</h2>")
    for query, rank in _worst(result.arrays["i2t_rank"], number):
        parts.append(_missed_captions(record, query, rank, texts @ pictures[query]))
    parts.append("<h2>Caption to pictures</h2>")
    for query, rank in _worst(result.arrays["t2i_rank"], number):
        parts.append(_missed_pictures(record, query, rank, pictures @ texts[query]))
    write_text(path, _page(result.protocol, "\n".join(parts)))


def _worst(ranks: np.ndarray, number: int) -> list[tuple[int, int]]:
    """Queries with a wrong answer first and their ranks, the worst first."""
    order = np.argsort(-ranks, kind="stable")[:number]
    return [(int(query), int(ranks[query])) for query in order if ranks[query] > 0]


def _missed_captions(record: Retrieval, query: int, rank: int, cosines: np.ndarray) -> str:
    is_own = np.asarray(record.owners) == query
    right = int(np.where(is_own, cosines, -np.inf).argmax())
    above = np.argsort(-np.where(is_own, -np.inf, cosines), kind="stable")[: min(rank, _ABOVE)]
    lines = [_caption(record, one, cosines[one], "") for one in above]
    lines.append(_caption(record, right, cosines[right], "right"))
    picture = _figure(record.pictures[query], f"right caption at place {rank + 1}")
    return f"<section>{picture}<div>{''.join(lines)}</div></section>"


def _missed_pictures(record: Retrieval, query: int, rank: int, cosines: np.ndarray) -> str:
    right = int(record.owners[query])
    others = [one for one in np.argsort(-cosines, kind="stable") if one != right]
    above = others[: min(rank, _ABOVE)]
    figures = [_figure(record.pictures[one], f"cosine {cosines[one]:.3f}") for one in above]
    note = f"right picture at place {rank + 1}, cosine {cosines[right]:.3f}"
    figures.append(_figure(record.pictures[right], note))
    caption = f'<p class="right">{html.escape(record.captions[query])}</p>'
    return f"{caption}<section>{''.join(figures)}</section>"


def _caption(record: Retrieval, number: int, cosine: float, kind: str) -> str:
    text = html.escape(record.captions[number])
    return f'<p class="{kind}">{text} <span class="score">{cosine:.3f}</span></p>'


def _figure(path: Path, note: str) -> str:
    image = Image.fromarray(read_image(path, "stored"))
    image.thumbnail((_SIDE, _SIDE))
    stream = BytesIO()
    image.save(stream, format="JPEG")
    data = base64.b64encode(stream.getvalue()).decode()
    name = html.escape(path.name.encode("utf-8", "replace").decode())
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{name}">'
        f"<figcaption>{name}<br>{html.escape(note)}</figcaption></figure>"
    )


def _page(title: str, body: str) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )
