import hashlib
import itertools
import json
import shutil
from collections import Counter

import pytest

from fgclip_det.datasets.shapes import generator as shapes
from fgclip_det.datasets.shapes.generator import (
    COLORS,
    DEFAULT_SPLITS,
    PATTERNS,
    SHAPES,
    check,
    compositions,
    generate,
    is_novel,
)

SMALL = {"pretrain": 6, "pretrain_val": 4, "train": 6, "val": 6}


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    assert generate(root, SMALL, seed=0) == [*SMALL, "coco_captions", "fg_ovd", "presence"]
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "shapes")


def load(root, name):
    return json.loads((root / "annotations" / name).read_text())


def test_a_quarter_is_novel_and_base_shows_every_pair_of_values():
    classes = compositions()
    assert len({c.name for c in classes}) == 192
    novel = [c for c in classes if is_novel(c)]
    assert len(novel) == 48
    base = [(c.color, c.pattern, c.shape) for c in classes if not is_novel(c)]
    for first, second in itertools.combinations((0, 1, 2), 2):
        values = (list(COLORS), PATTERNS, SHAPES)
        wanted = set(itertools.product(values[first], values[second]))
        assert {(c[first], c[second]) for c in base} == wanted
        assert {(c[first], c[second]) for c in base} >= {
            ((c.color, c.pattern, c.shape)[first], (c.color, c.pattern, c.shape)[second])
            for c in novel
        }


def test_default_val_shows_each_class_equally_often_and_train_only_base():
    counts = Counter(c for s in shapes._contents("val", DEFAULT_SPLITS["val"], 0) for c in s)
    assert len(counts) == 192
    assert counts.total() >= 950
    assert max(counts.values()) - min(counts.values()) <= 2
    train = Counter(c for s in shapes._contents("train", DEFAULT_SPLITS["train"], 0) for c in s)
    assert len(train) == 144 and not any(map(is_novel, train))


@pytest.mark.parametrize("split", ["exemplars", "val_exemplars"])
def test_of_each_class_ten_exemplars_can_be_shown(split):
    counts = Counter(c for s in shapes._contents(split, 800, 0) for c in s)
    assert len(counts) == 192
    assert min(counts.values()) >= 10


def test_each_split_has_its_own_stream():
    assert shapes._STREAMS["val"] == 4 and shapes._STREAMS["presence_test"] == 6
    assert len({*shapes._STREAMS.values()}) == len(shapes._STREAMS)


def test_no_class_appears_twice_in_a_picture():
    for split in DEFAULT_SPLITS:
        assert all(len(set(s)) == len(s) for s in shapes._contents(split, 400, 0))


def test_files_do_not_depend_on_the_number_of_workers(made, tmp_path):
    generate(tmp_path, SMALL, seed=0, workers=2)
    assert digest(tmp_path) == digest(made)


def test_seed_and_split_change_the_pictures(made, tmp_path):
    generate(tmp_path, {"val": 6, "train": 6}, seed=1)
    first = "val/000000.png"
    assert digest(tmp_path)[first] != digest(made)[first]
    assert digest(made)["train/000000.png"] != digest(made)[first]


def test_coco_files(made):
    names = [c.name for c in compositions()]
    for split in ("train", "val"):
        data = load(made, f"{split}.json")
        assert [c["name"] for c in data["categories"]] == names
        assert [c["id"] for c in data["categories"]] == list(range(1, 193))
        assert len({a["id"] for a in data["annotations"]}) == len(data["annotations"])
        for image in data["images"]:
            assert (made / split / image["file_name"]).is_file()
        for annotation in data["annotations"]:
            x, y, width, height = annotation["bbox"]
            assert x >= 0 and y >= 0 and x + width <= 128.01 and y + height <= 128.01
            assert annotation["area"] == pytest.approx(width * height, abs=0.01)
    train = load(made, "train.json")
    novel = {i for i, c in enumerate(compositions(), start=1) if is_novel(c)}
    assert not novel & {a["category_id"] for a in train["annotations"]}


