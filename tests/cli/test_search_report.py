"""``plan search --report``: plans, dated prices, cost against time, and the winner's own answer on one page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tui.cli import run

JOB = ("search", "--model", "llama-3.1-8b", "--method", "qlora", "--tokens", "50M", "--top", "4")


def page(tmp_path: Path, *args: str, suffix: str = "html", code: int = 0) -> str:
    path = tmp_path / f"answer.{suffix}"
    assert run([*JOB, *args, "--report", str(path)]) == code
    return path.read_text()


def test_the_page_shows_cost_against_time_and_where_each_price_is_from(tmp_path: Path) -> None:
    text = page(tmp_path)
    chart = next(svg for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL) if "Cost against time" in svg)
    drawn = ET.fromstring(chart)
    line = next(element for element in drawn if element.tag.endswith("polyline"))
    corners = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert len(corners) > 1
    times, heights = zip(*corners, strict=True)
    assert list(times) == sorted(times, reverse=True), "dearer plans of the front are faster"
    assert list(heights) == sorted(heights, reverse=True), "and stand higher"
    assert re.search(r"\d{4}-\d\d-\d\d \(\d+ days\)", text)
    assert "The best plan: " in text
    assert "Memory by phase" in text
    assert "<script" not in text


def test_a_budget_nothing_meets_is_explained_on_the_page_too(tmp_path: Path) -> None:
    text = page(tmp_path, "--max-usd", "0.10", suffix="md", code=1)
    assert re.search(r"nearest miss by price: .* over the budget", text)
    assert "The best plan" not in text


def test_serving_is_drawn_by_rent_and_time_per_token(tmp_path: Path) -> None:
    path = tmp_path / "serve.html"
    asked = ("search", "--model", "llama-3.1-8b", "--task", "serve", "--engine", "vllm", "--min-concurrency", "8")
    assert run([*asked, "--report", str(path)]) == 0
    assert "s per token" in path.read_text()


def test_another_suffix_is_refused_before_the_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*JOB, "--report", str(tmp_path / "answer.pdf")]) == 2
    assert ".html or .md" in capsys.readouterr().err
