"""What opens from the main screen, on which plan, and what comes back from it."""

from __future__ import annotations

from dataclasses import replace

from textual import on
from textual.events import Paste
from textual.screen import Screen

from planner.answer import MODELLED_VENDORS
from planner.errors import PlannerError
from planner.request import Parallelism, PlanRequest
from tui.app.board import Board
from tui.app.child import Child
from tui.app.desk import Desk
from tui.app.rows import GpuRow
from tui.app.widgets.gpu_table import GpuTable
from tui.app.widgets.knob_list import KnobList
from tui.command_line import command_line

HUB = "https://huggingface.co/"


class Doors(Screen[None]):
    """The actions that open another screen. Each is imported when it is first opened."""

    desk: Desk
    board: Board | None = None

    def show_request(self, request: PlanRequest) -> bool:
        """Plan and draw ``request``; False where it was refused."""
        raise NotImplementedError

    def show_title(self) -> None:
        """Draw the line on top."""
        raise NotImplementedError

    def refuse(self, error: PlannerError) -> None:
        """Say in place why something is not done."""
        raise NotImplementedError

    def _take(self, request: PlanRequest | None) -> None:
        """What a screen came back with."""
        if request is not None:
            self.show_request(request)

    def on_paste(self, event: Paste) -> None:
        """What is pasted beside a line to type in is a model to look for."""
        pasted = event.text.strip().splitlines()
        if pasted:
            self._pick_model(pasted[0].removeprefix(HUB))

    @on(KnobList.PickModel)
    def action_pick_model(self) -> None:
        self._pick_model("")

    def _pick_model(self, query: str) -> None:
        from tui.app.screens.model_picker import ModelPicker

        def take(name: str | None) -> None:
            if name:
                self.show_request(replace(self.desk.request, model=name))

        self.app.push_screen(ModelPicker(query), take)

    @on(GpuTable.Chosen)
    def _chosen(self, event: GpuTable.Chosen) -> None:
        from tui.app.screens.detail import DetailScreen

        self.app.push_screen(DetailScreen(event.row))

    def action_pin(self) -> None:
        row = self.query_one(GpuTable).selected
        if row is not None:
            self.notify(f"Pinned as {self.desk.pin(row).name}: {row.name}. c compares.")

    def action_compare(self) -> None:
        if self.desk.pins:
            from tui.app.screens.compare import CompareScreen

            self.app.push_screen(CompareScreen(self.desk))
        else:
            self.notify("Nothing is pinned yet: p pins the selected plan.", severity="warning")

    def action_what_if(self) -> None:
        from tui.app.screens.what_if import WhatIfScreen

        row = self.query_one(GpuTable).selected
        if row is None:
            return

        def row_of(request: PlanRequest) -> GpuRow:
            return self.desk.row_on(request, row)

        self.app.push_screen(WhatIfScreen(self.desk.request, row.name, self.query_one(KnobList).current, row_of))

    def action_pareto(self) -> None:
        from tui.app.screens.pareto import ParetoScreen

        self.app.push_screen(ParetoScreen(self.query_one(GpuTable).rows))

    def action_run(self) -> None:
        from tui.app.screens.run import RunScreen

        def start(command: str) -> Child:
            return self.start_child(command_line(self._on_selected(), ("plan", command)))

        self.app.push_screen(RunScreen(self.desk.child, start, self.desk.local.words))

    def start_child(self, arguments: tuple[str, ...]) -> Child:
        """Run a ``plan`` command beside the app; its end is told wherever the user is by then."""
        child = self.desk.child = Child(arguments)
        self.app.run_worker(self._attend(child), group="child")
        return child

    async def _attend(self, child: Child) -> None:
        self.show_title()
        await child.run()
        self.show_title()
        if child.watcher is None:
            self.notify("r shows what it said", title=child.state)

    def _on_selected(self) -> PlanRequest:
        """The request placed on the selected GPU, in the count and spread the table shows."""
        row = self.query_one(GpuTable).selected
        if row is None or row.placement is None or row.here:
            return self.desk.request
        hardware = replace(self.desk.request.hardware, gpus=(row.gpu_id,))
        return replace(self.desk.request, hardware=hardware, parallelism=row.placement.parallelism)

    def action_advice(self) -> None:
        from planner.remedies import advise_on
        from tui.app.screens.advice import AdviceScreen

        row = self.query_one(GpuTable).selected
        if row is None or self.board is None:
            return
        if row.vendor not in MODELLED_VENDORS:
            self.notify(f"{row.name} {row.candidate.why_not}.", severity="warning")
            return
        spread = row.placement.parallelism if row.placement else self.desk.request.parallelism or Parallelism()
        try:
            found = advise_on(self.desk.request, self.board.model, spread, row.candidate.gpu)
        except PlannerError as error:
            self.refuse(error)
            return

        self.app.push_screen(AdviceScreen(self.desk.request, row.placed, found), self._take)

    def action_history(self) -> None:
        from tui.app.screens.history import HistoryScreen

        self.app.push_screen(HistoryScreen())

    def action_export(self) -> None:
        from tui.app.screens.export import ExportScreen

        self.app.push_screen(ExportScreen(self._on_selected()))

    def action_save(self) -> None:
        from tui.app.screens.files import FileScreen

        self.app.push_screen(FileScreen(self.desk.request))

    def action_open(self) -> None:
        from tui.app.screens.files import FileScreen

        self.app.push_screen(FileScreen(None), self._take)
