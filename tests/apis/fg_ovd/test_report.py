"""What is told of a subset: numbers, references, coverage, captions that were cut."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from fgclip_det.apis.detector_loading import OpenVocabDetector
from fgclip_det.apis.fg_ovd.report import (
    overview,
    read_scorers,
    score_subset,
    write_report,
)
from fgclip_det.apis.fg_ovd.subsets import Subset, find_subsets
from fgclip_det.evaluation import evaluate_fg_ovd
from fgclip_det.evaluation.region_accuracy.accuracy import long_captions
from fgclip_det.fg_ovd.predictions import FGOVDPrediction
from fgclip_det.fg_ovd.references import ALONE, TEXT_ONLY, oracle_predictions
from tests.tiny_encoders import tiny_fgclip2

Make = Callable[..., Config]


@pytest.fixture
def hard(fg_ovd_config: Make) -> Subset:
    return find_subsets(fg_ovd_config().test_dataloader.dataset, "hard", 3, sweep=True)[0][0]


def perfect(subset: Subset) -> dict[int, list[FGOVDPrediction]]:
    return {number: oracle_predictions(subset.file, number) for number in subset.numbers}


def test_each_number_is_scored_with_its_own_predictions(
    hard: Subset, fg_ovd_detector: OpenVocabDetector
) -> None:
    found = perfect(hard)
    # Asked for the right caption alone, the detector misses everything.
    found[0] = [one._replace(boxes=one.boxes + 500) for one in found[0]]
    scores = score_subset(hard, found, fg_ovd_detector.encoder, sweep=True)
    about, told = scores
    assert told.result == evaluate_fg_ovd(hard.file, found[3], 3)
    assert told.result["map"] == 1 and told.result["n_negatives"] == 3
    assert told.references[ALONE]["map"] == 0
    assert [round(told.sweep[n]["map"]) for n in range(4)] == [0, 1, 1, 1]
    assert TEXT_ONLY not in told.references and told.words["confused"] == []
    assert (about["images"], about["missing_images"], about["cut_captions"]) == (8, 0, 0)
    page = overview({"hard": scores}, {"color": "it is grey"})
    assert "| hard | 3 | 100.00 |" in page and f"| hard: {ALONE} | 0 | 0.00 |" in page
    assert "\n| hard | 0.00 | 100.00 | 100.00 | 100.00 |" in page
    assert "color is left out: it is grey." in page


def test_strict_counts_lost_pictures(
    fg_ovd_config: Make, fg_ovd_data: Path, fg_ovd_detector: OpenVocabDetector, tmp_path: Path
) -> None:
    root = shutil.copytree(fg_ovd_data, tmp_path / "data")
    (root / "val" / "000003.png").unlink()
    dataset = fg_ovd_config(root).test_dataloader.dataset
    (subset,) = find_subsets(dataset, "hard", skip_missing=True)[0]
    shown = subset.img_paths
    images = {one["id"]: one["image_id"] for one in subset.file.annotations}
    found = {
        number: [one for one in items if images[one.annotation_id] in shown]
        for number, items in perfect(subset).items()
    }
    loose = score_subset(subset, found, fg_ovd_detector.encoder)
    strict = score_subset(subset, found, fg_ovd_detector.encoder, strict=True)
    share = loose.summary.result["coverage"]["share"]
    assert loose.about["missing_images"] == 1 and 0.5 < share < 1
    assert loose.summary.result["map"] == 1
    assert strict.summary.result["map"] == pytest.approx(share)
    page = overview({"hard": strict}, {})
    assert ", strict |" in page and "| hard | 7 | 1 |" in page


def test_captions_beyond_the_encoder_s_length(fg_ovd_detector: OpenVocabDetector) -> None:
    encoder = fg_ovd_detector.encoder
    long = "a red striped circle " * 40
    texts, length = ["a red circle", long, long.upper()], encoder.region_text_length
    assert long_captions(encoder, texts, length) == [long, long.upper()]
    assert long_captions(encoder, [], length) == []
    with pytest.warns(UserWarning, match="were cut"):
        encoder._warned_truncation = False
        encoder.encode_text([long])


@pytest.mark.filterwarnings("ignore:.*were cut")
def test_the_second_generation_cuts_lower_case() -> None:
    encoder = tiny_fgclip2(speaks=True)
    longest = encoder.text_model.max_length(encoder.region_text_length)
    for words in range(longest - 4, longest + 1):
        text = " ".join(["RED"] * words)
        encoder._warned_truncation = False
        cut = bool(long_captions(encoder, [text], encoder.region_text_length))
        encoder.tokenize([text], encoder.region_text_length)
        assert cut == encoder._warned_truncation


def test_text_only_rows_come_from_the_validation_folder(
    hard: Subset, fg_ovd_config: Make, fg_ovd_data: Path, fg_ovd_detector: OpenVocabDetector,
    tmp_path: Path,
) -> None:  # fmt: skip
    validation = fg_ovd_data / "fg_ovd" / "validation"
    scorers = read_scorers([hard], validation)
    scores = score_subset(hard, perfect(hard), fg_ovd_detector.encoder, scorers["hard"])
    assert 0 <= scores.summary.references[TEXT_ONLY]["map"] < 1
    both = find_subsets(fg_ovd_config().test_dataloader.dataset, "hard,color")[0]
    shutil.copy(validation / "color.json", tmp_path)
    assert list(read_scorers(both, tmp_path)) == ["color"]
    with pytest.raises(ValueError, match=r"has no 1_attributes\.json: give the validation sets'"):
        read_scorers([hard], tmp_path)
    with pytest.raises(ValueError, match="is the file to be scored"):
        read_scorers([hard], fg_ovd_data / "fg_ovd")


def test_both_files_are_written_whole(
    hard: Subset, fg_ovd_detector: OpenVocabDetector, tmp_path: Path
) -> None:
    scores = score_subset(hard, perfect(hard), fg_ovd_detector.encoder)
    page = write_report(tmp_path, {"config": "a.py"}, {"hard": scores}, {"easy": "no"})
    written = json.loads((tmp_path / "fg_ovd.json").read_text(encoding="utf-8"))
    assert written["config"] == "a.py" and written["left_out"] == {"easy": "no"}
    assert written["subsets"]["hard"]["result"]["map"] == scores.summary.result["map"]
    text = (tmp_path / "fg_ovd.md").read_text(encoding="utf-8")
    assert page in text and "- config: `a.py`" in text and "| attribute | boxes |" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fg_ovd.json", "fg_ovd.md"]
    scores.summary.result["map"] = float("nan")
    with pytest.raises(ValueError, match="Out of range"):
        write_report(tmp_path, {}, {"hard": scores}, {})
    assert json.loads((tmp_path / "fg_ovd.json").read_text(encoding="utf-8")) == written
