"""What one user has: pictures, what they were asked, and what is shown instead of said."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fgclip_det.apis import Detections, ImageRegions, OpenVocabInferencer, neighbours
from fgclip_det.apis.detections import rounded
from fgclip_det.apis.heatmap import peaks, similarity_maps
from fgclip_det.apis.inputs.picture_lists import NamedPicture
from fgclip_det.apis.scores.neighbours import Neighbour
from fgclip_det.io import quoted
from fgclip_det.vocabulary import Exemplar, TextEmbeddings, Vocabulary
from fgclip_det.vocabulary.parsing import BUILTIN
from fgclip_det.vocabulary.shown.exemplars import Shown
from fgclip_det.web.heat import as_layer, caption
from fgclip_det.web.limits import Budget, Kept, Limits
from fgclip_det.web.pictures import Picture
from fgclip_det.web.question import Example, Question


@dataclass(frozen=True)
class Answer:
    """What was found in one picture.

    Attributes:
        found: The best of it, as the Python interface tells it.
        near: What else each box is like.
        left_out: Boxes beyond the most that are wanted.
    """

    found: Detections
    near: list[Neighbour | None]
    left_out: int = 0


@dataclass(frozen=True)
class Map:
    """Where a picture is like a text.

    Attributes:
        cosines: (h, w) float32 in [-1, 1], as `similarity_maps` tells them.
        peak: Centre (x, y) of the highest cell, in pixels of the picture.
        layer: To be laid over the picture, a data URL.
        caption: What it shows, in a line.
    """

    cosines: np.ndarray
    peak: tuple[float, float]
    layer: str
    caption: str


class Session:
    """One user. All but `add` and `remove` ask the model: from one thread at a time.

    Args:
        detector: Answers; not changed.
        kept: Regions, of all users.
        budget: Bytes of files, of all users.
        limits: Of this user.
        pictures: Those that are there from the start, for everybody.
    """

    def __init__(
        self,
        detector: OpenVocabInferencer,
        kept: Kept,
        budget: Budget,
        limits: Limits,
        pictures: Sequence[Picture] = (),
    ) -> None:
        self.limits = limits
        self.pictures = {picture.key: picture for picture in pictures}
        self.examples: list[Example] = []
        self._shared = frozenset(self.pictures)
        self._detector, self._kept, self._budget = detector, kept, budget
        self._closed, self._lock = False, threading.Lock()
        self._askers: dict[str, OpenVocabInferencer] = {}
        self._exemplars: dict[Example, Exemplar] = {}

    def add(self, name: str, data: bytes) -> Picture:
        """Take a file that was sent.

        Raises:
            ValueError: It is none that can be looked at, or there is no room for it.
        """
        if len(self.pictures) >= self.limits.pictures:
            raise ValueError(f"{self.limits.pictures} pictures are the most: remove one first")
        picture = Picture.sent(name, data, self.limits)
        with self._lock:
            if self._closed:
                raise ValueError("this page is closed: load it again")
            self._budget.take(picture.size)
            self.pictures[picture.key] = picture
        return picture

    def remove(self, key: str) -> None:
        """Forget a picture, and what is shown in it."""
        if (picture := self.pictures.pop(key, None)) is None:
            return
        self.examples = [one for one in self.examples if one.picture != key]
        self._exemplars = {k: v for k, v in self._exemplars.items() if k.picture != key}
        if key not in self._shared:
            self._budget.give(picture.size)
            self._kept.drop(key)

    def close(self) -> None:
        """Forget all, and take nothing more."""
        with self._lock:
            self._closed = True
        for key in [*self.pictures]:
            self.remove(key)

    def is_looked_at(self, key: str) -> bool:
        """Whether the regions of a picture are at hand."""
        return self._kept.get(key) is not None

    def look(self, key: str) -> ImageRegions:
        """The regions of a picture, which take long when it is new.

        Raises:
            ValueError: There is no such picture, or it cannot be looked at.
        """
        found = self._kept.get(key)
        if found is None:
            picture = self._picture(key)
            name = picture.name if picture.path is None else str(picture.path)
            pixels = NamedPicture(name, picture.pixels())
            (found,) = self._detector.propose(pixels, progress=False)
            tensors = [v for v in vars(found.regions).values() if torch.is_tensor(v)]
            self._kept.put(key, found, sum(one.nbytes for one in tensors))
        return found

    def show(self, name: str, key: str, box: Sequence[float], like: bool = True) -> Example:
        """Show what a name means, or what it does not mean.

        What is shown already is not shown twice.

        Args:
            name: The name.
            key: Of the picture.
            box: xyxy in pixels of the picture.
            like: Whether the name means it.

        Raises:
            ValueError: The box is no box of the picture, too much is shown, or the same region
                is shown as what the name means and as what it does not.
        """
        name = " ".join(self.limits.check_text(name, "names").split()).strip(" ,;.")
        if not name:
            raise ValueError("say what it is called: a name is missing")
        picture = self._picture(key)
        x1, y1, x2, y2 = (max(float(value), 0.0) for value in box)
        wide, high = picture.width, picture.height
        within = (min(x1, wide), min(y1, high), min(x2, wide), min(y2, high))
        example = Example(name, key, within, like)
        if example in self.examples:
            return example
        if len(self.examples) >= self.limits.exemplars:
            raise ValueError(f"{self.limits.exemplars} exemplars are the most: remove one first")
        shown = self._look_at(example)
        # What contradicts another would have every question refused until it is taken back.
        others = [one for one in self.examples if one.name == name and one.like is not like]
        against = tuple(map(self._exemplar, others))
        _ = Shown((shown,), against) if like else Shown(against, (shown,))
        self._exemplars[example] = shown
        self.examples.append(example)
        return example

    def take_back(self, place: int) -> None:
        """Show no longer what stands at a place of `examples`."""
        if 0 <= place < len(self.examples):
            self._exemplars.pop(self.examples.pop(place), None)

    def meant(self, question: Question) -> list[Example]:
        """Those of the examples that count: of what is looked for, in words or otherwise.

        Raises:
            ValueError: See `vocabulary`.
        """
        return self._meant(question)[1]

    def _meant(self, question: Question) -> tuple[Vocabulary | None, list[Example]]:
        said = _read(question.names, "names", self.limits)
        names = {one.name for one in self.examples if one.like} | {*(said.names if said else ())}
        return said, [one for one in self.examples if one.name in names]

    def vocabulary(self, question: Question) -> Vocabulary | None:
        """What is looked for; None where nothing is said or shown.

        Raises:
            ValueError: It is too much, names a file, or cannot be read.
        """
        said, examples = self._meant(question)
        if not examples:
            return said
        entries: dict[str, dict[str, Any]] = {}
        if said is not None:
            pairs = zip(said.names, said.prompts, strict=True)
            entries = {name: {"prompts": list(prompts)} for name, prompts in pairs}
        for example in examples:
            own = entries.setdefault(example.name, {})
            shown = self._exemplar(example)
            own.setdefault("like" if example.like else "not_like", []).append(shown)
        self.limits.check_names(len(entries), "names")
        templates = None if said is None else list(said.templates)
        return Vocabulary.parse({"names": entries}, templates)

    def ask(self, question: Question) -> tuple[dict[str, Answer], float]:
        """Answers for all pictures that were looked at, and the seconds that they took.

        Raises:
            ValueError: What is asked for cannot be read.
        """
        began = time.perf_counter()
        with _one_thread():
            answers = self._answers(question)
        return answers, time.perf_counter() - began

    def _answers(self, question: Question) -> dict[str, Answer]:
        vocabulary = self.vocabulary(question)
        # A copy, since pictures come and go in other threads.
        images = {key: self._kept.get(key) for key in dict(self.pictures)}
        images = {key: image for key, image in images.items() if image is not None}
        answers: dict[str, Answer] = {}
        if vocabulary is not None and images:
            asker = self._asker(question.negatives)
            encoded = asker.encode(vocabulary)
            # Who answers knows the negatives, of which names next to a box may be.
            images = {key: replace(image, detector=asker) for key, image in images.items()}
            limits = self._thresholds(question)
            found = asker.classify(
                [*images.values()], [encoded] * len(images), *limits, question.one_name
            )
            pairs = zip(images.items(), found, strict=True)
            answers = {key: _answer(image, one, encoded, question) for (key, image), one in pairs}
        return answers

    def has_confidences(self, question: Question) -> bool:
        """Whether answers have confidences, which the threshold is then of.

        Raises:
            ValueError: See `vocabulary`.
        """
        calibration = self._detector.calibration
        return calibration is not None and calibration.is_fitted and not self.meant(question)

    def default_threshold(self, question: Question) -> float:
        """Where the threshold stands if nobody sets it."""
        limits = self._detector.limits()
        if self.has_confidences(question) and limits.conf_thr is not None:
            return limits.conf_thr
        return limits.shown_thr if self.meant(question) else limits.score_thr

    def heat(self, key: str, name: str, question: Question) -> Map:
        """Where a picture is like one of the names.

        Raises:
            ValueError: There is no such picture or name.
        """
        vocabulary = self.vocabulary(question)
        if vocabulary is None or name not in vocabulary.names:
            raise ValueError(f"{quoted(name)} is not asked for any more")
        encoded = self._detector.encode(vocabulary.subset([name]))
        pixels = self._picture(key).pixels()
        maps = similarity_maps(self._detector.model.encoder, pixels, encoded)
        (peak,) = peaks(maps, pixels.shape[:2])
        cosines = maps[0].numpy()
        return Map(cosines, peak, as_layer(cosines), caption(cosines, name))

    def coco(self, question: Question) -> dict[str, Any]:
        """All answers as COCO knows them, with all their digits.

        Raises:
            ValueError: See `ask`.
        """
        answers, _ = self.ask(question)
        images, annotations, names = [], [], []
        for number, (key, answer) in enumerate(answers.items(), start=1):
            picture = self.pictures[key]
            size = {"width": picture.width, "height": picture.height}
            images.append({"id": number, "file_name": picture.name, **size})
            annotations += answer.found.to_coco(number)
            names = answer.found.vocabulary
        for place, one in enumerate(annotations, start=1):
            wide, high = one["bbox"][2:]
            one |= {"id": place, "area": wide * high, "iscrowd": 0}
        categories = [{"id": place, "name": name} for place, name in enumerate(names, start=1)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def told(self, question: Question) -> list[dict[str, Any]]:
        """All answers as ``fgclip-det demo`` writes them, digit by digit."""
        answers, _ = self.ask(question)
        return [rounded(answer.found.to_dict()) for answer in answers.values()]

    def _look_at(self, example: Example) -> Exemplar:
        """What stands for an exemplar: a digest, since pixels of many would fill the memory."""
        shown = Exemplar(self._picture(example.picture).pixels(), example.box)
        self._detector.looking.look([shown])
        return Exemplar(box=example.box, digest=shown.source)

    def _exemplar(self, example: Example) -> Exemplar:
        # The page's thread may have taken it back since the question was asked.
        shown = self._exemplars.get(example)
        if shown is not None:
            # Where others were seen since, it is not known any more: there is room for so many.
            with contextlib.suppress(ValueError):
                self._detector.looking.look([shown])
                return shown
        shown = self._look_at(example)
        if example in self.examples:
            self._exemplars[example] = shown
        return shown

    def _picture(self, key: str) -> Picture:
        if key not in self.pictures:
            raise ValueError("this picture is not here any more")
        return self.pictures[key]

    def _thresholds(self, question: Question) -> tuple[float | None, float | None]:
        """Least score and least confidence."""
        least = question.threshold
        return (None, least) if self.has_confidences(question) else (least, None)

    def _asker(self, negatives: str) -> OpenVocabInferencer:
        """The detector with these negatives; the model is the same, and its own are as they were.

        Raises:
            ValueError: They cannot be read.
        """
        if negatives == "auto":
            return self._detector
        if negatives not in self._askers:
            given = None if negatives == "none" else _read(negatives, "negatives", self.limits)
            asker = copy.copy(self._detector)
            asker.set_negatives("auto" if given is None and negatives != "none" else given)
            # Of what is being typed only the last counts.
            self._askers = {"none": self._askers["none"]} if "none" in self._askers else {}
            self._askers[negatives] = asker
        return self._askers[negatives]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """What is computed for a key is small: threads that wait for each other cost more than it.

    Beside other programs ten times as much.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _answer(
    image: ImageRegions, found: Detections, asked: TextEmbeddings, question: Question
) -> Answer:
    most = question.most
    left_out = max(len(found) - most, 0)
    if left_out:
        found = replace(
            found,
            names=found.names[:most],
            boxes=found.boxes[:most],
            scores=found.scores[:most],
            labels=found.labels[:most],
            confidences=None if found.confidences is None else found.confidences[:most],
        )
    return Answer(found, neighbours(image, found, asked), left_out)


def _read(text: str, what: str, limits: Limits) -> Vocabulary | None:
    """What a user typed, in the grammar of ``--texts``; None where that names nothing.

    Raises:
        ValueError: It is too much, or the name of a file of the server.
    """
    text = limits.check_text(text, what).strip()
    if not text.strip(" .,;\n"):
        return None
    if text.lower().endswith((".txt", ".json")) and "\n" not in text:
        raise ValueError(f"{quoted(text)} names a file: type the names themselves")
    # Of several lines it is text, whatever it looks like.
    found = Vocabulary.parse(text if text in BUILTIN else f"{text}\n")
    limits.check_names(len(found), what)
    return found
