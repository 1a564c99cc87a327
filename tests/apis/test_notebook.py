"""Answers that draw themselves, and the notebook that shows them."""

import ast
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.io import read_image

ROOT = Path(__file__).resolve().parents[2]
PICTURE = str(BUNDLED / "images" / "000006.png")


@pytest.fixture(scope="module")
def detector():
    return OpenVocabInferencer(device="cpu")


def test_answers_and_regions_draw_themselves(detector):
    (image,) = detector.propose(PICTURE)
    pixels = read_image(PICTURE)
    for answer in (image, image.classify("a blue dotted star")):
        drawn = Image.open(io.BytesIO(answer._repr_png_()))
        assert drawn.size == (640, 640)
        assert np.array_equal(np.asarray(drawn), np.asarray(answer.draw()))
        plain = np.asarray(Image.fromarray(pixels).resize((640, 640), Image.BICUBIC))
        assert (np.asarray(drawn) != plain).any()
        assert np.array_equal(np.asarray(answer.draw(pixels)), np.asarray(drawn))
    few, many = (np.asarray(image.draw(most=most)) for most in (1, 5))
    assert (few != many).any()


def test_pixels_are_not_kept(detector, tmp_path):
    pixels = read_image(PICTURE)
    (answer,) = detector(pixels, "a blue dotted star")
    assert answer._repr_png_() is None
    with pytest.raises(ValueError, match=r"draw\(pixels\)"):
        answer.draw()
    assert answer.draw(pixels).size == (640, 640)
    with pytest.raises(ValueError, match="the picture that was asked"):
        answer.draw(pixels[:50])
    copy = tmp_path / "a.png"
    Image.fromarray(pixels).save(copy)
    (answer,) = detector(str(copy), "a blue dotted star")
    copy.unlink()
    assert answer._repr_png_() is None


def test_the_notebook_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())
    assert notebook["nbformat"] == 4
    names: dict = {}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* is shown")
            exec(compile(tree, "notebook", "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
                shown.append(value)
    pictures = [one for one in shown if hasattr(one, "_repr_png_")]
    assert len(pictures) >= 4
    assert all(one._repr_png_().startswith(b"\x89PNG") for one in pictures)
