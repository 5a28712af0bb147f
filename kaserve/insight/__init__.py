"""The pages and log lines that show what telemetry has: the status page, the metrics, the advice.

Knows telemetry and how pages look; what it needs of a server comes as values and functions. Knows no settings, no
connections and no sockets.
"""
