"""The command that scores any detector's predictions for FG-OVD."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.fg_ovd import evaluate_fg_ovd, read_fg_ovd
from fgclip_det.fg_ovd.predictions import write_predictions


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of Shapes, and predictions for the first in both layouts."""
    folder = tmp_path_factory.mktemp("fgovd")
    for name, seed in (("test", 0), ("validation", 1)):
        generate(folder / name, {"val": 12}, seed=seed)
        (folder / name / "annotations" / "val_fgovd.json").rename(folder / f"{name}.json")
    file, random = read_fg_ovd(folder / "test.json"), np.random.default_rng(0)
    owners = {one["id"]: one for one in file.annotations}
    predictions, official = [], []
    for vocabulary in file.vocabularies(10):
        x, y, w, h = owners[vocabulary.annotation_id]["bbox"]
        boxes = np.array([[x, y, x + w, y + h], [0, 0, 9, 9]], np.float32)
        scores = random.random((2, 11)).astype(np.float32)
        scores[:, 0] += 0.4
        # What is wide of the mark comes last, whatever its caption.
        scores[1] *= 0.1
        predictions.append((vocabulary.annotation_id, boxes, scores))
        official.append(
            {
                "category_id": vocabulary.category_ids[0],
                "boxes": boxes.tolist(),
                "labels": [vocabulary.category_ids[i] for i in scores.argmax(axis=1)],
                "scores": scores.max(axis=1).tolist(),
                "total_scores": scores.tolist(),
            }
        )
    small = json.loads((folder / "test.json").read_text(encoding="utf-8"))
    small["annotations"] = small["annotations"][:2]
    (folder / "small.json").write_text(json.dumps(small), encoding="utf-8")
    write_predictions(folder / "mine.json", predictions[1:], 10)
    (folder / "official.pkl").write_bytes(pickle.dumps(official[1:]))
    return folder


