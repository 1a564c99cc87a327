"""What is copied is run, and finds what the page found."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path

import pytest

from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.cli import main
from fgclip_det.cli.arguments import build_parser
from fgclip_det.web.limits import Budget, Kept, Limits
from fgclip_det.web.pictures import Picture
from fgclip_det.web.question import Example, Question
from fgclip_det.web.session import Session
from fgclip_det.web.snippets import Model, as_command, as_python

FILE = sorted((BUNDLED / "images").iterdir())[0]
BOX = (17.0, 24.0, 54.0, 64.0)


@pytest.fixture
def session(calibrated_detector) -> Session:
    limits = Limits()
    shown = [Picture.on_server(FILE)]
    made = Session(calibrated_detector, Kept(10**9), Budget(10**9), limits, shown)
    made.look(shown[0].key)
    return made


@pytest.mark.parametrize("shows", [False, True])
@pytest.mark.parametrize(
    "question",
    [
        Question("a blue dotted star. a ring"),
        Question("a purple cross", "none", 0.2, one_name=False),
        Question("a star", "a blue star. a 'red' cross", 0.1),
    ],
)
def test_both_answer_as_the_page(
    session, cached_detector, tmp_path: Path, capsys, question, shows: bool
) -> None:
    # Of what is not asked for: it means nothing.
    session.show("a comet", next(iter(session.pictures)), BOX, like=False)
    if shows:
        session.show("dent", next(iter(session.pictures)), BOX)
    told = json.loads(json.dumps(session.told(question)[0]))
    asked = session.meant(question), question, session.has_confidences(question)
    command = shlex.split(as_command(Model(), session.pictures, *asked))
    assert main([*command[1:], "--out-dir", str(tmp_path), "--no-save-vis"]) == 0
    written = json.loads((tmp_path / "preds" / f"{FILE.stem}.json").read_text("utf-8"))
    assert written == told
    cached_detector.set_negatives()
    capsys.readouterr()
    exec(compile(as_python(Model(), session.pictures, *asked), "snippet", "exec"), {})
    found = ast.literal_eval(capsys.readouterr().out)
    assert [one["name"] for one in found] == [one["name"] for one in told["detections"]]
    assert [round(one["score"], 4) for one in found] == [one["score"] for one in told["detections"]]


@pytest.mark.parametrize("names", ["-x", "--texts", "a'b\"c $(rm -rf x) `y` \\", "a\nb", "é. 猫"])
def test_odd_names_stay_arguments(names: str) -> None:
    picture = Picture("a b.png", 9, 9, b"", "image/png", b"x")
    examples = [Example(names, picture.key, BOX), Example(names, picture.key, BOX, False)]
    model = Model("own.py", "-w.pth", calibration=None)
    command = as_command(model, {picture.key: picture}, examples, Question(names, names), True)
    read = build_parser().parse_args(shlex.split(command)[1:])
    assert (read.texts, read.negatives, read.weights) == (names, names, "-w.pth")
    assert (read.model, read.calibration, read.images) == ("own.py", "none", ["a b.png"])
    assert [value for _, value in read.shown][1::2] == [names, names]
    program = as_python(model, {picture.key: picture}, examples, Question(names, names), True)
    ast.parse(program)


def test_presets_are_named_as_the_command_names_them() -> None:
    command = as_command(Model("photos/fast"), {}, [], Question("a mug"), True)
    assert command.startswith("fgclip-det detect --preset fast --texts 'a mug'")
