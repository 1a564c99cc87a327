"""Which subsets a config leads to, and why others are left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from fgclip_det.apis.fg_ovd.subsets import SUBSETS, find_subsets
from fgclip_det.fg_ovd import files

Make = Callable[..., Config]


def test_all_are_those_that_lie_beside_the_config_s_own(
    fg_ovd_config: Make, fg_ovd_data: Path
) -> None:
    dataset = fg_ovd_config().test_dataloader.dataset
    found, left_out = find_subsets(dataset)
    names = {"hard", "medium", "easy", "trivial", "color", "pattern"}
    assert {subset.name for subset in found} == names
    assert set(left_out) == {"material", "transparency"} == set(SUBSETS) - names
    assert str(fg_ovd_data / "fg_ovd" / "material.json") in left_out["material"]
    # Published numbers, and 0.
    assert [subset.n_negatives for subset in found] == [5, 5, 5, 5, 2, 2]
    assert [subset.numbers for subset in found[3:5]] == [(0, 5), (0, 2)]
    assert found[1].path == fg_ovd_data / "fg_ovd" / "2_attributes.json"


def test_each_file_is_read_once(fg_ovd_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = files.read_json
    monkeypatch.setattr(files, "read_json", lambda path, **k: read.append(path) or real(path, **k))
    found, _ = find_subsets(fg_ovd_config().test_dataloader.dataset, "hard,easy")
    assert read == [subset.path for subset in found] and len(read) == 2
    assert [len(subset.dataset) for subset in found] == [8, 8]


def test_a_subset_without_so_many_negatives_is_told(fg_ovd_config: Make) -> None:
    dataset = fg_ovd_config().test_dataloader.dataset
    found, left_out = find_subsets(dataset, "color,hard", 10)
    assert [subset.name for subset in found] == ["hard"]
    assert left_out == {"color": "no caption has 10 negatives: at most 7"}
    with pytest.raises(ValueError, match=r"nothing to run \(color: no caption has 8 .* at most 7"):
        find_subsets(dataset, "color", 8)
    (zero,) = find_subsets(dataset, "color", 0)[0]
    assert zero.numbers == (0,)


def test_a_sweep_asks_for_every_number(fg_ovd_config: Make) -> None:
    (subset,) = find_subsets(fg_ovd_config().test_dataloader.dataset, "pattern", sweep=True)[0]
    assert subset.numbers == (0, 1, 2)
    rights = {subset.file.captions_of(one)[0] for one in subset.file.vocabularies(0)}
    longest = {t for one in subset.file.vocabularies(2) for t in subset.file.captions_of(one)}
    assert set(subset.captions) == rights | longest
    assert len(subset.captions) == len(set(subset.captions))


def test_captions_of_lost_pictures_are_not_asked_for(
    fg_ovd_config: Make, fg_ovd_data: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(fg_ovd_data, tmp_path / "data")
    dataset = fg_ovd_config(root).test_dataloader.dataset
    (whole,) = find_subsets(dataset, "hard")[0]
    (root / "val" / "000003.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 8 pictures .* are missing.*000003\.png"):
        find_subsets(dataset, "hard")
    (subset,) = find_subsets(dataset, "hard", skip_missing=True)[0]
    assert len(subset.img_paths) == 7 and subset.dataset.metainfo["missing_images"] == 1
    assert set(subset.captions) < set(whole.captions)


def test_paths_may_be_relative_to_a_data_root(fg_ovd_config: Make, fg_ovd_data: Path) -> None:
    config = fg_ovd_config()
    config.test_dataloader.dataset.update(
        data_root=str(fg_ovd_data), ann_file="fg_ovd/1_attributes.json", data_prefix=dict(img="")
    )
    (subset,) = find_subsets(config.test_dataloader.dataset, "easy")[0]
    assert subset.path == fg_ovd_data / "fg_ovd" / "3_attributes.json"
    assert all(Path(path).is_file() for path in subset.img_paths.values())


def test_what_cannot_be_run(fg_ovd_config: Make, fg_ovd_data: Path, tmp_path: Path) -> None:
    dataset = fg_ovd_config().test_dataloader.dataset
    for names in ("hrad", "hard,", "all,hard"):
        with pytest.raises(ValueError, match="choose all, or of hard,medium,easy,trivial,color"):
            find_subsets(dataset, names)
    with pytest.raises(ValueError, match=r"--subsets material: there is no file .*material\.json"):
        find_subsets(dataset, "hard,material")
    with pytest.raises(ValueError, match="n_negatives is -1"):
        find_subsets(dataset, "hard", -1)
    with pytest.raises(ValueError, match="dataset of type 'OVCocoDataset': use one of configs"):
        find_subsets({**dataset, "type": "OVCocoDataset"}, "hard")
    (tmp_path / "1_attributes.json").write_text(json.dumps({"images": []}))
    with pytest.raises(ValueError, match="not in FG-OVD's format"):
        find_subsets({**dataset, "ann_file": str(tmp_path / "1_attributes.json")})
    # A file that the config names is not left aside for those beside it.
    (tmp_path / "mine.json").write_text((fg_ovd_data / "fg_ovd" / "1_attributes.json").read_text())
    for name in ("2_attributes.json", "mine.json"):
        with pytest.raises(ValueError, match=rf"{name}' must be there and be one of 1_attributes"):
            find_subsets({**dataset, "ann_file": str(tmp_path / name)})
    with pytest.raises(ValueError, match=r"nothing to run \(hard: no caption has 11 negatives"):
        find_subsets(dataset, "hard", 11)


def test_what_the_config_says_counts(
    fg_ovd_config: Make, fg_ovd_data: Path, tmp_path: Path
) -> None:
    dataset = fg_ovd_config().test_dataloader.dataset
    (hard, medium), _ = find_subsets({**dataset, "n_negatives": 4}, "hard,medium")
    assert (hard.n_negatives, medium.n_negatives) == (4, 5)
    (hard,), _ = find_subsets({**dataset, "n_negatives": 4}, "hard", 3)
    assert hard.n_negatives == 3
    shutil.copytree(fg_ovd_data, tmp_path / "data")
    (tmp_path / "data" / hard.file.images[0]["file_name"]).unlink()
    lost = fg_ovd_config(tmp_path / "data").test_dataloader.dataset
    with pytest.raises(ValueError, match=r"skip_missing=True \(--skip-missing\) goes on"):
        find_subsets(lost, "hard")
    (hard,), _ = find_subsets({**lost, "skip_missing": True}, "hard")
    assert hard.dataset.metainfo["missing_images"] == 1
