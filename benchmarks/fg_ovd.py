"""Times FG-OVD's protocol: one look at each picture, against a run for each vocabulary.

Cases: the detector of Shapes on the bundled weights, and FG-CLIP-B on pictures of 640 x 640 with
random weights, each with 1.5 and with 5 vocabularies a picture. A vocabulary is a caption as long
as those of FG-OVD are, and ten more in which one to three words differ; no caption repeats.
Pictures go through the detector one by one in either way; they are read and resized before. First
makes sure that both ways give the same detections; where they do not, no ratio is printed.

    python benchmarks/fg_ovd.py --threads 2
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import string
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report, timing
from benchmarks.detector_cases import Case, Workbench
from benchmarks.publishing import announce, publish
from benchmarks.recipe_comparison import TOLERANCE, difference, parse_args, prepare, ratio_text
from fgclip_det.models import OpenVocabTwoStageDetector
from fgclip_det.models.regions.image_vocabularies import CaptionEmbeddings, classify_vocabularies
from fgclip_det.vocabulary import TextEmbeddings, Vocabulary

# What differs from the case of the same name: label, config, pictures of a call and a quick one.
SETTINGS = {
    "shapes": ("Shapes, 128 x 128", "fg_ovd/shapes_tiny_hard.py", 32, 2),
    "b_640": (
        "FG-CLIP-B, 640 x 640, random weights",
        "fg_ovd/ovdet_fgclip_b_640_hard.py",
        2,
        2,
    ),
}
LOADS = (1.5, 5.0)
CAPTIONS = 11
# Words of a negative that are not those of the right caption, at least and at most.
SWAPS = (1, 3)
# Words and signs of FG-OVD's captions: median, spread of the logarithm, least and most.
_LENGTH = (15, 0.45, 4, 50)
WAYS = ("official", "ours", "kept")
# What of the official way's time goes into captions.
PART = "captions"
MIN_SECONDS = 1.0
NOTE = (
    "The official way runs the detector anew for each vocabulary, and encodes its captions. Ours "
    "encodes all captions of the pictures together, proposes once for each picture and classifies "
    "once for each vocabulary; *kept* is ours where the captions were encoded before, as in a "
    "second run with `text_cache_dir`, or with another detector on the same encoder. A ratio is "
    "the official way's time over ours within a round: median (min to max). *Expected* is the "
    "ratio if a picture's other vocabularies cost their captions and nothing else, encoded in the "
    "official way; many captions at once are encoded faster. *Prefixes* is the ratio if the words "
    "with which captions of a vocabulary begin alike were encoded once, and that cost nothing else "
    "(a causal tower could); beside it how many words that would save. The difference is the "
    "largest one between the scores of the detections."
)
Found = list[InstanceData]
Record = dict[str, Any]


def case_of(case: Case, quick: bool) -> Case:
    """The case with the config and the number of pictures that are timed here."""
    label, config, *images = SETTINGS[case.name]
    return Case(case.name, label, config, images[quick], case.rounds)


def make_vocabularies(images: int, load: float, seed: int) -> list[list[list[str]]]:
    """Captions of each vocabulary of each picture: the right one, then its negatives.

    A word is a letter, which every tokenizer knows as one token.

    Args:
        images: Number of pictures.
        load: Vocabularies of a picture on average; pictures differ by one at most.
        seed: Of lengths and letters.
    """
    random = np.random.default_rng(seed)
    letters = list(string.ascii_lowercase)
    median, spread, least, most = _LENGTH
    seen: set[str] = set()

    def unseen(draw: Callable[[], list[str]]) -> list[str]:
        while (text := " ".join(words := draw())) in seen:
            pass
        seen.add(text)
        return words

    def right() -> list[str]:
        words = int(np.clip(random.lognormal(np.log(median), spread), least, most))
        return random.choice(letters, words).tolist()

    def swapped(words: Sequence[str]) -> list[str]:
        found = list(words)
        count = random.integers(*SWAPS, endpoint=True)
        for place in random.choice(len(found), count, replace=False):
            found[place] = random.choice([one for one in letters if one != found[place]])
        return found

    def vocabulary() -> list[str]:
        first = unseen(right)
        negatives = (unseen(lambda: swapped(first)) for _ in range(CAPTIONS - 1))
        return [" ".join(words) for words in (first, *negatives)]

    bounds = [int(load * index) for index in range(images + 1)]
    return [[vocabulary() for _ in range(end - start)] for start, end in itertools.pairwise(bounds)]


def shared_share(vocabularies: Sequence[Sequence[str]]) -> float:
    """Share of the words of captions that stand in a beginning of another of the vocabulary."""
    words = beginnings = 0
    for captions in vocabularies:
        split = [caption.split() for caption in captions]
        words += sum(map(len, split))
        beginnings += len({(*one[:end],) for one in split for end in range(1, len(one) + 1)})
    return 1 - beginnings / words


class Protocol:
    """Both ways through some pictures, with one detector.

    Args:
        bench: Where the detector and the pictures come from.
        load: Vocabularies of a picture.
        dtype: float32, or bfloat16 for mixed precision.
    """

    def __init__(self, bench: Workbench, load: float, dtype: torch.dtype) -> None:
        self.bench, self.dtype = bench, dtype
        self.detector = bench.build("ours").eval()
        self.detector.text_cache_dir = None
        self.pictures = pictures_of(bench, self.detector)
        self.vocabularies = make_vocabularies(len(self.pictures), load, bench.seed)
        self.all_captions = [t for image in self.vocabularies for one in image for t in one]
        self.captions = self.encode()

    def encode(self) -> CaptionEmbeddings:
        """Embeddings of all captions, made anew."""
        encoder = self.detector.encoder
        made = CaptionEmbeddings(encoder, text_length=encoder.region_text_length)
        made.add(self.all_captions)
        return made

    @torch.no_grad()
    def ours(self, captions: CaptionEmbeddings | None = None) -> Found:
        """One look at each picture; captions are encoded first where they are not given."""
        captions = captions or self.encode()
        found = []
        with self._autocast():
            for (inputs, sample), asked in zip(self.pictures, self.vocabularies, strict=True):
                (regions,) = self.detector.propose(inputs, [sample])
                head = self.detector.region_classifier
                found += classify_vocabularies(head, regions, asked, captions)
        return found

    @torch.no_grad()
    def official(self) -> Found:
        """The detector on each vocabulary."""
        found = []
        with self._autocast():
            for (inputs, sample), asked in zip(self.pictures, self.vocabularies, strict=True):
                for texts in asked:
                    self.detector.set_vocabulary(_vocabulary(texts))
                    plain = DetDataSample(metainfo=dict(sample.metainfo_items()))
                    found.append(self.detector.predict(inputs, [plain])[0].pred_instances)
        return found

    def calls(self) -> dict[str, Callable[[], Found]]:
        """The timed calls, by name."""
        kept = functools.partial(self.ours, self.captions)
        return dict(zip(WAYS, (self.official, self.ours, kept), strict=True))

    @torch.no_grad()
    def encode_each(self) -> None:
        """Encodes the captions vocabulary by vocabulary, as the official way does."""
        encoder = self.detector.encoder
        for texts in itertools.chain.from_iterable(self.vocabularies):
            TextEmbeddings.encode(_vocabulary(texts), encoder, encoder.region_text_length)

    def _autocast(self) -> torch.autocast:
        enabled = self.dtype != torch.float32
        return torch.autocast(self.bench.device, self.dtype, enabled=enabled)


def _vocabulary(texts: Sequence[str]) -> Vocabulary:
    return Vocabulary(tuple(texts), tuple((text,) for text in texts))


def pictures_of(
    bench: Workbench, detector: OpenVocabTwoStageDetector
) -> list[tuple[torch.Tensor, DetDataSample]]:
    """Pictures on the device, each as a batch of one, (1, 3, H, W)."""
    batch = bench.batch(training=False)
    pairs = zip(batch["inputs"], batch["data_samples"], strict=True)
    # A case may have one picture of random pixels: others are as good.
    generator = torch.Generator().manual_seed(bench.seed)
    found = []
    for pixels, sample in itertools.islice(itertools.cycle(list(pairs)), bench.case.images):
        if len(found) >= len(batch["inputs"]):
            pixels = torch.randint(0, 256, pixels.shape, generator=generator, dtype=pixels.dtype)
        told = DetDataSample(metainfo=dict(sample.metainfo_items()))
        data = detector.data_preprocessor({"inputs": [pixels], "data_samples": [told]}, False)
        found.append((data["inputs"], data["data_samples"][0]))
    return found


def measure(bench: Workbench, load: float, args: argparse.Namespace, rounds: int) -> Record:
    """Compares and times both ways."""
    protocol = Protocol(bench, load, timing.DTYPES[args.dtype])
    calls = protocol.calls()
    found = {name: call() for name, call in calls.items()}
    worst = max(difference("inference", ([], found["official"]), ([], found[n])) for n in WAYS[1:])
    seconds = timing.interleave(
        {**calls, PART: protocol.encode_each},
        rounds,
        args.device,
        seed=args.seed,
        min_seconds=0 if args.quick else MIN_SECONDS,
    )
    same = worst <= TOLERANCE["inference"][args.dtype]
    images = len(protocol.pictures)
    vocabularies = sum(map(len, protocol.vocabularies))
    # One look for each picture, and all captions.
    least = [
        (official - captions) * images / vocabularies + captions
        for official, captions in zip(seconds["official"], seconds[PART], strict=True)
    ]
    shared = shared_share([one for image in protocol.vocabularies for one in image])
    with_prefixes = [
        kept + max(ours - kept, 0) * (1 - shared)
        for ours, kept in zip(seconds["ours"], seconds["kept"], strict=True)
    ]
    return {
        "load": load,
        "images": images,
        "vocabularies": vocabularies,
        "captions": len(protocol.all_captions),
        "detections": sum(map(len, found["official"])),
        "difference": worst,
        "seconds": seconds,
        "images_per_second": {n: images / statistics.median(seconds[n]) for n in WAYS},
        "ratio": {
            name: timing.ratio_of(seconds["official"], seconds[name]) if same else None
            for name in WAYS[1:]
        },
        "expected": timing.ratio_of(seconds["official"], least),
        "shared": shared,
        "prefixes": timing.ratio_of(seconds["official"], with_prefixes),
    }


def run(args: argparse.Namespace, cases: Sequence[Case]) -> list[Record]:
    """Measures every case with every load, behind a progress bar."""
    records = []
    pairs = [(case_of(case, args.quick), load) for case in cases for load in LOADS]
    for case, load in tqdm(pairs, unit="case", disable=None):
        rounds = min(args.rounds, case.rounds or args.rounds)
        bench = Workbench(case, args.device, args.seed)
        about = {"name": case.name, "label": case.label, "config": case.config, "rounds": rounds}
        try:
            records.append({**about, **measure(bench, load, args, rounds)})
        finally:
            bench.close()
    return records


def page(records: Sequence[Record]) -> str:
    """One line for each case and load."""
    rows = []
    for record in records:
        speeds = [report.number(record["images_per_second"][name]) for name in WAYS]
        ratios = [ratio_text(record["ratio"][name]) for name in WAYS[1:]]
        row = [record["label"], f"{record['load']:g}", str(record["captions"]), speeds[0]]
        row += [speeds[1], ratios[0], f"{record['expected']['median']:.2f}x", speeds[2], ratios[1]]
        row.append(f"{record['prefixes']['median']:.2f}x ({100 * record['shared']:.0f} %)")
        row.append(f"{record['difference']:.0e}")
        rows.append(row)
    head = ["Case", "vocabularies a picture", "captions", "official images/s", "ours images/s"]
    head += ["ratio", "expected", "kept images/s", "ratio, kept", "prefixes", "difference"]
    return "\n\n".join([report.table(head, rows), NOTE])


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code (1: results differ, 2: the user can mend it)."""
    args = parse_args(argv, __doc__, with_memory=False)
    try:
        cases, out = prepare(args, "inference", "fg_ovd")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    settings = announce(args)
    records = run(args, cases)
    differing = [f"{r['label']}, {r['load']:g}" for r in records if r["ratio"]["ours"] is None]
    return publish(out, "FG-OVD's protocol", settings, records, page(records), differing)


if __name__ == "__main__":
    sys.exit(main())
