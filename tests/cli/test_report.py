from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest

from planner.plan import Plan, plan_requests
from planner.quantity import Tier
from planner.request import PlanRequest, TrainingWorkload
from planner.units import format_bytes
from tui.cli import run
from tui.render import report_html, report_markdown
from tui.render.report import report
from tui.render.report_chart import phases_chart

DAY = date(2026, 11, 20)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_requests([PlanRequest(model="llama-8b", workload=TrainingWorkload(method="lora"))])


class Tags(HTMLParser):
    """Every tag with its attributes, and whether tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(plan: Plan) -> None:
    page = report_html.render(report(plan, DAY))
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    names = {tag for tag, _ in tags.seen}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert all("src" not in attributes for _, attributes in tags.seen)
    assert "@import" not in page
    assert "url(" not in page
    links = [attributes["href"] for tag, attributes in tags.seen if tag == "a"]
    assert links
    assert all(str(link).startswith("https://") for link in links)


@pytest.mark.parametrize("kind", ["html", "md"])
def test_every_term_price_date_and_assumption_is_told(plan: Plan, kind: str) -> None:
    whole = report(plan, DAY)
    text = report_html.render(whole) if kind == "html" else report_markdown.render(whole)
    (estimate,) = (item for item in plan.estimates if item.tier is Tier.ANALYTIC)
    for term in estimate.terms:
        if term.size_bytes:
            assert format_bytes(term.size_bytes) in text
    for fit in plan.fits:
        if fit.offer is not None and fit.offer.as_of is not None:
            assert fit.offer.as_of.isoformat() in text
    for word in ("2026-11-20", "seq_len", "gradient_checkpointing", "plan --model llama-8b"):
        assert word in text


def test_a_hostile_name_stays_text(plan: Plan) -> None:
    assert plan.model is not None
    whole = report(plan, DAY)

    hostile = replace(whole, title="<script>alert(1)</script>|", notes=("a <b> | c",))
    assert "<script>" not in report_html.render(hostile)
    assert "<b>" not in report_html.render(hostile)


def test_the_bars_of_a_chart_are_proportional_to_the_phases(plan: Plan) -> None:
    (estimate,) = (item for item in plan.estimates if item.tier is Tier.ANALYTIC)
    assert estimate.breakdown is not None
    root = ET.fromstring(phases_chart(estimate))
    by_row: dict[str, float] = {}
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        if rect.find("{http://www.w3.org/2000/svg}title") is not None:
            by_row[rect.attrib["y"]] = by_row.get(rect.attrib["y"], 0.0) + float(rect.attrib["width"])
    sizes = [phase.size_bytes(estimate.quantity) for phase in estimate.breakdown.phases]
    widths = list(by_row.values())
    assert len(widths) == len(sizes)
    for width, size in zip(widths, sizes, strict=True):
        assert width / max(widths) == pytest.approx(size / max(sizes), abs=0.01)


def test_the_option_writes_the_page_beside_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "answer.html"
    assert run(["--model", "llama-8b", "--method", "lora", "--report", str(page)]) == 0
    assert re.match("<!doctype html>", page.read_text())
    assert "RTX" in capsys.readouterr().out
    assert run(["--model", "llama-8b", "--method", "lora", "--report", "answer.pdf"]) == 2
    assert run(["--model", "llama-8b", "--method", "lora", "--report", str(tmp_path / "no" / "a.md")]) == 2
