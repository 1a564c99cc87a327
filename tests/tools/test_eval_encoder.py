"""The command of FG-CLIP's own evaluation, as a new user types it."""

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

ROOT = Path(__file__).resolve().parents[2]
ENCODER = str(BUNDLED / "encoder")


@pytest.fixture
def data(golden_dir: Path, tmp_path: Path) -> Path:
    """A copy of Urban-1K."""
    source = golden_dir / "evaluation" / "urban-1k"
    if not source.is_dir():
        pytest.skip("the golden tensors have no evaluation/")
    return Path(shutil.copytree(source, tmp_path / "data"))


def test_the_documented_command(
    main: Callable, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "results.json"
    command = ["urban-1k", ENCODER, str(data), "--out", str(out)]
    assert main(command) == 0
    page = capsys.readouterr().out
    assert "urban-1k, whole population: 30 of 30 pictures, 30 of 30 captions" in page
    sheet = tmp_path / "sheet.html"
    again = [*command, "--name", "again", "--batch-size", "7", "--sheet", str(sheet)]
    assert main([*again, "--as-published", "--cache", str(tmp_path / "cache")]) == 0
    assert "Caption to pictures" in sheet.read_text(encoding="utf-8")
    assert "as published" in capsys.readouterr().out
    values = json.loads(out.read_text(encoding="utf-8"))
    assert values.keys() == {"urban-1k", "again"} and values["urban-1k"] == values["again"]
    assert values["again"].keys() == {
        f"{population}.{way}_r1"
        for population in ("as_published", "whole_population")
        for way in ("i2t", "t2i")
    }


def test_missing_pictures_are_named(
    main: Callable, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pictures = sorted((data / "Urban1k" / "image").iterdir())
    for path in pictures[:2]:
        path.unlink()
    assert main(["urban-1k", ENCODER, str(data)]) == 0
    captured = capsys.readouterr()
    assert "28 of 30 pictures, 28 of 30 captions, missing pictures: 2" in captured.out
    assert "note: 2 of 30 pictures are missing" in captured.err
    assert str(pictures[0]) in captured.err and "--images" in captured.err
    elsewhere = tmp_path / "elsewhere"
    shutil.move(data / "Urban1k" / "image", elsewhere)
    assert main(["urban-1k", ENCODER, str(data)]) == 2
    assert "none of the 30 pictures is there" in capsys.readouterr().err
    assert main(["urban-1k", ENCODER, str(data), "--images", str(elsewhere)]) == 0


def test_refusals_write_nothing(
    main: Callable, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "results.json"

    def refused(*arguments: str, named: str) -> None:
        assert main([*arguments, "--out", str(out)]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and named in error
        assert not out.exists() and not (tmp_path / "results.details.json").exists()

    refused("dci", ENCODER, str(data), named="densely_captioned_images")
    refused("urban-1k", str(tmp_path), str(data), named="config.json")
    refused("urban-1k", ENCODER, str(data), "--limit", "3", named="limit is not for urban-1k")
    refused("urban-1k", ENCODER, str(data), "--batch-size", "0", named="batch_size is 0")
    broken = next((data / "Urban1k" / "image").iterdir())
    broken.write_bytes(broken.read_bytes()[:200])
    refused("urban-1k", ENCODER, str(data), named=broken.name)
    assert main(["urban-1k", ENCODER, str(data), "--name", "x"]) == 2
    assert "--name is the key in --out" in capsys.readouterr().err
    assert main(["urban-1k", ENCODER, str(data), "--sheet", "/proc/a.html"]) == 2
    assert "'/proc'" in capsys.readouterr().err
    for option in ("--cache", "--images"):
        with pytest.raises(SystemExit):
            main(["urban-1k", ENCODER, str(data), option, ""])
        assert f"{option}: '' is no path" in capsys.readouterr().err
    out.write_text("{}", encoding="utf-8")
    assert main(["urban-1k", ENCODER, str(data), "--out", str(out)]) == 2
    assert "details" in capsys.readouterr().err and out.read_text(encoding="utf-8") == "{}"
    with pytest.raises(SystemExit) as stopped:
        main(["coco", ENCODER, str(data)])
    assert stopped.value.code == 2


def test_a_cache_is_used_by_the_next_run(
    main: Callable, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, cache = tmp_path / "results.json", tmp_path / "cache"
    command = ["urban-1k", ENCODER, str(data), "--out", str(out), "--cache", str(cache)]

    def encoded() -> int:
        values = json.loads((tmp_path / "results.details.json").read_text(encoding="utf-8"))
        settings = values["urban-1k"]["settings"]
        return settings["pictures_encoded"] + settings["texts_encoded"]

    assert main(command) == 0
    first, page = out.read_bytes(), capsys.readouterr().out
    assert encoded() >= 31
    assert main(command) == 0
    assert encoded() == 0 and out.read_bytes() == first and capsys.readouterr().out == page
    # What does not fit is computed all the same.
    assert main([*command, "--cache-limit", "0.00001"]) == 0
    assert out.read_bytes() == first and "raise --cache-limit" in capsys.readouterr().err
    assert sum(path.stat().st_size for path in cache.rglob("*.rows")) <= 10_000
    assert main([*command, "--cache-limit", "0"]) == 2
    assert "0.0 GB: it must be a number above 0" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*command[:-1], str(tmp_path / "file")]) == 2
    assert "cannot keep anything" in capsys.readouterr().err
    assert out.read_bytes() == first


@pytest.mark.slow
def test_two_processes_of_torchrun_give_the_same_file(data: Path, tmp_path: Path) -> None:
    files, said = [], []
    for count in (1, 2):
        files.append(tmp_path / f"{count}.json")
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        tool = ["--nproc-per-node", str(count), "tools/eval_encoder.py", "urban-1k", ENCODER]
        done = subprocess.run(
            [*start, *tool, str(data), "--out", str(files[-1])],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert files[0].read_bytes() == files[1].read_bytes() and said[0] == said[1]
    details = [path.with_suffix(".details.json").read_text(encoding="utf-8") for path in files]
    assert details[0] == details[1]
