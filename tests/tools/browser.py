"""A browser that tests can talk to: headless Chromium, by the DevTools protocol over a pair of pipes.

Messages are JSON with a NUL behind each. Whatever the console of a page has to say of errors is kept.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.tools.server import program

PATIENCE = 60.0  # seconds for what a browser does at once, on a machine that is busy with something else
FLAGS = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking hide-scrollbars "
FLAGS += "disable-component-update disable-sync disable-dev-shm-usage remote-debugging-pipe"


class Browser:
    """One page in a browser of its own."""

    def __init__(self, profile: Path) -> None:
        self._session: str | None = None
        self._last = 0
        self._received = b""
        self._events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        name = program("chromium", "chromium-browser", "google-chrome")
        flags = " ".join(f"--{flag}" for flag in FLAGS.split())
        script = f'exec "$0" {flags} --user-data-dir="$1" 3<&{commands} 4>&{answers}'  # where Chromium looks for them
        self._process = subprocess.Popen(
            ["bash", "-c", script, name, str(profile)],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer)

    def wait(self, event: str) -> None:
        """Until `event` has come since the last one waited for."""
        while True:
            while self._events:
                if self._events.pop(0).get("method") == event:
                    return
            self._events.append(self._receive())

    def open(self, url: str) -> None:
        self._events.clear()
        self.call("Page.navigate", url=url)
        self.wait("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of `expression` in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, *keys: str) -> None:
        """Keys with a name (ArrowDown), or with a character."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def press_and_follow(self, key: str) -> None:
        """A key that leads to another page."""
        self._events.clear()
        self.press(key)
        self.wait("Page.loadEventFired")

    def follow(self, expression: str) -> None:
        """Evaluates what leads to another page."""
        self._events.clear()
        self.evaluate(expression)
        self.wait("Page.loadEventFired")

    def close(self) -> None:
        os.close(self._commands)
        os.close(self._answers)
        self._process.kill()
        self._process.wait(PATIENCE)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _receive(self) -> dict[str, Any]:
        """The next message, an answer or an event."""
        while b"\0" not in self._received:
            assert select.select([self._answers], [], [], PATIENCE)[0], "the browser is silent"
            data = os.read(self._answers, 1 << 20)
            assert data, "the browser is gone"
            self._received += data
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.errors.append(json.dumps(message["params"]))
        return message
