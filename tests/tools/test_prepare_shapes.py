SMALL = [f"--num-{split}=3" for split in ("pretrain", "pretrain-val", "train", "val")]


def test_makes_keeps_and_checks(main, tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "shapes"), "--workers", "0", *SMALL]
    assert main(arguments) == 0
    told = "wrote pretrain, pretrain_val, train, val, coco_captions, fg_ovd, presence; kept nothing"
    assert told in capsys.readouterr().out
    assert main(arguments) == 0
    assert "wrote nothing; kept pretrain" in capsys.readouterr().out
    assert main(["--check", *arguments]) == 0
    assert "is complete" in capsys.readouterr().out
    (tmp_path / "shapes" / "fg_ovd" / "color.json").unlink()
    assert main(["--check", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "color.json' is missing: run the tool again" in error
    assert main(arguments) == 0
    assert "wrote fg_ovd; kept pretrain" in capsys.readouterr().out


def test_splits_of_presence_are_made_and_checked_where_they_are_wanted(main, tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--workers", "0", *SMALL]
    assert main([*arguments, "--num-presence-test", "2"]) == 0
    assert (
        "val, presence_test, coco_captions, fg_ovd, presence; kept nothing"
        in capsys.readouterr().out
    )
    assert not (tmp_path / "presence_val").exists()
    assert main([*arguments, "--check"]) == 0
    (tmp_path / "annotations" / "presence_test_presence.json").unlink()
    capsys.readouterr()
    assert main([*arguments, "--check"]) == 2
    assert "presence_test_presence.json' is missing" in capsys.readouterr().err
    assert main([*arguments, "--check", "--num-presence-val", "1"]) == 2


def test_check_of_missing_data_exits_with_2_and_one_line(main, tmp_path, capsys):
    assert main(["--check", "--out", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_output_path_that_is_a_file_exits_with_2(main, tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text("")
    assert main(["--out", str(path), "--workers", "0", *SMALL]) == 2
    assert "error: " in capsys.readouterr().err
