"""The access log and the error log: lines, formats and files."""
