# First, since mmdet needs mmcv's ops.
import fgclip_det.compat  # noqa: F401

# isort: split
import json

import numpy as np
import pytest
import torch

from fgclip_det.evaluation import D3Metric
from tests.tiny_d3 import BOXES, GROUPS, write_d3


@pytest.fixture
def root(tmp_path):
    return write_d3(tmp_path / "d3")


def sample(image, kept=lambda place, sentence: True):
    """All that is right in a picture, of which some is kept, as a detector gives it."""
    group = GROUPS[0 if image < 2 else 3]
    labels = [place for place, sentence in enumerate(group) if kept(place, sentence)]
    boxes = torch.tensor([BOXES[place % 2] for place in labels], dtype=torch.float32)
    boxes = boxes.reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found = {"bboxes": boxes, "scores": torch.ones(len(labels)), "labels": torch.tensor(labels)}
    found["labels"] = found["labels"].long()
    return {"img_id": image, "sent_ids": np.array(group), "pred_instances": found}


def score(root, samples, part="full"):
    metric = D3Metric(str(root / "d3_json" / f"d3_{part}_annotations.json"), prefix=part)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


@pytest.mark.parametrize("part", ["full", "pres", "abs"])
def test_all_found_is_100(root, part):
    found = score(root, [sample(image) for image in range(4)], part)
    assert found[f"{part}/mAP"] == 100
    for length in ("short", "mid", "long", "very_long"):
        assert found[f"{part}/mAP_{length}"] == 100


def test_what_tells_of_absences_counts_in_its_file_alone(root):
    samples = [sample(image, lambda place, sentence: sentence < 5) for image in range(4)]
    assert score(root, samples, "pres")["pres/mAP"] == 100
    assert score(root, samples, "abs")["abs/mAP"] == 0
    assert score(root, samples, "full")["full/mAP"] == 50


def test_labels_are_places_in_the_sentences_of_the_picture(root):
    samples = [sample(image) for image in range(4)]
    samples[2]["sent_ids"] = np.roll(samples[2]["sent_ids"], 1)
    assert score(root, samples)["full/mAP"] < 100


def test_nothing_found_is_0(root):
    samples = [sample(image, lambda *_: False) for image in range(4)]
    assert set(score(root, samples).values()) == {0}


def test_bad_files_are_named(root):
    path = root / "d3_json" / "d3_full_annotations.json"
    content = json.loads(path.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] != 8]
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] != 4]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="give the whole annotation file"):
        score(root, [sample(image) for image in range(4)])
    path.unlink()
    with pytest.raises(ValueError, match=r"no file .*d3_full_annotations"):
        D3Metric(str(path))
