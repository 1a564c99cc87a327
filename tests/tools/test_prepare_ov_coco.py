import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "prepare_ov_coco.py"


@pytest.fixture
def coco(generated_coco, tmp_path):
    """A folder of its own with the two source files and no images."""
    folder = tmp_path / "coco" / "annotations"
    folder.mkdir(parents=True)
    for split in ("train", "val"):
        shutil.copy(generated_coco / "annotations" / f"instances_{split}2017.json", folder)
    return folder.parent


def prepared(coco):
    return sorted(path.name for path in (coco / "annotations").glob("*ov_coco*"))


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def test_makes_both_protocols_and_checks_them(main, coco, capsys):
    assert main(["--coco", str(coco)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(prepared(coco)) == 6 and len(lines) == 7
    assert any("ov_coco_65_train.json: 27 images (27 with boxes), 65 categ" in x for x in lines)
    assert lines[-1] == "all files are written"
    assert main(["--coco", str(coco), "--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [*lines[:-1], "all files are as they should be"]


def test_one_protocol_and_another_folder(main, coco, generated_coco, tmp_path):
    out = tmp_path / "out"
    images = str(generated_coco)
    arguments = ["--coco", str(coco), "--protocol", "65", "--out", str(out), "--images", images]
    assert main(arguments) == 0
    assert sorted(os.listdir(out)) == ["ov_coco_65_train.json", "ov_coco_65_val.json"]
    assert prepared(coco) == []
    assert main([*arguments, "--check"]) == 0


def test_check_fails_on_what_is_missing_stale_or_altered(main, coco, capsys):
    arguments = ["--coco", str(coco), "--check"]
    assert main(arguments) == 2
    assert "ov_coco_65_val.json' is missing" in one_line(capsys)
    assert prepared(coco) == []
    assert main(arguments[:-1]) == 0
    capsys.readouterr()

    path = coco / "annotations" / "ov_coco_80_val_novel.json"
    whole = path.read_text()
    path.write_text(whole[:-20])
    assert main(arguments) == 2
    assert "ov_coco_80_val_novel.json' differs in line" in one_line(capsys)
    path.write_text(whole)

    source = coco / "annotations" / "instances_train2017.json"
    values = json.loads(source.read_text())
    changed = next(a for a in values["annotations"] if a["category_id"] == 1)
    changed["bbox"][0] += 1
    source.write_text(json.dumps(values))
    assert main(arguments) == 2
    error = one_line(capsys)
    assert "ov_coco_65_train.json' differs" in error and f"id {changed['id']} of 'ann" in error


def test_the_tool_that_is_killed_leaves_the_old_files(main, coco, capsys, monkeypatch):
    assert main(["--coco", str(coco)]) == 0
    before = {path: path.read_bytes() for path in (coco / "annotations").iterdir()}
    source = coco / "annotations" / "instances_train2017.json"
    values = json.loads(source.read_text())
    values["images"].reverse()
    source.write_text(json.dumps(values))
    before[source] = source.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    capsys.readouterr()
    assert main(["--coco", str(coco)]) == 130
    assert capsys.readouterr().err.endswith("error: interrupted\n")
    assert {path: path.read_bytes() for path in (coco / "annotations").iterdir()} == before


def test_bad_input_is_one_line_and_exit_code_2(main, coco, tmp_path, capsys):
    val = coco / "annotations" / "instances_val2017.json"
    whole = val.read_text()
    arguments = ["--coco", str(coco)]

    def fails(*more):
        assert main([*arguments, *more]) == 2
        assert prepared(coco) == []
        return one_line(capsys)

    val.write_text(whole[: len(whole) // 2])
    assert "no complete JSON" in fails()
    val.write_text('{"annotations": []}')
    assert "no COCO detection file" in fails()
    val.write_text(whole.replace('"person"', '"dog"', 1))
    assert "category id 1 is 'dog', but is 'person'" in fails()
    val.unlink()
    assert "no annotation file" in fails()
    val.write_text(whole)
    (tmp_path / "file").write_text("")
    assert "cannot write to the folder" in fails("--out", str(tmp_path / "file"))
    assert "20 images are missing" in fails("--protocol", "80", "--images", str(tmp_path))
    assert "no folder" in fails("--coco", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    assert "no folder" in fails("--coco", str(coco / "annotations"))
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--protocol", "48"])


def test_runs_as_a_script_from_another_folder(coco, tmp_path):
    command = [sys.executable, str(TOOL), "--coco", "coco", "--protocol", "65"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(prepared(coco)) == 2
    # No bar where the output is no terminal.
    assert "check instances" not in done.stderr and "%" not in done.stderr
