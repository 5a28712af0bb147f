"""Sockets and time, with no HTTP grammar: the reactor, the timer wheel, the listener and the connection."""
