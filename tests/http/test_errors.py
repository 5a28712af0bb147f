"""Errors: how those are worded that depend on a setting."""

from __future__ import annotations

import pytest

from kaserve.http.errors import HTTPError, body_too_large
from kaserve.http.headers import Fields, Headers
from kaserve.http.messages import error_response


@pytest.mark.parametrize(
    ("limit", "size"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1500, "1,500 bytes"),
        (1024, "1 KiB (1,024 bytes)"),
        (10 << 20, "10 MiB (10,485,760 bytes)"),
        (1 << 30, "1 GiB (1,073,741,824 bytes)"),
        (5000 << 40, "5000 TiB (5,497,558,138,880,000 bytes)"),
    ],
)
def test_a_413_names_the_limit(limit: int, size: str) -> None:
    """RFC 9110 §15.5.14."""
    error = body_too_large(limit)
    assert (error.status, error.reason) == (413, f"the body is larger than {size}, which is the limit here")


@pytest.mark.parametrize(
    "headers",
    [{"Allow": "GET"}, (("Allow", "GET"),), [("Allow", "GET")], Headers({"Allow": "GET"}), iter([("Allow", "GET")])],
    ids=["mapping", "tuple", "list", "Headers", "iterator"],
)
def test_headers_may_be_what_those_of_a_response_may_be(headers: Fields) -> None:
    error = HTTPError(405, "only GET", headers)
    assert error.headers == (("Allow", "GET"),)
    assert error_response(error).headers["Allow"] == "GET"


def test_further_headers_may_be_a_mapping_as_well() -> None:
    error = HTTPError(405, "only GET", {"Allow": "GET"}, close=True).with_headers({"Vary": "Accept"})
    assert error.headers == (("Allow", "GET"), ("Vary", "Accept"))
    assert error.close


@pytest.mark.parametrize("headers", ["Allow", ("Allow", "GET"), ["ab"], {"Allow": 1}, [("Allow",)], 5, None])
def test_headers_of_a_wrong_type_are_a_type_error_where_the_error_is_made(headers: Fields) -> None:
    """Rather than a 500 when the response is made, whose traceback has no line of the handler."""
    with pytest.raises(TypeError, match="the headers of an HTTPError must be a mapping"):
        HTTPError(405, "only GET", headers)
    with pytest.raises(TypeError, match="the headers of an HTTPError must be a mapping"):
        HTTPError(405, "only GET").with_headers(headers)


@pytest.mark.parametrize(("status", "reason"), [("405", "only GET"), (405, b"only GET"), (405, None)])
def test_a_status_or_reason_of_a_wrong_type_is_a_type_error_as_well(status: int, reason: str) -> None:
    with pytest.raises(TypeError, match="of an HTTPError must be"):
        HTTPError(status, reason)
