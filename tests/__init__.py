"""The tests: they mirror the rooms of the gateway, and talk to real services and real clients."""
