"""Are objects of a video told apart, and does memory stay flat over hours of frames?

Videos of moving Shapes are rendered, written as H.264, looked into by the bundled detector and
compared with where the objects were. Then a stub takes the place of the detector and looks into
many small frames, while the memory of the process is read.

    python benchmarks/video.py --out benchmarks/results/video_cpu.md
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import settings_list, table
from benchmarks.timing import processor
from fgclip_det.apis import Detections, OpenVocabInferencer, VideoSource, detect_video
from fgclip_det.apis.scores.limits import Limits
from fgclip_det.apis.video.writer import written_video
from fgclip_det.datasets.shapes.motion import MovingShape, render_frames
from fgclip_det.datasets.shapes.render import Composition
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

RATE = 25
_RED = Composition("red", "plain", "circle")
_BLUE = Composition("blue", "striped", "square")
_GREEN = Composition("green", "plain", "star")
# What moves, and how; videos of any length.
SCENES: dict[str, list[MovingShape]] = {
    "apart": [
        MovingShape(_RED, 34, (24, 24), (1.5, 0)),
        MovingShape(_BLUE, 34, (100, 64), (-1.3, 0)),
        MovingShape(_GREEN, 34, (60, 104), (1.1, 0)),
    ],
    "brushing past": [
        MovingShape(_RED, 34, (20, 50), (1.6, 0)),
        MovingShape(_BLUE, 34, (108, 74), (-1.6, 0)),
    ],
    "crossing": [
        MovingShape(_RED, 34, (20, 20), (1.8, 1.8)),
        MovingShape(_BLUE, 34, (108, 30), (-1.8, 1.5)),
    ],
    "through one another": [
        MovingShape(_RED, 34, (20, 64), (2.0, 0)),
        MovingShape(_BLUE, 34, (108, 64), (-2.0, 0)),
    ],
}
NOTE = """\
*Found* is the share of all objects in all frames that have a box of their own, of an IoU of 0.5 or
more; an object that another covers has none. *Own id* is the share of those whose id is that
object's and no other's; the first frame of an object, which has no id yet, counts against it."""


def identity_shares(
    truth: Sequence[np.ndarray], lines: Iterable[Mapping[str, Any]]
) -> tuple[float, float, int]:
    """How much of the objects was found, and told apart.

    Args:
        truth: Of each frame the boxes of the same M objects, (M, 4), xyxy, in pixels.
        lines: Of each frame its line, see `detect_video`.

    Returns:
        Of all objects in all frames the share that has a box of its own, of an IoU of 0.5 or more;
        of those the share whose id is its object's own, which is its most frequent one, and no
        other's; and how many ids there were. One that has no id yet does not have its own.
    """
    held: list[list[int | None]] = [[] for _ in truth[0]]
    for boxes, line in zip(truth, lines, strict=True):
        rows = line["detections"]
        pairs = sorted(
            (
                (_iou(box, row["box"]), place, rank)
                for place, box in enumerate(boxes)
                for rank, row in enumerate(rows)
            ),
            reverse=True,
        )
        places, ranks = set(), set()
        for overlap, place, rank in pairs:
            # A box is that of one object: one that is covered has none of its own.
            if overlap >= 0.5 and place not in places and rank not in ranks:
                places.add(place)
                ranks.add(rank)
                held[place].append(rows[rank]["id"])
    owners: dict[int, tuple[int, int]] = {}
    for place, ids in enumerate(held):
        counts = Counter(one for one in ids if one is not None).most_common(1)
        for one, count in counts:
            owners[one] = max(owners.get(one, (0, -1)), (count, place))
    kept = sum(
        one is not None and owners.get(one, (0, -1))[1] == place
        for place, ids in enumerate(held)
        for one in ids
    )
    found = sum(map(len, held))
    different = {one for ids in held for one in ids if one is not None}
    return found / (len(truth) * len(held)), kept / max(1, found), len(different)


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(shared / (sum(areas) - shared))


def scene_row(
    name: str, seed: int, frames: int, folder: Path, detector: OpenVocabInferencer
) -> list[str]:
    """Renders a scene, looks into it, and compares."""
    shapes, path = SCENES[name], folder / "scene.mp4"
    truth = []
    with written_video(path, RATE) as writer:
        for index, (rgb, boxes) in enumerate(render_frames(seed, shapes, frames)):
            writer.write(rgb, index / RATE)
            truth.append(boxes)
    words = ". ".join(f"a {shape.composition.name}" for shape in shapes)
    result = detect_video(detector, path, words, out_dir=folder / name / str(seed))
    lines = result.lines.read_text(encoding="utf-8").splitlines()
    found, kept, ids = identity_shares(truth, map(json.loads, lines))
    decoded = sum(1 for _ in VideoSource(result.drawn))
    row = (f"{100 * found:.1f} %", f"{100 * kept:.1f} %", str(ids), f"{decoded} of {frames}")
    return [name, str(seed), str(len(shapes)), *row]


class Stub:
    """Two boxes that move, without a look at the picture."""

    def __init__(self, report: Any) -> None:
        self.weights_hash = "0" * 16
        self.model = SimpleNamespace(encoder=SimpleNamespace(fingerprint="0" * 16))
        self.competing: dict[str, Any] = {}
        self.limits = partial(Limits.of, None)
        self.calls, self._report = 0, report

    def encode(self, texts: Any = None) -> TextEmbeddings:
        """Embeddings that nobody looks at."""
        vocabulary = Vocabulary.parse("one. two")
        return TextEmbeddings(vocabulary, torch.eye(2), "0" * 16, "short")

    def stream(self, images: Sequence[np.ndarray], texts: Any, **settings: Any) -> Iterable:
        """As of an `OpenVocabInferencer`."""
        x = self.calls % 30
        self.calls += 1
        self._report(self.calls)
        boxes = torch.tensor([[x, 4, x + 20, 24], [60 - x, 40, 90 - x, 60]], dtype=torch.float32)
        yield Detections(
            *(["one", "two"], boxes, torch.tensor([0.9, 0.8]), torch.arange(2)),
            *(["one", "two"], images[0].shape[1], images[0].shape[0]),
        )


def resident_bytes() -> int:
    """Memory that this process holds now; Linux tells it."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def memory_row(frames: int, with_video: bool, folder: Path) -> list[str]:
    """Resident memory after a tenth of the frames, after all, and the slope between."""
    path = folder / f"long-{frames}.mp4"
    rng = np.random.default_rng(0)
    some = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(16)]
    with written_video(path, RATE) as writer:
        for index in tqdm(range(frames), desc="rendering"):
            writer.write(some[index % len(some)], index / RATE)
    taken: dict[int, int] = {}
    marks = {frames // 10 * tenth for tenth in range(1, 11)}

    def note(call: int) -> None:
        if call in marks:
            taken[call] = resident_bytes()

    detect_video(Stub(note), path, out_dir=folder / "out", save_video=with_video, labels="off")
    calls, sizes = np.array(list(taken)), np.array(list(taken.values()))
    slope = np.polyfit(calls, sizes, 1)[0]
    megabytes = [f"{sizes[place] / 2**20:.0f} MiB" for place in (0, -1)]
    kind = "lines and video" if with_video else "lines"
    return [kind, str(frames), *megabytes, f"{slope:.0f} B"]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--frames", type=int, default=60, help="of a scene (default: 60)")
    parser.add_argument("--seeds", type=int, default=2, help="of each scene (default: 2)")
    parser.add_argument("--lines", type=int, default=20_000, help="frames of lines alone")
    parser.add_argument("--drawn", type=int, default=3000, help="frames that are drawn too")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        memory = [memory_row(args.lines, False, folder), memory_row(args.drawn, True, folder)]
        # Shares, as the published figures: who is told apart, not who is reported.
        detector = OpenVocabInferencer(device="cpu", calibration=None)
        detector.set_negatives(None)
        rows = [
            scene_row(scene, seed, args.frames, folder, detector)
            for scene in SCENES
            for seed in range(args.seeds)
        ]
    page = _page(args, rows, memory)
    print(page)
    if args.out is not None:
        args.out.write_text(page, encoding="utf-8")


def _page(args: argparse.Namespace, rows: list[list[str]], memory: list[list[str]]) -> str:
    settings = {
        "processor": processor("cpu"),
        "threads": args.threads,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "PyAV": av.__version__,
        "frames of a scene": args.frames,
    }
    head = ["scene", "seed", "objects", "found", "own id of those found", "ids", "decoded again"]
    lengths = ["written", "frames", "after a tenth", "in the end", "slope a frame"]
    return (
        "\n\n".join(
            [
                "# Objects of videos told apart, and memory over many frames",
                "## Settings",
                settings_list(settings),
                "## Moving Shapes, the bundled detector",
                table(head, rows),
                NOTE,
                "## Resident memory, a stub in place of the detector, frames of 96 x 64",
                table(lengths, memory),
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
