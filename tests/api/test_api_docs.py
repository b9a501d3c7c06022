"""docs/api.md: every curl on it, run by curl against a real server, with a key and without, answers what the page
shows.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, Server, storemon, wait_until
from flask import Flask

PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
BASE = "http://127.0.0.1:8000"
MASTER = "a-key-of-the-settings-that-allows-everything"
FIRST = "# nothing is loaded yet\n"
KEYED = "# with a key\n"
# What differs each time.
MASKS = (
    (r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", "ID"),
    (r"msg_[0-9a-f]{24}|whsec_[0-9A-Za-z+/=]{32}", "RANDOM"),
    (r'("duration_ms": ?)[0-9]+', r"\g<1>0"),
    (r'("(?:started|requested|finished|at|local|created)": ?)"[^"]+"', r'\1"WHEN"'),
    (r'("(?:tzdata|storemon)": ?)"[^"]+"', r'\1"VERSION"'),
    (r"is [0-9,]+ days old", "is N days old"),
    (r"http://127\.0\.0\.1:[0-9]+", BASE),
)


@dataclass(frozen=True)
class Example:
    """A script that ends in a curl, and the answer printed below it."""

    script: str
    answer: str


EXAMPLES = [Example(*found) for found in re.findall(r"```sh\n(.*?)\n```\n\n```http\n(.*?)\n```", PAGE, re.DOTALL)]


def masked(text: str) -> str:
    for pattern, shown in MASKS:
        text = re.sub(pattern, shown, text)
    return text


def words(value: str) -> str:
    """A list in a header, in one order."""
    return ", ".join(sorted(value.split(", ")))


def run(example: Example, server: Server, key: str, report_id: str) -> str:
    """The answer, headers first, to the script's curl. A key is added where the page is silent about it."""
    curl = ["command curl --silent --show-error --include --path-as-is --max-time 30"]
    if key and not example.script.startswith(KEYED):
        curl.append(f'-H "Authorization: Bearer {MASTER}"')
    script = f'curl() {{ {" ".join(curl)} "$@"; }}\n' + example.script.replace(BASE, server.url)
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=server.home,
        env={**os.environ, "ID": report_id, "KEY": key},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    # The answer counts, not the "100 Continue" that may come before it.
    return re.sub(r"\AHTTP/1\.1 100 [^\r]*\r\n\r\n", "", done.stdout.decode())


def compare(example: Example, printed: str) -> None:
    """Status, the headers that are shown, and the body."""
    head, _, body = masked(printed).partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    real = [line.partition(": ")[::2] for line in lines]
    shown_head, _, shown = masked(example.answer).partition("\n\n")
    shown_status, *shown_lines = shown_head.splitlines()
    assert status == shown_status, (example.script, printed)
    for line in shown_lines:
        name, _, value = line.partition(": ")
        found = [one for other, one in real if other.lower() == name.lower()]
        if name == "Allow":
            value, found = words(value), [words(one) for one in found]
        assert value in found, (example.script, name)
    if shown == "...":
        assert len(body) > 1000
    elif shown.startswith("{"):
        assert json.loads(body) == json.loads(shown), example.script
    else:
        assert body.rstrip("\n") == shown, example.script


def run_page(server: Server, key: str) -> int:
    """Run the page from top to bottom; how many curls that were."""
    ran, report_id = 0, ""
    for example in sorted(EXAMPLES, key=lambda one: not one.script.startswith(FIRST)):
        if example.script.startswith(KEYED) and not key:
            continue
        printed = run(example, server, key, report_id)
        compare(example, printed)
        ran += 1
        if "trigger_report" in example.script and not report_id and '"report_id"' in printed:
            report_id = re.findall('"report_id":"([0-9a-f]{32})"', printed)[0]
            wait_for(server, report_id, key)
    return ran


def wait_for(server: Server, report_id: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {MASTER}"} if key else {}
    path = f"/get_report?report_id={report_id}"
    wait_until(lambda: "X-Report-Status" in server.get(path, **headers).headers, "the report")


def test_every_curl_answers_as_printed(serve: Callable[..., Server]) -> None:
    ran = run_page(serve(), "")
    assert ran == len([one for one in EXAMPLES if not one.script.startswith(KEYED)]) > 30


def test_every_curl_answers_as_printed_with_a_key_too(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(STOREMON_API_KEY=MASTER)
    key = storemon(server.home, "keys", "add", "--scope", "write", STOREMON_API_KEY=MASTER).stdout.split()[-1]
    assert key.startswith("sm_")
    assert run_page(server, key) == len(EXAMPLES)


def test_every_curl_has_its_answer() -> None:
    assert len(EXAMPLES) == PAGE.count("```sh\n") == PAGE.count("```http\n") > 30
    assert not re.search(r"^@", PAGE, re.MULTILINE)


def test_every_route_is_on_the_page_with_a_curl(app: Flask) -> None:
    called = [example.script for example in EXAMPLES]
    for rule in app.url_map.iter_rules():
        # Pages for people are in docs/pages.md.
        if rule.endpoint == "static" or rule.endpoint.partition(".")[0] in (
            "now",
            "outages_page",
            "overview",
            "store",
            "alert_pages",
            "report_pages",
            "schedule_pages",
            "data_pages",
            "preview_pages",
            "token_pages",
        ):
            continue
        words = re.search(r"<any\(([^)]*)\):\w+>", rule.rule)
        for word in words[1].split(", ") if words else [""]:
            path = re.sub(r"<any\([^)]*\):\w+>", word, rule.rule)
            pattern = re.sub(r"<[^>]+>", "[^/?'\" ]+", path) + r"([?'\" \n]|$)"
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                spelled = rf"-X {method}" if method not in ("GET", "POST") else "curl"
                assert any(re.search(BASE + pattern, one) and spelled in one for one in called), f"{method} {path}"


@pytest.mark.parametrize("anchor", sorted(set(re.findall(r"\]\(#([^)]+)\)", PAGE))))
def test_links_within_the_page_lead_somewhere(anchor: str) -> None:
    titles = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    assert anchor in [re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles]
