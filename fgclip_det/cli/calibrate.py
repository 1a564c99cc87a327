"""``fgclip-det calibrate``: what confidences mean, and thresholds with a guarantee."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fgclip_det.apis import inferencer
from fgclip_det.apis.argument_checks import check_batch_size, check_path, check_whole_number
from fgclip_det.apis.calibrating.run import Calibrator, calibrate
from fgclip_det.apis.calibrating.source import DetectorSource
from fgclip_det.apis.calibrating.truth import absent_pictures, known_pictures
from fgclip_det.apis.detector_loading import resolve_device
from fgclip_det.apis.drawing.visualization import shortened
from fgclip_det.apis.inputs.picture_lists import find_images
from fgclip_det.apis.rescoring.calibrating import results_calibrator
from fgclip_det.calibration import NEVER, Calibration, Goal, check_pictures
from fgclip_det.cli.arguments.common import model_of, read_vocabulary
from fgclip_det.exit_codes import say
from fgclip_det.io import check_writable
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

_SHOWN_NAMES = 20
_CLIP = 5


def run(arguments: argparse.Namespace) -> int:
    """Calibrate; returns the exit code.

    Raises:
        ValueError: An argument is wrong, or the pictures are too few; nothing was written then.
    """
    goal = _goal(arguments)
    _check_numbers(arguments)
    _check_results(arguments)
    out = _out(arguments.out, arguments.truth)
    kept = _kept_vocabulary(arguments)
    folder = _folder(arguments)
    before = None if arguments.calibration is None else Calibration.load(arguments.calibration)
    absent = absent_pictures(find_images(arguments.pictures)) if arguments.absent else []
    vocabulary = read_vocabulary(arguments)
    if arguments.absent:
        check_pictures(len(absent), goal, len(vocabulary))
    calibrator = _calibrator(arguments, vocabulary, folder)
    texts = calibrator.texts
    pictures = absent or known_pictures(
        arguments.truth, folder, texts, calibrator.source.attributes
    )
    with_curve = not arguments.absent
    made = calibrate(
        calibrator, pictures, goal, before, with_curve, arguments.seed, arguments.prior
    )
    made.save(out)
    if kept is not None:
        own = texts.with_thresholds(made)
        own.save(kept) if kept.suffix == ".safetensors" else own.vocabulary.to_json(kept)
    if not arguments.quiet:
        _tell(made, texts, arguments.out, is_new=before is None)
    return 0


def _goal(arguments: argparse.Namespace) -> Goal | None:
    """What thresholds are to keep; None where a curve alone is made.

    Raises:
        ValueError: It cannot be, or is missing where there is nothing else to do.
    """
    clip = arguments.clip
    if arguments.kind == "alarms" and clip is None:
        clip = _CLIP
    if arguments.risk is None:
        if arguments.absent or arguments.calibration is not None:
            raise ValueError("say what thresholds are to keep, e.g. --risk 0.1")
        if arguments.kind == "alarms" or clip is not None:
            raise ValueError("--kind and --clip are of a bound: say which, e.g. --risk 0.1")
        return None
    goal = Goal(arguments.risk, arguments.delta, arguments.kind, clip)
    goal.check()
    return goal


def _check_numbers(arguments: argparse.Namespace) -> None:
    check_batch_size(arguments.batch_size)
    check_whole_number(arguments.seed, "--seed", 0)
    conf_thr, prior = arguments.conf_thr, arguments.prior
    if conf_thr is not None and not 0 <= conf_thr <= 1:
        raise ValueError(f"--conf-thr is {conf_thr}: it must be between 0 and 1")
    if prior is not None and not 0 < prior < 1:
        raise ValueError(f"--prior is {prior}: it must be between 0 and 1")
    if prior is not None and (arguments.absent or arguments.calibration is not None):
        raise ValueError(
            "--prior is of a curve, and with --absent or --calibration none is fitted: leave it out"
        )


def _out(given: str, truth: str | None) -> Path:
    check_path(given, "--out")
    out = Path(given)
    if out.is_dir():
        raise ValueError(f"--out {given!r} is a folder: name a file in it")
    # A slip of the hand must not cost a picture or the truth.
    if out.suffix != ".json":
        raise ValueError(f"--out {given!r} is no .json file: name one")
    if truth is not None and os.path.realpath(out) == os.path.realpath(truth):
        raise ValueError(f"--out {given!r} would be written over --truth: name another file")
    check_writable(out.parent)
    return out


def _kept_vocabulary(arguments: argparse.Namespace) -> Path | None:
    given = arguments.save_vocabulary
    if given is None:
        return None
    check_path(given, "--save-vocabulary")
    path = Path(given)
    if path.suffix not in (".json", ".safetensors") or path.is_dir():
        raise ValueError(f"--save-vocabulary {given!r} is no .json or .safetensors file: name one")
    if arguments.risk is None:
        raise ValueError("--save-vocabulary saves thresholds: say what they are to keep (--risk)")
    for option in ("out", "truth", "calibration"):
        other = getattr(arguments, option)
        if other is not None and os.path.realpath(other) == os.path.realpath(path):
            raise ValueError(
                f"--save-vocabulary {given!r} would be written over --{option}: name another file"
            )
    check_writable(path.parent)
    return path


def _folder(arguments: argparse.Namespace) -> Path:
    folder = Path(arguments.pictures[0])
    if arguments.truth is not None and (len(arguments.pictures) > 1 or not folder.is_dir()):
        raise ValueError(
            f"{' '.join(arguments.pictures)!r} is not one folder: with --truth give the folder "
            "that its file names are relative to"
        )
    return folder


def _features(arguments: argparse.Namespace) -> list[str] | None:
    if arguments.features is None:
        return None
    names = [name.strip() for name in arguments.features.split(",")]
    if not all(names) or len({*names}) < len(names):
        raise ValueError(f"--features {arguments.features!r}: write distinct names, 'a,b'")
    return names


def _calibrator(
    arguments: argparse.Namespace, vocabulary: Vocabulary | Path, folder: Path
) -> Calibrator:
    """Asks a detector, or the boxes of a file."""
    device = resolve_device(arguments.device)
    options = {
        "features": _features(arguments),
        "conf_thr": arguments.conf_thr,
        "batch_size": arguments.batch_size,
        "progress": not arguments.quiet,
    }
    if arguments.results is not None:
        return results_calibrator(
            arguments.results,
            arguments.truth,
            folder,
            arguments.encoder,
            vocabulary,
            device=device,
            **options,
        )
    detector = inferencer.OpenVocabInferencer(
        model_of(arguments), arguments.weights, arguments.encoder, device, calibration=None
    )
    source = DetectorSource(detector, detector.competition)
    return Calibrator(detector, source, detector.encode(vocabulary), **options)


def _check_results(arguments: argparse.Namespace) -> None:
    if arguments.results is None:
        return
    if arguments.truth is None or arguments.encoder is None:
        raise ValueError(
            "--results has boxes alone: give --truth, which lists their pictures, and --encoder"
        )
    for option in ("model", "preset", "weights"):
        if getattr(arguments, option) is not None:
            raise ValueError(f"--results stands for a detector: leave --{option} out")


def _tell(made: Calibration, texts: TextEmbeddings, out: str, is_new: bool) -> None:
    """What the curve was fitted to, and the thresholds of the names."""
    curve = made.about.get("curve")
    if is_new and curve:
        say(
            f"curve: {curve['right']} right and {curve['boxes'] - curve['right']} wrong boxes of "
            f"{curve['names']} name(s) in {curve['pictures']} pictures"
        )
    bounded = [name for name in texts.names if name in made.thresholds]
    for name in bounded[:_SHOWN_NAMES]:
        one = made.thresholds[name]
        value = "never" if one.value == NEVER else f"{one.value:.4f}"
        seen = f"false alarms in {one.alarms} of {one.pictures} pictures"
        if one.kind == "alarms":
            seen = f"{one.alarms} false alarms in {one.pictures} pictures"
        say(f"{value:>8}  {shortened(name)}  ({seen})")
    if len(bounded) > _SHOWN_NAMES:
        say(f"... and {len(bounded) - _SHOWN_NAMES} more names")
    if bounded:
        one = made.thresholds[bounded[0]]
        of = "share of pictures with one" if one.kind == "pictures" else "mean in a picture"
        say(
            f"false alarms: {of} at most {one.risk:g} for each name, with probability "
            f"{1 - one.delta:.4g} each; the figures are {one.on}"
        )
    say(f"written to {out}")
