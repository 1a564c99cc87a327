"""The command that makes shards of FineHARD's files."""

from __future__ import annotations

import json

import pytest

from tests.datasets.finehard.conftest import record, write_pictures
from tests.messages import says


@pytest.fixture
def data(tmp_path):
    records = [record(number) for number in range(7)]
    write_pictures(tmp_path / "images", records)
    (tmp_path / "images" / records[2]["f_path"]).unlink()
    (tmp_path / "items.json").write_text(json.dumps(records))
    return tmp_path


def test_shards_are_made_and_what_was_left_out_is_said(main, data, capsys):
    arguments = [str(data / name) for name in ("items.json", "images", "out")]
    assert main([*arguments, "--items-per-shard", "3"]) == 0
    said = capsys.readouterr().out
    assert says("6 items", "3 shards", "3 of them new").search(said)
    assert says("left out", "1 x picture is missing").search(said)
    assert sorted(path.name for path in (data / "out").glob("*.tar")) == [
        f"items-{number:05d}.tar" for number in range(3)
    ]
    assert main([*arguments, "--items-per-shard", "3"]) == 0
    assert "0 of them new" in capsys.readouterr().out


def test_shards_of_another_file_are_refused_before_any_is_made(main, data, capsys):
    out = data / "out"
    out.mkdir()
    (out / "others-00000.tar").touch()
    assert main([str(data / "items.json"), str(data / "images"), str(out)]) == 2
    assert "'others-00000.tar'" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["others-00000.tar"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["gone.json", "images", "out"], "gone.json"),
        (["items.json", "gone", "out"], "gone"),
        (["items.json", "images", "out", "--items-per-shard", "0"], "items_per_shard"),
        (["items.json", "images", "items.json"], "items.json"),
        (["nothing.json", "images", "out"], "nothing.json"),
    ],
)
def test_what_the_user_can_mend_is_one_line(main, data, capsys, arguments, named, monkeypatch):
    monkeypatch.chdir(data)
    (data / "nothing.json").write_text("")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert named in error and "Traceback" not in error and error.count("\n") == 1
