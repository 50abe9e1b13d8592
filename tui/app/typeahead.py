"""One key at a time: what is typed ahead waits until everything the keys before it set off has happened.

textual hands a key to the widget that has the focus when it arrives, and lets it travel to the bindings through a
queue per widget. Keys that arrive together would meet the focus and the request as they were before the first of
them: a letter typed after ``m`` would miss the search that it opens.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TypeVar

from textual.app import App
from textual.events import Event, Key, MouseDown, MouseUp, Paste
from textual.message_pump import MessagePump

Result = TypeVar("Result")

MOST_ROUNDS = 20
"""A screen that never comes to rest, such as one a child writes to, does not hold the keys longer."""
ASK_EVERY_S = 0.1
"""How often a widget that does not answer is asked whether it is still there."""


class TypeAheadApp(App[Result]):
    """An app that takes up keys, pastes and clicks in their order, each on the screen its predecessors left."""

    def __init__(self) -> None:
        super().__init__()
        self._typed: deque[Event] = deque()
        self._is_typing = False

    async def on_event(self, event: Event) -> None:
        if not isinstance(event, Key | Paste | MouseDown | MouseUp) or event.is_forwarded:
            await super().on_event(event)
            return
        self._typed.append(event)
        if not self._is_typing:
            self._is_typing = True
            self.run_worker(self._take_up(), group="typing")

    async def _take_up(self) -> None:
        """Give the waiting keys to the app one by one."""
        try:
            while self._typed:
                await self.at_rest()
                await super().on_event(self._typed.popleft())
        finally:
            self._is_typing = False

    async def at_rest(self) -> None:
        """Return once no message is on its way from the focus to the app, and the top screen is mounted."""
        for _ in range(MOST_ROUNDS):
            way = self._way_of_a_key()
            for pump in way:
                await _passed(pump)
            if way == self._way_of_a_key() and not any(pump.message_queue_size for pump in way):
                return

    def _way_of_a_key(self) -> list[MessagePump]:
        """From the focused widget, or the screen where nothing has the focus, up to the app."""
        start = self.focused or self.screen
        return [node for node in start.ancestors_with_self if isinstance(node, MessagePump)]


async def _passed(pump: MessagePump) -> None:
    """Return once ``pump`` has handled what waits in its queue and what that left to be called next."""
    passed = asyncio.Event()
    if not pump.call_later(pump.call_next, passed.set):
        return
    while not passed.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(passed.wait(), ASK_EVERY_S)
        if not pump.is_running:
            return
