"""Page: the methods that the server's own pages respond to."""

from __future__ import annotations

import pytest

from kaserve import Request, Response
from kaserve.insight.page import Page
from tests.tools.hooks import respond


class Hello(Page):
    def render(self, request: Request) -> Response:
        return Response.text("hello")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_methods_that_read(method: str) -> None:
    assert Hello()(Request(method, "/", 1, [])).body == b"hello"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(method: str) -> None:
    response = respond(Hello(), Request(method, "/", 1, []))
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
