"""What a user asks. Light: knows neither the model nor the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """What is looked for in all pictures of a user.

    Attributes:
        names: As ``--texts`` takes them.
        negatives: "auto", "none", or names, as ``--negatives`` takes them.
        threshold: Least confidence, or score where there are none; None for the detector's own.
        most: Boxes of a picture that are shown.
        one_name: Whether of overlapping boxes of any names the best is kept.
    """

    names: str = ""
    negatives: str = "auto"
    threshold: float | None = None
    most: int = 20
    one_name: bool = True


@dataclass(frozen=True)
class Example:
    """A region that shows what a name means.

    Attributes:
        name: The name.
        picture: Its key.
        box: xyxy in pixels of the picture.
        like: Whether the name means it, or is told apart from it.
    """

    name: str
    picture: str
    box: tuple[float, float, float, float]
    like: bool = True
