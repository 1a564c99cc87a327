"""The question of a page as it is asked elsewhere: in Python, and on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fgclip_det.web.pictures import Picture
from fgclip_det.web.question import Example, Question


@dataclass(frozen=True)
class Model:
    """What ``fgclip-det web`` was told of its model.

    Attributes:
        model: None for the bundled one.
        weights: Of `model`.
        encoder: None for its own.
        device: None for any.
        calibration: "auto", None or a file.
    """

    model: str | None = None
    weights: str | None = None
    encoder: str | None = None
    device: str | None = None
    calibration: str | None = "auto"


def as_python(
    model: Model,
    pictures: Mapping[str, Picture],
    examples: Sequence[Example],
    question: Question,
    is_confidence: bool,
) -> str:
    """A program that prints the answers of the page.

    Args:
        model: That answers.
        pictures: By their keys.
        examples: What is shown.
        question: What is asked.
        is_confidence: Whether the threshold is of confidences.
    """
    given = [f"{k}={v!r}" for k, v in vars(model).items() if v != getattr(Model(), k)]
    lines = ["from fgclip_det.apis import OpenVocabInferencer"]
    if examples:
        lines.append("from fgclip_det.vocabulary import Exemplar, Vocabulary")
    lines += ["", f"detector = OpenVocabInferencer({', '.join(given)})"]
    if question.negatives != "auto":
        negatives = None if question.negatives == "none" else question.negatives
        lines.append(f"detector.set_negatives({negatives!r})")
    lines.append(f"pictures = {[_file(one) for one in pictures.values()]!r}")
    texts = repr(question.names)
    if examples:
        lines += _asked_python(pictures, examples, question.names)
        texts = "asked"
    settings = [f"one_name={question.one_name}"]
    if question.threshold is not None:
        kind = "conf_thr" if is_confidence else "score_thr"
        settings.insert(0, f"{kind}={question.threshold!r}")
    lines.append(f"for found in detector(pictures, {texts}, {', '.join(settings)}):")
    lines.append(f'    print(found.to_dict()["detections"][:{question.most}])')
    return "\n".join(lines) + "\n"


def as_command(
    model: Model,
    pictures: Mapping[str, Picture],
    examples: Sequence[Example],
    question: Question,
    is_confidence: bool,
) -> str:
    """A command that writes the answers of the page; arguments as of `as_python`."""
    words = ["fgclip-det", "demo" if model.model is None else "detect"]
    words += [_file(one) for one in pictures.values()]
    if _is_preset(model.model):
        words += ["--preset", model.model.partition("/")[2] or "default"]
    elif model.model is not None:
        words += _option("--model", model.model)
    for name in ("weights", "encoder", "device"):
        words += _option(f"--{name}", getattr(model, name))
    if model.calibration != "auto":
        words += _option("--calibration", model.calibration or "none")
    if question.names.strip(" .,;\n"):
        words += _option("--texts", question.names)
    for one in examples:
        words += _option("--like" if one.like else "--not-like", _place(pictures, one))
        words += _option("--name", one.name)
    if question.negatives != "auto":
        words += _option("--negatives", question.negatives)
    if question.threshold is not None:
        words += ["--conf-thr" if is_confidence else "--score-thr", repr(question.threshold)]
    words.append("--one-name" if question.one_name else "--no-one-name")
    return shlex.join(words)


def _option(name: str, value: str | None) -> list[str]:
    if value is None:
        return []
    # What begins with a dash would be taken for an option.
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


def _asked_python(
    pictures: Mapping[str, Picture], examples: Sequence[Example], names: str
) -> list[str]:
    lines = []
    if names.strip(" .,;\n"):
        lines.append(f"said = Vocabulary.parse({names!r})")
        lines.append('asked = {n: {"prompts": list(p)} for n, p in zip(said.names, said.prompts)}')
    else:
        lines.append("asked = {}")
    for one in examples:
        key = "like" if one.like else "not_like"
        shown = f"Exemplar({_file(pictures[one.picture])!r}, {tuple(one.box)!r})"
        entry = f"asked.setdefault({one.name!r}, {{}})"
        lines.append(f"{entry}.setdefault({key!r}, []).append({shown})")
    lines.append('asked = {"names": asked}')
    return lines


def _file(picture: Picture) -> str:
    return picture.name if picture.path is None else str(picture.path)


def _place(pictures: Mapping[str, Picture], example: Example) -> str:
    return f"{_file(pictures[example.picture])}:{','.join(map(repr, example.box))}"


def _is_preset(model: str | None) -> bool:
    return model is not None and model.partition("/")[0] == "photos" and not model.endswith(".py")
