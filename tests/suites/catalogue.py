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
_JOINED = "asserts chunks where kaserve sends one piece: what comes at once leaves as one, with a Content-Length"
_HOST = "sends a Host that is none (RFC 9112 §3.2), which never reaches the application"
_TRIMMED = "sends a field value with whitespace around it, which is not part of it (RFC 9110 §5.5)"
_ANOTHER_LENGTH = "sends a Content-Length that is wrong, and more or less than that follows"
_500 = "asserts the empty body of the test client's own 500"
_PUSH = "an HTTP/2 extension that the test client accepts in silence"
_BROKEN = "asserts a complete response after an exception in its middle, which is a reset here (RFC 9112 §8)"
_ROOT = "fails for root, who may read every directory"
_PACKAGE = "looks for its files in the package `tests`, which is ours as well"
_CLI = "asserts what fastapi says without its command line, which is for another environment"
_KEYBOARD = "raises KeyboardInterrupt in the reactor's thread, which it ends, as Ctrl-C does"


@dataclass(frozen=True)
class Suite:
    """Tests of one framework.

    sdist: where they are; directory: within it, from where they run; tests: what of it is run, within the directory.
    plugin: puts the wire into it; site: the directory with what it needs.
    exceptions: reasons, and the tests that are left out for them; on_reactor: those left out only there.
    passing: tests that must pass at least; wired: those of them that have sent something; requests: that were sent.
    """

    sdist: str
    tests: tuple[str, ...]
    passing: int
    wired: int
    requests: int
    directory: str = ""
    plugin: str = "tests.suites.plugin"
    site: str = "site"
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

STARLETTE = Suite(
    "starlette-1.10.0",
    ("tests",),
    passing=680,
    wired=410,
    requests=580,
    plugin="tests.suites.asgi_plugin",
    site="asgi-site",
    ignored=("tests/test_testclient.py",),  # of the client that the wire takes the place of
    exceptions={
        _ANOTHER_LENGTH: (
            "tests/middleware/test_body_limit.py::test_received_bytes_are_counted_with_unreliable_content_length",
        ),
        _JOINED: (
            "tests/middleware/test_gzip.py::test_gzip_ignored_for_responses_with_encoding_set",
            "tests/middleware/test_gzip.py::test_gzip_ignored_on_server_sent_events",
            "tests/middleware/test_gzip.py::test_gzip_streaming_response",
            "tests/middleware/test_gzip.py::test_gzip_streaming_response_emits_output_per_chunk",
            "tests/middleware/test_gzip.py::test_gzip_streaming_response_identity",
        ),
        _HOST: (
            "tests/middleware/test_https_redirect.py::test_https_redirect_middleware",
            "tests/middleware/test_https_redirect.py::test_https_redirect_middleware_without_server[asyncio-[:::]]",
            "tests/middleware/test_https_redirect.py::test_https_redirect_middleware_without_server[asyncio-testserver:65536]",
            "tests/middleware/test_trusted_host.py::test_trusted_host_middleware_ipv6[asyncio-api_service:000080-200]",
            "tests/middleware/test_trusted_host.py::test_trusted_host_middleware_ipv6[asyncio-api_service:100000-200]",
            "tests/middleware/test_trusted_host.py::test_trusted_host_middleware_ipv6[asyncio-api_service:65536-200]",
            "tests/test_routing.py::test_host_routing_ignores_port[asyncio-api.example.org:000080]",
            "tests/test_routing.py::test_host_routing_ignores_port[asyncio-api.example.org:100000]",
            "tests/test_routing.py::test_host_routing_ignores_port[asyncio-api.example.org:65536]",
            "tests/test_routing.py::test_host_routing_rejects_invalid_hosts[asyncio-[:::]]",
            "tests/test_routing.py::test_host_routing_rejects_invalid_hosts[asyncio-api.example.org:evil]",
        ),
        _CONTEXT: ("tests/test_concurrency.py::test_accessing_context_from_threaded_sync_endpoint",),
        _500: ("tests/test_exceptions.py::test_force_500_response",),
        _TRIMMED: (
            "tests/test_requests.py::test_cookies_invalid[asyncio-  =  b  ;  ;  =  ;   c  =  ;  -expected4]",
            "tests/test_staticfiles.py::test_staticfiles_304_with_if_none_match_wildcard[asyncio- \\t* \\t-GET]",
            "tests/test_staticfiles.py::test_staticfiles_304_with_if_none_match_wildcard[asyncio- \\t* \\t-HEAD]",
        ),
        _PUSH: ("tests/test_requests.py::test_request_send_push_promise",),
        _STATUS: ("tests/test_responses.py::test_response_phrase",),
        _ROOT: ("tests/test_staticfiles.py::test_staticfiles_with_invalid_dir_permissions_returns_401",),
        _PACKAGE: ("tests/test_staticfiles.py::test_staticfiles_with_package",),
    },
)

FASTAPI = Suite(
    "fastapi-0.165.0",
    ("tests",),
    passing=4500,
    wired=3800,
    requests=4800,
    plugin="tests.suites.asgi_plugin",
    site="asgi-site",
    ignored=(
        "tests/benchmarks",
        "tests/memory_benchmarks",
        "tests/test_prepare_release.py",  # of the way FastAPI is released
        "tests/test_telemetry",  # of exporters, whose packages they need
        "tests/test_tutorial/test_debugging",  # of how uvicorn is started, which is not installed
    ),
    exceptions={
        _BROKEN: ("tests/test_dependency_after_yield_streaming.py::test_broken_session_stream_no_raise",),
        _CLI: ("tests/test_fastapi_cli.py::test_fastapi_cli",),
        _TRIMMED: (
            "tests/test_security_http_base.py::test_security_http_base_with_whitespaces",
            "tests/test_security_oauth2_authorization_code_bearer.py::test_token_with_whitespaces",
        ),
    },
)
