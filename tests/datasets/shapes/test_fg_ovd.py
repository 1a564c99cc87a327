"""Shapes as FG-OVD's files: what the negatives of each subset differ in."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgclip_det.datasets.shapes.captions import Description
from fgclip_det.datasets.shapes.fg_ovd import SUBSETS, subsets, swaps
from fgclip_det.datasets.shapes.generator import Composition, generate, is_novel
from fgclip_det.fg_ovd.files import FGOVDFile, read_fg_ovd


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes with few pictures."""
    root = tmp_path_factory.mktemp("shapes")
    generate(root, {"pretrain_val": 40, "train": 12, "val": 40}, seed=0)
    return root / "fg_ovd"


def groups(file: FGOVDFile) -> list[tuple[str, list[str]]]:
    """Right caption and negatives of each annotation."""
    names = file.captions
    return [
        (names[one["category_id"]], [names[number] for number in one["neg_category_ids"]])
        for one in file.annotations
    ]


def changed(one: str, other: str) -> list[int]:
    """Places of the words that differ: 1 size, 2 colour, 3 pattern, 4 shape."""
    words = zip(one.split(), other.split(), strict=True)
    return [place for place, (a, b) in enumerate(words) if a != b and place]


def test_swaps_change_each_of_the_attributes_and_no_other() -> None:
    one = Description("small", "red", "plain", "circle")
    assert len(swaps(one, ("color",))) == 7
    both = swaps(one, ("color", "shape"))
    assert len(set(both)) == 7 * 5
    for other in both:
        assert other.color != "red" and other.shape != "circle"
        assert (other.size, other.pattern) == ("small", "plain")


def test_files_bear_the_official_names(root: Path) -> None:
    names = {f"{name}.json" for name in SUBSETS}
    assert {path.name for path in root.glob("*.json")} == {*names, "train_1_attributes.json"}
    assert {path.name for path in (root / "validation").iterdir()} == names


@pytest.mark.parametrize("folder", [".", "validation"])
def test_negatives_are_what_the_subset_says(root: Path, folder: str) -> None:
    for name, number in (("1_attributes", 1), ("2_attributes", 2), ("3_attributes", 3)):
        for right, negatives in groups(read_fg_ovd(root / folder / f"{name}.json")):
            assert len(set(negatives)) == 10
            assert {len(changed(right, text)) for text in negatives} == {number}
    for name, place, count in (("color", 2, 7), ("pattern", 3, 3)):
        for right, negatives in groups(read_fg_ovd(root / folder / f"{name}.json")):
            assert len(set(negatives)) == count
            assert all(changed(right, text) == [place] for text in negatives)
    shuffled = groups(read_fg_ovd(root / folder / "shuffle_negatives.json"))
    captions = {right for right, _ in shuffled}
    for right, negatives in shuffled:
        assert len(set(negatives)) == len(negatives) == 10
        assert set(negatives) <= captions
        assert all({2, 3, 4} <= set(changed(right, text)) for text in negatives)


def test_captions_tell_the_size_of_the_box(root: Path) -> None:
    file = read_fg_ovd(root / "1_attributes.json")
    sides = {"small": (0, 35), "medium": (35, 48), "large": (48, 65)}
    seen = set()
    for one in file.annotations:
        size = file.captions[one["category_id"]].split()[1]
        least, most = sides[size]
        assert least <= max(one["bbox"][2:]) < most
        seen.add(size)
    assert seen == set(sides)


def test_a_side_of_35_pixels_is_medium() -> None:
    """Added to a corner and taken off again it may come out below 35."""
    coco = {
        "images": [{"id": 1, "file_name": "1.png", "width": 128, "height": 128}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [87.47, 33.32, 31.68, 35.0]}
            | {"area": 1108.8}
        ],
        "categories": [{"id": 1, "name": "purple striped triangle"}],
    }
    made = subsets(coco, "val", names=("color",))["color"]
    assert made["categories"][0]["name"] == "a medium purple striped triangle"


def test_training_never_shows_a_novel_composition(root: Path) -> None:
    found = groups(read_fg_ovd(root / "train_1_attributes.json"))
    for right, negatives in found:
        assert len(set(negatives)) == 10
        assert {len(changed(right, text)) for text in negatives} == {1}
        for text in (right, *negatives):
            assert not is_novel(Composition(*text.split()[2:]))


def test_splits_and_subsets_draw_for_themselves(root: Path) -> None:
    files = {
        path.relative_to(root).as_posix(): groups(read_fg_ovd(path))
        for path in root.rglob("*.json")
    }
    hard = files["1_attributes.json"]
    # Boxes are those of the split; pictures carry its folder.
    assert [right for right, _ in hard] == [right for right, _ in files["color.json"]]
    file = read_fg_ovd(root / "validation" / "1_attributes.json")
    assert {Path(image["file_name"]).parts[0] for image in file.images} == {"pretrain_val"}
    assert all((root.parent / image["file_name"]).is_file() for image in file.images)
    assert len({str(found) for found in files.values()}) == len(files)
