"""Headers of very many pictures, read in threads and remembered."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tqdm import tqdm

from fgclip_det.io import read_header

_THREADS, _PART = 8, 64
# Seconds before a progress bar is shown.
_DELAY = 2


class SeenPicture(NamedTuple):
    """What is remembered of a picture that is whole.

    Attributes:
        num_bytes: Of the file; it and the times tell whether that is still the same.
        changed: Time of the last change that the file tells, in ns; copies and archives keep it.
        placed: Time of the last change of the file or what is known of it, in ns; nobody sets it.
        width: As stored, in pixels.
        height: Likewise.
        sideways: Whether viewers swap the sides.
    """

    num_bytes: int
    changed: int
    placed: int
    width: int
    height: int
    sideways: bool


def file_state(path: str | os.PathLike) -> tuple[int, int, int]:
    """What tells whether a file is still the same: its bytes and both times of `SeenPicture`."""
    state = os.stat(path)
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def look_at(
    root: str, names: Sequence[str], seen: Mapping[str, SeenPicture]
) -> dict[str, SeenPicture | str]:
    """Look at pictures of which nothing is remembered, or which changed since.

    Args:
        root: Folder of the pictures.
        names: Relative to it.
        seen: What is remembered.

    Returns:
        By name what the picture is, or what is wrong with it.
    """
    found: dict[str, SeenPicture | str] = {}
    parts = [names[start : start + _PART] for start in range(0, len(names), _PART)]
    pool = ThreadPoolExecutor(_THREADS)
    try:
        jobs = [pool.submit(_look_at_part, root, part, seen) for part in parts]
        with tqdm(
            total=len(names), desc="pictures", delay=_DELAY, disable=None, leave=False
        ) as bar:
            for job, part in zip(jobs, parts, strict=True):
                found.update(zip(part, job.result(), strict=True))
                bar.update(len(part))
    finally:
        # After Ctrl-C nobody waits for what is left.
        pool.shutdown(cancel_futures=True)
    return found


def _look_at_part(
    root: str, names: Sequence[str], seen: Mapping[str, SeenPicture]
) -> list[SeenPicture | str]:
    return [_look(os.path.join(root, name), seen.get(name)) for name in names]


def _look(path: str, seen: SeenPicture | None) -> SeenPicture | str:
    try:
        state = file_state(path)
        if seen is not None and state == seen[:3]:
            return seen
        return SeenPicture(*state, *read_header(path))
    except FileNotFoundError:
        return f"{path!r} is missing"
    except (OSError, ValueError) as error:
        text = str(error)
        return text if os.path.basename(path) in text else f"{path!r}: {text}"
