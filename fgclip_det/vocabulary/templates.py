"""Sentences that a name is put into before it is encoded (CLIP, arXiv 2103.00020, section 3.1.4).

``{}`` stands for the name; ``{article}`` before it becomes "a" or "an" by the name's first letter.
"""

from __future__ import annotations

from collections.abc import Sequence

from fgclip_det.io import quoted

TEMPLATE_SETS: dict[str, tuple[str, ...]] = {
    "none": ("{}",),
    "article": ("{article} {}",),
    "photo": ("a photo of {article} {}.",),
    "photos": (
        "a photo of {article} {}.",
        "a photo of the {}.",
        "there is {article} {} in the scene.",
        "there is the {} in the scene.",
        "a photo of a small {}.",
        "a photo of a large {}.",
        "a close-up photo of {article} {}.",
        "a bright photo of {article} {}.",
        "a dark photo of {article} {}.",
        "a blurry photo of {article} {}.",
    ),
}


def resolve_templates(templates: str | Sequence[str] | None) -> tuple[str, ...]:
    """Templates of a named set, or the given ones; ("{}",) where there are none.

    Raises:
        ValueError: An unknown set, or a template without exactly one ``{}``.
    """
    if templates is None:
        return TEMPLATE_SETS["none"]
    if isinstance(templates, str):
        if templates in TEMPLATE_SETS:
            return TEMPLATE_SETS[templates]
        if "{}" not in templates:
            raise ValueError(
                f"unknown template set {quoted(templates)}: use one of {sorted(TEMPLATE_SETS)}, or "
                "sentences with {} for the name"
            )
        templates = [templates]
    if not isinstance(templates, Sequence):
        raise ValueError(
            f"templates must be a list of sentences with {{}}, not {quoted(templates)}"
        )
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(
                f"template {quoted(template)} must hold {{}} once, where the name goes"
            )
    return tuple(templates) or TEMPLATE_SETS["none"]


def fill_template(template: str, prompt: str) -> str:
    """The sentence for one prompt."""
    article = "an" if prompt[:1].lower() in set("aeiou") else "a"
    # Not str.format: names may hold braces.
    return template.replace("{article}", article).replace("{}", prompt)
