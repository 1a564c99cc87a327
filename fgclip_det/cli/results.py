"""What detectors found in pictures: a JSON file and a drawing for each, and all as JSON lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import fgclip_det
from fgclip_det.apis.detections import Detections, rounded
from fgclip_det.apis.drawing.visualization import draw_detections
from fgclip_det.apis.inputs.kinds import is_url
from fgclip_det.cli.outputs import (
    check_folder,
    print_line,
    source_text,
    write_drawing,
    write_result,
)
from fgclip_det.io import path_text, read_json, replaced_text, to_json

# All results of a run, in order, a line each.
LINES = "results.jsonl"


class Results:
    """Writes what is found, picture by picture; a context, in which a run of a command is.

    `LINES` is written beside the others and takes its name at the end of the run: it holds that run
    whole, or is as it was. Of two commands at once, the one that ends last has it; their single
    files are all there. Where no picture was done there is none.

    Args:
        out_dir: Where to; None writes no file.
        with_drawings: Whether pictures are drawn too.
        with_lines: Whether `LINES` is written, and each result tells of its run: its keys are those
            of `Detections.to_dict`, then "path" and what `about` gives. ``demo``
            has only the first.
        to_stdout: Whether results are printed, as JSON lines.
        drawing: Further arguments of `draw_detections`.

    Attributes:
        about: Gives what each result tells of the run; asked once, with the first.
    """

    def __init__(
        self,
        out_dir: Path | None,
        with_drawings: bool,
        with_lines: bool = False,
        to_stdout: bool = False,
        drawing: dict[str, Any] | None = None,
    ) -> None:
        self.out_dir, self.with_drawings, self.with_lines = out_dir, with_drawings, with_lines
        self.to_stdout, self.drawing = to_stdout, drawing or {}
        self.about: Callable[[], dict[str, Any]] = dict
        self._told: dict[str, Any] | None = None
        self._stack = ExitStack()
        self._lines: TextIO | None = None

    def check(self, given: str) -> None:
        """Find out before the work is done whether files can be written.

        Args:
            given: The folder, as it was typed.

        Raises:
            ValueError: They cannot.
        """
        if self.out_dir is None:
            return
        written = [self.out_dir / "preds"]
        written += [self.out_dir / "vis"] if self.with_drawings else []
        written += [self.out_dir] if self.with_lines else []
        for folder in written:
            check_folder(folder, given)
        lines = self.out_dir / LINES
        if self.with_lines and os.path.lexists(lines) and not os.path.isfile(lines):
            raise ValueError(
                f"{str(lines)!r} is no file, and results go there: name another --out-dir"
            )

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def write(self, name: str, answer: Detections, pixels: np.ndarray | None) -> None:
        """Write what was found in a picture.

        Args:
            name: Of its files, without an ending; see `named_images`.
            answer: What was found.
            pixels: (H, W, 3) uint8, RGB, where it is drawn.

        Raises:
            ValueError: It holds what JSON does not know.
            OSError: It cannot be written.
        """
        told = rounded(answer.to_dict())
        # Absolute, so that it tells the picture to whoever reads it, wherever that is.
        told["image"] = source_text(answer.image_path)
        if self.with_lines:
            if self._told is None:
                self._told = self.about()
            source = answer.image_path
            if is_url(source):
                source = source.partition("#")[0].partition("?")[0]
            below = name + os.path.splitext(source)[1]
            told |= {"path": path_text(below), **self._told}
        where = f"the result of {answer.image_path!r}"
        if self.out_dir is not None:
            text = to_json(told, where, indent=1, ensure_ascii=False)
            self._write_files(name, answer, f"{text}\n".encode(), pixels)
            if self.with_lines:
                self._append(f"{to_json(told, where, ensure_ascii=False)}\n")
        if self.to_stdout:
            print_line(told, where)

    def _write_files(
        self, name: str, answer: Detections, data: bytes, pixels: np.ndarray | None
    ) -> None:
        preds, vis = self.out_dir / "preds", self.out_dir / "vis"

        def drawing_of(name: str) -> Path:
            return vis / f"{name}.png"

        is_drawn = self.with_drawings and pixels is not None
        name = write_result(
            preds,
            name,
            ".json",
            data,
            answer.image_path,
            lambda path: _string(read_json(path), "image"),
            drawing_of if is_drawn else None,
        )
        if is_drawn:
            drawn = draw_detections(pixels, answer, **self.drawing)
            write_drawing(drawing_of(name), drawn, preds / f"{name}.json")

    def _append(self, line: str) -> None:
        if self._lines is None:
            self._lines = self._stack.enter_context(replaced_text(self.out_dir / LINES))
        self._lines.write(line)


def about_run(detector: Any, model: str, threshold: float) -> dict[str, Any]:
    """What each result of a run tells of it; hashes all weights, which takes seconds, once.

    Args:
        detector: The `OpenVocabInferencer`.
        model: How it was named.
        threshold: Least score of what is told.
    """
    return {
        "box_format": "xyxy",
        "threshold": threshold,
        "model": model,
        "weights_hash": detector.weights_hash,
        "encoder_hash": detector.model.encoder.fingerprint,
        "version": fgclip_det.__version__,
    }


def _string(values: Any, key: str) -> str:
    """A string of a JSON object.

    Raises:
        ValueError: There is none.
    """
    if not isinstance(values, dict) or not isinstance(values.get(key), str):
        raise ValueError(f"no {key!r}")
    return values[key]
