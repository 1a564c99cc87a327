"""The command of FG-CLIP's accuracy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fgclip_det.apis.inferencer import BUNDLED
from fgclip_det.datasets.shapes.generator import generate
from fgclip_det.encoders import load_encoder
from fgclip_det.evaluation import region_accuracy

ROOT = Path(__file__).resolve().parents[2]
ENCODER = str(BUNDLED / "encoder")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes with 10 negatives, and `few.json` with one."""
    folder = tmp_path_factory.mktemp("shapes")
    generate(folder, {"val": 6}, seed=0)
    few = json.loads((folder / "annotations" / "val_fgovd.json").read_text(encoding="utf-8"))
    for one in few["annotations"]:
        del one["neg_category_ids"][1:]
    (folder / "few.json").write_text(json.dumps(few), encoding="utf-8")
    return folder


def column(page: str, number: int = 0) -> dict[str, str]:
    """Cells of the first table by the name of their line."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    table = rows[: next(i for i, row in enumerate(rows) if row[0] == "captions cut") + 1]
    return {row[0]: row[1 + number] for row in table[1:]}


def test_the_documented_command(
    main: Callable, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, file = tmp_path / "accuracy.json", data / "annotations" / "val_fgovd.json"
    capsys.readouterr()
    assert main([ENCODER, str(file), str(data), "--n-negatives", "10", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    expected = region_accuracy(load_encoder(ENCODER), file, data, 10)
    assert expected["accuracy"] > 0.5
    cells = column(captured.out)
    assert cells["encoder"] == f"{100 * expected['accuracy']:.2f}"
    assert (cells["chance"], cells["boxes"]) == ("9.09", str(expected["n"]))
    assert "128 x 128 px" in captured.out and "| color |" in captured.out
    assert len(expected["pairwise"]) == 3
    values = json.loads(out.read_text(encoding="utf-8"))
    assert values["results"] == {"val_fgovd": json.loads(json.dumps(expected))}
    assert values["n_negatives"] == 10 and values["pictures"] == "128 x 128 px"


@pytest.mark.slow
def test_two_processes_of_torchrun_give_the_same_file(data: Path, tmp_path: Path) -> None:
    files, said = [], []
    for count in (1, 2):
        files.append(tmp_path / f"{count}.json")
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        tool = [str(ROOT / "tools" / "eval_region_accuracy.py"), ENCODER]
        given = [str(data / "annotations" / "val_fgovd.json"), str(data), "--batch-size", "4"]
        done = subprocess.run(
            [sys.executable, *start, *tool, *given, "--out", str(files[-1])],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        said.append(done.stdout)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert said[0] == said[1] and said[0].count("| encoder |") == 1


def test_subsets_side_by_side(
    main: Callable, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    files = [str(data / "annotations" / "val_fgovd.json"), str(data / "few.json")]
    validation = tmp_path / "validation.json"
    shutil.copy(files[0], validation)
    options = ["--validation", str(validation), "--image-size", "64", "--keep-ratio"]
    assert main([ENCODER, *files, str(data), *options]) == 0
    page = capsys.readouterr().out
    hard, easy = column(page), column(page, 1)
    assert float(hard["encoder"]) < float(easy["encoder"])
    assert (hard["chance"], easy["chance"]) == ("9.09", "50.00")
    # Fitted on the very captions, as nobody should.
    assert float(hard["text only"]) > 20 and float(easy["text only"]) > 60
    assert "aspect ratio kept, longest side 64 px" in page
    assert "### val_fgovd" in page and "### few" in page
    assert main([ENCODER, *files, str(data), *options[:2], *options[:2]]) == 0


def test_an_fg_clip_2_and_lost_pictures(
    main: Callable, data: Path, encoder2_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = tmp_path / "root"
    shutil.copytree(data, root)
    lost = json.loads((root / "few.json").read_text(encoding="utf-8"))
    name = lost["images"][0]["file_name"]
    (root / name).unlink()
    arguments = [encoder2_dir, str(root / "few.json"), str(root)]
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "1 of 6 pictures" in captured.err and name in captured.err
    assert main([*arguments, "--skip-missing"]) == 0
    page = capsys.readouterr().out
    gone = sum(a["image_id"] == lost["images"][0]["id"] for a in lost["annotations"])
    assert f"few: 1 pictures are missing; their {gone} boxes are left out." in page
    assert column(page)["left out: picture missing"] == str(gone)
    assert "FG-CLIP 2's processor" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "FILE", "ROOT"], "nowhere"),
        (["ENCODER", "none.json", "ROOT"], "none.json' cannot be read"),
        (["ENCODER", "FILE", "none"], "6 of 6 pictures"),
        (["ENCODER", "FILE", "FILE", "ROOT"], "given twice"),
        (["ENCODER", "FILE", "ROOT", "--n-negatives", "11"], "at most 10"),
        (["ENCODER", "FILE", "ROOT", "--image-size", "100"], "image_size is 100 px"),
        (["ENCODER", "FILE", "ROOT", "--text-length", "box"], 'must be "short" or "long"'),
        (["ENCODER", "FILE", "ROOT", "--device", "abacus"], "device 'abacus' is unknown"),
        (["ENCODER", "FILE", "ROOT", "--validation", "FILE"], "is a file to be scored"),
        (["ENCODER", "FILE", "ROOT", *["--validation", "x.json"] * 2], "2 --validation for 1"),
        (
            ["ENCODER", "FILE", "ROOT", "--out", "none/out.json"],
            "must be a .json file in a folder that is there",
        ),
        (["ENCODER", "FILE", "ROOT", "--out", "FILE"], "would be written over what is read"),
        (
            ["ENCODER", "FILE", "ROOT", "--out", "ROOT"],
            "must be a .json file in a folder that is there",
        ),
    ],
)
def test_mistakes_are_one_line(
    main: Callable,
    data: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(data / "annotations" / "val_fgovd.json")
    meant = {"ENCODER": ENCODER, "FILE": file, "ROOT": str(data)}
    capsys.readouterr()
    assert main([meant.get(one, one) for one in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert list(tmp_path.iterdir()) == []
