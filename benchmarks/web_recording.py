"""Makes the pictures of README and docs/web.md: a screenshot, and the page while somebody types.

Needs playwright and a Chromium of the system.

    python benchmarks/web_recording.py
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fgclip_det.io import write_bytes

ROOT = Path(__file__).resolve().parents[1]
TYPED = "a blue dotted star. a purple cross. a yellow cross"
# Beside what is shown, names go by scores: these say all that there is to say.
ASKED = "a blue dotted star. a purple dotted cross. a yellow plain cross"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE, LARGE = {"width": 900, "height": 560}, {"width": 1120, "height": 640}
# Corners of a thing in the second picture, in its pixels.
EXAMPLE = ((54, 70), (84, 106))
# Milliseconds that a frame is shown, and the last one.
FRAME, LAST = 140, 2500
DRAWN = "text => [...document.querySelectorAll('svg.found')].every(s => s.dataset.asked === text)"


def started() -> tuple[subprocess.Popen, str]:
    """The server, and its address."""
    command = [sys.executable, "-m", "fgclip_det.cli", "web", "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return process, re.search(r"open (\S+)", process.stdout.readline())[1]


def frames(page: Any) -> list[Image.Image]:
    """The page, key by key, then with what is told of a box."""
    field = page.locator(".controls textarea").first
    field.fill("")
    taken = []

    def take() -> None:
        taken.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))

    for count in range(2, len(TYPED) + 1, 2):
        field.fill(TYPED[:count])
        page.wait_for_function(DRAWN, arg=TYPED[:count])
        take()
    field.fill(TYPED)
    page.wait_for_function(DRAWN, arg=TYPED)
    page.locator("svg.found .box").first.hover(position={"x": 60, "y": 60}, force=True)
    page.wait_for_selector(".tip")
    take()
    return taken


def screenshot(page: Any) -> Image.Image:
    """With a map of a text, a thing that is shown instead of said, and what is told of a box."""
    page.set_viewport_size(LARGE)
    page.locator(".controls textarea").first.fill(ASKED)
    page.wait_for_function(DRAWN, arg=ASKED)
    rows = page.locator(".rows li")
    rows.filter(has_text="purple dotted cross").first.click()
    page.get_by_role("button", name="Heat map").click()
    page.wait_for_selector("img.layer")
    frame = page.locator(".frame").nth(1).bounding_box()
    scale = frame["width"] / 128
    corners = [(frame["x"] + x * scale, frame["y"] + y * scale) for x, y in EXAMPLE]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=5)
    page.mouse.up()
    page.locator(".menu input").fill("bracket")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chip")
    box = page.locator("svg.found .box[aria-label*=bracket]").first
    box.hover(position={"x": 60, "y": 60}, force=True)
    page.wait_for_selector(".tip")
    page.wait_for_timeout(400)  # until what the browser fades has faded
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def main(argv: list[str] | None = None) -> None:
    """Writes web.png and web.webp."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    args = parser.parse_args(argv)
    path = next(filter(None, map(shutil.which, BROWSERS)))
    process, url = started()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            page = browser.new_page(viewport=SIZE, color_scheme="light")
            page.set_default_timeout(120_000)
            page.goto(url)
            page.wait_for_selector("svg.found .box")
            taken = frames(page)
            still = screenshot(page)
            browser.close()
    finally:
        process.terminate()
        process.wait()
    written = io.BytesIO()
    still.save(written, "PNG", optimize=True)
    write_bytes(args.out / "web.png", written.getvalue())
    moving = io.BytesIO()
    durations = [FRAME] * (len(taken) - 1) + [LAST]
    taken[0].save(
        moving, "WEBP", save_all=True, append_images=taken[1:], duration=durations, loop=0,
        quality=60, method=4,
    )  # fmt: skip
    write_bytes(args.out / "web.webp", moving.getvalue())
    print(f"web.png {len(written.getvalue()) / 1e3:.0f} kB, web.webp "
          f"{len(moving.getvalue()) / 1e3:.0f} kB, {len(taken)} frames")  # fmt: skip


if __name__ == "__main__":
    main()
