"""The frameworks' own tests that are driven over the wire: which, how many must pass, and which cannot, with reasons.

Facts about the versions in sdists.txt, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Reasons for which a test cannot pass over a wire, or not over this one.
_CONTEXT = "asserts what the context holds that the test itself has pushed; the server's thread does not share it"
_LATE_BODY = "reads the body of a request that is over"
_STATUS = "ends with a status that is not one of a final answer (RFC 9110 §15)"
_DATE = "asserts that there is no Date or no Content-Length (RFC 9110 §6.6.1, §8.6)"
_STR = "its application yields str, where PEP 3333 has bytestrings"
_ENVIRON = "calls the application with an environ that no server makes"
_FORWARDED = "a peer that is no proxy, and what a proxy says: the wire has only one field for both"
_VERSION = "sends HTTP/1.0, which h11 does not"
_KEYBOARD = "raises KeyboardInterrupt in the reactor's thread, which it ends, as Ctrl-C does"


@dataclass(frozen=True)
class Suite:
    """Tests of one framework.

    sdist: where they are; directory: within it, from where they run; tests: what of it is run, within the directory.
    exceptions: reasons, and the tests that are left out for them; on_reactor: those left out only there.
    passing: tests that must pass at least; wired: those of them that have sent something; requests: that were sent.
    """

    sdist: str
    tests: tuple[str, ...]
    passing: int
    wired: int
    requests: int
    directory: str = ""
    ignored: tuple[str, ...] = ()
    exceptions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    on_reactor: dict[str, tuple[str, ...]] = field(default_factory=dict)


FLASK = Suite(
    "flask-3.1.3",
    ("tests",),
    passing=425,
    wired=230,
    requests=438,
    ignored=("tests/test_cli.py",),  # of the command line, which has no client
    exceptions={
        _CONTEXT: (
            "tests/test_appctx.py::test_app_tearing_down_with_handled_exception_by_app_handler",
            "tests/test_appctx.py::test_app_tearing_down_with_unhandled_exception",
        ),
        _LATE_BODY: ("tests/test_testing.py::test_full_url_request",),
    },
    on_reactor={_KEYBOARD: ("tests/test_basic.py::test_baseexception_error_handling",)},
)

FLASKR = Suite("flask-3.1.3", ("tests",), passing=24, wired=21, requests=39, directory="examples/tutorial")

WERKZEUG = Suite(
    "werkzeug-3.1.9",
    (
        # Those with a client.
        "tests/middleware",
        "tests/test_formparser.py",
        "tests/test_test.py",
        "tests/test_utils.py",
        "tests/test_wrappers.py",
        "tests/test_wsgi.py",
    ),
    passing=242,
    wired=72,
    requests=147,
    ignored=("tests/middleware/test_http_proxy.py",),  # against Werkzeug's own server
    exceptions={
        _STATUS: ("tests/middleware/test_lint.py::test_lint_middleware_invalid_status",),
        _ENVIRON: (
            "tests/middleware/test_lint.py::test_lint_middleware_check_environ",
            "tests/test_test.py::test_follow_redirect_non_root_base_url",
            "tests/test_utils.py::test_append_slash_redirect[False-foo-http://example.org/app-http://example.org/app/foo/]",
            "tests/test_utils.py::test_append_slash_redirect[True-foo-http://example.org/app-http://example.org/app/foo/]",
        ),
        _FORWARDED: (
            "tests/middleware/test_proxy_fix.py::test_proxy_fix[for]",
            "tests/middleware/test_proxy_fix.py::test_proxy_fix[all]",
            "tests/middleware/test_proxy_fix.py::test_proxy_fix[multiple for]",
            "tests/middleware/test_proxy_fix.py::test_proxy_fix[ignore len < trusted]",
            "tests/middleware/test_proxy_fix.py::test_proxy_fix[ignore untrusted]",
            "tests/middleware/test_proxy_fix.py::test_proxy_fix[ignore empty]",
            "tests/middleware/test_proxy_fix.py::test_proxy_fix[prefix < for]",
        ),
        _STR: (
            "tests/test_test.py::test_path_info_script_name_unquoting",
            "tests/test_test.py::test_run_wsgi_apps",
            "tests/test_test.py::test_run_wsgi_app_closing_iterator",
            "tests/test_wrappers.py::test_type_forcing",
            "tests/test_wsgi.py::test_closing_iterator",
        ),
        _DATE: (
            "tests/test_test.py::test_lazy_start_response_empty_response_app",
            "tests/test_test.py::test_no_content_type_header_addition",
        ),
    },
)

BOTTLE = Suite(
    "bottle-0.13.4",
    ("test",),
    passing=366,
    wired=85,
    requests=180,
    exceptions={
        _VERSION: ("test/test_wsgi.py::TestWsgi::test_303",),
        _STATUS: (
            "test/test_wsgi.py::TestErrorHandling::test_error_routing",
            "test/test_wsgi.py::TestDecorators::test_truncate_body",
        ),
    },
)
