"""The verdict of the first process reaches all, whatever it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fgclip_det.datasets.check import check_training_data
from fgclip_det.datasets.check import training_data as module

ROOT = Path(__file__).resolve().parents[3]
_PROCESS = """
import json, sys
import torch.distributed as dist
from fgclip_det.datasets.check import check_training_data, training_data
from fgclip_det.exit_codes import leave
store, rank, what = sys.argv[1:]
dist.init_process_group("gloo", init_method="file://" + store, rank=int(rank), world_size=2)
sources_of = training_data.sources_of
for config in json.loads(what):
    training_data.sources_of = None if config == "bug" else sources_of
    try:
        check_training_data(config)
        print("goes on")
    except ValueError as error:
        print("stops:", error)
    except TypeError:
        print("bug")
leave(0)
"""


def config(root: Path, box: list[float]) -> dict:
    Image.new("RGB", (40, 30)).save(root / "1.png")
    values = {
        "images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box}],
        "categories": [{"id": 1, "name": "ant"}],
    }
    (root / "a.json").write_text(json.dumps(values))
    dataset = dict(
        type="OVCocoDataset", data_root=str(root), ann_file="a.json", data_prefix=dict(img="")
    )
    return dict(train_dataloader=dict(dataset=dict(type="RepeatDataset", dataset=dataset)))


def test_oddities_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = []
    monkeypatch.setattr(module, "print_log", lambda text, logger: logged.append(text))
    check_training_data(config(tmp_path, [5, 5, 40, 20]))
    (text,) = logged
    assert text.startswith(f"data check, {tmp_path / 'a.json'}: 1 of 1 boxes reach more than 2 px")
    with pytest.raises(ValueError, match="lie within 0 and 1"):
        check_training_data(config(tmp_path, [0.1, 0.1, 0.5, 0.5]))


@pytest.mark.slow
def test_no_process_is_left_waiting(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("wrong", "good")]
    for folder in folders:
        folder.mkdir()
    wrong = config(folders[0], [0.1, 0.1, 0.5, 0.5])
    what = json.dumps([wrong, "bug", config(folders[1], [5, 5, 20, 20])])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, tmp_path / "store", str(rank), what],
            cwd=ROOT,
            env={**os.environ, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=900)[0].splitlines()[-3:] for process in processes]
    assert told[0][0] == told[1][0] and "multiply them by its width" in told[0][0]
    assert told[0][1] == "bug"
    assert told[1][1] == "stops: the data check of the first process failed: its error tells why"
    assert told[0][2] == told[1][2] == "goes on"
