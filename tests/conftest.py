"""What the tests share: a real ComfyUI with the pack in it, a browser, and the rule that CI skips nothing."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

import comfy_server
import looks
from comfy_server import ComfyServer
from tools import chromium, environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from transformers import PreTrainedTokenizerFast

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def no_skip_on_ci(report: Report) -> Report:
    """On CI a skipped test is a failed one: whatever it lacks has to be installed there."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.longrepr = f"Skipped, and CI must not skip anything: {report.longrepr}"
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return no_skip_on_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return no_skip_on_ci((yield))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also exhaustive tests, and browser tests in all looks")


def look_of(item: pytest.Item) -> looks.Look | None:
    """Return the look of ComfyUI's page that a test is run in, if it opens one in a certain look."""
    given = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    return next((each for each in given if isinstance(each, looks.Look)), None)


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out exhaustive tests, and all but one look of a file's browser tests, unless `--all` or a test is named."""
    if config.getoption("--all") or any("::" in argument for argument in config.args):
        return
    written: dict[str, list[looks.Look]] = {}  # the looks that a test is written for, by its name without parameters
    for item in items:
        if look := look_of(item):
            written.setdefault(item.nodeid.partition("[")[0], []).append(look)

    def wanted(item: pytest.Item) -> bool:
        look, both = look_of(item), item.get_closest_marker("both_looks") is not None
        if look and look not in looks.chosen(item.path.name, written[item.nodeid.partition("[")[0]], both):
            return False
        return item.get_closest_marker("exhaustive") is None

    left_out = [item for item in items if not wanted(item)]
    items[:] = [item for item in items if wanted(item)]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(tryfirst=True)  # before pytest selects by markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that take the fixtures below, and move the files that take longest to the front.

    Where files are distributed, the last ones then end at about the same time.
    """
    select(config, items)
    tiers = ("slow", "comfy", "browser")
    ranks: dict[Path, int] = {}
    for item in items:
        for name in tiers[1:]:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(name)
        rank = max((tiers.index(mark.name) + 1 for mark in item.iter_markers() if mark.name in tiers), default=0)
        ranks[item.path] = max(ranks.get(item.path, 0), rank)
    items.sort(key=lambda item: -ranks[item.path])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep tests from starting ComfyUI that are not marked so: they would run in the fast tier."""
    comfy_server.may_start = item.get_closest_marker("comfy") is not None


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A real ComfyUI with the pack in it, one for the whole session."""
    if not environment.is_ready():
        pytest.fail("ComfyUI is not set up: run the tests with `python run.py test`.", pytrace=False)
    with ComfyServer(tmp_path_factory.mktemp("comfy")) as server:
        server.wait_ready()
        server.request("/settings/M2Chat.Start", b'""')  # else every new browser would open a template
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium, one for the whole session.

    While it is open, playwright keeps an event loop running in this thread, so that `asyncio.run` refuses to.
    """
    from playwright.sync_api import sync_playwright

    path = chromium.find()
    if path is None:
        pytest.skip(chromium.MISSING)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=chromium.ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module", params=looks.ALL, ids=str)
def look(request: pytest.FixtureRequest) -> looks.Look:
    """A front end and a way of drawing nodes; see looks.py for those in which a test runs."""
    return request.param


@pytest.fixture(scope="module")
def look_page(comfy: ComfyServer, browser: Browser, look: looks.Look) -> Iterator[Page]:
    """ComfyUI's page in that look, 1280 by 720, one for all tests of a module."""
    page = look.open(browser, comfy.url)
    yield page
    page.close()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the starter's kind, trained on a few stories."""
    from m3adapter.training.language_data import story_texts, train_tokenizer

    return train_tokenizer(story_texts(150, 0), 600)
