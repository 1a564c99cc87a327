"""The page in a browser: typing, dropping, dragging, keys, downloads, two users at once."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import pytest

from fgclip_det.apis.detector_loading import BUNDLED
from tests.web.conftest import LAID_OUT

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((BUNDLED / "images").iterdir())
TYPED = "a yellow cross. a purple star"
# From a key to boxes that the browser has laid out.
MEASURE = """async (texts) => {
  const field = document.querySelector('.controls textarea, .controls input.names');
  const set = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set;
  const taken = [];
  for (const text of texts) {
    const began = performance.now();
    set.call(field, text);
    field.dispatchEvent(new Event('input', {bubbles: true}));
    await new Promise((done, fail) => {
      const look = () => {
        const drawn = [...document.querySelectorAll('svg.found')];
        if (drawn.length && drawn.every((one) => one.dataset.asked === text)) done();
        else if (performance.now() - began > 60000) fail(new Error('no answer to ' + text));
        else requestAnimationFrame(look);
      };
      look();
    });
    taken.push(performance.now() - began);
  }
  return taken;
}"""

ANSWERED = (
    "text => [...document.querySelectorAll('svg.found')].every(s => s.dataset.asked === text)"
)


def ask(page, text: str) -> None:
    """Types names, and waits for the answer to all of them."""
    page.locator(".controls textarea").first.fill(text)
    page.wait_for_function(ANSWERED, arg=text)


def shots() -> Path:
    """Where pictures of the page are kept, to be looked at."""
    folder = ROOT / "outputs" / "web"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def labels(page) -> list[str]:
    return page.locator("svg.found .label text").all_text_contents()


def send(page, *files: dict | str) -> None:
    page.locator("input[type=file]").set_input_files(list(files))


def test_boxes_come_while_typing(visit) -> None:
    page = visit()
    ask(page, "a purple cross")
    field = page.locator(".controls textarea").first
    field.press("End")
    field.type(". a yellow cross", delay=30)
    # What was typed on the way may have as many boxes.
    page.wait_for_function(ANSWERED, arg="a purple cross. a yellow cross")
    assert page.locator("svg.found .box").count() == len(labels(page)) == 2
    assert "ms on the server" in page.locator(".time").text_content()
    assert page.errors == []


def test_how_long_a_key_takes(visit, capsys) -> None:
    page = visit()
    texts = [TYPED[:count] for count in range(8, len(TYPED))]
    taken = page.evaluate(MEASURE, texts)
    middle = statistics.median(taken)
    with capsys.disabled():
        print(f"\nkey to drawn boxes, 3 pictures: median {middle:.0f} ms of {len(taken)}")
    assert middle < 10_000


def test_nothing_is_asked_of_other_hosts(visit, server) -> None:
    page = visit()
    ask(page, TYPED)
    assert len(page.asked) > 10
    outside = [url for url in page.asked if not url.startswith((server.url, "data:", "blob:"))]
    assert outside == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "dark")])
def test_it_fits_the_screen(visit, width: int, scheme: str) -> None:
    page = visit(viewport={"width": width, "height": 800}, color_scheme=scheme)
    ask(page, "a blue dotted star. a purple cross. a yellow cross. a cyan striped ring")
    page.wait_for_function(LAID_OUT)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("document.body.classList.contains('body--dark')")
    assert dark is (scheme == "dark")
    page.screenshot(path=str(shots() / f"page_{width}_{scheme}.png"), full_page=True)
    rects = page.evaluate(
        "() => [...document.querySelector('svg.found').querySelectorAll('.label')].map(l => {"
        "const b = l.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; })"
    )
    for place, (a, b, c, d) in enumerate(rects):
        for e, f, g, h in rects[:place]:
            assert c <= e + 1 or g <= a + 1 or d <= f + 1 or h <= b + 1


def test_keys_reach_boxes(visit) -> None:
    page = visit()
    ask(page, "a blue dotted star. a purple cross. a yellow cross")
    page.wait_for_function("() => document.querySelectorAll('svg.found .box').length >= 3")
    page.locator("svg.found .box[tabindex='0']").first.focus()
    rows = []
    for key in ("ArrowRight", "ArrowRight", "Home", "End"):
        page.keyboard.press(key)
        rows.append(page.evaluate("document.activeElement.dataset.row"))
    assert rows == ["1", "2", "0", "2"]
    assert "next to it" in page.locator(".tip").text_content()
    page.keyboard.press("Enter")
    page.wait_for_selector(".menu")
    page.keyboard.press("Escape")
    page.wait_for_selector(".menu", state="detached")


def test_a_drag_shows_an_example(visit) -> None:
    page = visit()
    ask(page, "a ring")
    frame = page.locator(".frame").first.bounding_box()
    scale = frame["width"] / 128
    corners = [(frame["x"] + x * scale, frame["y"] + y * scale) for x, y in ((17, 24), (54, 64))]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=5)
    page.mouse.up()
    page.locator(".menu input").fill("dent")
    page.locator(".menu button.main").click()
    page.wait_for_selector(".chip")
    page.wait_for_function(
        "() => [...document.querySelectorAll('svg.found .label')]"
        ".some(l => l.textContent.includes('dent'))"
    )
    assert page.locator(".slide").text_content().startswith("least score")
    page.locator(".chip button").click()
    page.wait_for_function(
        "() => ![...document.querySelectorAll('svg.found .label')]"
        ".some(l => l.textContent.includes('dent'))"
    )


def test_keys_alone_draw_an_example(visit) -> None:
    page = visit()
    press = page.keyboard.press

    def focused(attribute: str) -> str:
        return page.evaluate("name => document.activeElement.getAttribute(name) ?? ''", attribute)

    def draw() -> None:
        for _ in range(60):
            if focused("aria-label") == "draw an example in 000006.png":
                break
            press("Tab")
        press("Enter")
        page.wait_for_function("() => document.activeElement.matches('.pen')")

    draw()
    assert focused("aria-label").endswith(", box 32, 32, 96, 96")
    hint = page.locator(f"#{focused('aria-describedby')}")
    assert hint.is_visible() and "Enter takes it, Escape leaves it" in hint.text_content()
    page.screenshot(path=str(shots() / "keys_draw.png"))
    press("Escape")
    page.wait_for_selector(".pen", state="detached")
    assert focused("aria-pressed") == "false"
    draw()
    # From 32, 32, 96, 96, by two pixels each, and the last ones by one; it stays in the picture.
    steps = {"ArrowLeft": 20, "ArrowRight": 8, "ArrowUp": 4, "Control+ArrowRight": 1}
    steps |= {"Shift+ArrowLeft": 13, "Shift+ArrowUp": 12, "Control+Shift+ArrowLeft": 1}
    for key, times in steps.items():
        for _ in range(times):
            press(key)
    page.wait_for_function(
        "() => document.activeElement.getAttribute('aria-label').endsWith(', box 17, 24, 54, 64')"
    )
    press("Enter")
    page.wait_for_function("() => document.activeElement.matches('.menu input')")
    page.keyboard.type("dent")
    press("Enter")
    page.wait_for_function(
        "() => [...document.querySelectorAll('svg.found .label')]"
        ".some(l => l.textContent.includes('dent'))"
    )
    assert page.locator(".chip").text_content().startswith("like dent")
    assert focused("aria-label") == "draw an example in 000006.png"
    assert page.errors == []


def test_a_box_gets_a_map_and_is_not_this(visit) -> None:
    page = visit()
    ask(page, "a blue dotted star")
    page.wait_for_selector("svg.found .box")
    page.locator(".rows li").first.click()
    page.get_by_role("button", name="Heat map").click()
    page.wait_for_selector("img.layer")
    assert "cosine" in page.locator(".caption").text_content()
    page.locator(".rows li").first.click()
    page.get_by_role("button", name="Not this").click()
    page.wait_for_selector(".chip.not")
    # What is told apart by an example has scores alone.
    page.wait_for_function(
        "() => document.querySelector('.slide').textContent.startsWith('least score')"
    )


def test_the_threshold_and_negatives_count(visit) -> None:
    page = visit()
    ask(page, "a blue dotted star")
    slider = page.locator(".q-slider [tabindex]").first
    slider.focus()
    # As fast as a key that is held down: none is lost.
    for _ in range(50):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "() => document.querySelector('.slide .value').textContent.includes('1.00')"
    )
    page.wait_for_function("() => document.querySelectorAll('svg.found .box').length === 0")
    page.get_by_role("button", name="default").click()
    page.wait_for_function("() => document.querySelectorAll('svg.found .box').length === 1")


def test_pictures_are_dropped_and_refused(visit) -> None:
    page = visit()
    send(page, {"name": "<b>note.png", "mimeType": "image/png", "buffer": b"hello"})
    page.wait_for_selector(".errors li")
    assert "<b>note.png' is not a picture" in page.locator(".errors").text_content()
    send(page, str(FILES[0]))
    page.wait_for_function("() => document.querySelectorAll('.picture').length === 4")
    ask(page, "a yellow cross")
    page.wait_for_function("() => document.querySelectorAll('svg.found .box').length === 2")
    content = FILES[1].read_bytes()
    transfer = page.evaluate_handle(
        """bytes => { const t = new DataTransfer();
        t.items.add(new File([new Uint8Array(bytes)], 'dropped.png', {type: 'image/png'}));
        return t; }""",
        list(content),
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    page.wait_for_function("() => document.querySelectorAll('.picture').length === 5")
    page.get_by_role("button", name="remove dropped.png").click()
    page.wait_for_function("() => document.querySelectorAll('.picture').length === 4")
    assert page.errors == []


def test_the_download_is_coco(visit, tmp_path: Path) -> None:
    page = visit()
    ask(page, "a blue dotted star. a yellow cross")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="download COCO").click()
    waiting.value.save_as(tmp_path / "a.json")
    told = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in told["categories"]] == ["a blue dotted star", "a yellow cross"]
    assert len(told["annotations"]) == 2


def test_what_is_copied_is_seen(visit) -> None:
    page = visit()
    ask(page, "a <b>star</b>")
    for label, text in (("command", "fgclip-det demo"), ("Python", "OpenVocabInferencer()")):
        page.get_by_role("button", name=f"copy as {label}").click()
        page.wait_for_function(
            "text => document.querySelector('pre')?.textContent.includes(text)", arg=text
        )
        assert "a <b>star</b>" in page.locator("pre").text_content()
        page.keyboard.press("Escape")
        page.wait_for_selector("pre", state="hidden")


def test_negatives_of_ones_own_have_the_effect_of_the_api(visit, calibrated_detector) -> None:
    page = visit()
    ask(page, "a plus")
    count = "count => document.querySelectorAll('svg.found .box').length === count"
    page.wait_for_function(count, arg=1)
    kind = page.get_by_label("negatives", exact=True)
    kind.click()
    page.get_by_role("option", name="auto, and these names").click()
    own = page.get_by_label("names that compete")
    own.wait_for()  # keys that come before it is shown go elsewhere
    own.press_sequentially("a purple dotted cross")
    page.wait_for_function(count, arg=0)
    calibrated_detector.set_negatives("a purple dotted cross")
    found = calibrated_detector(str(FILES[0]), "a plus", one_name=True)[0]
    best = found.closest[0]
    assert (len(found), best.rival) == (0, "a purple dotted cross")
    told = f"closest: a plus {best.certainty:.2f}, which looks more like {best.rival}"
    # A part of the name, as it is typed, may compete as well.
    page.wait_for_function(
        "told => document.querySelector('.picture .told').textContent.includes(told)", arg=told
    )
    # A kind of what is asked for is told apart from other kinds.
    ask(page, "a cross")
    page.wait_for_function(count, arg=2)
    # What is found all the same has it for a neighbour.
    own.fill("a purple dotted thing")
    ask(page, "a purple cross")
    page.wait_for_function(count, arg=1)
    page.locator("svg.found .box").first.focus()
    assert "next to it: a purple dotted thing" in page.locator(".tip").text_content()
    kind.click()
    page.get_by_role("option", name="none: nothing else").click()
    ask(page, "a plus")
    page.wait_for_function(count, arg=1)
    assert page.errors == []


def test_two_users_see_nothing_of_each_other(visit) -> None:
    first, second = visit(), visit()
    send(first, {"name": "mine.png", "mimeType": "image/png", "buffer": FILES[2].read_bytes()})
    first.wait_for_function("() => document.querySelectorAll('.picture').length === 4")
    ask(first, "a red dotted triangle")
    ask(second, "a blue dotted star")
    time.sleep(1)
    assert second.locator(".picture").count() == 3
    assert "mine.png" not in second.content()
    assert all("a blue dotted star" in text for text in labels(second))
    url = first.locator(".picture img").last.get_attribute("src")
    assert first.evaluate("url => fetch(url).then(a => a.status)", url) == 200
    assert second.evaluate("url => fetch(url).then(a => a.status)", url) == 404
