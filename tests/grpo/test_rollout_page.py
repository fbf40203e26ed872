"""`adcopilot rollouts`: the page of a run."""

import json
import re
import shutil

import pytest
from PIL import Image

from adcopilot.cli import main
from adcopilot.errors import UserError
from adcopilot.grpo.rollout_page import curves, make_cards, write_page


def row(mode, step, task, totals, *, text="<think>x</think><answer>A</answer>", number=0):
    name = "choice" if task == "mc" else "boxes"
    asked = {"record": "r", "task": task, "images": ["t.png", "q.png"], "question": "<image><image>What is <b>it</b>?"}
    truth = {"truth": "A", "size": [60, 40], "boxes": [[5, 6, 25, 26]] if task == "loc" else []}
    completions = [
        {"text": text, "total": total, "advantage": 0.0, "rewards": {"format": 1.0, name: total - 1.0}}
        for total in totals
    ]
    when = {"key": f"{mode}-{step:06d}-{number:04d}", "mode": mode, "step": step}
    return {**when, **asked, **truth, "completions": completions}


@pytest.fixture
def run_dir(tmp_path):
    for name in ("t.png", "q.png"):
        Image.new("RGB", (60, 40), "white").save(tmp_path / name)
    located = '<think>x</think><answer>[{"bbox_2d": [10, 10, 30, 30], "label": "hole"}]</answer>'
    rows = [row("eval", 0, "mc", [1.0, 1.0])]
    rows += [row("train", step, "mc", [1.0, 2.0]) for step in range(6)]
    rows += [row("train", 5, "loc", [1.2, 1.5, 1.0], text=located, number=1), row("eval", 6, "mc", [2.0, 2.0])]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (tmp_path / "grpo.json").write_text(json.dumps({"settings": {"media_dir": str(tmp_path), "seed": 4}}))
    return tmp_path


def test_curves_are_means_by_step():
    rows = [row("train", 0, "mc", [1.0, 2.0]), row("train", 2, "loc", [1.5]), row("eval", 2, "mc", [2.0, 2.0])]
    found = curves(rows)
    assert list(found) == ["total", "boxes", "choice", "format"]
    told = [(line.name, line.faint, [(point.x, point.y) for point in line.points]) for line in found["total"]]
    assert told == [("held out", False, [(2, 2.0)]), ("training", True, [(0, 1.5), (2, 1.5)])]
    assert [line.points[-1].y for line in found["boxes"]] == [0.5]


def test_every_reward_has_its_chart(run_dir):
    assert main(["rollouts", str(run_dir)]) == 0
    page = (run_dir / "rollouts.html").read_text()
    charts = re.findall(r'<svg [^>]*class="chart"[^>]* aria-label="([^"]*)"', page)
    assert [label.split(". ")[0] for label in charts] == ["total", "boxes", "choice", "format"]
    assert "held out: 0: 1.00, 6: 2.00" in charts[0]
    assert 'prefers-color-scheme:dark){.chart [fill="' in page
    assert "held out: 2.000 at the end; training: 1.340 at the end" in page


def test_a_task_of_any_name_has_its_card(run_dir):
    [card] = make_cards([row("train", 0, "count", [1.0])], samples=1, seed=0, media_dir=run_dir, budget=1 << 20)
    assert (card.task, len(card.pictures)) == ("count", 2)


def test_cards_show_the_best_completion_and_its_boxes(run_dir):
    rows = [json.loads(line) for line in (run_dir / "rollouts.jsonl").read_text().splitlines()]
    cards = make_cards(rows, samples=100, seed=0, media_dir=run_dir, budget=1 << 20)
    assert len(cards) == len(rows)
    [card] = [card for card in cards if card.task == "localisation"]
    assert [one["total"] for one in card.completions] == [1.5, 1.2, 1.0]
    assert card.mean == pytest.approx(3.7 / 3)
    query = card.pictures[-1]
    assert [(box.x, box.y, box.width, box.height, box.told) for box in query.boxes] == [
        (5, 6, 20, 20, False),
        (10, 10, 20, 20, True),
    ]
    few = make_cards(rows, samples=3, seed=0, media_dir=run_dir, budget=1 << 20)
    assert len({(card.mode, card.task, card.part) for card in few}) == 3  # each kind has its place


def test_the_page_stands_alone_and_escapes(run_dir):
    assert main(["rollouts", str(run_dir)]) == 0
    page = (run_dir / "rollouts.html").read_text()
    assert "<b>it</b>" not in page
    assert "&lt;b&gt;it&lt;/b&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/png;base64,") >= 2
    again = run_dir / "again.html"
    write_page(run=run_dir, output=again, media_dir=None, samples=60, seed=0, budget=16 << 20)
    assert again.read_text() == page


def test_one_line_for_what_is_no_run(tmp_path, run_dir):
    settings = {"media_dir": None, "samples": 5, "seed": 0, "budget": 1 << 20}
    with pytest.raises(UserError, match="give the output_dir"):
        write_page(run=tmp_path / "none", output=tmp_path / "x.html", **settings)
    (run_dir / "rollouts.jsonl").write_text('{"mode": "train"}\n')
    with pytest.raises(UserError, match="a line is not as `adcopilot grpo` writes it"):
        write_page(run=run_dir, output=tmp_path / "x.html", **settings)
    (run_dir / "rollouts.jsonl").write_text("")
    with pytest.raises(UserError, match="has no rollouts yet"):
        write_page(run=run_dir, output=tmp_path / "x.html", **settings)


@pytest.mark.browser
def test_in_a_browser(run_dir, tmp_path):
    if shutil.which("chromium") is None:
        pytest.skip("needs chromium")
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    from tests.webui.serving import browser

    assert main(["rollouts", str(run_dir)]) == 0
    with browser(tmp_path / "profile") as driver:
        driver.get(f"file://{run_dir / 'rollouts.html'}")
        assert "9 of 9 shown" in driver.find_element(By.ID, "shown").text
        Select(driver.find_element(By.ID, "by-task")).select_by_visible_text("localisation")
        assert "1 of 9 shown" in driver.find_element(By.ID, "shown").text
        card = next(one for one in driver.find_elements(By.CLASS_NAME, "card") if one.is_displayed())
        assert len(card.find_elements(By.CSS_SELECTOR, "rect.box")) == 2
        assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        driver.set_window_size(500, 900)
        width = driver.execute_script("return document.documentElement.scrollWidth - innerWidth")
        assert width <= 0
