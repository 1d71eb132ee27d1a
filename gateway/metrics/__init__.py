"""The figures of all processes together, as Prometheus reads them."""
