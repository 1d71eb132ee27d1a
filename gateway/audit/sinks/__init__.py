"""Where events and checkpoints are sent, so that no one who rules this host alone can take them back."""
