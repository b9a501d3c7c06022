"""Size, start to first answer, and first report of the single file beside the installed package, taking turns.

.venv/bin/python binary/measure.py
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "dist" / "storemon"
CANDIDATES = {"single file": [str(FILE)], "installed": [sys.executable, "-m", "storemon_flask"]}
ROUNDS = 7


def one(command: list[str], home: str) -> dict[str, float]:
    """Seconds: of `--version`; from a server's start to its first answer; from the trigger of its first report to all its bytes."""
    environ = {**{k: v for k, v in os.environ.items() if not k.startswith("STOREMON_")}, "STOREMON_HOME": home}
    environ["PYTHONUNBUFFERED"] = "1"
    began = time.monotonic()
    subprocess.run([*command, "--version"], check=True, stdout=subprocess.DEVNULL)
    version_s = time.monotonic() - began
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, "serve", "--port", "0"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
    urllib.request.urlopen(url + "/healthz").read()
    answer_s = time.monotonic() - began
    began = time.monotonic()
    where = urllib.request.urlopen(url + "/trigger_report", data=b"").headers["Location"]
    while urllib.request.urlopen(url + where).headers["X-Report-Status"] != "Complete":
        time.sleep(0.005)
    report_s = time.monotonic() - began
    process.send_signal(signal.SIGTERM)
    process.wait()
    return {"--version": version_s, "first answer": answer_s, "first report": report_s}


def main() -> None:
    """Print the medians."""
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "STOREMON_HOME": home}
        subprocess.run(
            [*CANDIDATES["installed"], "load-data", ROOT / "data" / "sample"],
            env=environ,
            check=True,
            capture_output=True,
        )
        for _ in range(ROUNDS):
            for name, command in CANDIDATES.items():
                for what, seconds in one(command, home).items():
                    found.setdefault((name, what), []).append(seconds)
    print(f"size {FILE.stat().st_size / 1e6:.1f} MB")
    for (name, what), all_s in found.items():
        print(f"{name:12} {what:13} {statistics.median(all_s):.2f} s ({min(all_s):.2f} to {max(all_s):.2f})")


if __name__ == "__main__":
    main()
