"""Lists as text: aligned in a pipe, fitted to a terminal, exact as CSV."""

from __future__ import annotations

import csv
import io

import pytest

from tui.render.listing import Column, Listing, render

LISTING = Listing(
    title="GPUs [all]",
    columns=(
        Column(title="GPU"),
        Column(title="memory", right=True),
        Column(title="release", optional=True),
        Column(title="notes", optional=True),
        Column(title="USD/h", right=True),
    ),
    rows=(
        (
            "H100 SXM5 80GB",
            "79.65 GiB",
            "2022-10",
            "a long remark, with a comma and quite some words in it",
            "2.40",
        ),
        ("T4", "15.00 GiB", "2018-09", "", "0.75"),
    ),
    notes=("~ unverified",),
)


def test_plain_text_is_aligned_and_complete() -> None:
    lines = render(LISTING, "plain").splitlines()
    assert lines[0] == "GPUs [all]"
    assert lines[-1] == "~ unverified"
    ends = {line.index(value) + len(value) for line, value in zip(lines[2:4], ("2.40", "0.75"), strict=True)}
    assert len(ends) == 1, "numbers end in one column"


def test_csv_round_trips() -> None:
    rows = list(csv.reader(io.StringIO(render(LISTING, "csv"))))
    assert tuple(rows[0]) == tuple(column.title for column in LISTING.columns)
    assert [tuple(row) for row in rows[1:]] == list(LISTING.rows)


@pytest.mark.parametrize("width", [40, 50, 80, 200])
def test_a_terminal_shows_whole_numbers_at_any_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = render(LISTING, "rich")
    assert all(len(line) <= width for line in text.splitlines())
    for whole in ("H100 SXM5 80GB", "79.65 GiB", "2.40", "GPUs [all]"):
        assert whole in text
    assert ("notes" in text.split("no room for")[0]) == (width >= 80)
    assert ("no room for" in text) == (width < 80)


def test_an_empty_list_is_its_titles() -> None:
    empty = Listing(columns=LISTING.columns, rows=())
    assert render(empty, "plain").split() == ["GPU", "memory", "release", "notes", "USD/h"]
    assert render(empty, "rich")
