"""Arguments that users mistype: one sentence that names the value, nothing from deep inside."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fgclip_det.apis import OpenVocabInferencer, draw_detections, load_detector, resolve_device
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.apis.inputs.picture_lists import find_images

PICTURE = sorted((BUNDLED / "images").glob("*.png"))[0]
RGB = np.zeros((32, 32, 3), np.uint8)
NAN = float("nan")
PICTURES = [
    *(None, 123, 1.5, True, b"x.png", bytearray(b"x"), {}, {"a": 1}, object(), lambda: None, int),
    *(
        "",
        [""],
        [b"x.png"],
        [None],
        [1],
        [[RGB]],
        [{}],
        [()],
        (),
        set(),
        iter(()),
        "a\0b",
        ["a\0b"],
    ),
    *(np.zeros((4, 4, 3)), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8)),
    *(np.zeros((3, 4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.uint8), np.zeros(0, np.uint8)),
    *(np.zeros((0, 4, 3), np.uint8), np.array("x.png"), np.array(None), torch.zeros(3, 4, 4) - 1),
]
TEXTS = [
    *(5, 1.5, True, b"a red ring", object(), [None], [5], [b"a"], ["a", None], [[]], [[None]], ()),
    *({}, {"a": 5}, {5: "a"}, {"a": None}, {"names": 5}, {"a"}, iter(["a"]), "", [""], "\udcff"),
    *(["\udcff"], Path("none.txt"), Path("."), np.zeros(3), torch.zeros(3), "none.safetensors"),
]
SETTINGS = [
    *(("score_thr", v) for v in ("a", "0.5", NAN, -1, 2, True, [0.5], 1j, np.zeros(2))),
    *(("conf_thr", v) for v in ("a", "0.5", NAN, -1, 2, True, [0.5], 1j, np.zeros(2), 0.5)),
    *(("batch_size", v) for v in (1.5, "2", True, 0, -1, None, NAN, [1])),
    *(("on_error", v) for v in ("ignore", None, 5, [], True)),
    *(("texts_per_image", v) for v in (5, "a", {}, [], ["a", "b"], [None, 5], {"a": "b"})),
]


def told(value: object) -> str:
    """The name of a case: the same in every process, so without addresses."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))[:30]


def refuses(ask: Callable[[], object], *words: str) -> None:
    """One `ValueError`, raised by us."""
    with pytest.raises(ValueError) as caught:
        ask()
    raised_in = traceback.extract_tb(caught.value.__traceback__)[-1].filename
    assert "fgclip_det" in raised_in and "site-packages" not in raised_in, raised_in
    message = str(caught.value)
    assert len(message) > 15 and all(word in message for word in words), message


@pytest.fixture
def detect(bundled_detector: OpenVocabInferencer) -> OpenVocabInferencer:
    return bundled_detector


@pytest.mark.parametrize("images", PICTURES, ids=told)
def test_pictures(detect: OpenVocabInferencer, images: object) -> None:
    def again() -> object:
        return iter(()) if hasattr(images, "__next__") else images

    refuses(lambda: detect(again(), "a"))
    refuses(lambda: detect.propose(again()))


@pytest.mark.parametrize("texts", TEXTS, ids=told)
def test_texts(detect: OpenVocabInferencer, texts: object) -> None:
    refuses(lambda: detect(RGB, texts))
    refuses(lambda: detect(RGB, texts_per_image=[texts]))
    refuses(lambda: detect.set_vocabulary(texts))
    refuses(lambda: detect.set_negatives(texts))


@pytest.mark.parametrize(("name", "value"), SETTINGS, ids=told)
def test_settings(detect: OpenVocabInferencer, name: str, value: object) -> None:
    refuses(lambda: detect(RGB, **{name: value}), name)
    # Before the first answer is asked for.
    refuses(lambda: detect.stream(RGB, **{name: value}), name)


def test_settings_that_are_fine(detect: OpenVocabInferencer) -> None:
    for options in (
        dict(batch_size=10**30, score_thr=np.float32(0.5)),
        dict(batch_size=np.int64(2), score_thr=1),
    ):
        assert len(detect([RGB, RGB], "ring", progress=False, **options)) == 2


@pytest.mark.parametrize("value", [5, 1.5, True, b"x", {}, [], object(), "", "a\0b"], ids=told)
def test_models(value: object) -> None:
    refuses(lambda: load_detector(value), "model")
    refuses(lambda: load_detector(BUNDLED / "config.py", value), "weights")
    refuses(lambda: load_detector(BUNDLED / "config.py", "x.pth", value), "encoder")


@pytest.mark.parametrize(
    "value",
    [
        "foo",
        "",
        "cuda:99",
        "cuda:-1",
        "cuda:x",
        "meta",
        5,
        1.5,
        True,
        [],
        b"cpu",
        "cuda:" + "9" * 30,
    ],
    ids=told,
)
def test_devices(value: object) -> None:
    refuses(lambda: resolve_device(value), "device", str(value))
    refuses(lambda: OpenVocabInferencer(device=value))


def test_regions_and_answers(detect: OpenVocabInferencer, tmp_path: Path) -> None:
    (image,) = detect.propose(PICTURE, progress=False)
    for path in (5, None, b"x", "", []):
        refuses(lambda path=path: image.save(path))
        refuses(lambda path=path: detect.load_regions(path))
    refuses(lambda: detect.load_regions(tmp_path))
    for value in ("a", NAN, True):
        refuses(lambda value=value: image.classify("ring", value), "score_thr")
        refuses(
            lambda value=value: detect.classify([image], [detect.encode("ring")], value),
            "score_thr",
        )
    for images, texts in (
        ([1], [detect.encode("ring")]),
        ([image], ["ring"]),
        ([image], []),
        (5, 5),
        (image, detect.encode("ring")),
    ):
        refuses(lambda images=images, texts=texts: detect.classify(images, texts))
    answer = image.classify("ring")
    for pixels in (None, 5, "x.png", RGB.astype(np.float32), RGB[..., 0]):
        refuses(lambda pixels=pixels: draw_detections(pixels, answer))
    refuses(lambda: draw_detections(RGB, "ring"))


@pytest.mark.parametrize("paths", [None, 5, b"x", [5], [None], {}, ""], ids=told)
def test_lists_of_files(paths: object) -> None:
    refuses(lambda: find_images(paths))
