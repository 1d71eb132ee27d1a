"""The edge for people with browsers: projects, accounts, audit review."""
