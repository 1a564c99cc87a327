"""Both protocols of OV-COCO against pycocotools, run by hand for each class on what they define."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, METRICS
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import fgclip_det.datasets
import fgclip_det.evaluation  # noqa: F401  (both register)
from fgclip_det.datasets.prepare.ov_coco import coco_names, ov_coco_files
from fgclip_det.datasets.prepare.prepared_files import write_files
from fgclip_det.vocabulary import Vocabulary
from tests.messages import says

IDS = {name: number for number, name in coco_names().items()}
OV_COCO = Vocabulary.parse("ov_coco")
GROUPS = {"base": OV_COCO.base_classes, "novel": OV_COCO.novel_classes}
# Not in the order of the ids: labels follow the dataset, pycocotools sorts.
NAMES = {65: tuple(reversed(OV_COCO.names)), 80: tuple(sorted(IDS))}
WITHOUT_TRUTH = {"toaster", "scissors"}  # a base and a novel class
CROWDS_ONLY = {"bear", "tie"}
IMAGES, EMPTY = 24, (5, 11)
NUMS = (10, 40, 100)


def meta(names):
    return {"classes": names, "base_classes": GROUPS["base"], "novel_classes": GROUPS["novel"]}


def random_boxes(rng, count):
    corner = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(8, 60, (count, 2))], axis=1)


def random_annotations(rng):
    """Boxes of all 80 classes, each image with some, but for the empty ones."""
    annotations = []
    for image in range(1, IMAGES + 1):
        if image in EMPTY:
            continue
        for box in random_boxes(rng, 12):
            name = str(rng.choice(sorted(set(IDS) - WITHOUT_TRUTH)))
            w, h = (box[2:] - box[:2]).tolist()
            crowd = name in CROWDS_ONLY or rng.random() < 0.1
            head = {"id": len(annotations) + 1, "image_id": image, "category_id": IDS[name]}
            values = {"bbox": [*box[:2].tolist(), w, h], "area": w * h, "iscrowd": int(crowd)}
            annotations.append({**head, **values})
    return annotations


def random_predictions(rng, names, annotations):
    """For each image boxes near the true ones and anywhere else; scores with a single digit tie."""
    named = {number: name for name, number in IDS.items()}
    predictions = {}
    for image in range(1, IMAGES + 1):
        boxes, labels = [], []
        for one in (a for a in annotations if a["image_id"] == image):
            x, y, w, h = one["bbox"]
            for _ in range(2):
                boxes.append(np.array([x, y, x + w, y + h]) + rng.normal(0, 3, 4))
                right = named[one["category_id"]] in names and rng.random() < 0.7
                label = (
                    names.index(named[one["category_id"]]) if right else rng.integers(len(names))
                )
                labels.append(int(label))
        if image != 7:  # an image that nothing is found in
            boxes += list(random_boxes(rng, 130))
            labels += rng.integers(0, len(names), 130).tolist()
            boxes += list(random_boxes(rng, 110))  # more of one class than count
            labels += [names.index("person")] * 110
        else:
            boxes, labels = [], []
        predictions[image] = {
            "bboxes": torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32),
            "scores": torch.tensor(rng.random(len(boxes)).round(1), dtype=torch.float32),
            "labels": torch.tensor(labels, dtype=torch.long),
        }
    return predictions


def write(path, annotations, images, names):
    values = {
        "images": [{"id": i, "width": 128, "height": 128, "file_name": ""} for i in images],
        "categories": [{"id": IDS[name], "name": name} for name in names],
        "annotations": annotations,
    }
    path.write_text(json.dumps(values))
    return str(path)


def of_group(annotations, group):
    ids = {IDS[name] for name in GROUPS[group]}
    return [a for a in annotations if a["category_id"] in ids]


@pytest.fixture
def case(request, tmp_path):
    """Annotation files, names and predictions of a protocol, and which file each group has."""
    way = request.param
    rng = np.random.default_rng(way)
    annotations, images = random_annotations(rng), list(range(1, IMAGES + 1))
    predictions = random_predictions(rng, NAMES[way], annotations)
    if way == 65:
        kept = of_group(annotations, "base") + of_group(annotations, "novel")
        path = write(tmp_path / "65.json", kept, images, OV_COCO.names)
        return way, path, {"base": path, "novel": path}, predictions
    files = {
        group: write(tmp_path / f"{group}.json", of_group(annotations, group), images, list(IDS))
        for group in GROUPS
    }
    write(tmp_path / "whole.json", annotations, images, list(IDS))
    return way, files, files, predictions


def evaluate(ann_file, way, predictions, proposals=None, **options):
    options = {"protocol": str(way), "ann_file": ann_file, "proposal_nums": NUMS, **options}
    metric = METRICS.build(dict(type="OVCocoMetric", **options))
    metric.dataset_meta = meta(NAMES[way])
    for image, found in predictions.items():
        sample = {"img_id": image, "ori_shape": (128, 128), "pred_instances": found}
        if proposals is not None:
            sample["proposals"] = proposals[image]
        metric.process({}, [sample])
    return metric.evaluate(len(predictions))


def by_hand(path, predictions, names, group):
    """(AP50, AP) of each class of a group that has ground truth."""
    results = [
        {
            "image_id": image,
            "category_id": IDS[names[label]],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image, found in predictions.items()
        for (x1, y1, x2, y2), score, label in zip(
            found["bboxes"].tolist(),
            found["scores"].tolist(),
            found["labels"].tolist(),
            strict=True,
        )
    ]
    values = []
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(path)
        found = truth.loadRes(results)
        for name in GROUPS[group]:
            evaluator = COCOeval(truth, found, "bbox")
            evaluator.params.catIds = [IDS[name]]
            evaluator.evaluate()
            evaluator.accumulate()
            precision = evaluator.eval["precision"][:, :, 0, 0, 2]
            if precision.max() > -1:
                values.append((precision[0].mean(), precision.mean()))
    return np.array(values)


@pytest.mark.parametrize("case", [65, 80], indirect=True)
def test_equals_pycocotools_by_hand(case):
    way, ann_file, file_of, predictions = case
    values = {g: by_hand(path, predictions, NAMES[way], g) for g, path in file_of.items()}
    assert len(values["base"]) in range(40, 47) and len(values["novel"]) in range(12, 16)
    values["all"] = np.concatenate(list(values.values()))
    means = {group: 100 * of_group.mean(axis=0) for group, of_group in values.items()}
    expected = {
        f"{key}_{group}": mean[column]
        for column, key in enumerate(("AP50", "AP"))
        for group, mean in means.items()
    }
    metrics = evaluate(ann_file, way, predictions)
    assert metrics.pop("protocol") == way
    assert metrics == pytest.approx(expected, abs=1e-9, rel=0)
    assert all(1 < value < 99 for value in metrics.values())


@pytest.mark.parametrize("case", [80], indirect=True)
def test_one_file_of_both_groups_gives_the_same(case, tmp_path):
    way, files, _, predictions = case
    proposals = {
        image: {"bboxes": found["bboxes"], "scores": found["scores"]}
        for image, found in predictions.items()
    }
    metrics = evaluate(files, way, predictions, proposals)
    assert len(metrics) == 6 + 9 + 1
    # With the 15 unused classes in it, as COCO's own file has them.
    whole = str(tmp_path / "whole.json")
    for ann_file in (whole, dict(base=whole, novel=whole)):
        assert evaluate(ann_file, way, predictions, proposals) == metrics


@pytest.mark.parametrize("case", [65, 80], indirect=True)
def test_recall_of_proposals_knows_the_group(case):
    """Proposals on base boxes before proposals on novel ones, worse ones first in the tensor."""
    way, ann_file, file_of, predictions = case
    truth = {group: json.loads(Path(path).read_text()) for group, path in file_of.items()}
    proposals, most = {}, 0
    for image in predictions:
        boxes = {}
        for group, values in truth.items():
            own = of_group(values["annotations"], group)
            mine = [a["bbox"] for a in own if a["image_id"] == image and not a["iscrowd"]]
            boxes[group] = np.array(mine, np.float32).reshape(-1, 4)
            boxes[group][:, 2:] += boxes[group][:, :2]
        most = max(most, len(boxes["base"]))
        both = np.concatenate([boxes["novel"], boxes["base"]])
        scores = [0.1] * len(boxes["novel"]) + [0.9] * len(boxes["base"])
        proposals[image] = {"bboxes": torch.tensor(both), "scores": torch.tensor(scores)}
    metrics = evaluate(ann_file, way, predictions, proposals, proposal_nums=(most, 40))
    assert metrics[f"proposal_recall_base@{most}"] == 100
    assert metrics[f"proposal_recall_novel@{most}"] < 100
    for group in ("base", "novel", "all"):
        assert metrics[f"proposal_recall_{group}@40"] == 100


@pytest.mark.parametrize(("way", "expected"), [(65, "65-way: 65"), (80, "80-way two-json: 80")])
def test_prepared_files_end_to_end(generated_coco, tmp_path, monkeypatch, way, expected):
    """A detector that finds every annotation of every class, on files as the tool makes them."""
    logged = []
    monkeypatch.setattr(MMLogger, "info", lambda self, text: logged.append(text))
    list(write_files(tmp_path, ov_coco_files(generated_coco, [way])))
    files = {group: str(tmp_path / f"ov_coco_80_val_{group}.json") for group in GROUPS}
    ann_file = files if way == 80 else str(tmp_path / "ov_coco_65_val.json")
    vocabulary = str(tmp_path / "ov_coco_80_vocabulary.json") if way == 80 else "ov_coco"
    dataset = DATASETS.build(
        dict(
            type="OVCocoDataset",
            vocabulary=vocabulary,
            ann_file=files["base"] if way == 80 else ann_file,
            data_prefix=dict(img=str(generated_coco / "val2017")),
            test_mode=True,
        )
    )
    # A number, as a command line gives it.
    metric = METRICS.build(dict(type="OVCocoMetric", ann_file=ann_file, protocol=way))
    metric.dataset_meta = dataset.metainfo
    labels = {IDS[name]: label for label, name in enumerate(dataset.metainfo["classes"])}
    source = json.loads((generated_coco / "annotations" / "instances_val2017.json").read_text())
    for record in (dataset.get_data_info(i) for i in range(len(dataset))):
        own = [a for a in source["annotations"] if a["image_id"] == record["img_id"]]
        own = [a for a in own if a["category_id"] in labels]
        boxes = torch.tensor([a["bbox"] for a in own], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        instances = {
            "bboxes": boxes,
            "scores": torch.full((len(own),), 0.5),
            "labels": torch.tensor([labels[a["category_id"]] for a in own], dtype=torch.long),
        }
        shape = (record["height"], record["width"])
        sample = {"pred_instances": instances, "img_id": record["img_id"], "ori_shape": shape}
        metric.process({}, [sample])
    metrics = metric.evaluate(len(dataset))
    assert [metrics[f"AP50_{g}"] for g in ("base", "novel", "all")] == pytest.approx([100] * 3)
    assert metrics["protocol"] == way
    assert f"OV-COCO, {expected} names, {len(dataset)} images" in logged[-1]


def test_65_way_says_when_images_should_have_been_left_out(tmp_path, monkeypatch):
    warned = []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: warned.append(text))
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
    predictions = random_predictions(np.random.default_rng(0), NAMES[65], [])
    for last, count in ((1, 0), (IMAGES, 1)):
        images = range(1, last + 1)
        path = write(tmp_path / f"{last}.json", [box], images, OV_COCO.names)
        evaluate(path, 65, {image: predictions[image] for image in images})
        assert len(warned) == count
    assert says(f"23 of {IMAGES} images", "65-way").search(warned[0])


def test_claims_that_are_not_true_are_refused(tmp_path):
    def build(**options):
        return METRICS.build(dict(type="OVCocoMetric", **options))

    with pytest.raises(ValueError, match=says("48", "'65'", "'80'")):
        build(protocol=48)
    with pytest.raises(ValueError, match=says("'80'", "ann_file=dict(base=..., novel=...)")):
        build(protocol="80")
    path = write(tmp_path / "a.json", [], [1, 2], list(IDS))
    other = write(tmp_path / "b.json", [], [1], list(IDS))
    with pytest.raises(ValueError, match=says("['base', 'novel']", "'65'", "protocol='80'")):
        build(protocol="65", ann_file=dict(base=path, novel=path))
    with pytest.raises(ValueError, match=says("['base']", "'80'", "dict(base=..., novel=...)")):
        build(protocol="80", ann_file=dict(base=path))
    with pytest.raises(
        ValueError, match=says("a.json", "b.json", "images", "tools/prepare_ov_coco.py")
    ):
        build(protocol="80", ann_file=dict(base=path, novel=other))

    metric = build(protocol="65", ann_file=path)
    with pytest.raises(
        ValueError, match=says("'65'", "65 names", "80", "'ov_coco'", "protocol='80'")
    ):
        metric.dataset_meta = meta(NAMES[80])
    with pytest.raises(
        ValueError, match=says("'65'", "48 base classes", "2", "OV-COCO's vocabulary")
    ):
        metric.dataset_meta = {**meta(NAMES[65]), "base_classes": GROUPS["base"][:2]}
    build(protocol="80", ann_file=path).dataset_meta = meta(NAMES[65])  # fewer names to confuse
    with pytest.raises(
        ValueError, match=says("'80'", "48 base classes", "0", "OV-COCO's vocabulary")
    ):
        build(protocol="80", ann_file=path).dataset_meta = {"classes": NAMES[80]}

    values = json.loads(Path(path).read_text())
    for category in values["categories"]:
        category["id"] += 100
    (tmp_path / "c.json").write_text(json.dumps(values))
    metric = build(protocol="80", ann_file=dict(base=path, novel=str(tmp_path / "c.json")))
    with pytest.raises(
        ValueError, match=says("ann_file", "categories", "tools/prepare_ov_coco.py")
    ):
        metric.dataset_meta = meta(NAMES[80])
