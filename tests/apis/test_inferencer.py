"""Free text and pictures in, boxes with names out; and what is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip_det.apis import Detections, OpenVocabInferencer
from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.apis.inputs.picture_lists import read_image
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary
from tests.messages import says

PICTURES = sorted((BUNDLED / "images").glob("*.png"))
NAMES = list(Vocabulary.parse(BUNDLED / "vocabulary.json").names)
TEXTS = ". ".join(NAMES)


@pytest.fixture
def detect(bundled_detector: OpenVocabInferencer) -> OpenVocabInferencer:
    return bundled_detector


@pytest.fixture
def rgb() -> np.ndarray:
    return read_image(PICTURES[0])


def assert_same(one: Detections, other: Detections, tolerance: float = 1e-5) -> None:
    """The same boxes with the same names and scores, whatever rows the names have."""
    assert len(one) == len(other)
    rows = [
        sorted(
            zip(d.names, d.scores.tolist(), d.boxes.tolist(), strict=True),
            key=lambda row: (row[0], [round(v, 2) for v in row[2]]),
        )
        for d in (one, other)
    ]
    assert [row[0] for row in rows[0]] == [row[0] for row in rows[1]]
    scores = [torch.tensor([row[1] for row in side]) for side in rows]
    torch.testing.assert_close(*scores, atol=tolerance, rtol=0)
    boxes = [torch.tensor([row[2] for row in side]) for side in rows]
    torch.testing.assert_close(*boxes, atol=tolerance, rtol=tolerance)


def test_answers_free_text(detect: OpenVocabInferencer) -> None:
    answers = detect(PICTURES, TEXTS, score_thr=0.0, progress=False)
    assert [answer.image_path for answer in answers] == [str(path) for path in PICTURES]
    for answer in answers:
        assert len(answer) > 0
        assert (answer.width, answer.height) == (128, 128)
        assert answer.vocabulary == NAMES
        assert answer.boxes.shape == (len(answer), 4)
        assert answer.boxes.dtype == answer.scores.dtype == torch.float32
        assert answer.names == [answer.vocabulary[i] for i in answer.labels.tolist()]
        assert (answer.boxes[:, 2:] > answer.boxes[:, :2]).all()
        assert answer.boxes.min() >= 0 and answer.boxes.max() <= 128
        assert (answer.scores.diff() <= 0).all()
        assert answer.scores.min() >= 0 and answer.scores.max() <= 1


def test_the_threshold_only_drops(detect: OpenVocabInferencer, rgb: np.ndarray) -> None:
    everything, some = detect(rgb, score_thr=0.0)[0], detect(rgb, score_thr=0.1)[0]
    assert some.scores.tolist() == [s for s in everything.scores.tolist() if s >= 0.1]


def test_forms_of_pictures_give_one_answer(
    detect: OpenVocabInferencer, rgb: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(rgb).save(tmp_path / "one.png")
    expected = detect(PICTURES[0], TEXTS, score_thr=0.0)[0]
    assert len(expected)
    forms = [str(PICTURES[0]), tmp_path, rgb, Image.fromarray(rgb), [rgb], iter([rgb])]
    for form in forms:
        assert_same(detect(form, TEXTS, score_thr=0.0, progress=False)[0], expected, 0)


def test_batch_size_changes_nothing(detect: OpenVocabInferencer, rgb: np.ndarray) -> None:
    # Several sizes: padding one to another's would change what the encoder's attention sees.
    pictures = [rgb, rgb[:96], rgb[:, :80], rgb[:64, :100], *PICTURES, rgb[::-1].copy()]
    single = detect(pictures, score_thr=0.0, batch_size=1, progress=False)
    for batch_size in (3, len(pictures) + 5):
        batched = detect(pictures, score_thr=0.0, batch_size=batch_size, progress=False)
        assert [a.image_path for a in batched] == [a.image_path for a in single]
        for one, other in zip(single, batched, strict=True):
            assert (one.width, one.height) == (other.width, other.height)
            assert_same(one, other)


def test_vocabulary_order_changes_nothing(detect: OpenVocabInferencer) -> None:
    shuffled = [NAMES[i] for i in torch.randperm(len(NAMES)).tolist()]
    for count in (50, len(NAMES)):
        kept = set(NAMES[:count])
        forward = detect(PICTURES, NAMES[:count], score_thr=0.0, progress=False)
        other = [name for name in shuffled if name in kept]
        backward = detect(PICTURES, other, score_thr=0.0, progress=False)
        for one, two in zip(forward, backward, strict=True):
            assert_same(one, two)


def test_texts_can_differ_by_picture(detect: OpenVocabInferencer) -> None:
    each = [NAMES[:100], TEXTS, NAMES[100:]]
    together = detect(PICTURES, texts_per_image=each, score_thr=0.0, batch_size=3, progress=False)
    for picture, texts, answer in zip(PICTURES, each, together, strict=True):
        assert_same(answer, detect(picture, texts, score_thr=0.0)[0])


def test_texts_of_each_picture_come_from_a_table(detect: OpenVocabInferencer) -> None:
    each = ["a ring", "a star", "a blue star"]
    wanted = detect(PICTURES, texts_per_image=each, score_thr=0.0, progress=False)
    for given in (np.array(each), dict(zip("abc", each, strict=True)).values()):
        answers = detect(PICTURES, texts_per_image=given, score_thr=0.0, progress=False)
        for one, two in zip(answers, wanted, strict=True):
            assert_same(one, two)
    with pytest.raises(ValueError, match=says("3 pictures")):
        detect(PICTURES, texts_per_image=np.array("abc"))


@pytest.mark.parametrize("each", ["abc", ["a"], ["a"] * 4])
def test_refuses_a_wrong_number_of_texts(detect: OpenVocabInferencer, each) -> None:
    with pytest.raises(ValueError, match=says("3 pictures")):
        detect(PICTURES, texts_per_image=each)
    with pytest.raises(ValueError, match="not both"):
        detect(PICTURES, "a", texts_per_image=["a"] * 3)


def test_uses_the_vocabulary_that_was_set(detect: OpenVocabInferencer, rgb: np.ndarray) -> None:
    assert len(detect(rgb)[0].vocabulary) == 192
    detect.set_vocabulary("ring, cross")
    try:
        assert detect(rgb)[0].vocabulary == ["ring", "cross"]
        assert detect(rgb, "star")[0].vocabulary == ["star"]
    finally:
        detect.texts = None


def test_text_embeddings_stand_in_for_texts(
    detect: OpenVocabInferencer, rgb: np.ndarray, tmp_path: Path
) -> None:
    encoded = TextEmbeddings.encode(Vocabulary.parse(TEXTS), detect.model.encoder)
    encoded.save(tmp_path / "t.safetensors")
    expected = detect(rgb, TEXTS, score_thr=0.0)[0]
    for form in (encoded, tmp_path / "t.safetensors", str(tmp_path / "t.safetensors")):
        assert_same(detect(rgb, form, score_thr=0.0)[0], expected)
    foreign = TextEmbeddings(encoded.vocabulary, encoded.embeddings, "0" * 16)
    with pytest.raises(ValueError, match="encode the vocabulary again"):
        detect(rgb, foreign)


def test_rotated_pictures_have_boxes_in_the_rotated_frame(
    detect: OpenVocabInferencer, rgb: np.ndarray, tmp_path: Path
) -> None:
    shown = np.ascontiguousarray(rgb[:96])
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(shown)))
    stored.save(tmp_path / "turned.png", exif=exif)
    answer = detect(tmp_path / "turned.png", score_thr=0.0)[0]
    assert (answer.width, answer.height) == (128, 96)
    assert_same(answer, detect(shown, score_thr=0.0)[0], 0)


@pytest.mark.parametrize("shape", [(1, 1), (10, 20_000), (20_000, 10), (1, 300), (7, 3)])
def test_extreme_sizes_are_answered(detect: OpenVocabInferencer, shape: tuple[int, int]) -> None:
    answer = detect(np.full((*shape, 3), 90, np.uint8), score_thr=0.0)[0]
    assert (answer.height, answer.width) == shape
    assert torch.isfinite(answer.boxes).all() and torch.isfinite(answer.scores).all()
    if len(answer):
        assert answer.boxes[:, 0::2].max() <= shape[1]
        assert answer.boxes[:, 1::2].max() <= shape[0]


def test_long_pictures_keep_their_frame(detect: OpenVocabInferencer, rgb: np.ndarray) -> None:
    """Padding a picture below its end must not move boxes."""
    wide = np.concatenate([rgb] * 20, axis=1)
    answer = detect(wide, score_thr=0.0)[0]
    assert (answer.width, answer.height) == (2560, 128)
    assert answer.boxes[:, 3].max() <= 128


def test_captions_are_cut_and_this_is_said_once(rgb: np.ndarray) -> None:
    detect = OpenVocabInferencer(device="cpu", calibration=None)
    long = ["red " * 300 + "circle", "blue " * 300 + "ring"]
    with pytest.warns(UserWarning, match="longer than 77 tokens") as said:
        answer = detect(rgb, long, score_thr=0.0)[0]
        detect(rgb, ["green " * 300], score_thr=0.0)
    assert len([w for w in said if "77 tokens" in str(w.message)]) == 1
    assert len(answer.vocabulary) == 2


def test_repeated_names_are_merged_and_this_is_said(
    detect: OpenVocabInferencer, rgb: np.ndarray
) -> None:
    with pytest.warns(UserWarning, match="more than once"):
        answer = detect(rgb, "red ring. blue star. red ring")[0]
    assert answer.vocabulary == ["red ring", "blue star"]


def test_names_of_any_script(detect: OpenVocabInferencer, rgb: np.ndarray) -> None:
    names = ["红色的圆", "зелёный круг", "دائرة حمراء", "🟥", "{braces}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        answer = detect(rgb, names, score_thr=0.0)[0]
    assert answer.vocabulary == names
    assert torch.isfinite(answer.scores).all()


def test_five_thousand_names(detect: OpenVocabInferencer, rgb: np.ndarray) -> None:
    answer = detect(rgb, [f"thing number {i}" for i in range(5000)], score_thr=0.0)[0]
    assert len(answer.vocabulary) == 5000
    assert (answer.scores.diff() <= 0).all()


@pytest.mark.parametrize("texts", ["", "  ", " . , ;", ".", [], [""], {}])
def test_refuses_texts_that_name_nothing(
    detect: OpenVocabInferencer, rgb: np.ndarray, texts
) -> None:
    with pytest.raises(ValueError, match=says("give names")):
        detect(rgb, texts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(score_thr=1.5), "score_thr is 1.5"),
        (dict(score_thr=float("nan")), "score_thr is nan"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(on_error="ignore"), "'ignore'"),
    ],
)
def test_refuses_settings_out_of_range(
    detect: OpenVocabInferencer, rgb: np.ndarray, options: dict, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        detect(rgb, **options)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        torch.zeros(4, 4, 3),
        5,
    ],
)
def test_refuses_arrays_that_are_no_pictures(detect: OpenVocabInferencer, picture) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8 RGB|\(3, H, W\), RGB"):
        detect([picture])


def test_tensors_and_iterators_are_pictures(detect: OpenVocabInferencer, rgb: np.ndarray) -> None:
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield tensor if len(taken) % 2 else tensor / 255

    stream = detect.stream(endless(), "a red circle", score_thr=0, progress=False)
    found = [next(stream) for _ in range(2)]
    assert len(taken) == 2
    (expected,) = detect([rgb], "a red circle", score_thr=0)
    for answer in found:
        assert_same(answer, expected)


def test_tiles_are_joined_before_words(
    detect: OpenVocabInferencer, rgb: np.ndarray, tmp_path
) -> None:
    picture = np.concatenate([rgb, rgb[:, :70]], axis=1)
    (tiled,) = detect.propose([picture], tile=128, overlap=0.25, batch_size=2)
    (plain,) = detect.propose([picture], tile=len(picture[0]), overlap=0.25)
    assert tiled.regions.image_meta["tiling"] == {"tile": 128, "overlap": 0.25, "views": 3}
    assert "tiling" not in plain.regions.image_meta
    tiled.save(tmp_path / "regions.safetensors")
    again = detect.load_regions(tmp_path / "regions.safetensors")
    asked = {"texts": "a red circle. a blue square", "score_thr": 0.1}
    assert_same(again.classify(**asked), tiled.classify(**asked))
    (answer,) = detect([picture], tile=128, overlap=0.25, **asked)
    assert_same(answer, tiled.classify(**asked))
    assert answer.width == 198


@pytest.mark.parametrize(
    "settings", [dict(tile=0), dict(tile=5), dict(tile=64.0), dict(overlap=1), dict(overlap=-0.1)]
)
def test_refuses_tiles_that_are_none(detect: OpenVocabInferencer, rgb, settings) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        detect([rgb], **settings)


def test_refuses_no_pictures(detect: OpenVocabInferencer) -> None:
    with pytest.raises(ValueError, match="no pictures were given"):
        detect([])


def test_bad_pictures_are_raised_or_collected(
    detect: OpenVocabInferencer, rgb: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(PICTURES[0].read_bytes()[:2000])
    pictures = [PICTURES[0], tmp_path / "bad.png", rgb[..., :2], PICTURES[1]]
    with pytest.raises(ValueError, match=r"bad\.png"):
        detect(pictures, progress=False)
    answers = detect(pictures, on_error="collect", batch_size=4, progress=False)
    assert [answer.image_path for answer in answers] == [str(PICTURES[0]), str(PICTURES[1])]
    assert [picture for picture, _ in answers.failures] == [str(tmp_path / "bad.png"), "<pixels>"]
    assert detect(PICTURES, progress=False).failures == []


def test_a_picture_that_would_grow_beyond_memory_is_a_bad_one(
    detect: OpenVocabInferencer, rgb: np.ndarray
) -> None:
    line = np.zeros((1, 1_000_000, 3), np.uint8)
    with pytest.raises(ValueError, match="1000000 x 62500"):
        detect(line)
    answers = detect([line, rgb], on_error="collect", progress=False)
    assert (len(answers), len(answers.failures)) == (1, 1)


def test_results_are_plain_values(detect: OpenVocabInferencer) -> None:
    answer = detect(PICTURES[0], TEXTS, score_thr=0.0)[0]
    values = json.loads(json.dumps(answer.to_dict()))
    assert list(values) == ["image", "width", "height", "vocabulary", "conf_thr", "detections"]
    first = values["detections"][0]
    assert list(first) == ["name", "score", "confidence", "box"] and first["confidence"] is None
    assert first["box"] == answer.boxes[0].tolist()
    assert first["score"] == answer.scores[0].item()


def test_stream_answers_before_the_last_picture_is_read(bundled_detector, tmp_path) -> None:
    good = sorted((BUNDLED / "images").glob("*.png"))[0]
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    stream = bundled_detector.stream([good, bad], texts="a red ring", progress=False)
    assert next(stream).image_path == str(good)
    with pytest.raises(ValueError, match=r"bad\.png"):
        next(stream)
