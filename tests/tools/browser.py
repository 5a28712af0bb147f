"""A browser for tests: headless Chromium, driven by the DevTools protocol over a pair of pipes.

Messages are JSON, each with a NUL after it. Errors on the console of a page are collected.
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

PATIENCE = 60.0  # seconds to wait for a browser that needs milliseconds, on a machine that is busy otherwise
FLAGS = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking hide-scrollbars "
FLAGS += "disable-component-update disable-sync disable-dev-shm-usage remote-debugging-pipe"


class Browser:
    """One page, in a browser process of its own.

    Attributes:
        errors: what the console and uncaught exceptions have reported, as JSON.
        requests: the URLs of all that the page has loaded, or tried to.
    """

    def __init__(self, profile: Path) -> None:
        self._session: str | None = None
        self._last_id = 0
        self._received = b""
        self._events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.requests: list[str] = []
        commands, self._commands = os.pipe()
        self._messages, messages = os.pipe()
        name = program("chromium", "chromium-browser", "google-chrome")
        flags = " ".join(f"--{flag}" for flag in FLAGS.split())
        script = f'exec "$0" {flags} --user-data-dir="$1" 3<&{commands} 4>&{messages}'  # Chromium reads 3, writes 4
        self._process = subprocess.Popen(
            ["bash", "-c", script, name, str(profile)],
            pass_fds=(commands, messages),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(messages)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Sends a command, and returns its result."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._receive()
            if reply.get("id") == self._last_id:
                assert "error" not in reply, reply
                return reply["result"]
            self._events.append(reply)

    def wait(self, event: str) -> None:
        """Waits for an `event`, which may have arrived since the last wait."""
        while True:
            while self._events:
                if self._events.pop(0).get("method") == event:
                    return
            self._events.append(self._receive())

    def open(self, url: str) -> None:
        """Opens `url`, and waits until it has loaded."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        self.wait("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Returns the value of a JavaScript `expression` in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, *keys: str) -> None:
        """Presses keys, given by their name (ArrowDown) or their character."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def press_and_follow(self, key: str) -> None:
        """Presses a key that leads to another page, and waits until that has loaded."""
        self._events.clear()
        self.press(key)
        self.wait("Page.loadEventFired")

    def follow(self, expression: str) -> None:
        """Evaluates an expression that leads to another page, and waits until that has loaded."""
        self._events.clear()
        self.evaluate(expression)
        self.wait("Page.loadEventFired")

    def close(self) -> None:
        """Ends the browser."""
        os.close(self._commands)
        os.close(self._messages)
        self._process.kill()
        self._process.wait(PATIENCE)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _receive(self) -> dict[str, Any]:
        """Returns the next message: a reply or an event."""
        while b"\0" not in self._received:
            assert select.select([self._messages], [], [], PATIENCE)[0], "the browser sends nothing"
            data = os.read(self._messages, 1 << 20)
            assert data, "the browser has ended"
            self._received += data
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.errors.append(json.dumps(message["params"]))
        elif message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        return message
