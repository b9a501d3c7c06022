"""Size, start to first answer, first page and first report of the single file beside the installed package, taking
turns; and what the installed one spends on imports.

.venv/bin/python binary/measure.py
"""

import os
import re
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
# Somebody opens a page so long after the start.
PAUSE_S = 2.0


def environment(home: str) -> dict[str, str]:
    """The caller's, without settings of storemon, and as an installed package has it: with compiled modules."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("STOREMON_") and k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "STOREMON_HOME": home, "PYTHONUNBUFFERED": "1"}


def one(command: list[str], home: str) -> dict[str, float]:
    """Seconds: of `--version`; from a server's start to its first answer; of the first page; from the trigger of the
    first report to all its bytes."""
    environ = environment(home)
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
    time.sleep(PAUSE_S)
    began = time.monotonic()
    urllib.request.urlopen(url + "/").read()
    page_s = time.monotonic() - began
    began = time.monotonic()
    where = urllib.request.urlopen(url + "/trigger_report", data=b"").headers["Location"]
    while urllib.request.urlopen(url + where).headers["X-Report-Status"] != "Complete":
        time.sleep(0.005)
    report_s = time.monotonic() - began
    process.send_signal(signal.SIGTERM)
    process.wait()
    return {"--version": version_s, "first answer": answer_s, "first page": page_s, "first report": report_s}


def imports(home: str, *arguments: str) -> tuple[int, float, bool]:
    """How many modules such a start of the installed package imports, their seconds by -X importtime, and whether
    pandas is one.
    """
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "storemon_flask", *arguments],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    told = re.findall(r"^import time: +(\d+) \|.*\| +(\S+)$", process.communicate()[1], re.MULTILINE)
    return len(told), sum(int(us) for us, _ in told) / 1e6, "pandas" in {name for _, name in told}


def main() -> None:
    """Print the medians."""
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(
            [*CANDIDATES["installed"], "load-data", ROOT / "storemon_flask" / "sample"],
            env=environment(home),
            check=True,
            capture_output=True,
        )
        for _ in range(ROUNDS):
            for name, command in CANDIDATES.items():
                for what, seconds in one(command, home).items():
                    found.setdefault((name, what), []).append(seconds)
        taken = {
            words: [imports(home, *words.split()) for _ in range(ROUNDS)] for words in ("--help", "serve --port 0")
        }
    print(f"size {FILE.stat().st_size / 1e6:.1f} MB")
    for (name, what), all_s in found.items():
        print(f"{name:12} {what:13} {statistics.median(all_s):.2f} s ({min(all_s):.2f} to {max(all_s):.2f})")
    for words, rounds in taken.items():
        imported_s = statistics.median(seconds for _, seconds, _ in rounds)
        print(f"installed    {words}: {rounds[0][0]} modules, {imported_s:.2f} s, pandas among them: {rounds[0][2]}")


if __name__ == "__main__":
    main()
