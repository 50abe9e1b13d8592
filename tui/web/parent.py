"""The app process behind a page lives no longer than the server that started it."""

from __future__ import annotations

import os
import signal
import threading
import time

LOOK_EVERY_S = 0.5


def end_with_parent() -> None:
    """End this process in the ordinary way once the process that started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()
