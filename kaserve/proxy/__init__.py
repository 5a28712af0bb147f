"""The proxy: a handler that passes requests on to other servers."""
