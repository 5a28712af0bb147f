"""The command line: words for the user, in one place."""
