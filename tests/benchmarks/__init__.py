"""Figures beside those of real peers, in one run, taking turns: `make bench`."""