def test_fg_ovd_files_match_the_coco_file(made):
    data, coco = load(made, "val_fgovd.json"), load(made, "val.json")
    assert [a["bbox"] for a in data["annotations"]] == [a["bbox"] for a in coco["annotations"]]
    names = {c["id"]: c["name"] for c in data["categories"]}
    assert len(names) == len(data["categories"])
    coco_names = {c["id"]: c["name"] for c in coco["categories"]}
    homes = {}
    for annotation, twin in zip(data["annotations"], coco["annotations"], strict=True):
        positive = names[annotation["category_id"]]
        assert positive == "a " + coco_names[twin["category_id"]]
        negatives = [names[i] for i in annotation["neg_category_ids"]]
        assert len(set(negatives)) == 10
        for negative in negatives:
            words = zip(positive.split(), negative.split(), strict=True)
            assert sum(a != b for a, b in words) == 1
        image = homes.setdefault(annotation["category_id"], annotation["image_id"])
        assert image == annotation["image_id"]
    assert all((made / image["file_name"]).is_file() for image in data["images"])


def test_pretrain_lines(made):
    lines = (made / "annotations" / "pretrain.jsonl").read_text().splitlines()
    assert len(lines) == SMALL["pretrain"]
    for record in map(json.loads, lines):
        assert (made / "pretrain" / record["file_name"]).is_file()
        assert (record["width"], record["height"]) == (128, 128)
        for region in record["regions"]:
            x1, y1, x2, y2 = region["bbox"]
            assert 0 <= x1 < x2 <= 128 and 0 <= y1 < y2 <= 128
            assert len(region["negatives"]) == 10
            assert region["caption"] in record["short_caption"]


def test_vocabulary_file(made):
    data = json.loads((made / "vocabulary.json").read_text())
    assert list(data["names"]) == [c.name for c in compositions()]
    assert data["names"]["red plain circle"] == ["a red plain circle"]
    assert data["templates"] == ["{}"]
    assert {k: len(v) for k, v in data["groups"].items()} == {"base": 144, "novel": 48}


def test_finished_splits_are_kept_and_changed_settings_redo_only_their_split(root):
    stamp = (root / "val" / "000000.png").stat().st_mtime_ns
    assert generate(root, SMALL, seed=0) == []
    assert generate(root, {**SMALL, "train": 7}, seed=0) == ["train", "fg_ovd"]
    assert (root / "val" / "000000.png").stat().st_mtime_ns == stamp
    assert len(load(root, "train.json")["images"]) == 7
    check(root)


def test_a_run_that_is_cut_off_leaves_no_half_of_a_split(root, monkeypatch):
    before = digest(root)

    def fail(job):
        if job[3] == 3:
            raise OSError("disk full")
        return draw(job)

    draw = shapes._draw
    monkeypatch.setattr(shapes, "_draw", fail)
    with pytest.raises(OSError, match="disk full"):
        generate(root, {"train": 9}, seed=0)
    assert digest(root) == before


def test_a_folder_of_before_gets_the_files_of_fg_ovd(root):
    before = digest(root)
    shutil.rmtree(root / "fg_ovd")
    with pytest.raises(ValueError, match=r"fg_ovd.*is missing: run the tool again without --check"):
        check(root)
    assert generate(root, SMALL, seed=0) == ["fg_ovd"]
    assert digest(root) == before
    # They follow the seed of their split, whatever is asked for now.
    (root / "fg_ovd" / "color.json").write_text("{}")
    assert generate(root, {"train": 6}, seed=0) == []
    assert generate(root, SMALL, seed=0) == ["fg_ovd"]
    assert digest(root) == before


@pytest.mark.parametrize("damage", ["picture", "truncated", "annotation", "settings", "vocabulary"])
def test_check_finds_damage(root, damage):
    check(root)
    if damage == "picture":
        (root / "val" / "000002.png").unlink()
    elif damage == "truncated":
        path = root / "val" / "000002.png"
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "annotation":
        (root / "annotations" / "val.json").write_text("{}")
    elif damage == "settings":
        (root / "val" / "settings.json").unlink()
    else:
        (root / "vocabulary.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tools/prepare_shapes\.py again"):
        check(root)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"splits": {"test": 3}}, "unknown split 'test'"),
        ({"splits": {"val": 0}}, "cannot make 0 pictures"),
        ({"seed": -1}, "seed -1"),
        ({"workers": -1}, "workers -1"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
