"""The model behind the page: read in the background, asked by one thread."""

from __future__ import annotations

import asyncio
import importlib
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from fgclip_det.exit_codes import import_advice
from fgclip_det.io import one_line
from fgclip_det.web.limits import Budget, Kept, Limits
from fgclip_det.web.pictures import Picture
from fgclip_det.web.question import Question
from fgclip_det.web.snippets import Model

_Result = TypeVar("_Result")


class Engine:
    """Reads a model while the page is there already, and makes sessions.

    Args:
        model: What to read.
        paths: Pictures for everybody; None for those of the bundled model.
        limits: Of all that users do.

    Attributes:
        budget: Bytes of the files of all users, also of those that are on their way.
        limits: See above.
        model: See above.
        state: What it is doing, in a line.
        share: How much of the reading is done, from 0 to 1.
        error: Why there is no model; None as long as there may be one.
        is_ready: Whether there are sessions.
    """

    def __init__(
        self, model: Model, paths: Sequence[str] | None, limits: Limits | None = None
    ) -> None:
        self.model, self.limits = model, limits or Limits()
        self.state, self.share = "starting", 0.0
        self.error: str | None = None
        self.is_ready = False
        self.pictures: list[Picture] = []
        self._paths = paths
        self._kept = Kept(self.limits.region_bytes)
        self.budget = Budget(self.limits.stored_bytes)
        self._worker = ThreadPoolExecutor(1, "fgclip-det-model")
        self._begun = threading.Event()
        self._detector: Any = None

    def start(self) -> None:
        """Begin to read the model; again is nothing."""
        if not self._begun.is_set():
            self._begun.set()
            self._worker.submit(self._read)

    def session(self) -> Any:
        """A `Session` of a new user, once `is_ready`."""
        module = importlib.import_module("fgclip_det.web.session")
        return module.Session(self._detector, self._kept, self.budget, self.limits, self.pictures)

    @property
    def has_own_pictures(self) -> bool:
        """Whether the pictures are those of the bundled model."""
        return self._paths is None

    async def run(self, work: Callable[..., _Result], *given: Any) -> _Result:
        """Run what asks the model, after what was to be run before."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, work, *given)

    def stop(self) -> None:
        """Run nothing more."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> None:
        try:
            self._say("importing torch and MMDetection", 0.1)
            apis = importlib.import_module("fgclip_det.apis")
            make = apis.OpenVocabInferencer
            self._say("reading the model", 0.5)
            given = self.model
            self._detector = make(
                given.model, given.weights, given.encoder, given.device, given.calibration
            )
            # What is typed here would fill a folder, key by key.
            self._detector.model.text_cache_dir = None
            self._say("reading the pictures", 0.7)
            self._read_pictures()
            self._say("looking at the first picture", 0.8)
            session = self.session()
            for picture in self.pictures[:1]:
                session.look(picture.key)
                session.ask(Question("a thing"))
            self.is_ready = True
            self._say("ready", 1.0)
        except Exception as error:  # the page is there already, and says it
            self.error = _told(error)
            self.state = "failed"

    def _read_pictures(self) -> None:
        paths: Sequence[Path | str] = self._paths or ()
        if self.has_own_pictures:
            bundled = importlib.import_module("fgclip_det.apis.detector_loading").BUNDLED
            paths = sorted((bundled / "images").iterdir())
        elif paths:
            lists = importlib.import_module("fgclip_det.apis.inputs.picture_lists")
            paths = lists.find_images(paths)
        if len(paths) > self.limits.pictures:
            raise ValueError(
                f"{len(paths)} pictures are named: {self.limits.pictures} are the most, name fewer"
            )
        for path in paths:
            if not isinstance(path, Path):
                raise ValueError(f"{path!r} is no file: name pictures of this machine")
            self.pictures.append(Picture.on_server(path))

    def _say(self, state: str, share: float) -> None:
        self.state, self.share = state, share


def _told(error: Exception) -> str:
    if isinstance(error, ImportError):
        return import_advice(error) or one_line(error)
    if isinstance(error, ValueError | OSError):
        return one_line(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {one_line(error)}"
