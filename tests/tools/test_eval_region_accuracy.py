import importlib.util
import json
from pathlib import Path

import pytest
import torch

from fgclip_det.datasets.shapes import generate

TOOL = Path(__file__).resolve().parents[2] / "tools" / "eval_region_accuracy.py"


class ConstantEncoder:
    image_mean = image_std = (0.5, 0.5, 0.5)
    image_size = 32

    @classmethod
    def from_pretrained(cls, name_or_path):
        if name_or_path != "here":
            raise ValueError(f"no encoder {name_or_path!r}: give a directory or a hub id")
        return cls()

    def to(self, device):
        return self

    def encode_regions(self, images, boxes):
        return torch.ones(sum(map(len, boxes)), 4)

    def encode_text(self, texts, text_length):
        return torch.ones(len(texts), 4)


@pytest.fixture
def main(monkeypatch):
    spec = importlib.util.spec_from_file_location("eval_region_accuracy", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FGCLIP", ConstantEncoder)
    return module.main


def test_prints_json_and_names_a_missing_encoder(main, tmp_path, capsys):
    generate(tmp_path, {"val": 5}, seed=0)
    data = [str(tmp_path / "annotations" / "val_fgovd.json"), str(tmp_path)]
    capsys.readouterr()
    assert main(["here", *data, "--n-negatives", "5"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["accuracy"] == 1.0 and printed["chance"] == pytest.approx(1 / 6)
    assert len(printed["pairwise"]) == 3
    assert main(["there", *data]) == 2
    assert capsys.readouterr().err == "error: no encoder 'there': give a directory or a hub id\n"
