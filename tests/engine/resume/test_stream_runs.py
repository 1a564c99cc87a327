"""Trainings on shards, by two gloo processes with two workers each, that are killed and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fgclip_det.datasets.finehard import prepare_shards
from tests.datasets.finehard.conftest import record, write_pictures

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
ITERATIONS, BATCH, ITEMS = 10, 2, 20


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[dict]]]:
    folder = tmp_path_factory.mktemp("stream_runs")
    records = [record(number) for number in range(ITEMS + 1)]
    write_pictures(folder / "images", records)
    (folder / "items.json").write_text(json.dumps(records))
    prepare_shards(folder / "items.json", folder / "images", folder / "shards", 3)
    _break_a_picture(folder / "shards", folder / "images" / records[4]["f_path"])
    whole = dict(shards="shards", iterations=ITERATIONS, batch_size=BATCH, kill=None)
    two, one = dict(whole, processes=2, workers=2), dict(whole, processes=1, workers=1)
    runs = [
        dict(two, work_dir="unbroken"),
        dict(two, work_dir="killed", kill=[1, 3]),
        dict(two, work_dir="killed"),
        dict(two, work_dir="moved", kill=[0, 4]),
        dict(one, work_dir="moved"),
    ]
    (folder / "runs.json").write_text(json.dumps(runs))
    command = [sys.executable, str(Path(__file__).with_name("stream_runs.py")), "runs.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


def _break_a_picture(shards: Path, picture: Path) -> None:
    for path in shards.glob("*.tar"):
        data = path.read_bytes()
        path.write_bytes(data.replace(picture.read_bytes(), b"x" * picture.stat().st_size))


def _in_order(ranks: list[dict]) -> list[list[int]]:
    """Items of each iteration, in the order of the list that the processes share."""
    rows = zip(*(rank["rows"] for rank in ranks), strict=True)
    return [[row for place in zip(*of_all, strict=True) for row in place] for of_all in rows]


def test_two_processes_share_each_epoch_and_replace_what_is_broken(told) -> None:
    ranks = told[1][0]
    assert [rank["code"] for rank in ranks] == [0, 0], ranks
    seen = [row for iteration in _in_order(ranks) for row in iteration]
    assert len(seen) == 2 * BATCH * ITERATIONS
    # Item 4 cannot be read, and 5 takes its place.
    assert sorted(seen[: ITEMS + 1]) == [*range(4), 5, *range(5, ITEMS + 1)]


def test_a_killed_rank_changes_no_item_and_no_bit(told) -> None:
    unbroken, killed, resumed = told[1][:3]
    assert killed[1]["code"] == -signal.SIGKILL
    assert [rank["code"] for rank in resumed] == [0, 0], resumed
    for rank in range(2):
        rows = resumed[rank]["rows"]
        assert 0 < len(rows) < ITERATIONS
        assert rows == unbroken[rank]["rows"][-len(rows) :]
        assert resumed[rank]["weights"] == unbroken[rank]["weights"]


def test_one_process_goes_on_with_the_items_of_two(told) -> None:
    unbroken, moved = told[1][0], told[1][4]
    assert moved[0]["code"] == 0, moved
    parts = moved[0]["rows"]
    # One process trains both parts of an iteration, one after the other.
    iterations = _in_order(unbroken)[-len(parts) // 2 :]
    assert parts == [part for one in iterations for part in (one[::2], one[1::2])]


def test_the_log_tells_what_was_left_out(told) -> None:
    logs = list((told[0] / "unbroken").rglob("*.log"))
    text = "".join(path.read_text() for path in logs)
    assert "left out of the training data so far" in text and "picture cannot be read" in text
