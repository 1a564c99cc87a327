"""Names that formats cannot hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgclip_det.apis.labelling.formats import FORMATS, check_names, write_labels
from fgclip_det.apis.labelling.formats.splits import LabelSplits
from fgclip_det.cli.arguments import label


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"coco"}))
@pytest.mark.parametrize("name", ["a\nb", "a\x00", "a\ud83d", "\u202ea", " a", "a\t"])
def test_odd_names_are_refused_with_the_mend(kind: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"{kind} cannot hold the name .*: write it without"):
        check_names([kind], ["mug", name])


@pytest.mark.parametrize("kind", FORMATS)
def test_names_without_a_word_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="give it a word"):
        check_names(["coco", kind], ["mug", "  "])


def test_coco_holds_what_json_holds() -> None:
    check_names(["coco"], ["a\nb", " a", "\x01"])


@pytest.mark.parametrize("formats", [[], ["voc"], ["coco", "voc"]])
def test_unknown_formats(formats: list[str]) -> None:
    with pytest.raises(ValueError, match="choose from coco, yolo, labelstudio, cvat"):
        check_names(formats, ["mug"])


def test_the_command_knows_all_formats() -> None:
    assert tuple(FORMATS) == label._FORMATS


def test_a_folder_for_each(splits: LabelSplits, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_labels(out, list(FORMATS), splits)
    assert {path.name for path in out.iterdir()} == set(FORMATS)
