"""The command line: its options, its exit codes, and what it prints."""
