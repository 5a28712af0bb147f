"""The pages that show what telemetry has: the status page and the metrics."""
