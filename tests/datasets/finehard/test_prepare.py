"""Shards are made whole or not at all, go on where they stopped, and tell what they lack."""

from __future__ import annotations

import json
import shutil

import pytest
import webdataset

from fgclip_det.datasets import FineHARDDataset, FineHARDStream
from fgclip_det.datasets.finehard import left_out, prepare, prepare_shards
from tests.datasets.finehard.conftest import record, write_pictures
from tests.messages import says


@pytest.fixture(scope="module")
def made(published, tmp_path_factory):
    """Six shards of ten items or what is left: 3 of each annotation file."""
    folder = tmp_path_factory.mktemp("made") / "shards"
    index = prepare_shards(*published, folder, items_per_shard=10)
    assert index["items"] == 55 and index["made"] == 6 and index["left_out"] == {}
    return folder


@pytest.fixture
def shards(made, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(made, tmp_path / "shards")


def test_readers_of_webdataset_see_the_items(made, published):
    paths = sorted(str(path) for path in made.glob("*.tar"))
    seen = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert len(seen) == 55 and len({sample["__key__"] for sample in seen}) == 55
    for number, sample in enumerate(seen):
        item = json.loads(sample["json"])
        assert item == record(number)
        assert sample["png"] == (published[1] / item["f_path"]).read_bytes()


def test_a_stream_reads_what_the_published_files_hold(made, published):
    stream, data = FineHARDStream(str(made)), FineHARDDataset(str(published[0]), str(published[1]))
    assert len(stream) == len(data) == 55 and stream.shard_counts.tolist() == [
        10,
        10,
        10,
        10,
        10,
        5,
    ]
    assert len({stream.key(number) for number in range(55)}) == 55
    for number in range(55):
        one, other = stream[number], data[number]
        assert (one["image"] == other["image"]).all() and (one["boxes"] == other["boxes"]).all()
        assert one["hard_captions"] == other["hard_captions"]
        assert one["long_caption"] == other["long_caption"]


def test_a_second_run_makes_nothing(shards, published):
    before = {path: path.stat().st_mtime_ns for path in shards.glob("*-*")}
    assert prepare_shards(*published, shards, items_per_shard=10)["made"] == 0
    assert {path: path.stat().st_mtime_ns for path in shards.glob("*-*")} == before


@pytest.mark.parametrize("calls", [1, 3, 6])
def test_a_run_that_was_cut_off_goes_on(tmp_path, published, made, calls, monkeypatch):
    """The shard that is being written is gone, those before it are used."""
    out, reads = tmp_path / "out", []

    def cut_off(path):
        reads.append(path)
        if len(reads) == 10 * (calls - 1) + 4:
            raise KeyboardInterrupt
        return picture(path)

    picture = prepare._picture
    monkeypatch.setattr(prepare, "_picture", cut_off)
    with pytest.raises(KeyboardInterrupt):
        prepare_shards(*published, out, items_per_shard=10)
    monkeypatch.undo()
    assert len(list(out.glob("*.tar"))) == calls - 1 == len(list(out.glob("*-*.json")))
    assert not list(out.glob(".*"))
    with pytest.raises(ValueError, match=says("index.json", "prepare_finehard.py")):
        FineHARDStream(str(out))
    index = prepare_shards(*published, out, items_per_shard=10)
    assert index["made"] == 6 - (calls - 1)
    for path in made.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_shard_that_was_cut_off_or_lost_is_made_again(shards, published, made):
    with open(shards / "a-00001.tar", "r+b") as stream:
        stream.truncate(3000)
    (shards / "b-00002.tar").unlink()
    assert prepare_shards(*published, shards, items_per_shard=10)["made"] == 2
    for path in made.iterdir():
        assert (shards / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_no_reader_can_use_is_counted_and_not_written(tmp_path):
    records = [record(number) for number in range(9)]
    write_pictures(tmp_path / "images", records)
    (tmp_path / "images" / records[1]["f_path"]).unlink()
    picture = tmp_path / "images" / records[2]["f_path"]
    picture.write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    records[3] = 3
    records[4].pop("short_caption")
    records[6] = dict(records[5])
    records[7].update(is_cn=1)
    records[7].pop("bbox_info")
    (tmp_path / "items.json").write_text(json.dumps(records))
    index = prepare_shards(tmp_path / "items.json", tmp_path / "images", tmp_path / "out", 4)
    assert index["left_out"] == {
        left_out.NO_PICTURE: 1,
        left_out.BROKEN_PICTURE: 1,
        left_out.NO_ITEM: 1,
        left_out.NO_SHORT_CAPTION: 1,
        left_out.TWICE: 1,
    }
    assert [shard["items"] for shard in index["shards"]] == [1, 2, 1]
    stream = FineHARDStream(str(tmp_path / "out"), generation=2)
    captions = [stream[number]["short_caption"] for number in range(len(stream))]
    assert len({*captions}) == 4 and "picture 7" in captions


def test_duplicates_are_found_in_shards_that_were_there(tmp_path):
    records = [record(0), record(1), record(0)]
    write_pictures(tmp_path / "images", records)
    (tmp_path / "items.json").write_text(json.dumps(records))
    arguments = tmp_path / "items.json", tmp_path / "images", tmp_path / "out", 1
    assert prepare_shards(*arguments)["left_out"] == {left_out.TWICE: 1}
    (tmp_path / "out" / "items-00002.json").unlink()
    index = prepare_shards(*arguments)
    assert index["left_out"] == {left_out.TWICE: 1} and index["made"] == 1


def test_a_wrong_folder_of_pictures_is_said_at_the_first_shard(published, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=says("empty", "f_path")):
        prepare_shards(published[0], tmp_path / "empty", tmp_path / "out", 10)
    with pytest.raises(ValueError, match=says("gone")):
        prepare_shards(published[0], tmp_path / "gone", tmp_path / "out", 10)


def test_other_settings_and_other_files_are_refused_and_harm_nothing(shards, published, tmp_path):
    with pytest.raises(ValueError, match=says("items_per_shard", 20)):
        prepare_shards(*published, shards, items_per_shard=20)
    with pytest.raises(ValueError, match=says("b-00000.tar")):
        prepare_shards(published[0] / "a.json", published[1], shards, items_per_shard=10)
    assert len(FineHARDStream(str(shards))) == 55
    for name in ("a b.json", "a_b.json"):
        (tmp_path / name).write_text("[]")
    with pytest.raises(ValueError, match=says("a_b")):
        prepare_shards(tmp_path, published[1], tmp_path / "out")
    with pytest.raises(ValueError, match=says("items_per_shard", 0)):
        prepare_shards(*published, tmp_path / "out", items_per_shard=0)


def test_a_truncated_annotation_file_is_refused(published, tmp_path):
    text = (published[0] / "a.json").read_text()
    (tmp_path / "a.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=says("a.json", "byte")):
        prepare_shards(tmp_path, published[1], tmp_path / "out")


@pytest.mark.parametrize("spoil", ["missing", "truncated"])
def test_a_stream_refuses_shards_that_are_not_as_they_were_made(shards, spoil):
    path = shards / "a-00002.tar"
    if spoil == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(ValueError, match=says("a-00002.tar", "prepare")):
        FineHARDStream(str(shards))


def test_a_shard_that_breaks_during_a_run_is_counted(shards):
    stream = FineHARDStream(str(shards))
    path = shards / "a-00000.tar"
    path.write_bytes(path.read_bytes()[:1000])
    assert stream[9]["short_caption"] == "a photo of picture 10"
    assert stream.left_out.named() == {left_out.NOT_IN_SHARD: 1}
    (shards / "b-00000.json").write_text("{}")
    assert stream[30]["short_caption"] == "a photo of picture 40"
    assert stream.left_out.named() == {left_out.NOT_IN_SHARD: 11}


@pytest.mark.parametrize("content", ["{}", "[]", '{"format": "another"}', "no JSON"])
def test_an_index_that_is_none_is_refused(shards, content):
    (shards / "index.json").write_text(content)
    with pytest.raises(ValueError, match=says("index.json")):
        FineHARDStream(str(shards))