def test_prints_tables_and_writes_json(
    main: Callable, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "scores.json"
    arguments = [str(data / "test.json"), str(data / "mine.json"), "--out", str(out)]
    options = ["--sweep", "--words", "--validation", str(data / "validation.json")]
    assert main([*arguments, *options]) == 0
    printed = capsys.readouterr().out
    values = json.loads(out.read_text(encoding="utf-8"))
    mine, ceiling, oracle, chance, text = values["results"].values()
    assert next(iter(values["results"])) == "mine.json" and mine["n_negatives"] == 10
    read = json.loads((data / "mine.json").read_text(encoding="utf-8"))["predictions"]
    expected = evaluate_fg_ovd(
        data / "test.json", [(p["annotation_id"], p["boxes"], p["scores"]) for p in read], 10
    )
    assert mine == json.loads(json.dumps(expected))
    assert 0 < mine["map"] < ceiling["map"] == 1 and oracle["map"] == 1
    assert chance["map"] < 0.4 and text["map"] < 0.9
    total = mine["coverage"]["eligible"]
    assert mine["coverage"]["evaluated"] == total - 1
    assert list(values["sweep"]) == [str(n) for n in range(11)]
    assert values["sweep"]["10"] == mine and values["sweep"]["0"] == ceiling
    assert {one["attribute"] for one in values["confused"]} <= {*values["attributes"]}
    percent = f"{100 * mine['map']:.2f}"
    assert f"| mine.json | 10 | {percent} |" in printed and f"\n| 10 | {percent} |" in printed
    assert f"({total - 1}/{total})" in printed and "| right -> taken for |" in printed

    assert main([*arguments, "--strict", "--n-negatives", "5"]) == 0
    assert ", strict |" in capsys.readouterr().out
    strict = json.loads(out.read_text(encoding="utf-8"))["results"]["mine.json"]
    assert strict["strict"] and strict["n_negatives"] == 5
    assert strict["ranks"]["n"] == mine["ranks"]["n"] + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_official_pickles_of_tensors(
    main: Callable, data: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    entries = pickle.loads((data / "official.pkl").read_bytes())
    results = []
    for name in ("plain", "tensors"):
        if name == "tensors":
            for entry in entries:
                entry["category_id"] = torch.tensor(entry["category_id"])
                entry["labels"] = torch.tensor(entry["labels"])
                entry["boxes"] = torch.tensor(entry["boxes"], dtype=dtype, requires_grad=True)
                entry["scores"] = list(torch.tensor(entry["scores"], dtype=dtype))
                entry["total_scores"] = torch.tensor(entry["total_scores"], dtype=dtype).t().t()
        path, out = tmp_path / f"{name}.pkl", tmp_path / f"{name}.json"
        path.write_bytes(pickle.dumps(entries))
        paths = [str(data / "test.json"), str(path)]
        assert main([*paths, "--trust-pickle", "--out", str(out)]) == 0
        results.append(json.loads(out.read_text(encoding="utf-8"))["results"][path.name])
    assert results[0] == results[1]


def test_official_pickles_score_the_same(
    main: Callable, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results = []
    shutil.copy(data / "mine.json", data / "mine.txt")
    for name, options in (
        ("mine.txt", []),
        ("mine.json", []),
        ("official.pkl", ["--trust-pickle", "--sweep"]),
    ):
        out = tmp_path / f"{name}.scores.json"
        paths = [str(data / "test.json"), str(data / name)]
        assert main([*paths, "--out", str(out), *options]) == 0
        results.append(json.loads(out.read_text(encoding="utf-8"))["results"][name])
    assert results[0] == results[1] == results[2]

    # The best captions' scores alone: the same precision, and no ranks.
    entries = pickle.loads((data / "official.pkl").read_bytes())
    for entry in entries:
        del entry["total_scores"]
    path = tmp_path / "best.pkl"
    path.write_bytes(pickle.dumps(entries))
    arguments = [str(data / "test.json"), str(path), "--trust-pickle"]
    capsys.readouterr()
    assert main([*arguments, "--n-negatives", "10"]) == 0
    assert "| - | - | - | - |" in capsys.readouterr().out
    best = json.loads((tmp_path / "best.pkl.scores.json").read_text(encoding="utf-8"))["results"]
    assert best["best.pkl"]["map"] == results[0]["map"] and best["best.pkl"]["ranks"] is None
    for flag in ("--sweep", "--words"):
        assert main([*arguments, "--n-negatives", "10", flag]) == 2
        assert f"{flag[2:]} needs every caption's score" in capsys.readouterr().err


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def test_a_hostile_pickle_does_not_run(
    main: Callable, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, mark = tmp_path / "hostile.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps([Hostile(mark)]))
    for options in ([], ["--trust-pickle"]):
        assert main([str(data / "test.json"), str(path), *options]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert not mark.exists()
    assert "would run 'posix.system', and nothing was run" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.json", "mine.json"], "none.json' cannot be read"),
        (["test.json", "none.json"], "none.json' cannot be read"),
        (["test.json", "test.json"], "is of the format None"),
        (["test.json", "official.pkl"], "is a pickle: an official one needs --trust-pickle"),
        (["test.json", "mine.json", "--n-negatives", "11"], "has 11 negatives: use at most 10"),
        (["small.json", "mine.json"], "does not have: use the annotation file"),
        (["test.json", "mine.json", "--validation", "test.json"], "is the file to be scored"),
        (["test.json", "mine.json", "--out", "none/scores.json"], "in a folder that is there"),
        (["test.json", "mine.json", "--out", "scores"], "must be a .json file"),
        (["test.json", "mine.json", "--trust-pickle"], "is JSON: leave out --trust-pickle"),
    ],
)
def test_mistakes_are_one_line(
    main: Callable,
    data: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture,
) -> None:
    given = [str(data / a) if a.endswith((".json", ".pkl")) else a for a in arguments]
    assert main(given) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert not list(data.glob("*.scores.json"))


@pytest.mark.parametrize("read", ["test.json", "mine.json", "valid.json"])
def test_what_is_read_is_not_written_over(
    main: Callable, data: Path, read: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(data, tmp_path / "data")
    here = tmp_path / "data"
    shutil.copy(here / "small.json", here / "valid.json")
    before = (here / read).read_bytes()
    arguments = [str(here / "test.json"), str(here / "mine.json"), "--out", str(here / read)]
    assert main([*arguments, "--validation", str(here / "valid.json")]) == 2
    assert "would be written over what is read: name another file" in capsys.readouterr().err
    assert (here / read).read_bytes() == before
