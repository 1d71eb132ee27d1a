"""Where bytes live, under keys; they know nothing of what the bytes mean."""
