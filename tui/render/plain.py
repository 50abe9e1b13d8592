"""A plan as plain text for pipes and logs."""

from __future__ import annotations

from planner.plan import Plan
from tui.render import sheet
from tui.render.columns import columns


def render(plan: Plan, *, explain: bool = False) -> str:
    """The answer, question by question; ``explain`` adds every term with its formula, values and source."""
    lines = [sheet.title(plan)]
    for block in sheet.blocks(plan):
        lines += ["", block.heading]
        lines += [f"  {line}" for line in columns(block.facts)]
        if block.fits:
            lines += [f"  {line}" for line in columns((block.columns, *block.fits), right=block.numbers)]
        for advised in block.advised:
            lines += ["", f"  {advised.heading}", *(f"    {line}" for line in columns(advised.rows))]
        if explain:
            for terms in block.explained:
                lines += [
                    "",
                    f"  {terms.heading}",
                    *(f"    {line}" for line in columns(terms.rows, right=sheet.TERM_NUMBERS)),
                ]
                lines += [f"    {source}" for source in terms.sources]
    return "\n".join(lines)
