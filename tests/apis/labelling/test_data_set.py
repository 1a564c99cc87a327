"""What is written of a run that is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fgclip_det.apis.labelling.data_set import write_data_set
from fgclip_det.apis.labelling.labels import LabelledPicture
from fgclip_det.apis.labelling.run import Labels, LabelSettings
from fgclip_det.vocabulary import Vocabulary


def labelled(number: int) -> Labels:
    pictures = [
        LabelledPicture(f"{place:03d}.png", f"{place * 7919:064x}", 8, 8, 1, ())
        for place in range(number)
    ]
    return Labels(LabelSettings(("red mug", "plate"), (0.3, 0.5)), pictures, ["a failed"])


def written(out: Path) -> dict[str, str]:
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return {one["file"]: one["split"] for one in manifest["pictures"]}


def test_pictures_that_are_added_move_no_others(tmp_path: Path) -> None:
    write_data_set(tmp_path, tmp_path, labelled(50), ["coco"], 0.3, review=0)
    before = written(tmp_path)
    write_data_set(tmp_path, tmp_path, labelled(80), ["coco"], 0.3, review=0)
    after = written(tmp_path)
    assert len(after) == 80 and {file: after[file] for file in before} == before
    assert set(before.values()) == {"train", "val"}
    for split in ("train", "val"):
        text = (tmp_path / f"coco/annotations/{split}.json").read_text(encoding="utf-8")
        files = [one["file_name"] for one in json.loads(text)["images"]]
        assert files == [file for file, one in after.items() if one == split]


def test_manifest_and_names(tmp_path: Path) -> None:
    write_data_set(tmp_path, tmp_path, labelled(3), ["coco"], review=0)
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["thresholds"] == {"red mug": 0.3, "plate": 0.5}
    assert manifest["failures"] == ["a failed"]
    assert [one["sha256"] for one in manifest["pictures"]] == [
        one.sha256 for one in labelled(3).pictures
    ]
    assert Vocabulary.parse(tmp_path / "vocabulary.json").names == ("red mug", "plate")
    assert not (tmp_path / "review").exists()


@pytest.mark.parametrize("share", [-0.1, 1, float("nan")])
def test_shares_out_of_range(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match="share of val"):
        write_data_set(tmp_path, tmp_path, labelled(3), ["coco"], share)
    assert list(tmp_path.iterdir()) == []
