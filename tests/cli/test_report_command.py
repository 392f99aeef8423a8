"""`simtrain report`: looked at in a real browser."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Run

SECTIONS = ("answer", "time", "memory", "timeline", "front", "runners-up", "changes", "evidence", "run")
FIGURES = {"time": 1, "memory": 2, "timeline": 1, "front": 1}
BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
SMALL = ("llama-3-8b", "dgx-h100", "--gpus", "16", "--global-batch", "64", "--tokens", "1T")

OUTSIDE = """width => [...document.querySelectorAll('main, main *')]
    .filter(e => !e.parentElement.closest('.scroll, pre, svg') && e.getBoundingClientRect().right > width)
    .map(e => e.outerHTML.slice(0, 80))"""
"""What ends right of the window and does not scroll in a box of its own."""
BROKEN = """[...document.querySelectorAll('td')].filter(e => /^[$]?[0-9][0-9.,]* ?[^ ]*$/.test(e.innerText))
    .filter(e => { const r = document.createRange(); r.selectNodeContents(e); return r.getClientRects().length > 1; })
    .map(e => e.innerText)"""
"""Numbers and their units on two lines."""
COVERED = """[...document.querySelectorAll('.js-plotly-plot')].filter(e => {
    const title = e.querySelector('.xtitle'), legend = e.querySelector('.legend');
    return title && legend && title.getBoundingClientRect().bottom > legend.getBoundingClientRect().top;
}).map(e => e.id)"""
"""Figures whose legend lies over the title of the axis."""

pytest.importorskip("plotly")


@pytest.fixture
def page(run: Run, tmp_path: Path) -> Path:
    assert run("plan", *SMALL, "--out", "plan.json").code == 0
    assert run("report", "plan.json", "-o", "report.html").code == 0
    return tmp_path / "report.html"


@pytest.mark.parametrize("width", [400, 1400])
def test_in_a_browser(page: Path, width: int) -> None:
    """No complaint on the console, nothing fetched, every part drawn; nothing is cut off, broken or covered."""
    if not BROWSER:
        pytest.skip("there is no Chromium here (Debian: apt install chromium)")
    driver = pytest.importorskip("playwright.sync_api")
    said: list[str] = []
    fetched: list[str] = []
    with driver.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: fetched.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_selector("#front-figure .main-svg")
        drawn = tab.evaluate(
            "Object.fromEntries([...document.querySelectorAll('section')]"
            ".map(part => [part.id, part.querySelectorAll('.js-plotly-plot .main-svg:first-child').length]))"
        )
        wide = tab.evaluate("document.documentElement.scrollWidth")
        smallest = tab.evaluate(
            "Math.min(...[...document.querySelectorAll('p, td, code')]"
            ".map(part => parseFloat(getComputedStyle(part).fontSize)))"
        )
        figures = tab.evaluate(
            "[...document.querySelectorAll('.js-plotly-plot')].map(e => e.getBoundingClientRect().width)"
        )
        text = tab.inner_text("#answer")
        flaws = [tab.evaluate(OUTSIDE, width), tab.evaluate(BROKEN), tab.evaluate(COVERED)]
        browser.close()
    assert said == []
    assert fetched == [page.as_uri()]
    assert drawn == {name: FIGURES.get(name, 0) for name in SECTIONS}
    assert wide <= width
    assert flaws == [[], [], []]
    assert smallest >= 12
    assert all(0.6 * min(width, 1080) < figure <= width for figure in figures)
    assert "A step takes" in text


def test_says_what_the_plan_file_says(page: Path) -> None:
    text = page.read_text()
    document = json.loads((page.parent / "plan.json").read_text())
    for plan in document["plans"]:
        assert f"{plan['step_time_s']:.2f} s" in text
    assert "simtrain simulate plan.json --rank 1 --timeline" in text


def test_another_plan_of_the_file(run: Run, page: Path) -> None:
    assert run("report", "plan.json", "--rank", "2", "-o", "second.html").code == 0
    assert "--rank 2" in (page.parent / "second.html").read_text()


def changed(page: Path, **fields: Any) -> None:
    path = page.parent / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_wrong_input(run: Run, page: Path) -> None:
    assert "--rank = '9'" in run("report", "plan.json", "--rank", "9").err
    assert "would overwrite what is read" in run("report", "plan.json", "-o", "plan.json").err
    changed(page, pareto=7)
    assert "pareto: must be a list" in run("report", "plan.json").err
    changed(page, format_version=0)
    outcome = run("report", "plan.json", "-o", "old.html")
    assert outcome.code == 2
    assert "format_version = 0: this simtrain reads version 1" in outcome.err
    assert not (page.parent / "old.html").exists()


def test_without_plotly_the_page_is_refused_before_any_work(run: Run) -> None:
    """Where it is not installed at all: nothing may import it on the way."""
    assert run("plan", *SMALL, "--out", "plan.json").code == 0
    code = (
        "import sys, importlib.util; sys.modules['plotly'] = None; find = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name, *more: None if name == 'plotly' else find(name, *more);"
        "sys.argv = ['simtrain', 'report', 'plan.json']; from simtrain.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path.cwd(),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "simtrain[html]" in done.stderr
    assert "Traceback" not in done.stderr
