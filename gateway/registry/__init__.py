"""The edge that speaks the distribution protocol and the token protocol."""
