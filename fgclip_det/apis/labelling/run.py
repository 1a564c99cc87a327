"""A folder of pictures, labelled by a detector; a run that was cut off goes on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fgclip_det.apis.argument_checks import check_batch_size
from fgclip_det.apis.detections import BOX_DIGITS, SCORE_DIGITS, Detections
from fgclip_det.apis.inferencer import OpenVocabInferencer
from fgclip_det.apis.inputs.picture_lists import find_images
from fgclip_det.apis.labelling.labels import (
    Label,
    LabelledPicture,
    one_label_each,
    read_picture_facts,
    read_thresholds,
)
from fgclip_det.io import ResumableLines, parse_json, quoted, read_json_lines, sha256_of, to_json
from fgclip_det.vocabulary import TextEmbeddings

LINES = "labels.jsonl"
# A box that is thinner trains nothing, and is no box to some readers.
_LEAST_SIDE = 1.0


@dataclass(frozen=True)
class LabelSettings:
    """All that labels depend on, beside the detector and the pictures.

    Attributes:
        names: What is asked for, in order.
        thresholds: Least confidence of a label of each name, or score where there are none.
        iou_threshold: Boxes that overlap by more are of one object, whatever their names.
        limits: Least score and confidence that the detector is told, as far as that is so.
    """

    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    iou_threshold: float = 0.6
    limits: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.iou_threshold <= 1:
            raise ValueError(
                f"the IoU of one object is {self.iou_threshold}: give a number above 0, up to 1"
            )


@dataclass
class Labels:
    """What a run found.

    Attributes:
        settings: Of the run.
        pictures: In the order of their paths.
        failures: A line for each picture that has no labels.
        notes: Lines on what is odd.
    """

    settings: LabelSettings
    pictures: list[LabelledPicture] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def label_folder(
    detector: OpenVocabInferencer,
    folder: str | os.PathLike,
    out: str | os.PathLike,
    score_thr: float | None = None,
    thresholds: Mapping[str, Any] | None = None,
    iou_threshold: float = 0.6,
    batch_size: int = 1,
    progress: bool = True,
    conf_thr: float | None = None,
) -> Labels:
    """Label the pictures in and below a folder with the vocabulary that a detector was given.

    Each picture that is done is a line of ``OUT/labels.jsonl``; a run that was cut off goes on
    there, and asks only for pictures that are new, or whose file is another one by its checksum.

    Args:
        detector: After `set_vocabulary`, and `set_negatives` where there are some.
        folder: Of pictures.
        out: Where to go on, a folder that is there.
        score_thr: Least score of a label, see `OpenVocabInferencer.stream`.
        thresholds: Least confidence by name, or score where there are no confidences.
        iou_threshold: See `LabelSettings`.
        batch_size: Pictures that go through the network at once; changes no result.
        progress: Whether to show a progress bar.
        conf_thr: Least confidence of a label, as `score_thr`.

    Raises:
        ValueError: The folder holds no picture, a setting is out of range, or ``OUT`` holds the
            beginning of another run.
        OSError: A result cannot be written.
    """
    check_batch_size(batch_size)
    settings = _settings(detector, score_thr, conf_thr, thresholds, iou_threshold)
    root, out = Path(folder), Path(out)
    paths = folder_pictures(root, out)
    told = run_settings(detector, settings)
    _check_same_run(out / LINES, told)
    key = to_json(told, "the run's settings")
    lines = ResumableLines(out / LINES, key)
    done = {one.file: one for one in map(LabelledPicture.from_dict, lines)}
    labels = Labels(settings)
    found: dict[str, LabelledPicture] = {}
    with tqdm(total=len(paths), desc="label", unit="picture", disable=not progress) as bar:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            new = list(_to_do(batch, root, done, found, labels))
            pictures = list(_labelled(detector, new, settings, labels))
            if pictures:
                lines.append([one.to_dict() for one in pictures])
            found.update((one.file, one) for one in pictures)
            bar.update(len(batch))
    labels.pictures = [found[name] for name in sorted(found)]
    return labels


def _settings(
    detector: OpenVocabInferencer,
    score_thr: float | None,
    conf_thr: float | None,
    thresholds: Mapping[str, Any] | None,
    iou_threshold: float,
) -> LabelSettings:
    vocabulary, limits = detector.encode().vocabulary, detector.limits(score_thr, conf_thr)
    if limits.told is None:
        least = read_thresholds(vocabulary.names, limits.score_thr, thresholds)
        told = {"score_thr": min(least), "conf_thr": conf_thr}
    else:
        confidences = limits.confidences(vocabulary)
        least = read_thresholds(vocabulary.names, confidences, thresholds)
        # A name that is never reported has a threshold above 1.
        told = {"score_thr": limits.score_thr, "conf_thr": min(*least, 1.0)}
    return LabelSettings(tuple(vocabulary.names), tuple(least), iou_threshold, told)


def folder_pictures(root: Path, out: Path) -> list[Path]:
    """Pictures below a folder, without those where results go.

    Raises:
        ValueError: There is no such folder, or no picture in it.
    """
    if not root.is_dir():
        raise ValueError(f"no folder {str(root)!r}: name the one that holds the pictures")
    # Not `Path.resolve`, which takes links that go round for a bug: whoever reads them says so.
    inside = os.path.join(os.path.realpath(out), "")
    paths = [path for path in find_images(root) if not os.path.realpath(path).startswith(inside)]
    if not paths:
        raise ValueError(
            f"folder {str(root)!r} holds no picture but those in {str(out)!r}, where results go: "
            "name another place with --out"
        )
    return paths


def run_settings(detector: OpenVocabInferencer, settings: LabelSettings) -> dict[str, Any]:
    """All that labels depend on but the pictures, by what it is called in messages."""
    asked = detector.encode()
    return {
        "names": list(settings.names),
        "words": _words(asked),
        "thresholds": list(settings.thresholds),
        "IoU of one object": settings.iou_threshold,
        "limits": dict(settings.limits),
        "negatives and calibration": detector.competing,
        "detector": detector.weights_hash,
    }


def _words(texts: TextEmbeddings) -> str:
    return f"{texts.vocabulary.hash} {texts.text_length} {texts.encoder_fingerprint}"


def _check_same_run(path: Path, told: Mapping[str, Any]) -> None:
    """Say what differs, where the file that is there belongs to another run.

    Raises:
        ValueError: It does.
    """
    if not path.is_file():
        return
    try:
        _, head = next(read_json_lines(path))
        before = _read_key(head)
    except (StopIteration, ValueError):
        return  # nothing of a run yet, or no such file: `ResumableLines` tells
    differing = [name for name in told if before.get(name) != told[name]]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{str(path)!r} was begun with other {' and '.join(differing)} ({name}: "
            f"{quoted(before.get(name))}, and now {quoted(told[name])}): give those again, or name "
            "another place with --out"
        )


def _read_key(head: Any) -> dict[str, Any]:
    values = parse_json(head["key"], "its key") if isinstance(head, dict) and "key" in head else {}
    if not isinstance(values, dict) or not values:
        raise ValueError("no run's settings")
    return values


def _to_do(
    paths: Sequence[Path],
    root: Path,
    done: Mapping[str, LabelledPicture],
    found: dict[str, LabelledPicture],
    labels: Labels,
) -> Iterator[tuple[Path, str, str, int]]:
    """Path, name, checksum and orientation of each picture without labels."""
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            labels.failures.append(
                f"picture {str(path)!r} has a name that is no UTF-8, which no label file can hold: "
                "rename it"
            )
            continue
        try:
            before = done.get(name)
            if before is not None and sha256_of(path, "picture") == before.sha256:
                found[name] = before
                continue
            checksum, orientation = read_picture_facts(path)
        except (ValueError, OSError) as error:
            labels.failures.append(str(error))
            continue
        if before is not None:
            labels.notes.append(f"picture {name!r} was changed since it was labelled: done again")
        yield path, name, checksum, orientation


def _labelled(
    detector: OpenVocabInferencer,
    new: Sequence[tuple[Path, str, str, int]],
    settings: LabelSettings,
    labels: Labels,
) -> Iterator[LabelledPicture]:
    if not new:
        return
    stream = detector.stream(
        [path for path, *_ in new],
        **settings.limits,
        batch_size=len(new),
        progress=False,
        on_error="collect",
    )
    facts = {str(path): rest for path, *rest in new}
    for answer in stream:
        name, checksum, orientation = facts[str(answer.image_path)]
        kept = tuple(_kept(answer, settings))
        yield LabelledPicture(name, checksum, answer.width, answer.height, orientation, kept)
    labels.failures += (reason for _, reason in stream.failures)


def _kept(answer: Detections, settings: LabelSettings) -> Iterable[Label]:
    """Boxes inside the picture, above the threshold of their name, one for each object."""
    limit = [answer.width, answer.height] * 2
    boxes = answer.boxes.double().numpy().round(BOX_DIGITS).clip(0, limit)
    scores, names = answer.certainties.double().numpy(), answer.labels.numpy()
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) if len(boxes) else np.zeros(0)
    is_good = (scores >= np.array(settings.thresholds)[names]) & (sides >= _LEAST_SIDE)
    boxes, scores, names = boxes[is_good], scores[is_good], names[is_good]
    for row in one_label_each(boxes, scores, names, settings.iou_threshold):
        score = round(float(scores[row]), SCORE_DIGITS)
        yield Label(int(names[row]), score, tuple(boxes[row].tolist()))
