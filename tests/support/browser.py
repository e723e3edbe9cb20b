"""A page in headless Chromium, in a frame of any width: what it measures of itself, and what it says on its console."""

import json
import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PROBE = """
<script>
addEventListener("load", () => setTimeout(() => {
  const wide = document.documentElement.clientWidth, outside = [];
  for (const element of document.querySelectorAll("body *")) {
    const held = element.parentElement.closest(".box, pre, nav, svg") || element.closest(".skip, .hidden");
    if (!held && element.getBoundingClientRect().right > wide + 1)
      outside.push(element.tagName + "." + element.className);
  }
  const probe = { wide, scroll: document.documentElement.scrollWidth, outside: outside.slice(0, 5),
    loaded: performance.getEntriesByType("resource").map((entry) => entry.name),
    background: getComputedStyle(document.body).backgroundColor };
  PLAY
  parent.postMessage(JSON.stringify(probe), "*");
}, 50));
</script>
"""


def probe(page: Path, *, width: int, folder: Path, theme: str = "light", play: str = "") -> dict:
    """Open a copy of the page, run `play` in it (JavaScript that may add to `probe`), and return `probe`.

    probe["console"] holds what Chromium logged from pages; every host name fails to resolve.
    """
    copy = folder / f"probe-{width}-{theme}.html"
    copy.write_text(page.read_text("utf-8").replace("</body>", PROBE.replace("PLAY", play) + "</body>"), "utf-8")
    frame = folder / f"frame-{width}-{theme}.html"
    frame.write_text(
        "<!DOCTYPE html><meta charset=utf-8><body><script>addEventListener('message', (event) => {"
        "document.body.dataset.probe = encodeURIComponent(event.data); });</script>"
        f"<iframe style='border:0' width={width} height=1200 src='{copy.name}#theme={theme}'></iframe>",
        "utf-8",
    )
    done = _chromium(folder, f"--window-size={width + 50},1300", "--dump-dom", f"file://{frame}")
    data = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert data, done.stderr[-2000:]
    from urllib.parse import unquote

    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {**json.loads(unquote(data[1])), "console": console}


def _chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    assert CHROMIUM is not None
    named = (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "hide-scrollbars", "enable-logging=stderr",
        "virtual-time-budget=5000",
    )  # fmt: skip
    flags = [f"--{name}" for name in named]
    own = [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    return subprocess.run([CHROMIUM, *flags, *own, *arguments], capture_output=True, text=True, timeout=120)
