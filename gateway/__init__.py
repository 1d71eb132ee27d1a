"""The gateway: a caller passes one gate to reach an engine; the gate decides, and remembers."""
