"""The command ``fgclip-det``."""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import fgclip_det
from fgclip_det.exit_codes import EXIT_USER_ERROR, run_tool

_BUNDLED_TEXTS = "a blue dotted star. a green checkered star. a cyan striped ring"
_SHOWN_ROWS = 20


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
    _add_common_arguments(demo)
    demo.add_argument(
        "--negatives",
        metavar="TEXTS",
        help="what else may be in the pictures: competes for boxes and is not reported",
    )
    demo.add_argument("--model", metavar="CONFIG", help="config of a detector (default: bundled)")
    demo.add_argument("--weights", metavar="FILE", help="checkpoint that belongs to --model")
    demo.add_argument("--score-thr", type=float, default=0.3, help="least score (default: 0.3)")
    demo.add_argument("--batch-size", type=int, default=1, help="pictures at once (default: 1)")
    demo.add_argument("--no-save-vis", action="store_true", help="write the JSON files only")
    heatmap = commands.add_parser(
        "heatmap",
        help="show where in pictures an encoder sees what a text says",
        description="Show where in pictures an encoder sees what a text says; writes "
        "OUT/heatmaps/*.png, one grid for each picture, and the numbers as *.npz. Without pictures "
        "and texts it shows the bundled ones.",
    )
    _add_common_arguments(heatmap)
    heatmap.add_argument(
        "--image-size", type=int, metavar="PX", help="longer side (default: the encoder's own size)"
    )
    heatmap.add_argument("--max-patches", type=int, help="FG-CLIP 2: patches instead of pixels")
    heatmap.add_argument(
        "--box-cells",
        type=int,
        nargs="+",
        default=(3, 5, 7),
        metavar="N",
        help="sides of the boxes that are compared, in patches (default: 3 5 7; 1: bare patches)",
    )
    heatmap.add_argument(
        "--scale",
        choices=("shared", "text"),
        default="shared",
        help="one scale of colours for all texts, or each its own (default: shared)",
    )
    commands.add_parser("doctor", help="what works here, what does not, and how to mend it")
    return parser


