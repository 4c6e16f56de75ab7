"""A page opened in headless Chromium, and what a script found there."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--hide-scrollbars", "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr", "--virtual-time-budget=5000",
)  # fmt: skip
_FOUND = re.compile(r'<pre id="found">(.*?)</pre>', re.DOTALL)
_FRAME = (
    "<!doctype html><body style='margin:0'><iframe id=page style='width:{width}px;height:2000px;border:0'></iframe>"
)


def found_in(folder: Path, text: str, script: str, *, address: str = "", width: int = 1440, dark: bool = False) -> dict:
    """What ``script`` puts into the object ``found``, after the page has drawn itself.

    The page lies in a frame, because a window is never narrower than 500 pixels.

    Args:
        folder: to write into.
        text: of the page.
        script: JavaScript with ``found`` and the frame's ``page`` (its window) and ``$`` (by id); may ``await``.
        address: from the hash sign on.
        width: of the frame, in pixels.
        dark: whether the system prefers dark.

    Returns:
        ``found``, with what the console said under ``console``; ``requests``: what was fetched.
    """
    hook = f"""<script>addEventListener("load", async () => {{
      const found = {{}}, page = window, $ = id => document.getElementById(id);
      try {{ {script} }} catch (error) {{ found.error = String(error.stack || error); }}
      found.requests = performance.getEntriesByType("resource").map(entry => entry.name);
      const pre = parent.document.createElement("pre");
      pre.id = "found";
      pre.textContent = JSON.stringify(found);
      parent.document.body.append(pre);
    }});</script>"""
    inner, outer = folder / "inner.html", folder / "outer.html"
    inner.write_text(text.replace("</body>", f"{hook}</body>"), encoding="utf-8")
    frame = _FRAME.format(width=width).replace("id=page", f"id=page src='inner.html{address}'")
    outer.write_text(frame, encoding="utf-8")
    flags = [*_FLAGS, "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [str(CHROMIUM), *flags, "--window-size=1500,2000", "--dump-dom", f"file://{outer}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    content = _FOUND.search(done.stdout)
    assert content, done.stderr[-2000:]
    console = [line.split("CONSOLE", 1)[1] for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(content[1])) | {"console": console}
