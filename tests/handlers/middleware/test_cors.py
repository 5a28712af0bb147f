"""CORS preflights: what scripts of other origins are allowed."""

from __future__ import annotations

import pytest

from kaserve.handlers.middleware.cors import CORSPreflight
from kaserve.http.messages import Response
from tests.tools.files import parse


class TestPreflight:
    """The Fetch standard, §4.8."""

    handler = staticmethod(CORSPreflight(lambda request: Response(418)))

    def ask(self, *lines: str) -> Response:
        response = self.handler(parse("/a", "OPTIONS", "Origin: http://other", *lines))
        assert isinstance(response, Response)
        return response

    def test_the_response_allows_reading(self) -> None:
        response = self.ask("Access-Control-Request-Method: GET", "Access-Control-Request-Headers: a, range")
        assert response.status == 204
        headers = response.headers
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
        assert headers["access-control-allow-headers"] == "a, range"
        assert int(headers["access-control-max-age"]) > 0

    @pytest.mark.parametrize("asked", ["", "a b", "caf\xe9", "a,,b", "\xff"])
    def test_malformed_names_of_headers_become_a_wildcard(self, asked: str) -> None:
        response = self.ask("Access-Control-Request-Method: GET", f"Access-Control-Request-Headers: {asked}")
        assert response.headers["access-control-allow-headers"] == "*"

    def test_other_requests_reach_the_handler(self) -> None:
        assert self.ask().status == 418
        get = self.handler(parse("/a", "GET", "Access-Control-Request-Method: GET"))
        assert isinstance(get, Response)
        assert get.status == 418
