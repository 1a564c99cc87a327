import os
import pickle

# First, since mmdet needs mmcv's ops.
import fgclip_det.compat  # noqa: F401

# isort: split
import numpy as np
import pytest

from fgclip_det.datasets import D3Dataset
from fgclip_det.datasets.d3 import D3Files
from tests.tiny_d3 import GROUPS, SENTENCES, tables, write_d3


@pytest.fixture
def root(tmp_path):
    return write_d3(tmp_path / "d3")


def dataset(root, part="full", **options):
    options = {"pipeline": [], "test_mode": True, **options}
    return D3Dataset(data_root=str(root), ann_file=f"d3_json/d3_{part}_annotations.json", **options)


def rewrite(root, name, change):
    table = tables()[name]
    change(table)
    (root / "d3_pkl" / f"{name}.pkl").write_bytes(pickle.dumps(table))


def test_a_picture_is_asked_the_sentences_of_its_group(root):
    made = dataset(root)
    assert len(made) == 4
    assert made.metainfo["classes"] == tuple(text for text, _ in SENTENCES.values())
    for place, group in enumerate((0, 0, 3, 3)):
        info = made.get_data_info(place)
        assert info["sent_ids"].tolist() == GROUPS[group]
        assert info["text"] == [SENTENCES[one][0] for one in GROUPS[group]]
        assert info["img_path"] == str(root / "d3_images" / f"g{group}" / f"{place}.jpg")
        assert (info["height"], info["width"], info["img_id"]) == (48, 90, place)
        assert len(info["instances"]) == len(GROUPS[group])
    assert made.get_data_info(0)["instances"][0]["bbox"] == [3, 5, 30, 40]


def test_inter_asks_all(root):
    made = dataset(root, protocol="inter")
    for place in range(4):
        info = made.get_data_info(place)
        assert info["sent_ids"].tolist() == list(SENTENCES) and len(info["text"]) == 8


@pytest.mark.parametrize("part", ["pres", "abs"])
def test_the_question_is_the_same_whichever_file_is_read(root, part):
    full, other = dataset(root), dataset(root, part)
    assert len(full) == len(other)
    for place in range(4):
        assert full.get_data_info(place)["text"] == other.get_data_info(place)["text"]
    assert len(other.get_data_info(0)["instances"]) < len(full.get_data_info(0)["instances"])


def test_numbers_of_numpy_are_numbers(root):
    rewrite(
        root, "images", lambda table: table[0].update(height=np.int64(48), group_id=np.int32(0))
    )
    assert dataset(root).get_data_info(0)["text"][0] == SENTENCES[1][0]


class _Harm:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_a_pickle_runs_nothing(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (root / "d3_pkl" / "groups.pkl").write_bytes(pickle.dumps({0: _Harm()}))
    with pytest.raises(ValueError, match=r"groups\.pkl' is refused: it would run '\w+\.mkdir'"):
        dataset(root)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sentences", lambda t: t.clear(), r"sentences\.pkl' holds no dict of entries"),
        ("sentences", lambda t: t[1].pop("raw_sent"), r"entry 1 has None as 'raw_sent'"),
        ("images", lambda t: t.update({2: "x"}), r"entry 2 has None as 'file_name'"),
        ("images", lambda t: t[2].update(group_id=9), "image 2 is of group 9, which is none"),
        ("groups", lambda t: t[3].update(inner_sent_id=[3, 99]), "group 3 has the sentence 99"),
    ],
)
def test_entries_that_do_not_fit_are_named(root, name, change, message):
    rewrite(root, name, change)
    with pytest.raises(ValueError, match=message):
        dataset(root)


def test_what_is_missing_is_named(root):
    with pytest.raises(ValueError, match=r"no file .*d3_none_annotations"):
        dataset(root, "none")
    with pytest.raises(ValueError, match="protocol is 'both': choose 'intra' or 'inter'"):
        D3Files(root / "d3_pkl", "both")
    (root / "d3_images" / "g3" / "2.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 images are missing, the first: .*2\.jpg"):
        dataset(root)
    assert len(dataset(root, check_images=False)) == 4
    (root / "d3_pkl" / "images.pkl").unlink()
    with pytest.raises(ValueError, match=r"images\.pkl"):
        dataset(root)
