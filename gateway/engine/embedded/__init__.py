"""The engine that keeps content itself: bytes in a store, everything else in the records."""
