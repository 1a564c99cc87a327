"""Pictures of a camera and of the clipboard, in a browser."""

from __future__ import annotations

import time

import pytest

from fgclip_det.apis.detector_loading import BUNDLED
from tests.web.test_session import bomb, svg_bytes

pytestmark = pytest.mark.slow
FILE = sorted((BUNDLED / "images").iterdir())[0]
# The clipboard as other programs fill it: text, a picture, or both.
WRITE = """async ({text, picture}) => {
  const parts = {};
  if (text) parts['text/plain'] = new Blob([text], {type: 'text/plain'});
  if (picture) parts['image/png'] = new Blob([new Uint8Array(picture)], {type: 'image/png'});
  await navigator.clipboard.write([new ClipboardItem(parts)]);
}"""
# As fast as a finger can be, before there is anything to be seen.
TWICE = """() => new Promise((done) => {
  const buttons = [...document.querySelectorAll('.drop button')];
  const button = buttons.find((one) => one.textContent === 'Camera');
  new MutationObserver((_, observer) => {
    if (button.textContent !== 'Take it') return;
    observer.disconnect();
    button.click();
    setTimeout(done, 300);
  }).observe(button, {characterData: true, childList: true, subtree: true});
  button.click();
})"""


def pictures(page, count: int) -> None:
    page.wait_for_function(
        "count => document.querySelectorAll('.picture').length === count", arg=count
    )


def test_a_picture_of_the_camera(visit) -> None:
    page = visit(permissions=["camera"])
    page.evaluate(TWICE)
    page.get_by_role("button", name="Take it").click()
    pictures(page, 4)
    page.wait_for_selector("video", state="hidden")
    assert page.locator(".picture .file").last.text_content() == "camera-1.png"
    page.wait_for_function(
        "() => [...document.querySelectorAll('.frame img')].at(-1).naturalWidth >= 320"
    )
    page.wait_for_function("() => document.querySelectorAll('svg.found').length === 4")
    assert page.locator(".errors").count() == 0
    page.get_by_role("button", name="Camera", exact=True).click()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_selector("video", state="hidden")
    assert page.evaluate("document.querySelector('video').srcObject?.active ?? false") is False
    assert page.errors == []


def test_a_camera_that_is_not_there_is_a_line(visit) -> None:
    page = visit()
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => "
        "Promise.reject(new DOMException('none', 'NotFoundError')); }"
    )
    page.get_by_role("button", name="Camera").click()
    page.wait_for_selector(".errors li")
    assert "the camera cannot be used (NotFoundError)" in page.locator(".errors").text_content()


def test_a_picture_is_pasted(visit) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    picture = list(FILE.read_bytes())
    field = page.locator(".controls textarea").first
    page.evaluate(WRITE, {"picture": picture})
    # Where keys go when the page was opened.
    field.focus()
    page.keyboard.press("Control+V")
    pictures(page, 4)
    assert page.locator(".picture .file").last.text_content() == "image.png"
    field.fill("")
    page.evaluate(WRITE, {"text": "a yellow cross", "picture": picture})
    page.keyboard.press("Control+V")
    page.wait_for_function("() => document.querySelectorAll('svg.found .box').length === 2")
    assert field.input_value() == "a yellow cross"
    # What holds both is text in a field, and a picture elsewhere.
    page.locator(".top").click()
    page.keyboard.press("Control+V")
    pictures(page, 5)
    assert page.errors == []


def test_what_is_no_picture_is_a_line_each(visit) -> None:
    page = visit()
    hostile = {"bomb.png": bomb(), "a.svg": svg_bytes(), "note.txt": b"hello", "b.png": b""}
    hostile["half.png"] = FILE.read_bytes()[:200]
    # The last one is a picture, and comes in.
    sent = {**hostile, "a.png": FILE.read_bytes()}
    files = [{"name": k, "mimeType": "image/png", "buffer": v} for k, v in sent.items()]
    page.locator("input[type=file]").set_input_files(files)
    pictures(page, 4)
    lines = page.locator(".errors li").all_text_contents()
    assert len(lines) == len(hostile)
    for name, line in zip(hostile, lines, strict=True):
        assert name in line
    assert page.errors == []


def test_a_connection_that_breaks_is_made_again(visit) -> None:
    page = visit()
    page.locator("input[type=file]").set_input_files(str(FILE))
    pictures(page, 4)
    page.wait_for_function("() => document.querySelectorAll('svg.found').length === 4")
    page.evaluate("() => window.socket.io.engine.close()")
    text = "a purple cross. a yellow cross"
    page.locator(".controls textarea").first.fill(text)
    page.wait_for_function(
        "text => [...document.querySelectorAll('svg.found')].every(s => s.dataset.asked === text)",
        arg=text,
    )
    assert page.locator("svg.found").count() == 4
    assert page.evaluate("() => window.socket.connected")
    assert page.errors == []


def test_what_was_sent_is_forgotten_once_the_page_is_closed(visit) -> None:
    page = visit()
    page.locator("input[type=file]").set_input_files(str(FILE))
    pictures(page, 4)
    url = page.locator(".frame img").last.evaluate("image => image.src")
    context = page.context
    assert context.request.get(url).status == 200
    page.close()
    for _ in range(240):
        if context.request.get(url).status == 404:
            return
        time.sleep(0.5)
    raise AssertionError("it is still there")


def test_without_https_neither_is_offered(visit) -> None:
    page = visit(script="Object.defineProperty(window, 'isSecureContext', {value: false})")
    assert page.get_by_role("button", name="Camera", exact=True).count() == 0
    told = page.locator(".drop").text_content()
    assert "or paste one" not in told and "need https or localhost" in told
