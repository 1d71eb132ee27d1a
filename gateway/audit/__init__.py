"""What happened: the event, the chain that seals it, the trail that keeps it."""
