"""The documentation names what there is, links to what exists, and prints answers that are true."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from flask import Flask

from storemon_flask import create_app, settings
from storemon_flask.feeds import load, sources
from storemon_flask.feeds.schema import FEEDS
from storemon_flask.reports.csv import FULL_COLUMNS
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.server import commands

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text("utf-8")
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "data" / "README.md", *(ROOT / "docs").rglob("*.md")])
IMAGES = sorted((ROOT / "docs" / "images").glob("*.svg"))


def _app(home: Path) -> Flask:
    return create_app(settings.load({"STOREMON_HOME": str(home)}), InlineExecutor())


@pytest.fixture(scope="module")
def sample_app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    app = _app(tmp_path_factory.mktemp("sample"))
    runner = app.extensions["storemon"]
    # Past the sample's newest poll, and before the polls it has from the future on purpose.
    load.load_sources(
        runner.database,
        sources.find_sources([ROOT / "storemon_flask" / "sample"]),
        load.LoadOptions(1_729_000_000_000_000, runner.settings.max_clock_skew_us),
    )
    return app


@pytest.mark.parametrize("setting", settings.SETTINGS, ids=lambda setting: setting.name)
def test_a_page_lists_every_setting_with_its_default_and_unit(setting: settings.Setting) -> None:
    assert f"| `{setting.name}` | `{setting.default}` | {setting.unit} | {setting.help}" in SETTINGS_PAGE


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/settings.md",
        "docs/operations.md",
        "docs/deploy.md",
        "docs/monitoring.md",
        "docs/streams.md",
        "docs/import.md",
        "docs/alerts.md",
    ],
)
def test_no_page_names_a_setting_that_is_not_there(page: str) -> None:
    known = {setting.name for setting in settings.SETTINGS} | {"STOREMON_HOME"}
    assert set(re.findall(r"\bSTOREMON_[A-Z_]+", (ROOT / page).read_text("utf-8"))) <= known


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_readme_lists_every_command(command) -> None:
    rows = [line for line in README.splitlines() if re.match(rf"\| `{command.name}[ `]", line)]
    assert len(rows) == 1
    for option in command.params:
        assert not option.opts[-1].startswith("--") or any(name in README for name in option.opts), option.opts


@pytest.mark.parametrize(
    "text", ["python wsgi.py", "flask --app storemon_flask load-data", "storemon report -o report.csv"]
)
def test_readme_says_how_else_to_run_it(text: str) -> None:
    assert text in README


def test_only_make_targets_that_exist_are_named_and_all_that_matter() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    contributing = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    in_readme, in_contributing = (
        set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE)) for text in (README, contributing)
    )
    assert in_readme | in_contributing <= targets
    assert {"demo", "run", "test"} <= in_readme
    assert {"test", "test-slow", "check", "bench", "screenshots", "binary"} <= in_contributing


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("place", ["data/README.md", "storemon_flask/pages/templates/first_run.html"])
def test_every_feed_is_named_with_its_columns(place: str, feed: str) -> None:
    lines = [line for line in (ROOT / place).read_text("utf-8").splitlines() if feed in line]
    needed = [column.name for column in FEEDS[feed] if column.name != "valid_from"]
    assert any(all(column in line for column in needed) for line in lines), lines


def test_every_column_is_explained() -> None:
    for column in FULL_COLUMNS:
        short = re.sub(r"last_(hour|day|week)$", "...", column)
        assert f"`{column}`" in README or f"`{short}`" in README, column


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_images_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_pictures_are_whole_used_and_fetch_nothing(image: Path) -> None:
    text = image.read_text("utf-8")
    root = ElementTree.fromstring(text)
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    # Names of name spaces, of the document type and of its metadata are not fetched, nor is drawn text that is an
    # address.
    markup = re.sub(r">[^<>]*</text>", "></text>", text)
    markup = re.sub(r"<!DOCTYPE[^>]*>|(?s:<metadata>.*</metadata>)|xmlns(:\w+)?=\"[^\"]*\"", "", markup)
    assert not re.search(r"https?://|@import|url\((?!#)|<script|href=\"(?!#)", markup)
    assert any(f"images/{image.name})" in page.read_text("utf-8") for page in PAGES)


def test_the_picture_of_the_demo_shows_the_report_of_the_sample(sample_app: Flask) -> None:
    client = sample_app.test_client()
    real = client.get(client.post("/trigger_report").headers["Location"], buffered=True).text.splitlines()[1:11]
    root = ElementTree.fromstring((ROOT / "docs" / "images" / "demo.svg").read_text("utf-8"))
    lines: dict[str, list[str]] = {}
    for piece in root.iter("{http://www.w3.org/2000/svg}text"):
        lines.setdefault(piece.attrib["y"], []).append(piece.text or "")
    drawn = [",".join(cells) for cells in lines.values()]
    for row in real:
        assert row in drawn


def test_the_worked_example_gives_the_numbers_on_the_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-it-counts.md").read_text("utf-8")
    files = re.findall(r"printf '(.+)' > (data/\w+\.csv)", page)
    assert len(files) == 3
    (tmp_path / "data").mkdir()
    for text, name in files:
        (tmp_path / name).write_text(text.replace("\\n", "\n"))
    app = _app(tmp_path)
    found = sources.find_sources([tmp_path / "data"])
    database = app.extensions["storemon"].database
    load.load_sources(database, found, load.LoadOptions(1_729_000_000_000_000, 0))
    client = app.test_client()
    at = client.post("/trigger_report", data='{"as_of": "2023-01-23T12:00Z", "columns": "full"}').headers["Location"]
    (row,) = client.get(f"{at}&format=json", buffered=True).json["rows"]
    database.close()
    printed = dict(re.findall(r"`(\w+_last_day)` (?:is )?([0-9.]+)", page))
    assert len(printed) == 3
    assert {name: row[name] for name in printed} == {name: float(value) for name, value in printed.items()}
    assert (row["uptime_low_last_day"], row["uptime_high_last_day"], row["unknown_last_day"]) == (0, 3, 0)
    assert (row["downtime_last_hour"], row["measured_last_hour"]) == (60, 15)