def _add_common_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("images", nargs="*", metavar="IMAGE", help="pictures or folders")
    words = command.add_mutually_exclusive_group()
    words.add_argument(
        "--texts", help="'a red mug. a blue plate', 'mug, plate', a .txt or .json file, or coco"
    )
    words.add_argument(
        "--vocabulary", metavar="FILE", help="file of names: a line each, JSON, or TextEmbeddings"
    )
    command.add_argument("--encoder", metavar="DIR|ID", help="FG-CLIP directory or hub id")
    command.add_argument("--out-dir", default="outputs", metavar="DIR", help="(default: outputs)")
    command.add_argument("--device", help="cpu, cuda, cuda:0 (default: cuda where there is one)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 for an error of the user's."""
    arguments = build_parser().parse_args(argv)
    if arguments.command == "doctor":
        from fgclip_det.apis.doctor import doctor

        return doctor()
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        command = {"demo": demo, "heatmap": heatmap}[arguments.command]
        return run_tool(lambda: command(arguments))


def demo(arguments: argparse.Namespace) -> int:
    """Detect in the named pictures.

    Raises:
        ValueError: An argument is wrong; nothing was written then.
    """
    # Imported late: --help and --version answer without loading torch and MMDetection.
    from fgclip_det.apis.inferencer import BUNDLED, OpenVocabInferencer, resolve_device
    from fgclip_det.apis.picture_lists import find_images, unique_stems
    from fgclip_det.apis.visualization import draw_detections
    from fgclip_det.io import read_image, write_image, write_json
    from fgclip_det.vocabulary import Vocabulary

    _quiet_logging()
    _check_asked(arguments, arguments.model)
    # A picture that is named twice, by itself and with its folder, is one picture.
    paths = list(dict.fromkeys(find_images(arguments.images or [BUNDLED / "images"])))
    vocabulary = _vocabulary(arguments)
    negatives = arguments.negatives
    if negatives is None and not arguments.images:
        negatives = BUNDLED / "vocabulary.json"
    if negatives is not None:
        negatives = Vocabulary.parse(negatives)
    if not 0 <= arguments.score_thr <= 1:
        raise ValueError(f"--score-thr is {arguments.score_thr}: it must be between 0 and 1")
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size is {arguments.batch_size}: it must be 1 or more")
    out_dir = Path(arguments.out_dir)
    for folder in ("preds",) if arguments.no_save_vis else ("preds", "vis"):
        _check_writable(out_dir / folder, arguments.out_dir)
    device = resolve_device(arguments.device)
    detector = OpenVocabInferencer(arguments.model, arguments.weights, arguments.encoder, device)
    detector.set_vocabulary(vocabulary)
    detector.set_negatives(negatives)
    stems = dict(zip(map(str, paths), unique_stems(paths), strict=True))
    answers = []
    for answer in detector.stream(
        paths,
        score_thr=arguments.score_thr,
        batch_size=arguments.batch_size,
        on_error="collect",
    ):
        answers.append(answer)
        stem = stems[str(answer.image_path)]
        told = answer.to_dict()
        _write(
            out_dir / "preds" / f"{stem}.json",
            functools.partial(write_json, value=told, ensure_ascii=False),
        )
        if not arguments.no_save_vis:
            drawn = draw_detections(read_image(answer.image_path), answer)
            _write(out_dir / "vis" / f"{stem}.png", functools.partial(write_image, image=drawn))
    _report(answers, out_dir)
    return _report_failures([reason for _, reason in detector.failures], len(paths))


def heatmap(arguments: argparse.Namespace) -> int:
    """Draw where the named pictures are like a text.

    Raises:
        ValueError: An argument is wrong; nothing was written then.
    """
    # Imported late, as in `demo`.
    from tqdm import tqdm

    from fgclip_det.apis import heatmap as maps_of
    from fgclip_det.apis.inferencer import BUNDLED, resolve_device
    from fgclip_det.apis.picture_lists import find_images, unique_stems
    from fgclip_det.apis.region_texts import encode_texts
    from fgclip_det.apis.visualization import shortened
    from fgclip_det.encoders import load_encoder
    from fgclip_det.io import read_image, write_image

    _quiet_logging()
    _check_asked(arguments, arguments.encoder)
    paths = list(dict.fromkeys(find_images(arguments.images or [BUNDLED / "images"])))
    vocabulary = _vocabulary(arguments)
    maps_of.check_count(len(vocabulary))
    out_dir = Path(arguments.out_dir)
    _check_writable(out_dir / "heatmaps", arguments.out_dir)
    device = resolve_device(arguments.device)
    encoder = load_encoder(arguments.encoder or BUNDLED / "encoder").to(device)
    size = {key: getattr(arguments, key) for key in ("image_size", "max_patches", "box_cells")}
    maps_of.check_settings(encoder, **size)
    texts = encode_texts(encoder, vocabulary)
    rows, failures, stems = [], [], unique_stems(paths)
    for path, stem in zip(tqdm(paths, desc="pictures", disable=len(paths) < 2), stems, strict=True):
        try:
            image = read_image(path)
        except ValueError as error:
            failures.append(str(error))
            continue
        maps = maps_of.similarity_maps(encoder, image, texts, **size)
        drawn = maps_of.draw_heatmap(image, maps, texts.names, arguments.scale)
        place = {"names": texts.names, "size": image.shape[:2]}
        target = out_dir / "heatmaps" / stem
        _write(Path(f"{target}.npz"), functools.partial(maps_of.save_maps, maps=maps, **place))
        _write(Path(f"{target}.png"), functools.partial(write_image, image=drawn))
        rows += [
            (path.name, value, shortened(name), [round(v) for v in peak])
            for name, value, peak in zip(
                texts.names,
                maps.flatten(1).amax(dim=1).tolist(),
                maps_of.peaks(maps, image.shape[:2]),
                strict=True,
            )
        ]
    _print_rows(rows)
    done = len(paths) - len(failures)
    if done:
        print(f"{len(texts)} text(s) in {done} picture(s); written to {out_dir}")
    return _report_failures(failures, len(paths))


def _check_asked(arguments: argparse.Namespace, own: str | None) -> None:
    """Whoever brings a model or an encoder of their own brings pictures and words too."""
    if own and not arguments.images:
        raise ValueError("name the pictures to look into")
    if own and not (arguments.texts or arguments.vocabulary):
        raise ValueError("say what to look for: --texts 'a red mug. a plate' or --vocabulary FILE")


def _vocabulary(arguments: argparse.Namespace):
    """`TextEmbeddings` or a `Vocabulary` of what is looked for."""
    from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

    texts = _BUNDLED_TEXTS if arguments.texts is None else arguments.texts
    spec = Path(arguments.vocabulary) if arguments.vocabulary is not None else texts
    is_encoded = isinstance(spec, Path) and spec.suffix == ".safetensors"
    return TextEmbeddings.load(spec) if is_encoded else Vocabulary.parse(spec)


def _report_failures(reasons: Sequence[str], count: int) -> int:
    """Say which pictures of `count` could not be read; returns the exit code."""
    for reason in reasons:
        print(f"error: {reason}", file=sys.stderr)
    if reasons:
        print(f"{count - len(reasons)} of {count} pictures were done", file=sys.stderr)
    return EXIT_USER_ERROR if reasons else 0


def _report(answers: Sequence, out_dir: Path) -> None:
    from fgclip_det.apis.visualization import shortened

    rows = [
        (Path(answer.image_path).name, score, shortened(name), [round(v) for v in box])
        for answer in answers
        for name, score, box in zip(
            answer.names, answer.scores.tolist(), answer.boxes.tolist(), strict=True
        )
    ]
    _print_rows(rows)
    if answers:
        print(f"{len(rows)} detections in {len(answers)} picture(s); written to {out_dir}")


def _print_rows(rows: Sequence[tuple[str, float, str, list[int]]]) -> None:
    """File, score, name and place, of the first few."""
    for file, score, name, place in rows[:_SHOWN_ROWS]:
        print(f"{file:24} {score:5.2f}  {name}  {place}")
    if len(rows) > _SHOWN_ROWS:
        print(f"... and {len(rows) - _SHOWN_ROWS} more")


def _check_writable(folder: Path, out_dir: str) -> None:
    """Find out before the work is done, and without leaving a trace."""
    from fgclip_det.io import check_writable

    try:
        check_writable(folder)
    except OSError as error:
        is_file = isinstance(error, NotADirectoryError)
        reason = f"{error.filename!r} is a file, not a folder" if is_file else error.strerror
        raise ValueError(
            f"--out-dir {out_dir!r} cannot be written to ({reason}): name another"
        ) from None


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file into a folder that is made if missing; `write` does it whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{str(path)!r} cannot be written ({reason}): free the place") from None


def _quiet_logging() -> None:
    """Ignore deprecation warnings, which are for developers of other packages."""
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)


def _say_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"note: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
