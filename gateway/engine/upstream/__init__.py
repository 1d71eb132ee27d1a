"""Content kept by a registry that was there before us: we ask it, we believe only its bytes, and we remember."""
