"""The hooks of a handler, called as a connection calls them."""

from __future__ import annotations

from concurrent.futures import Future

from kaserve.http.errors import HTTPError
from kaserve.http.handler import BaseHandler
from kaserve.http.messages import Request, Response, error_response
from kaserve.http.sinks import Sink, Spool, drain_or_reject

__all__ = ["open_sink", "respond"]


def open_sink(handler: BaseHandler, request: Request) -> Sink:
    """Where the body of `request` goes. Raises HTTPError if the response does not wait for it."""
    try:
        handler.before_body(request)
        return handler.body_sink(request) or Spool()
    except HTTPError as error:
        return drain_or_reject(request, error)


def respond(handler: BaseHandler, request: Request) -> Response:
    """The response of `handler` to `request`, as the client gets it: Futures are waited for, errors are rendered."""
    try:
        result = handler(request)
        while isinstance(result, Future):
            result = result.result(20)
    except HTTPError as error:
        return error_response(error)
    assert isinstance(result, Response)
    return result
