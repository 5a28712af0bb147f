"""WebSocket for ASGI applications, on the sans-I/O protocol of the package websockets."""
