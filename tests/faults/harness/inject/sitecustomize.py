"""Loaded by a gateway under test alone, before anything of its own: what it does to disk and database can be struck."""

from __future__ import annotations

import os

if os.environ.get("FAULTS_PLAN"):
    import faulty_files
    import faulty_statements

    faulty_files.install()
    faulty_statements.install(postgresql=bool(os.environ.get("FAULTS_POSTGRESQL")))
    if os.environ.get("FAULTS_CLOCK"):
        import faulty_clock

        faulty_clock.install()
