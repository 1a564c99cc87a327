"""The verdict of the first process reaches all, whatever it is."""

from __future__ import annotations

import json
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
store, rank, what = sys.argv[1:]
dist.init_process_group("gloo", init_method="file://" + store, rank=int(rank), world_size=2)
config = json.loads(what)
if config == "bug":
    training_data.sources_of = None
try:
    check_training_data(config)
    print("goes on")
except ValueError as error:
    print("stops:", error)
except TypeError:
    print("bug")
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
    settings = {
        "good": config(tmp_path, [5, 5, 20, 20]),
        "bug": "bug",
        "wrong": config(tmp_path, [0.1, 0.1, 0.5, 0.5]),
    }
    expected = {
        "good": [["goes on"]] * 2,
        "wrong": [["stops:"]] * 2,
        "bug": [["bug"], ["stops:"]],
    }
    for name in ("wrong", "bug", "good"):
        if name == "good":
            config(tmp_path, [5, 5, 20, 20])
        what = json.dumps(settings[name])
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _PROCESS, tmp_path / name, str(rank), what],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        told = [process.communicate(timeout=900)[0].splitlines()[-1] for process in processes]
        for line, (start,) in zip(told, expected[name], strict=True):
            assert line.startswith(start), (name, told)
        if name == "wrong":
            assert told[0] == told[1] and "multiply them by its width" in told[0]
