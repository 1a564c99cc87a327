"""One look at each picture: the numbers of many looks, and of `tools/test.py`; and going on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner

from fgclip_det.apis.detector_loading import BUNDLED, OpenVocabDetector
from fgclip_det.apis.fg_ovd.run import run_subsets
from fgclip_det.apis.fg_ovd.subsets import Subset, find_subsets
from fgclip_det.evaluation import evaluate_fg_ovd
from fgclip_det.fg_ovd.predictions import FGOVDPrediction

Make = Callable[..., Config]


def subsets_of(config: Config, names: str, **options: object) -> list[Subset]:
    return find_subsets(config.test_dataloader.dataset, names, **options)[0]


def assert_same(one: list[FGOVDPrediction], other: list[FGOVDPrediction]) -> None:
    assert {p.annotation_id for p in one} == {p.annotation_id for p in other}
    others = {p.annotation_id: p for p in other}
    for prediction in one:
        twin = others[prediction.annotation_id]
        np.testing.assert_array_equal(prediction.boxes, twin.boxes)
        np.testing.assert_array_equal(prediction.scores, twin.scores)


class Looks:
    """Counts the pictures that go through a detector, and may stop it."""

    def __init__(self, detector: OpenVocabDetector, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pictures, self.limit = 0, None
        propose = detector.propose

        def counted(inputs, samples):
            if self.limit is not None and self.pictures >= self.limit:
                raise KeyboardInterrupt
            self.pictures += len(inputs)
            return propose(inputs, samples)

        monkeypatch.setattr(detector, "propose", counted)


@pytest.fixture
def looks(fg_ovd_detector: OpenVocabDetector, monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(fg_ovd_detector, monkeypatch)


def test_one_look_equals_a_run_for_each_vocabulary(
    fg_ovd_config: Make, fg_ovd_detector: OpenVocabDetector, tmp_path: Path
) -> None:
    config = fg_ovd_config(**{"test_dataloader.batch_size": 1})
    detector = fg_ovd_detector
    subsets = subsets_of(config, "hard,trivial", n_negatives=10)
    found = run_subsets(detector, subsets, config, tmp_path)
    compared = 0
    for subset in subsets:
        rows = {subset.dataset.get_data_info(i)["img_id"]: i for i in range(len(subset.dataset))}
        answers = {one.annotation_id: one for one in found[subset.name][10]}
        for vocabulary in subset.file.vocabularies(10):
            item = subset.dataset[rows[vocabulary.image_id]]
            told = dict(item["data_samples"].metainfo_items())
            del told["vocabularies"]
            detector.set_vocabulary(subset.file.captions_of(vocabulary))
            plain = {"inputs": item["inputs"], "data_samples": DetDataSample(metainfo=told)}
            batch = pseudo_collate([plain])
            with torch.no_grad():
                alone = detector.test_step(batch)[0].pred_instances
            _, boxes, scores, labels = answers[vocabulary.annotation_id]
            assert len(boxes) == len(alone.bboxes) > 0
            np.testing.assert_allclose(boxes, alone.bboxes, atol=1e-5, rtol=0)
            np.testing.assert_array_equal(labels, alone.labels)
            np.testing.assert_allclose(scores.max(axis=1), alone.scores, atol=1e-5, rtol=0)
            compared += 1
    assert compared == sum(len(subset.file.vocabularies(10)) for subset in subsets) > 20


def test_numbers_are_those_of_the_test_tool(
    fg_ovd_config: Make, fg_ovd_detector: OpenVocabDetector, tmp_path: Path
) -> None:
    config = fg_ovd_config(work_dir=str(tmp_path / "tool"), load_from=str(BUNDLED / "detector.pth"))
    (subset,) = subsets_of(config, "hard")
    assert subset.n_negatives == config.test_dataloader.dataset.n_negatives == 5
    found = run_subsets(fg_ovd_detector, [subset], config, tmp_path)
    result = evaluate_fg_ovd(subset.file, found["hard"][5], 5)
    metrics = Runner.from_cfg(config).test()
    assert metrics["mAP"] > 25
    for key in ("map", "map_50", "map_75", "map_small", "map_medium", "map_large"):
        expected = metrics[key.replace("map", "mAP")]
        assert expected == pytest.approx(100 * result[key] if result[key] >= 0 else -1, abs=1e-4)
    assert metrics["coverage"] == 100
    assert metrics["rank_mean"] == result["ranks"]["mean"]


def test_a_picture_is_looked_at_once_for_all_subsets_and_numbers(
    fg_ovd_config: Make, fg_ovd_detector: OpenVocabDetector, looks: Looks, tmp_path: Path
) -> None:
    config = fg_ovd_config()
    subsets = subsets_of(config, "hard,color,pattern", n_negatives=3, sweep=True)
    swept = run_subsets(fg_ovd_detector, subsets, config, tmp_path)
    assert looks.pictures == 8
    assert {tuple(found) for found in swept.values()} == {(0, 1, 2, 3)}
    # A curve's point is what a run with that number gives, and not a part of the longest scores.
    alone = run_subsets(
        fg_ovd_detector, subsets_of(config, "hard", n_negatives=2), config, tmp_path / "alone"
    )
    assert_same(swept["hard"][2], alone["hard"][2])
    assert_same(swept["hard"][0], alone["hard"][0])
    cut = [one._replace(scores=one.scores[:, :3]) for one in swept["hard"][3]]
    assert any(len(a.boxes) != len(b.boxes) for a, b in zip(cut, alone["hard"][2], strict=True))


def test_an_interrupted_run_goes_on(
    fg_ovd_config: Make, fg_ovd_detector: OpenVocabDetector, looks: Looks, tmp_path: Path
) -> None:
    config = fg_ovd_config()
    subsets = subsets_of(config, "hard,color")
    whole = run_subsets(fg_ovd_detector, subsets, config, tmp_path / "whole")
    looks.pictures, looks.limit = 0, 6
    with pytest.raises(KeyboardInterrupt):
        run_subsets(fg_ovd_detector, subsets, config, tmp_path / "cut")
    assert looks.pictures == 6
    # A kill while a line is written.
    path = next((tmp_path / "cut").glob("hard_n5_*.jsonl"))
    path.write_bytes(path.read_bytes()[:-40])
    looks.pictures, looks.limit = 0, None
    resumed = run_subsets(fg_ovd_detector, subsets, config, tmp_path / "cut")
    assert looks.pictures == 3
    for name in ("hard", "color"):
        for number, predictions in whole[name].items():
            # Another batch moves the last digits.
            for one, twin in zip(sorted(predictions), sorted(resumed[name][number]), strict=True):
                assert one.annotation_id == twin.annotation_id
                np.testing.assert_allclose(one.boxes, twin.boxes, atol=1e-3)
    looks.pictures = 0
    again = run_subsets(fg_ovd_detector, subsets, config, tmp_path / "cut")
    assert looks.pictures == 0
    assert_same(again["hard"][5], resumed["hard"][5])
    for damage in ('{"annotation_id": 1}\n', "no JSON\n"):
        path.write_text(path.read_text(encoding="utf-8") + damage, encoding="utf-8")
        with pytest.raises(ValueError, match=r"hard_n5_.* was altered \(.*\): remove it"):
            run_subsets(fg_ovd_detector, subsets, config, tmp_path / "cut")
        path.write_text(path.read_text(encoding="utf-8").removesuffix(damage), encoding="utf-8")


def test_results_of_something_else_are_not_used(
    fg_ovd_config: Make,
    fg_ovd_data: Path,
    fg_ovd_detector: OpenVocabDetector,
    looks: Looks,
    tmp_path: Path,
) -> None:
    root = shutil.copytree(fg_ovd_data, tmp_path / "data")
    config = fg_ovd_config(root)

    def pictures(config: Config, number: int = 5) -> int:
        looks.pictures = 0
        subsets = subsets_of(config, "hard", n_negatives=number)
        run_subsets(fg_ovd_detector, subsets, config, tmp_path / "kept")
        return looks.pictures

    assert [pictures(config), pictures(config)] == [8, 0]
    # Batches and places do not matter.
    moved = fg_ovd_config(root, **{"test_dataloader.batch_size": 2, "work_dir": "elsewhere"})
    assert pictures(moved) == 0
    assert pictures(config, 4) == 8
    other = fg_ovd_config(root, **{"model.test_cfg.rcnn.score_thr": 0.1})
    assert [pictures(other), pictures(other)] == [8, 0]
    pipeline = fg_ovd_config(root)
    pipeline.test_dataloader.dataset.pipeline[1].scale = (96, 96)
    assert pictures(pipeline) == 8
    elsewhere = fg_ovd_config(root)
    other_root = shutil.copytree(root, tmp_path / "other pictures")
    elsewhere.test_dataloader.dataset.data_prefix.img = str(other_root)
    assert [pictures(elsewhere), pictures(elsewhere)] == [8, 0]
    with torch.no_grad():
        fg_ovd_detector.roi_head.bbox_head.fc_embed.bias.add_(1e-3)
    assert [pictures(config), pictures(config)] == [8, 0]
    path = root / "fg_ovd" / "1_attributes.json"
    path.write_text(path.read_text().replace("red plain circle", "red plain disc") + " ")
    assert pictures(config) == 8


def test_captions_are_encoded_once_and_found_in_the_cache(
    fg_ovd_config: Make,
    fg_ovd_detector: OpenVocabDetector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, detector = fg_ovd_config(), fg_ovd_detector
    detector.text_cache_dir = str(tmp_path / "texts")
    calls = []
    encode = detector.encoder.encode_text
    monkeypatch.setattr(
        detector.encoder,
        "encode_text",
        lambda texts, *rest, **options: calls.extend(texts) or encode(texts, *rest, **options),
    )
    subsets = subsets_of(config, "hard,trivial")
    run_subsets(detector, subsets, config, tmp_path / "one")
    assert len(calls) == len(set(calls))
    assert set(calls) == {*subsets[0].captions, *subsets[1].captions}
    calls.clear()
    detector._captions = None
    run_subsets(detector, subsets, config, tmp_path / "two")
    assert not calls


def test_scores_that_are_not_finite_stop_the_run(
    fg_ovd_config: Make, fg_ovd_detector: OpenVocabDetector, tmp_path: Path
) -> None:
    config = fg_ovd_config()
    with torch.no_grad():
        fg_ovd_detector.roi_head.vlm_classifier.fixed_temperature = float("nan")
    fg_ovd_detector.roi_head.test_cfg.score_thr = float("-inf")
    fg_ovd_detector.roi_head.score = lambda regions, texts, *_: torch.full(
        (len(regions), len(texts)), float("inf")
    )
    with pytest.raises(ValueError, match=r"scores of annotation \d+ are not all finite"):
        run_subsets(fg_ovd_detector, subsets_of(config, "hard"), config, tmp_path)


def test_a_pipeline_without_paths_is_refused(
    fg_ovd_config: Make, fg_ovd_detector: OpenVocabDetector, tmp_path: Path
) -> None:
    config = fg_ovd_config()
    config.test_dataloader.dataset.pipeline[-1].meta_keys = ("ori_shape", "img_shape")
    with pytest.raises(ValueError, match="'img_path' in the meta_keys"):
        run_subsets(fg_ovd_detector, subsets_of(config, "hard"), config, tmp_path)
