"""The command of FG-CLIP's own evaluation, as a new user types it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fgclip_det.apis.inferencer import BUNDLED

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
    assert main([*command, "--name", "again", "--as-published", "--batch-size", "7"]) == 0
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
    out.write_text("{}", encoding="utf-8")
    assert main(["urban-1k", ENCODER, str(data), "--out", str(out)]) == 2
    assert "details" in capsys.readouterr().err and out.read_text(encoding="utf-8") == "{}"
    with pytest.raises(SystemExit) as stopped:
        main(["coco", ENCODER, str(data)])
    assert stopped.value.code == 2
