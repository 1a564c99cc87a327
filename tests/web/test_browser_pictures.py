"""Pictures of a camera and of the clipboard, in a browser."""

from __future__ import annotations

import pytest

from fgclip_det.apis.detector_loading import BUNDLED

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
    width = page.evaluate("[...document.querySelectorAll('.frame img')].at(-1).naturalWidth")
    assert width >= 320
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


def test_without_https_neither_is_offered(visit) -> None:
    page = visit(script="Object.defineProperty(window, 'isSecureContext', {value: false})")
    assert page.get_by_role("button", name="Camera", exact=True).count() == 0
    told = page.locator(".drop").text_content()
    assert "or paste one" not in told and "need https or localhost" in told
