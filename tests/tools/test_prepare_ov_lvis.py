import json
import os
import shutil


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def test_makes_and_checks(main, generated_coco, tmp_path, capsys):
    arguments = ["--lvis", str(generated_coco), "--out", str(tmp_path)]
    assert main([*arguments, "--images", str(generated_coco)]) == 0
    assert "ov_lvis_vocabulary.json: 1203 names, 866 base, 337 novel" in capsys.readouterr().out
    names = ["ov_lvis_train.json", "ov_lvis_val.json", "ov_lvis_vocabulary.json"]
    assert sorted(os.listdir(tmp_path)) == names
    assert main([*arguments, "--check"]) == 0
    capsys.readouterr()

    path = tmp_path / "ov_lvis_vocabulary.json"
    path.write_text(path.read_text().replace("aerosol can", "spray can"))
    assert main([*arguments, "--check"]) == 2
    assert "'names': found" in one_line(capsys)


def test_bad_input_is_one_line_and_exit_code_2(main, generated_coco, tmp_path, capsys):
    assert main(["--lvis", str(tmp_path / "none")]) == 2
    assert "no folder" in one_line(capsys)
    shutil.copytree(generated_coco / "annotations", tmp_path / "annotations")
    path = tmp_path / "annotations" / "lvis_v1_train.json"
    values = json.loads(path.read_text())
    values["categories"][0]["name"] = "person"
    path.write_text(json.dumps(values))
    assert main(["--lvis", str(tmp_path)]) == 2
    assert "category id 1 is 'person', but is 'aerosol_can' in LVIS v1" in one_line(capsys)
    assert list((tmp_path / "annotations").glob("*ov_lvis*")) == []
