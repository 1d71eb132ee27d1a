"""The fault harness: a gateway as a real process is struck in every way, then asked for all it acknowledged."""
