"""MLflow in a real browser: which arm wins is seen from the link that ``coablate ui`` prints."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_study import make_plan
from playwright.sync_api import Page, sync_playwright

from coablate_platform.study.plan import PlannedArm, PlannedContrast
from coablate_platform.tracking.follower import track

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # SQLAlchemy, within MLflow
]
ACCURACY = {"MMTM": (0.90, 0.91, 0.89), "+DSFM": (0.92, 0.93, 0.925), "+DSFM+MFFM": (0.96, 0.965, 0.95)}


def arm(name, **changed):
    config = {"model": {"fusion": "mmtm", "mffm": False} | changed}
    difference = {f"model.{field}": value for field, value in changed.items()}
    return PlannedArm(name=name, difference=difference, config=config, parameters=1000, flops=2000)


@pytest.fixture
def study(journal, train):
    arms = (arm("MMTM"), arm("+DSFM", fusion="dsfm"), arm("+DSFM+MFFM", fusion="dsfm", mffm=True))
    dsfm = PlannedContrast(name="DSFM", weights={"+DSFM": 1.0, "MMTM": -1.0})
    plan = make_plan(*arms, seeds=3, title="Modules", data={"test": 288}, contrasts=(dsfm,), contributions=True)
    journal.write_plan(plan)
    for run in plan.runs:
        train(run, ACCURACY[run.arm][run.seed])
    assert track(journal.folder.uri, None, None) == 0
    return plan


@pytest.fixture
def address(study, journal, free_port, tmp_path):
    """The link that ``coablate ui`` prints, while its server runs."""
    command = [sys.executable, "-m", "coablate_platform", "ui", journal.folder.uri, "--port", str(free_port)]
    log = tmp_path / "ui.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, text=True, start_new_session=True)
    try:
        line = process.stdout.readline()
        assert line.startswith(f"{study.key}: http://127.0.0.1:{free_port}/#/"), log.read_text()
        while "Application startup complete" not in log.read_text():
            assert process.poll() is None, log.read_text()
        yield line.split()[-1]
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)
        process.stdout.close()


@pytest.fixture
def page():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1800, "height": 1000})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def arms_shown(page: Page) -> list[str]:
    """Return the runs of the table from top to bottom."""
    page.locator(".ag-row").get_by_text("MMTM", exact=True).first.wait_for()
    rows = page.locator(".ag-center-cols-container .ag-row, .ag-pinned-left-cols-container .ag-row")
    found = {}
    for row in rows.all():
        if name := re.search(r"MMTM|\+DSFM\+MFFM|\+DSFM", row.inner_text()):
            found.setdefault(int(row.get_attribute("row-index")), name[0])
    return [found[place] for place in sorted(found)]


def test_which_arm_wins_is_seen_from_the_link_and_in_a_comparison(address, page, tmp_path: Path):
    page.goto(address)
    assert arms_shown(page) == ["+DSFM+MFFM", "+DSFM", "MMTM"], "sorted by effect, without training runs"
    head = page.locator(".ag-header").inner_text()
    assert all(name in head for name in ("accuracy", "effect", "ci_low", "ci_high", "p_holm")), head
    page.get_by_test_id("sort-header-accuracy").click()
    page.wait_for_url(re.compile("orderByKey=metrics.%60accuracy%60"))
    page.goto("about:blank")  # the table is drawn anew after sorting, without what was chosen
    page.goto(address)
    arms_shown(page)
    page.locator(".ag-header input[type=checkbox]").first.click(force=True)
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url(re.compile("compare-runs"))
    page.get_by_text("Parallel Coordinates Plot").wait_for()
    compared = page.locator("main, #root").first.inner_text()
    assert re.search(r"Parameters:\s*model\.fusion\s*model\.mffm\s*Metrics:\s*accuracy", compared), compared[:800]
    page.screenshot(path=str(tmp_path / "compare.png"))


def test_the_study_s_description_holds_the_table_and_the_link(address, page):
    page.goto(address.replace("&viewStateShareKey=", "&ignored="))
    page.get_by_role("link", name="fusion-0a1b2c", exact=True).first.click()
    link = page.get_by_role("link", name="The arms, the best effect first")
    link.wait_for()
    page.get_by_text("Show more").first.click()
    assert "What each component adds" in page.locator("#root").inner_text()
    with page.context.expect_page() as opened:  # MLflow opens the links of a description in a tab of their own
        link.click()
    assert arms_shown(opened.value) == ["+DSFM+MFFM", "+DSFM", "MMTM"]
