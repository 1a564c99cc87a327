"""The pen and the menu of a picture, in a browser: small pictures, clicks, answers that change."""

from __future__ import annotations

import pytest

from tests.web.test_browser import ask, send
from tests.web.test_session import png

pytestmark = pytest.mark.slow
PEN = "() => document.activeElement.matches('.pen')"


def test_the_pen_fits_small_pictures(visit) -> None:
    page = visit()
    sizes = {"a.png": (5, 40), "b.png": (40, 7), "c.png": (40, 3)}
    kind = {"mimeType": "image/png"}
    send(page, *({"name": name, "buffer": png(*size), **kind} for name, size in sizes.items()))
    told = []
    for name, key in (("a.png", "Shift+ArrowLeft"), ("b.png", "Shift+ArrowDown")):
        page.get_by_label(f"draw an example in {name}").click()
        page.wait_for_function(PEN)
        pen = page.locator(".pen")
        told.append(pen.get_attribute("aria-label").split("box ")[1])
        page.keyboard.press(key)
        told.append(pen.get_attribute("aria-label").split("box ")[1])
        page.keyboard.press("Escape")
    # No side is under what the server takes.
    assert told == ["1, 10, 5, 30", "1, 10, 5, 30", "10, 2, 30, 6", "10, 2, 30, 7"]
    button = page.get_by_label("draw an example in c.png")
    assert button.is_disabled()
    assert "4 pixels" in button.get_attribute("title")
    assert page.errors == []


def test_a_click_leaves_the_keys_to_the_pen(visit) -> None:
    page = visit(has_touch=True)
    page.get_by_label("draw an example in 000006.png").click()
    page.wait_for_function(PEN)
    corner = page.locator(".frame").first.bounding_box()
    x, y = corner["x"] + 3, corner["y"] + 3
    page.mouse.click(x, y)
    page.wait_for_function(PEN)
    page.touchscreen.tap(x, y)
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".pen[aria-label$=', box 34, 32, 98, 96']")
    # A drag that the browser takes away: the pen is there again, and has the keys.
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 60, steps=3)
    page.wait_for_selector(".pen", state="detached")
    page.dispatch_event(".frame >> nth=0", "pointercancel")
    page.wait_for_function(PEN)
    page.mouse.up()
    page.keyboard.press("Escape")
    page.wait_for_selector(".pen", state="detached")
    assert page.locator(".menu").count() == 0
    assert page.errors == []


def test_a_menu_keeps_what_it_was_opened_for(visit) -> None:
    page = visit()
    ask(page, "a blue dotted star")
    page.wait_for_selector("svg.found .box")
    page.locator("svg.found .box").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".menu")
    ask(page, "a yellow cross")
    page.wait_for_function(
        "() => document.querySelector('.rows li').textContent.includes('yellow cross')"
    )
    page.get_by_role("button", name="Not this").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".chip.not")
    assert page.locator(".chip.not").text_content().startswith("not a blue dotted star")
    page.wait_for_function("() => document.activeElement.matches('.box')")
    # What is drawn anew keeps the keys where they were.
    size = "() => document.querySelector('svg.found').getAttribute('viewBox')"
    before = page.evaluate(size)
    page.set_viewport_size({"width": 900, "height": 900})
    page.wait_for_function(f"before => ({size})() !== before", arg=before)
    page.wait_for_function("() => document.activeElement.matches('.box')")
    # Where nothing is found any more they are at the button below.
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Not this").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => !document.querySelector('svg.found .box')")
    below = "draw an example in 000006.png"
    page.wait_for_function("told => document.activeElement.ariaLabel === told", arg=below)
    assert page.errors == []


def test_a_blank_name_loses_no_box(visit) -> None:
    page = visit()
    frame = page.locator(".frame").first.bounding_box()
    page.mouse.move(frame["x"] + 20, frame["y"] + 20)
    page.mouse.down()
    page.mouse.move(frame["x"] + 90, frame["y"] + 90, steps=3)
    page.mouse.up()
    field = page.locator(".menu input")
    for name, use in ((" ", field), (" ., ", page.locator(".menu button.main"))):
        field.fill(name)
        use.press("Enter")
        page.wait_for_selector(".menu [role=alert]")
        assert "a name is missing" in page.locator(".menu [role=alert]").text_content()
        page.wait_for_function("() => document.activeElement.matches('.menu input')")
    field.fill("dent")
    page.wait_for_selector(".menu [role=alert]", state="detached")
    field.press("Enter")
    page.wait_for_selector(".chip")
    assert page.locator(".chip").text_content().startswith("like dent")
    assert page.locator(".menu").count() == 0
    assert page.errors == []
