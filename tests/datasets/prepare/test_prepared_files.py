import errno
import json
import os

import pytest

from fgclip_det.datasets.prepare.prepared_files import PreparedFile, check_files, write_files
from fgclip_det.io import atomic

FILE = PreparedFile(
    "a.json",
    head={"info": {"year": 2017}, "none": []},
    lists={"images": [{"id": 5, "w": 1.5}, {"id": 3, "w": 0.1}], "annotations": []},
    summary="two images",
)
OTHER = PreparedFile("b.json", head={"names": ["ä"]})
OLD = "what was there"


@pytest.fixture
def folder(tmp_path):
    """A folder that holds older files of the same names."""
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(OLD)
    return tmp_path


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_writes_one_entry_a_line(tmp_path):
    folder = tmp_path / "new" / "folder"
    assert write_files(folder, [FILE, OTHER]) == [
        f"{folder / 'a.json'}: two images",
        f"{folder / 'b.json'}: ",
    ]
    text = (folder / "a.json").read_text()
    assert json.loads(text) == {**FILE.head, **FILE.lists}
    assert list(json.loads(text)) == ["info", "none", "images", "annotations"]
    assert '\n{"id": 5, "w": 1.5},\n{"id": 3, "w": 0.1}\n]' in text
    assert len(text.splitlines()) == FILE.num_lines
    assert json.loads((folder / "b.json").read_text()) == {"names": ["ä"]}
    assert check_files(folder, [FILE, OTHER])[0].endswith("two images")


def fail(error):
    def raising(*args, **kwargs):
        raise error

    return raising


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), MemoryError()])
@pytest.mark.parametrize(("module", "name"), [(json, "dumps"), (os, "fsync"), (os, "replace")])
def test_a_run_cut_off_leaves_the_old_files(folder, monkeypatch, module, name, error):
    monkeypatch.setattr(module, name, fail(error))
    with pytest.raises(type(error)):
        write_files(folder, [FILE, OTHER])
    assert contents(folder) == {"a.json": OLD, "b.json": OLD}


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_is_one_line_and_leaves_the_old_files(folder, monkeypatch, name):
    error = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, name, fail(error))
    with pytest.raises(
        ValueError, match=r"[ab]\.json' cannot be written \(No space left on device\)"
    ):
        write_files(folder, [FILE, OTHER])
    assert contents(folder) == {"a.json": OLD, "b.json": OLD}


def test_no_file_is_replaced_before_all_are_whole(folder):
    def files():
        yield FILE
        raise ValueError("the second source is broken")

    with pytest.raises(ValueError, match="second source"):
        write_files(folder, files())
    assert contents(folder) == {"a.json": OLD, "b.json": OLD}


def test_a_full_device_is_one_line(tmp_path, monkeypatch):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    monkeypatch.setattr(atomic, "_opened", lambda _: open("/dev/full", "wb"))  # noqa: SIM115
    with pytest.raises(ValueError, match=r"a\.json' cannot be written \(No space left on device\)"):
        write_files(tmp_path, [FILE])
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_written_to_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"cannot write to the folder '.*--out"):
            write_files(folder, [FILE])
    (tmp_path / "a.json").mkdir()
    with pytest.raises(ValueError, match=r"a\.json' cannot be written \(Is a directory\)"):
        write_files(tmp_path, [FILE])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace('"w": 0.1', '"w": 0.2'), r"line 6, id 3 of 'images': .*0\.2.*0\.1"),
        (lambda t: t.replace("2017", "2014"), "line 2, 'info': .*2014.*2017"),
        (lambda t: t.replace('{"id": 3, "w": 0.1}\n', ""), "line 6, id 3 of 'images'"),
        (lambda t: t[:-2], r"line 10, the end: found '', expected '}\\n'"),
        (lambda t: t[:-1], r"line 10, the end: found '}', expected '}\\n'"),
        (lambda t: t + "x", "line 11, after the end: found 'x', expected ''"),
        (lambda t: json.dumps(json.loads(t)), "line 1, the beginning"),
        (lambda t: "", "line 1, the beginning"),
    ],
)
def test_check_names_the_first_difference(tmp_path, change, message):
    write_files(tmp_path, [FILE])
    path = tmp_path / "a.json"
    altered = change(path.read_text())
    path.write_text(altered)
    with pytest.raises(ValueError, match=rf"a\.json' differs in {message}") as caught:
        check_files(tmp_path, [FILE])
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300
    assert contents(tmp_path) == {"a.json": altered}


def test_check_names_what_is_missing_or_unreadable(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json' is missing: run the tool"):
        check_files(tmp_path / "none", [FILE])
    assert not (tmp_path / "none").exists()
    (tmp_path / "a.json").mkdir()
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory\)"):
        check_files(tmp_path, [FILE])
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="differs in line 1"):
        check_files(tmp_path, [OTHER])
