from collections import Counter

import pytest

from fgclip_det.datasets.shapes import generate
from fgclip_det.datasets.shapes.generator import _contents, compositions
from fgclip_det.datasets.shapes.presence import _distance, presence_file
from fgclip_det.datasets.shapes.render import Composition
from fgclip_det.io import read_json

CLASSES = compositions()


def coco_of(scenes):
    """COCO JSON of pictures with a box for each class named; one may be named twice."""
    annotations = [
        {"image_id": image, "category_id": 1 + CLASSES.index(one), "bbox": [10.0 * place, 0, 9, 9]}
        for image, scene in enumerate(scenes, start=1)
        for place, one in enumerate(scene)
    ]
    return {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(1, len(scenes) + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": c.name} for i, c in enumerate(CLASSES, start=1)],
    }


def composition(query):
    return Composition(*query["text"].removeprefix("a ").split())


def queries_of(scenes, split="val", seed=0):
    return presence_file(coco_of(scenes), split, seed).lists["queries"]


def test_kinds_are_what_they_say():
    scenes = _contents("val", 400, 0)
    queries = queries_of(scenes)
    kinds = Counter(query["kind"] for query in queries)
    assert set(kinds.values()) == {sum(map(len, scenes))} and len(kinds) == 3
    assert [query["id"] for query in queries] == list(range(1, len(queries) + 1))
    for query in queries:
        scene, asked = scenes[query["image_id"] - 1], composition(query)
        distances = [_distance(asked, one) for one in scene]
        if query["kind"] == "present":
            assert 0 in distances and len(query["bboxes"]) == 1
            continue
        assert query["bboxes"] == [] and 0 not in distances
        assert (1 in distances) == (query["kind"] == "near_miss")
        if query["kind"] == "near_miss":
            other = [one for one in scene if _distance(asked, one) == 1]
            assert any(
                getattr(asked, query["differs"]) != getattr(o, query["differs"]) for o in other
            )
    assert {query.get("differs") for query in queries} == {"color", "pattern", "shape", None}


def test_no_phrase_is_asked_twice_of_a_picture():
    pairs = [(q["image_id"], q["text"]) for q in queries_of(_contents("val", 300, 0))]
    assert len(set(pairs)) == len(pairs)


def test_boxes_of_one_class_are_one_query_and_an_empty_picture_has_none():
    queries = queries_of([[CLASSES[5], CLASSES[5]], [], [CLASSES[7]]])
    assert [query["image_id"] for query in queries] == [1, 1, 1, 3, 3, 3]
    assert queries[0]["bboxes"] == [[0, 0, 9, 9], [10, 0, 9, 9]]


def test_neighbours_that_are_all_there_leave_others_to_ask():
    # 15 of the swaps of the first are in the picture: its near miss would be one of them.
    first = CLASSES[0]
    scene = [one for one in CLASSES if _distance(first, one) < 2][:15]
    near = [composition(q) for q in queries_of([scene]) if q["kind"] == "near_miss"]
    assert len(near) == 15 and not set(near) & set(scene)


def test_seed_and_split_decide():
    scenes = _contents("val", 20, 0)
    assert queries_of(scenes) == queries_of(scenes)
    others = [queries_of(scenes, seed=1), queries_of(scenes, "lav")]
    assert queries_of(scenes) not in others and others[0] != others[1]


@pytest.mark.parametrize("split", ["presence_val", "pretrain_val"])
def test_a_split_is_written_with_its_queries(tmp_path, split):
    assert generate(tmp_path, {split: 3}, seed=4)[0] == split
    made = read_json(tmp_path / "annotations" / f"{split}_presence.json")
    assert len(made["images"]) == 3 and len(made["queries"]) % 3 == 0
    for image in made["images"]:
        assert (tmp_path / split / image["file_name"]).is_file()
    boxes = [query["bboxes"] for query in made["queries"] if query["kind"] == "present"]
    if split == "presence_val":
        coco = read_json(tmp_path / "annotations" / f"{split}.json")
        assert [[a["bbox"]] for a in coco["annotations"]] == boxes
    assert generate(tmp_path, {split: 3}, seed=4) == []


def test_five_thousand_of_each_kind_with_the_numbers_of_the_docs():
    assert sum(map(len, _contents("presence_test", 2100, 0))) >= 5000
    assert sum(map(len, _contents("presence_val", 2100, 0))) >= 5000
