"""Pictures of every page, in light, dark and on a phone, for the README and docs/pages.md: `make screenshots`.

The sample data in a home of its own, a real server, the system's Chromium. To add a page: a line in PAGES.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
STOREMON = [sys.executable, "-m", "storemon_flask"]
# A store of the sample with outages, measured and unknown time.
STORE = "03a8d396-bb73-431e-b05d-d30f31af22ea"

# Name of the picture, address; `{report}` is the id of a finished report.
PAGES = (
    ("now", "/"),
    ("store", f"/stores/{STORE}"),
    ("reports", "/reports"),
    ("report", "/reports/{report}"),
    ("data", "/data"),
    ("docs", "/docs"),
)
LOOKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("light", {"viewport": {"width": 1200, "height": 740}, "color_scheme": "light"}),
    ("dark", {"viewport": {"width": 1200, "height": 740}, "color_scheme": "dark"}),
    ("phone", {"viewport": {"width": 360, "height": 780}, "color_scheme": "light", "has_touch": True}),
)
MOST_BYTES = 200_000


def main() -> None:
    """Make every picture anew."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here: install the package chromium")
    with tempfile.TemporaryDirectory() as home:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("STOREMON_")}
        environ |= {"STOREMON_HOME": home, "PYTHONUNBUFFERED": "1"}
        subprocess.run([*STOREMON, "load-data", str(ROOT / "storemon_flask" / "sample")], env=environ, check=True)
        server = subprocess.Popen([*STOREMON, "serve", "--port", "0"], env=environ, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            url = next(word for word in server.stdout.readline().split() if word.startswith("http://"))
            report = _report(url)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                for look, options in LOOKS:
                    page = browser.new_page(base_url=url, **options)
                    for name, address in PAGES:
                        _picture(page, address.format(report=report), IMAGES / f"page-{name}-{look}.png")
                    page.close()
                browser.close()
        finally:
            server.terminate()
            server.wait(30)


def _report(url: str) -> str:
    """The id of a full report, finished."""
    request = urllib.request.Request(url + "/trigger_report", data=b'{"columns": "full"}')
    with urllib.request.urlopen(request, timeout=30) as answer:
        report: str = json.load(answer)["report_id"]
    for _ in range(600):
        with urllib.request.urlopen(f"{url}/api/v1/reports/{report}", timeout=30) as answer:
            if json.load(answer)["status"] == "Complete":
                return report
        time.sleep(0.1)
    sys.exit("the report was not finished within a minute")


def _picture(page: Page, address: str, file: Path) -> None:
    answer = page.goto(address)
    assert answer is not None
    assert answer.ok, (address, answer.status)
    page.screenshot(path=file)
    size = file.stat().st_size
    print(f"{file.relative_to(ROOT)}  {size:,} bytes")
    assert size < MOST_BYTES, file


if __name__ == "__main__":
    main()
