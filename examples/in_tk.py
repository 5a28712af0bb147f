"""kaserve in a Tk program: Tk's event loop waits for the server's descriptor and its deadlines.

python examples/in_tk.py [PORT], until its window is closed. Needs a Tk that can wait for descriptors: not Windows.
"""

from __future__ import annotations

import math
import sys
import tkinter
from typing import Any

from kaserve import Config, Request, Response, Server


class ServerRunner:
    """Runs `server`, which is open, on the event loop of `tk` until it has stopped."""

    def __init__(self, tk: tkinter.Tk, server: Server) -> None:
        self._tk = tk
        self._server = server
        self._timer: str | None = None
        tk.createfilehandler(server.fileno(), tkinter.READABLE, self._turn)
        self._turn()

    def _turn(self, *_: Any) -> None:
        server = self._server
        server.step()
        if self._timer is not None:
            self._tk.after_cancel(self._timer)
            self._timer = None
        timeout = server.timeout()
        if server.stopped:
            self._tk.deletefilehandler(server.fileno())
            server.close()
        elif timeout is not None:
            self._timer = self._tk.after(math.ceil(timeout * 1000), self._turn)


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    tk = tkinter.Tk()
    text = tkinter.StringVar(tk, "no request yet")
    tkinter.Label(tk, textvariable=text).pack()

    def handler(request: Request) -> Response:
        text.set(f"a request for {request.path}")
        return Response.text("it is in the window\n")

    server = Server(handler, Config(port=port))
    server.open()
    server.on_stop = lambda: tk.after_idle(tk.destroy)
    tk.protocol("WM_DELETE_WINDOW", lambda: server.shutdown(1.0))
    ServerRunner(tk, server)
    print(f"at {server.url} until the window is closed", flush=True)
    tk.mainloop()


if __name__ == "__main__":
    main()
