"""Server time of a key on ``fgclip-det web`` with a detector of FG-CLIP-B's size.

One picture of 640 x 640 with 1,000 regions, 20 names, of which the last is typed letter by letter;
then the same keys once more, backwards, and the last question again and again, as the threshold is
moved. Published sizes and random weights: nothing is fetched, and what is found means nothing. What
the text tower takes is counted apart: calls of `encode_text`, by whomever. Without a calibration.

    python benchmarks/web_key.py > benchmarks/results/web_key_cpu.md
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from benchmarks.full_size_step import build_detector, write_random_encoder
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.engine import read_config
from fgclip_det.vocabulary import Vocabulary
from fgclip_det.web.limits import Budget, Kept, Limits
from fgclip_det.web.pictures import Picture
from fgclip_det.web.question import Question
from fgclip_det.web.session import Session

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "ov_coco" / "ovdet_fgclip_b_640_3e_ov_coco.py"
SIDE = 640
NAMES = (
    "a red mug. a blue plate. a striped shirt. a wooden chair. a white horse. a black dog. a cat. "
    "a person. a bicycle with a basket. a yellow taxi. a traffic light. a bench. a green bottle. "
    "a bowl of soup. a pizza. a small cup. a laptop. a keyboard. a clock"
)
TYPED = "a dotted umbrella"


class Tower:
    """Counts what an encoder's text tower takes, inside of ``with``.

    Args:
        encoder: Whose `encode_text` is watched.

    Attributes:
        seconds: That it took.
        texts: That it was given, fillers of small batches too.
    """

    def __init__(self, encoder: Any) -> None:
        self.seconds, self.texts = 0.0, 0
        self._encoder, self._encode = encoder, encoder.encode_text

    def __enter__(self) -> Tower:
        self._encoder.encode_text = self._watched
        return self

    def __exit__(self, *_: object) -> None:
        del self._encoder.encode_text

    def _watched(self, texts: Sequence[str], *args: Any, **kwargs: Any) -> torch.Tensor:
        began = time.perf_counter()
        found = self._encode(texts, *args, **kwargs)
        self.seconds += time.perf_counter() - began
        self.texts += len(texts)
        return found


def random_detector(folder: Path, config: Path, size: str, seed: int) -> OpenVocabInferencer:
    """A detector of a config, on an encoder of a published size, with random weights.

    Args:
        folder: Gets the encoder and the weights.
        config: Of the detector.
        size: "base" or "large".
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    MMLogger.get_instance("mmengine").setLevel("WARNING")
    encoder, weights = folder / "encoder", folder / "weights.pth"
    write_random_encoder(size, encoder, Vocabulary.parse("coco").names)
    built = build_detector(read_config(str(config)), encoder)
    torch.save({"state_dict": built.state_dict()}, weights)
    made = read_config(str(config))
    made.model.text_cache_dir = str(folder / "texts")
    detector = OpenVocabInferencer(made, str(weights), str(encoder), device="cpu")
    # As the page does, once that folder is where the bank of competing names is kept.
    detector.model.text_cache_dir = None
    return detector


def session_of(detector: OpenVocabInferencer, side: int, seed: int) -> Session:
    """The page's own, with one picture of random pixels that was looked at."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    limits = Limits()
    kept, budget = Kept(limits.region_bytes), Budget(limits.stored_bytes)
    picture = Picture.sent("random.png", stream.getvalue(), limits)
    session = Session(detector, kept, budget, limits, [picture])
    session.look(picture.key)
    return session


def measure(session: Session, tower: Tower, questions: Sequence[Question]) -> list[list[float]]:
    """Of each question seconds in all, seconds of the tower, and texts that it was given."""
    taken = []
    for question in questions:
        tower.seconds, tower.texts = 0.0, 0
        _, seconds = session.ask(question)
        taken.append([seconds, tower.seconds, tower.texts])
    return taken


def row_of(label: str, taken: list[list[float]]) -> list[str]:
    """Medians in ms: all, the tower, what is left with its worst key, and the tower's texts."""
    rest = sorted(1e3 * (seconds - tower) for seconds, tower, _ in taken)
    seconds, tower, texts = (statistics.median(column) for column in zip(*taken, strict=True))
    told = f"**{statistics.median(rest):.0f}** (at most {rest[-1]:.0f})"
    return [
        label,
        str(len(taken)),
        f"{1e3 * seconds:.0f}",
        f"{1e3 * tower:.0f}",
        told,
        f"{texts:g}",
    ]


def table(session: Session, tower: Tower) -> str:
    """The page's table."""
    typed = [Question(f"{NAMES}. {TYPED[:count]}") for count in range(1, len(TYPED) + 1)]
    # The bank of names that compete, and all that is made once, are not a key's.
    session.ask(Question("a thing"))
    rows = [row_of("a letter more", measure(session, tower, typed))]
    rows.append(row_of("a letter less, asked before", measure(session, tower, typed[-2::-1])))
    moved = [Question(typed[0].names, threshold=step / 100) for step in range(20, 40)]
    rows.append(row_of("the threshold", measure(session, tower, moved)))
    head = ["key", "keys", "ms", "text tower, ms", "besides, ms", "texts of the tower"]
    return report.table(head, rows)


def main(argv: list[str] | None = None) -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of weights and pixels")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        detector = random_detector(Path(folder), CONFIG, "base", args.seed)
        session = session_of(detector, SIDE, args.seed)
        (image,) = (session.look(key) for key in session.pictures)
        print("# Server time of a key\n")
        print("`python benchmarks/web_key.py`\n")
        print(
            f"FG-CLIP-B with random weights, one picture of {SIDE} x {SIDE}, {len(image):,} "
            f"regions, {len(Vocabulary.parse(NAMES)) + 1} names; one thread, float32, on a CPU.\n"
        )
        with Tower(detector.model.encoder) as tower:
            print(table(session, tower))


if __name__ == "__main__":
    main()
