"""Targets for a fuzzer that looks where it gets: `python -m tests.fuzz`."""
