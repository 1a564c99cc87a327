"""What is typed and set: the fields of the page, and the question that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from fgclip_det.web.limits import Limits
from fgclip_det.web.question import Example, Question

# Milliseconds without a key before a question is asked; the answer takes longer than a key.
_DEBOUNCE = 20


class _Slider(ui.slider):
    """One whose browser is not sent what it has just said, which would undo keys in between."""

    LOOPBACK = False


class Controls:
    """The fields; `question` is what they say.

    Args:
        limits: Of what is typed.
        names: What is asked for at first.
        changed: Called where the question is another.
        take_back: Called with the place of an exemplar.
    """

    def __init__(
        self,
        limits: Limits,
        names: str,
        changed: Callable[[], Any],
        take_back: Callable[[int], Any],
    ) -> None:
        self._changed, self._take_back = changed, take_back
        self._threshold: float | None = None
        self._quiet = False
        self.names = _field("names", names, limits, changed)
        self.names.props('placeholder="a red mug. a blue plate" autofocus').mark("names")
        with ui.element("div").classes("chips") as self._chips:
            pass
        self._slide()
        with ui.element("div").classes("pair"):
            kinds = {"auto": "auto: what else is known", "none": "none: nothing else"}
            kinds["own"] = "auto, and these names"
            self.kind = ui.select(kinds, value="auto", label="negatives", on_change=self._kind)
            self.kind.props("dense outlined options-dense").mark("negatives")
            self.most = ui.number(
                "most boxes", value=20, min=1, max=limits.boxes, step=1, on_change=changed
            )
            self.most.props("dense outlined debounce=150").mark("most")
        self.own = _field("names that compete", "", limits, changed).mark("own")
        self.own.set_visibility(False)
        self.one_name = ui.switch("one name for each place", value=True, on_change=changed)
        self.one_name.props("dense").mark("one_name")
        self._most = limits.boxes

    @property
    def question(self) -> Question:
        """What the fields say."""
        negatives = self.kind.value
        if negatives == "own":
            negatives = str(self.own.value or "").strip() or "auto"
        most = self.most.value if isinstance(self.most.value, int | float) else 20
        return Question(
            str(self.names.value or ""),
            negatives,
            self._threshold,
            int(min(max(most, 1), self._most)),
            bool(self.one_name.value),
        )

    def show_threshold(self, is_confidence: bool, default: float) -> None:
        """Say what the threshold is of, and where it stands while nobody moved it."""
        what = "confidence" if is_confidence else "score"
        self._what.set_text(f"least {what}")
        if self._threshold is None:
            self._set_slider(default)
            self._value.set_text(f"{default:.2f}, the default")
        else:
            self._value.set_text(f"{self._threshold:.2f}")

    def show_examples(self, examples: list[Example], names: dict[str, str]) -> None:
        """Show what is shown, each with a button that takes it back.

        Args:
            examples: In order.
            names: Of the pictures, by their keys.
        """
        self._chips.clear()
        with self._chips:
            for place, one in enumerate(examples):
                sign = "like" if one.like else "not"
                box = ", ".join(f"{value:.0f}" for value in one.box)
                with ui.element("span").classes("chip" if one.like else "chip not"):
                    ui.label(f"{sign} {one.name}").tooltip(f"{names.get(one.picture)}: {box}")
                    button = ui.button(
                        "\u00d7", on_click=lambda place=place: self._take_back(place)
                    )
                    button.props(f'flat dense round size=xs aria-label="take back {place + 1}"')

    def _slide(self) -> None:
        with ui.element("div").classes("slide"):
            self._what = ui.label("least confidence")
            self._value = ui.label("").classes("value")
            reset = ui.button("default", on_click=self._reset)
            reset.props("flat dense no-caps")
        self.slider = _Slider(min=0, max=1, step=0.01, value=0.5, on_change=self._slid)
        self.slider.props('aria-label="least confidence or score" dense').mark("threshold")

    # What asks is awaited by whoever calls these.
    def _slid(self) -> Any:
        if self._quiet:
            return None
        self._threshold = round(float(self.slider.value), 2)
        return self._changed()

    def _reset(self) -> Any:
        self._threshold = None
        return self._changed()

    def _set_slider(self, value: float) -> None:
        self._quiet = True
        self.slider.set_value(value)
        self._quiet = False

    def _kind(self) -> Any:
        self.own.set_visibility(self.kind.value == "own")
        return self._changed()


def _field(label: str, value: str, limits: Limits, changed: Callable[[], Any]) -> ui.input:
    field = ui.input(label, value=value, on_change=changed)
    return field.props(
        f"dense outlined autogrow debounce={_DEBOUNCE} maxlength={limits.text} "
        'autocomplete=off spellcheck=false input-class="names"'
    )
