"""``plan tui --web`` in a real browser: the app arrives, answers to keys, needs no network, leaves no process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, WebSocket, sync_playwright

from tests.tui.terminal import ROOT, children_of, is_running

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_S = 60.0

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads child processes from /proc"),
]
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")


def until(holds: Callable[[], bool], what: str, wait: Callable[[float], object] = time.sleep) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        wait(0.05)


class Served:
    """A running ``plan tui --web`` on a free port of loopback."""

    def __init__(self, home: Path, *args: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tui.cli", "tui", *args, "--web", "--port", str(self.port)],
            cwd=home, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        until(self._answers, "the server")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.process.stdout and self.process.stdout.read().decode()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    @property
    def apps(self) -> list[int]:
        return children_of(self.process.pid)

    def end(self, sign: signal.Signals) -> None:
        self.process.send_signal(sign)
        self.process.wait(timeout=PATIENCE_S)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path, "--model", "mistralai/Mistral-7B-v0.3", "--method", "qlora")
    yield server
    apps = server.apps
    server.process.kill()
    server.process.wait(timeout=PATIENCE_S)
    for app in apps:
        if is_running(app):
            os.kill(app, signal.SIGKILL)


class Visit:
    """What a page of the app asked for, was sent, and how to wait for it."""

    def __init__(self, page: Page, port: int) -> None:
        self.page = page
        self.addresses: list[str] = []
        self._received: list[bytes] = []
        page.on("request", lambda request: self.addresses.append(request.url))
        self.errors: list[object] = []
        page.on("pageerror", lambda error: self.errors.append(error))
        page.on("websocket", self._listen)
        self.empty = page.screenshot()
        page.goto(f"http://127.0.0.1:{port}/")

    def _listen(self, opened: WebSocket) -> None:
        self.addresses.append(opened.url)
        opened.on("framereceived", lambda data: self._received.append(_as_bytes(data)))

    def text(self) -> str:
        """Everything the app drew so far, without colours and cursor movements."""
        return _CONTROL.sub("", b"".join(self._received).decode(errors="replace"))

    def until_drawn(self, text: str) -> None:
        until(
            lambda: text in self.text(), f"{text!r} from the app", lambda s: self.page.wait_for_timeout(s * 1000)
        )

    def forget(self) -> None:
        self._received.clear()


def _as_bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


@pytest.fixture
def visit(served: Served) -> Iterator[Visit]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        yield Visit(page, served.port)
        browser.close()


def test_the_app_is_drawn_answers_to_keys_and_ends_with_its_page(
    served: Served, visit: Visit, tmp_path: Path
) -> None:
    visit.until_drawn("GPUs hold it")
    visit.until_drawn("--model mistralai/Mistral-7B-v0.3 --task train --method qlora")
    visit.page.wait_for_selector("body.-first-byte canvas")

    visit.forget()
    visit.page.keyboard.press("t")
    visit.until_drawn("--task serve")

    picture = tmp_path / "app.png"
    visit.page.screenshot(path=picture)
    drawn = picture.read_bytes()
    assert drawn.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", drawn[16:24]) == (1280, 800)
    assert len(drawn) > 3 * len(visit.empty), "hardly more than an empty page"

    assert {urlsplit(address).hostname for address in visit.addresses} == {"127.0.0.1"}
    assert visit.errors == []

    (app,) = served.apps
    visit.page.close()
    until(lambda: not is_running(app), "the app to end with its page")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_no_app_outlives_the_server(served: Served, visit: Visit, sign: signal.Signals) -> None:
    visit.until_drawn("GPUs hold it")
    (app,) = served.apps
    served.end(sign)
    until(lambda: not is_running(app), "the app to end with the server")


def test_pages_of_other_sites_cannot_drive_the_app(served: Served, visit: Visit) -> None:
    """A page elsewhere may open a socket to this machine; it is refused before an app starts."""
    visit.until_drawn("GPUs hold it")
    before = served.apps
    visit.page.goto("data:text/html,<h1>elsewhere</h1>")
    refused = visit.page.evaluate(
        """port => new Promise(resolve => {
            const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`);
            socket.onopen = () => resolve(false);
            socket.onerror = () => resolve(true);
        })""",
        served.port,
    )
    assert refused
    until(lambda: not any(map(is_running, before)), "the left page's app to end")
    assert not any(map(is_running, served.apps))


def test_a_port_in_use_is_told_in_one_line(served: Served, tmp_path: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "tui.cli", "tui", "--web", "--port", str(served.port)],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert second.returncode == 4
    assert "cannot be listened on" in second.stderr.splitlines()[-1]
    assert "Traceback" not in second.stderr
