import json
import shutil

import pytest

from fgclip_det.datasets.shapes import generate


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("presence")
    generate(root, {"presence_val": 4, "presence_test": 5}, seed=1)
    return root


@pytest.fixture
def arguments(made):
    parts = []
    for flag, split in (("--tune", "presence_val"), ("--test", "presence_test")):
        parts += [flag, str(made / "annotations" / f"{split}_presence.json"), str(made / split)]
    return ["bundled", *parts, "--value", "score", "--device", "cpu"]


def test_prints_the_table_and_writes_both_files(main, arguments, tmp_path, capsys):
    files = ["--out", str(tmp_path / "a.json"), "--diagram", str(tmp_path / "a.png")]
    assert main([*arguments, *files]) == 0
    out = capsys.readouterr().out
    assert out.startswith("One name at a time, its score.\n") and "| AUC, near misses |" in out
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["model"] == "bundled" and found["pictures"] == 5
    assert f"of {found['queries']['present']} |" in out
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--recall", "2"], "recall is 2.0"),
        (["--out", "none/a.json"], "must be a .json file in a folder that is there"),
        (["--diagram", "a.jpg"], "must be a .png file"),
        (["--diagram", "/proc/a.png"], "'/proc'"),
        (["--out", "/proc/a.json"], "'/proc'"),
        (["--tune", "none.json", "."], "'none.json' cannot be read"),
    ],
)
def test_what_the_user_can_mend_exits_with_2(main, arguments, more, message, capsys):
    try:
        code = main([*arguments, *more])
    except SystemExit as error:
        code = error.code
    assert code == 2 and message in capsys.readouterr().err


def test_log_odds_are_not_drawn(main, arguments, tmp_path, capsys):
    files = ["--out", str(tmp_path / "a.json"), "--diagram", str(tmp_path / "a.png")]
    assert main([*arguments, "--value", "evidence", *files]) == 2
    assert "leave the diagram out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_queries_are_not_written_over(main, arguments, made, tmp_path, capsys):
    path = shutil.copy(made / "annotations" / "presence_test_presence.json", tmp_path / "q.json")
    arguments[arguments.index("--test") + 1] = str(path)
    assert main([*arguments, "--out", str(path)]) == 2
    assert "written over" in capsys.readouterr().err
