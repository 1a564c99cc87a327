"""The page of one user: pictures that are asked while they type."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.client import Client

from fgclip_det.io import to_json
from fgclip_det.web.controls import Controls
from fgclip_det.web.elements.drop import Drop
from fgclip_det.web.elements.picture_view import PictureView
from fgclip_det.web.engine import Engine
from fgclip_det.web.overlay import as_svg, rows_of
from fgclip_det.web.pictures import Picture
from fgclip_det.web.question import Question
from fgclip_det.web.snippets import as_command, as_python

_STYLE = Path(__file__).with_name("page.css")
_NAMES = "a blue dotted star. a green checkered star. a cyan striped ring"
# Seconds between two looks at whether the model is there.
_WAIT = 0.15


class Page:
    """What one user sees; lives as long as the page is open.

    Args:
        engine: Answers.
        key: Of this page, in its addresses; nobody guesses it.
        user: Secret of the browser, which alone is sent pictures of this page.

    Attributes:
        key: See above.
        user: See above.
        session: Once there is a model.
    """

    def __init__(self, engine: Engine, key: str, user: str) -> None:
        self.key, self.user = key, user
        self.session: Any = None
        self._engine = engine
        self._views: dict[str, PictureView] = {}
        self._answers: dict[str, Any] = {}
        self._asked = Question()
        self._turn = self._done = 0
        self._asking = False
        self._sending = asyncio.Lock()
        self._client: Client | None = None

    def build(self) -> None:
        """Make the page; the model may not be there yet."""
        self._client = ui.context.client
        ui.add_css(_STYLE)
        dark = ui.dark_mode(None)
        with ui.element("header").classes("top"):
            ui.element("h1").add_slot("default", "fgclip-det")
            ui.label(self._engine.model.model or "bundled model: coloured shapes").classes("model")
            self._time = ui.label("").classes("time").props('aria-label="time of the answer"')
            for label, value in (("auto", None), ("light", False), ("dark", True)):
                button = ui.button(label, on_click=lambda value=value: dark.set_value(value))
                button.props("flat dense no-caps")
        with ui.element("div").classes("desk"):
            with ui.element("section").classes("controls"):
                self._build_controls()
            with ui.element("section").classes("pictures") as self._board:
                self._waiting = ui.element("div").classes("waiting")
        with self._waiting:
            self._state = ui.label("starting").props("role=status")
            self._bar = ui.linear_progress(0, show_value=False).props("instant-feedback")
        self._timer = ui.timer(_WAIT, self._begin)

    async def receive(self, name: str, data: bytes) -> None:
        """Take a picture that was sent.

        Raises:
            ValueError: It is refused.
        """
        if self.session is None:
            raise ValueError("the model is still being read: send the picture again in a moment")
        async with self._sending:
            picture = await asyncio.to_thread(self.session.add, name, data)
        self._show(picture)
        # The sender hears at once that it arrived.
        task = asyncio.create_task(self._look())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def picture(self, key: str) -> Picture | None:
        """A picture of this page."""
        return None if self.session is None else self.session.pictures.get(key)

    def close(self) -> None:
        """Forget all that the user sent."""
        if self.session is not None:
            self.session.close()

    def _build_controls(self) -> None:
        bundled = self._engine.model.model is None and self._engine.has_own_pictures
        names = _NAMES if bundled else ""
        self.controls = Controls(self._engine.limits, names, self._answer, self._take_back)
        self._message = ui.label("").classes("message").props("role=alert").mark("message")
        Drop(f"/upload/{self.key}", self._engine.limits.upload_bytes)
        with ui.element("div").classes("buttons"):
            for label, ending in (("Python", "py"), ("command", "sh"), ("JSON", "json")):
                button = ui.button(f"copy as {label}")
                button.on_click(lambda ending=ending: self._copy(ending)).mark(f"copy-{ending}")
                button.props("outline dense no-caps")
            button = ui.button("download COCO", on_click=self._download).mark("coco")
            button.props("outline dense no-caps")
        with ui.dialog() as self._dialog, ui.card().classes("copied"):
            self._copied = ui.label("").props("role=status")
            self._text = ui.element("pre").props('tabindex=0 aria-label="text to copy"')
            ui.button("close", on_click=self._dialog.close).props("flat dense no-caps")

    async def _begin(self) -> None:
        """Look at the pictures, once there is a model."""
        if self.session is not None:
            return
        engine = self._engine
        self._state.set_text(engine.error or f"{engine.state} …")
        self._bar.set_value(engine.share)
        if engine.error is not None:
            self._state.classes("message")
            self._timer.deactivate()
        if not engine.is_ready:
            return
        self._timer.deactivate()
        self.session = engine.session()
        self._waiting.set_visibility(False)
        for picture in engine.pictures:
            self._show(picture)
        await self._look()

    def _show(self, picture: Picture) -> None:
        key = picture.key

        def on(kind: str, told: dict[str, Any]) -> Any:
            return self._hear(key, kind, told)

        size = (picture.width, picture.height)
        with self._client, self._board:
            view = PictureView(picture.name, size, f"/picture/{self.key}/{key}", on)
        self._views[key] = view
        if not self.session.is_looked_at(key):
            view.set_busy("waiting")

    async def _look(self) -> None:
        """Look at what is new, one picture after the other, so that keys come in between."""
        for key, view in [*self._views.items()]:
            if self.session.is_looked_at(key):
                view.set_busy("")
                continue
            view.set_busy("looking at it")
            try:
                await self._engine.run(self.session.look, key)
            except ValueError as error:
                self._say(str(error))
            view.set_busy("")
            await self._answer()
        await self._answer()

    async def _answer(self) -> None:
        """Answer what is asked now; of what was typed meanwhile the last alone."""
        self._turn += 1
        if self._asking or self.session is None:
            return
        self._asking = True
        try:
            while self._done != self._turn:
                self._done = self._turn
                await self._answer_once(self.controls.question)
        finally:
            self._asking = False

    async def _answer_once(self, question: Question) -> None:
        try:
            answers, seconds = await self._engine.run(self.session.ask, question)
        except ValueError as error:
            self._say(str(error))
            return
        self._say("")
        self._asked, self._answers = question, answers
        self._time.set_text(f"{seconds * 1000:.0f} ms on the server")
        is_confidence = self.session.has_confidences(question)
        self.controls.show_threshold(is_confidence, self.session.default_threshold(question))
        for key in [*self._views]:
            self._draw(key)

    def _draw(self, key: str) -> None:
        view, answer = self._views[key], self._answers.get(key)
        if answer is None:
            view.show("", [], "")
            return
        found = answer.found
        svg = as_svg(found, answer.near, view.shown_width, self._asked.names)
        told = f"{len(found)} found" if len(found) else "nothing found"
        if answer.left_out:
            told += f", {answer.left_out} more"
        if not len(found) and found.closest:
            best = found.closest[0]
            rival = f", which looks more like {best.rival}" if best.rival else ""
            told += f"; closest: {best.name} {best.certainty:.2f}{rival}"
        view.show(svg, rows_of(found, answer.near), told)

    async def _hear(self, key: str, kind: str, told: dict[str, Any]) -> None:
        """What the user did with a picture."""
        if kind == "resized":
            self._draw(key)
        elif kind == "removed":
            view = self._views.pop(key, None)
            if view is not None:
                view.delete()
            self.session.remove(key)
            await self._shown()
        elif kind == "heat":
            await self._heat(key, told["name"])
        else:
            try:
                work = self.session.show
                await self._engine.run(work, told["name"], key, told["box"], kind == "like")
            except ValueError as error:
                self._say(str(error))
                return
            await self._shown()

    async def _heat(self, key: str, name: str) -> None:
        view = self._views[key]
        if not name:
            view.lay("", "")
            return
        view.set_busy("drawing the map")
        try:
            made = await self._engine.run(self.session.heat, key, name, self._asked)
            view.lay(made.layer, made.caption)
        except ValueError as error:
            self._say(str(error))
        view.set_busy("")

    async def _take_back(self, place: int) -> None:
        self.session.take_back(place)
        await self._shown()

    async def _shown(self) -> None:
        names = {key: picture.name for key, picture in self.session.pictures.items()}
        self.controls.show_examples(self.session.examples, names)
        await self._answer()

    async def _copy(self, ending: str) -> None:
        if self.session is None:
            return
        try:
            if ending == "json":
                told = await self._engine.run(self.session.told, self.controls.question)
                text = to_json(told, "the answer", indent=1, ensure_ascii=False)
            else:
                text = self._snippet(ending)
        except ValueError as error:
            self._say(str(error))
            return
        self._copy_text(text)

    def _snippet(self, ending: str) -> str:
        question, session = self.controls.question, self.session
        make = as_python if ending == "py" else as_command
        asked = session.meant(question), question, session.has_confidences(question)
        return make(self._engine.model, session.pictures, *asked)

    def _copy_text(self, text: str) -> None:
        """To the clipboard where the browser has one, and to be seen."""
        quoted = to_json(text, "the text")
        self._text.clear()
        with self._text:
            ui.label(text).classes("code")
        self._copied.set_text("the text")
        self._dialog.open()
        said = f"getHtmlElement({self._copied.id}).textContent = 'copied'"
        ui.run_javascript(
            f"if (window.isSecureContext) navigator.clipboard.writeText({quoted})"
            f".then(() => {{ {said}; }}, () => {{}});"
        )

    async def _download(self) -> None:
        if self.session is None:
            return
        try:
            told = await self._engine.run(self.session.coco, self.controls.question)
        except ValueError as error:
            self._say(str(error))
            return
        text = to_json(told, "the answers", indent=1, ensure_ascii=False)
        ui.download.content(text.encode(), "detections.coco.json", "application/json")

    def _say(self, line: str) -> None:
        self._message.set_text(line)
