"""Real services and clients that the tests start, use and stop: a database, registries, engines, images to move."""
