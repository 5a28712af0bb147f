"""Server-sent events: a page on which everybody sees at once what anybody says. One thread serves all streams.

python examples/events.py [PORT], until Ctrl-C.

A stream is a response whose body is an iterator. While there is no event, the iterator returns a Future, so that a
stream that waits costs a connection and no thread. Browsers read it with EventSource, which connects again by itself if
the connection breaks, and then says with `Last-Event-ID` which event it saw last.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future

from kaserve import Config, HTTPError, Request, Response, Server

HEARTBEAT = 15.0  # seconds; proxies close a connection on which nothing moves for 60 or so
KEPT_EVENTS = 100  # for clients that connect again
MAX_TEXT = 1000  # characters

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Events</title>
<link rel="icon" href="data:,">
<style>body { font: 1rem/1.5 system-ui; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }</style>
<h1>Events</h1>
<form><input name="text" aria-label="Text" autocomplete="off" autofocus> <button>Say</button></form>
<p id="state">connecting</p>
<ul id="said"></ul>
<script>
const state = document.querySelector("#state");
const source = new EventSource("events");
source.onopen = () => { state.textContent = "connected"; };
source.onerror = () => { state.textContent = "connecting again"; };
source.onmessage = (event) => {
  const item = document.createElement("li");
  item.textContent = event.data;
  document.querySelector("#said").prepend(item);
};
document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  fetch("say", { method: "POST", body: new URLSearchParams(new FormData(event.target)) });
  event.target.reset();
};
</script>
"""


def format_event(number: int, text: str) -> bytes:
    """Returns an event as it is sent (the HTML standard, section 9.2.6): a line `data` for each line of the text."""
    data = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"id: {number}\n{data}\n".encode()


class Feed:
    """Events for any number of streams. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[tuple[int, bytes]] = deque(maxlen=KEPT_EVENTS)
        self._last = 0
        self._waiting: list[Future[bytes]] = []
        self.closed = False
        self.streams = 0

    def publish(self, text: str) -> None:
        """Sends an event to all streams."""
        with self._lock:
            self._last += 1
            self._events.append((self._last, format_event(self._last, text)))
        self._wake(b"")

    def send_heartbeat(self) -> None:
        """Sends a comment, which clients ignore, to all streams that wait."""
        self._wake(b": heartbeat\n\n")

    def close(self) -> None:
        """Ends all streams."""
        self.closed = True
        self._wake(b"")

    def _wake(self, piece: bytes) -> None:
        """Completes the Futures of the streams that wait. After the piece, which may be empty, the server asks each
        stream for the next one, and gets the events."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():  # False if its client has left
                future.set_result(piece)

    def next_events(self, seen: int) -> tuple[int, bytes | Future[bytes]]:
        """Returns the number of the last event, and all events after the event `seen`, or a Future if there is none."""
        with self._lock:
            if self._last > seen:
                return self._last, b"".join(event for number, event in self._events if number > seen)
            future: Future[bytes] = Future()
            self._waiting.append(future)
            return seen, future


class Stream(Iterator["bytes | Future[bytes]"]):
    """The body of a response: all events of a feed after the event `seen`."""

    def __init__(self, feed: Feed, seen: int) -> None:
        self._feed = feed
        self._seen = seen
        self._greeted = False
        feed.streams += 1

    def __next__(self) -> bytes | Future[bytes]:
        if self._feed.closed:
            raise StopIteration
        if not self._greeted:
            self._greeted = True
            return b"retry: 2000\n\n"  # milliseconds until a client connects again; also tells it that it is connected
        self._seen, piece = self._feed.next_events(self._seen)
        return piece

    def close(self) -> None:
        """Called by the server when the stream has ended, in every case."""
        self._feed.streams -= 1


class Handler:
    """The page, its stream, and what it sends."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __call__(self, request: Request) -> Response:
        if request.path == "/":
            return Response.html(PAGE)
        if request.path == "/events":
            return self._stream(request)
        if request.path == "/say" and request.method == "POST":
            return self._say(request)
        if request.path == "/threads":
            return Response.json({"streams": self._feed.streams, "threads": threading.active_count()})
        raise HTTPError(404, "there is nothing here")

    def _stream(self, request: Request) -> Response:
        last = request.headers.get("Last-Event-ID", "")
        seen = int(last) if last.isascii() and last.isdigit() and len(last) < 16 else 0
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        return Response(200, Stream(self._feed, seen), headers)

    def _say(self, request: Request) -> Response:
        text = request.form(max_size=10 * MAX_TEXT).get("text", "").strip()
        if not 0 < len(text) <= MAX_TEXT:
            raise HTTPError(400, f"text must have 1 to {MAX_TEXT} characters")
        self._feed.publish(text)
        return Response(204)


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    feed = Feed()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the program as Ctrl-C does
    with Server(Handler(feed), Config(port=port)) as server:  # one thread, however many streams there are
        try:
            print(f"at {server.url} until Ctrl-C", flush=True)
            while True:
                time.sleep(HEARTBEAT)
                feed.send_heartbeat()
        except KeyboardInterrupt:
            feed.close()  # or the streams would keep the server from stopping at once


if __name__ == "__main__":
    main()
