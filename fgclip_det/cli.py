"""The command ``fgclip-det``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import fgclip_det

EXIT_USER_ERROR = 2
_BUNDLED_TEXTS = "a red striped circle. a blue plain square. a green dotted triangle"
_SHOWN_DETECTIONS = 20


def build_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="fgclip-det", description="Open-vocabulary detection with FG-CLIP."
    )
    parser.add_argument("--version", action="version", version=fgclip_det.__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="detect what a text names in pictures",
        description="Detect what a text names in pictures; writes OUT/vis/*.png and OUT/preds/"
        "*.json. Without pictures and texts it shows the bundled ones.",
    )
    demo.add_argument("images", nargs="*", metavar="IMAGE", help="pictures or folders")
    words = demo.add_mutually_exclusive_group()
    words.add_argument(
        "--texts", help="'a red mug. a blue plate', 'mug, plate', a .txt or .json file, or coco"
    )
    words.add_argument("--vocabulary", metavar="FILE", help="file of names: a line each, or JSON")
    demo.add_argument("--model", metavar="CONFIG", help="config of a detector (default: bundled)")
    demo.add_argument("--weights", metavar="FILE", help="checkpoint that belongs to --model")
    demo.add_argument("--encoder", metavar="DIR|ID", help="FG-CLIP directory or hub id")
    demo.add_argument("--score-thr", type=float, default=0.3, help="least score (default: 0.3)")
    demo.add_argument("--out-dir", default="outputs", metavar="DIR", help="(default: outputs)")
    demo.add_argument("--device", help="cpu, cuda, cuda:0 (default: cuda where there is one)")
    demo.add_argument("--batch-size", type=int, default=1, help="pictures at once (default: 1)")
    demo.add_argument("--no-save-vis", action="store_true", help="write the JSON files only")
    commands.add_parser("doctor", help="what works here, what does not, and how to mend it")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 for an error of the user's."""
    arguments = build_parser().parse_args(argv)
    if arguments.command == "doctor":
        from fgclip_det.apis.doctor import doctor

        return doctor()
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        try:
            return demo(arguments)
        except ValueError as error:
            print(f"error: {_one_line(error)}", file=sys.stderr)
            return EXIT_USER_ERROR
        except KeyboardInterrupt:
            print("interrupted; what was written is complete", file=sys.stderr)
            return 130


def demo(arguments: argparse.Namespace) -> int:
    """Detect in the named pictures.

    Raises:
        ValueError: An argument is wrong; nothing was written then.
    """
    # Imported late: --help and --version answer without loading torch and MMDetection.
    from fgclip_det.apis.images import find_images, read_image, unique_stems
    from fgclip_det.apis.inferencer import BUNDLED, OpenVocabInferencer, resolve_device
    from fgclip_det.apis.visualization import draw_detections
    from fgclip_det.vocabulary import Vocabulary

    _quiet_logging()
    if not arguments.images and arguments.model:
        raise ValueError("name the pictures to detect in")
    if arguments.model and not (arguments.texts or arguments.vocabulary):
        raise ValueError("say what to look for: --texts 'a red mug. a plate' or --vocabulary FILE")
    paths = find_images(arguments.images or [BUNDLED / "images"])
    texts = _BUNDLED_TEXTS if arguments.texts is None else arguments.texts
    spec = Path(arguments.vocabulary) if arguments.vocabulary is not None else texts
    vocabulary = Vocabulary.parse(spec)
    if not 0 <= arguments.score_thr <= 1:
        raise ValueError(f"--score-thr is {arguments.score_thr}: it must be between 0 and 1")
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size is {arguments.batch_size}: it must be 1 or more")
    out_dir = Path(arguments.out_dir)
    _check_writable(out_dir)
    device = resolve_device(arguments.device)
    detector = OpenVocabInferencer(arguments.model, arguments.weights, arguments.encoder, device)
    detector.set_vocabulary(vocabulary)
    stems = dict(zip(map(str, paths), unique_stems(paths), strict=True))
    answers = detector(
        paths,
        score_thr=arguments.score_thr,
        batch_size=arguments.batch_size,
        on_error="collect",
    )
    for answer in answers:
        stem = stems[str(answer.image_path)]
        text = json.dumps(answer.to_dict(), indent=1, ensure_ascii=False) + "\n"
        _write(out_dir / "preds" / f"{stem}.json", lambda p, t=text: p.write_text(t, "utf-8"))
        if not arguments.no_save_vis:
            drawn = draw_detections(read_image(answer.image_path), answer)
            _write(out_dir / "vis" / f"{stem}.png", lambda p, d=drawn: d.save(p, "PNG"))
    _report(answers, out_dir)
    for _, reason in detector.failures:
        print(f"error: {reason}", file=sys.stderr)
    if detector.failures:
        print(f"{len(answers)} of {len(paths)} pictures were done", file=sys.stderr)
    return EXIT_USER_ERROR if detector.failures else 0


def _report(answers: Sequence, out_dir: Path) -> None:
    rows = [
        f"{Path(answer.image_path).name:24} {score:5.2f}  {name}  {[round(v) for v in box]}"
        for answer in answers
        for name, score, box in zip(
            answer.names, answer.scores.tolist(), answer.boxes.tolist(), strict=True
        )
    ]
    for row in rows[:_SHOWN_DETECTIONS]:
        print(row)
    if len(rows) > _SHOWN_DETECTIONS:
        print(f"... and {len(rows) - _SHOWN_DETECTIONS} more")
    if answers:
        print(f"{len(rows)} detections in {len(answers)} picture(s); written to {out_dir}")


def _check_writable(out_dir: Path) -> None:
    """Find out before the work is done, and without leaving a trace."""
    existing = out_dir.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise ValueError(f"--out-dir {str(out_dir)!r}: {str(existing)!r} is a file, not a folder")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ValueError(
            f"--out-dir {str(out_dir)!r} cannot be written to ({error.strerror}): name another"
        ) from None


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be written: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _quiet_logging() -> None:
    """What other packages warn their developers of is no news to a user."""
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)


def _say_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"note: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


if __name__ == "__main__":
    sys.exit(main())
