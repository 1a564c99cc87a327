"""The benchmark of FG-OVD's protocol runs, and compares before it gives a ratio."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from types import ModuleType

import pytest

from fgclip_det.encoders import FGCLIP
from fgclip_det.models import OpenVocabTwoStageDetector

ROOT = Path(__file__).resolve().parents[2]


def test_captions_are_as_many_and_as_long_as_fg_ovd_s(benchmark: ModuleType) -> None:
    for load, counts in ((1.5, {1, 2}), (5.0, {5})):
        images = benchmark.make_vocabularies(20, load, 0)
        assert {len(image) for image in images} == counts
        assert sum(map(len, images)) == 20 * load
        captions = [text for image in images for vocabulary in image for text in vocabulary]
        assert len(captions) == len(set(captions)) == 20 * load * 11
        # Of the published files, 5 to 95 % of the captions have 4 to 36 words and signs.
        lengths = sorted(len(text.split()) for text in captions)
        assert 14 <= statistics.mean(lengths) <= 19 and 4 <= lengths[0] < lengths[-1] <= 50
        for first, *negatives in (vocabulary for image in images for vocabulary in image):
            words = first.split()
            for text in negatives:
                assert 1 <= sum(a != b for a, b in zip(words, text.split(), strict=True)) <= 3
    encoder = FGCLIP.from_pretrained(ROOT / "fgclip_det" / "assets" / "shapes" / "encoder")
    # A letter is a token, between the two at the ends.
    tokens = encoder.tokenizer(captions[:20])["input_ids"]
    assert [len(row) - 2 for row in tokens] == [len(text.split()) for text in captions[:20]]


def test_words_that_captions_begin_with_alike_are_counted(benchmark: ModuleType) -> None:
    assert benchmark.shared_share([["a b c", "a b d"]]) == pytest.approx(2 / 6)
    assert benchmark.shared_share([["a b"], ["a b"]]) == 0
    assert benchmark.shared_share([["a b", "a b c"], ["b a", "a b"]]) == pytest.approx(2 / 9)


def test_quick_run_counts_what_each_way_does(
    benchmark: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proposed, encoded = [], []
    propose, encode = OpenVocabTwoStageDetector.propose, FGCLIP.encode_text
    monkeypatch.setattr(
        OpenVocabTwoStageDetector, "propose", lambda *given: proposed.append(1) or propose(*given)
    )
    monkeypatch.setattr(
        FGCLIP,
        "encode_text",
        lambda self, texts, *rest, **options: (
            encoded.extend(texts) or encode(self, texts, *rest, **options)
        ),
    )
    measured = []

    def counted(calls: dict, *given: object, **options: object) -> dict:
        for name, call in calls.items():
            proposed.clear(), encoded.clear()
            call()
            measured.append((name, len(proposed), len(encoded)))
        return {name: [1.0, 2.0] if name != "captions" else [0.2, 0.4] for name in calls}

    monkeypatch.setattr(benchmark.timing, "interleave", counted)
    out = tmp_path / "new" / "cpu.json"
    assert benchmark.main(["--quick", "--threads", "1", "--out", str(out)]) == 0
    # Pictures, vocabularies and captions of the two loads.
    expected = []
    for pictures, vocabularies in ((2, 3), (2, 10)):
        captions = 11 * vocabularies
        expected += [("official", vocabularies, captions), ("ours", pictures, captions)]
        expected += [("kept", pictures, 0), ("captions", 0, captions)]
    assert measured == expected
    records = json.loads(out.read_text(encoding="utf-8"))["cases"]
    for record in records:
        assert record["images"] == 2 and record["detections"] > 0 and record["difference"] < 1e-5
        assert record["ratio"]["ours"] == {"median": 1, "min": 1, "max": 1}
        assert record["images_per_second"]["kept"] == pytest.approx(2 / 1.5)
        # The rest of the official way's time, 0.8 of 1, is spent once for each picture.
        looks = 0.8 * 2 / record["vocabularies"]
        assert record["expected"]["median"] == pytest.approx(1 / (looks + 0.2))
    assert [(r["load"], r["vocabularies"], r["captions"]) for r in records] == [
        (1.5, 3, 33),
        (5.0, 10, 110),
    ]
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert page.partition("## Summary")[2].strip() in capsys.readouterr().out
    assert "| Shapes, 128 x 128 | 1.5 | 33 | 1.33 |" in page


def test_unlike_results_get_no_ratio(
    benchmark: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmark, "LOADS", (1.5,))
    official = benchmark.Protocol.official

    def worse(self: object) -> list:
        found = official(self)
        found[0].scores = found[0].scores + 0.01
        return found

    monkeypatch.setattr(benchmark.Protocol, "official", worse)
    out = tmp_path / "cpu.json"
    assert benchmark.main(["--quick", "--threads", "1", "--out", str(out)]) == 1
    (record,) = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert record["ratio"] == {"ours": None, "kept": None}
    assert record["difference"] == pytest.approx(0.01, abs=1e-4)
    captured = capsys.readouterr()
    assert captured.out.count("| results differ |") == 2
    assert captured.err.count("error: results differ: Shapes, 128 x 128, 1.5") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "shapes,x"], "--cases has no 'x'; choose from shapes,b_640"),
        (["--quick", "--cases", "b_640"], "--cases has no 'b_640'; choose from shapes"),
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["--quick", "--out", "cpu.md"], "--out is the JSON, e.g. cpu.json, not cpu.md"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    benchmark: ModuleType,
    capsys: pytest.CaptureFixture,
) -> None:
    assert benchmark.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err
