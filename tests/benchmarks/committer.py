"""One process that commits events as a worker does, many at once; says how long each took.

Told what to do by one line of JSON; says `ready`, begins at the next line, and prints what it found.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from gateway.access.principals import LOCAL, SYSTEM, Caller, Origin
from gateway.access.secrets import Secrets
from gateway.audit.event import Event, Kind
from gateway.gate import Act
from gateway.records.database import Database
from gateway.records.ledger import SqlLedger


def main() -> None:
    told = json.loads(sys.stdin.readline())
    data = Path(told["data"])
    database = Database.open(f"sqlite:///{data / 'gateway.db'}", data)
    ledger = SqlLedger(database, Secrets.load(data / "keys").trail)
    ledger.start()
    print("ready", flush=True)
    sys.stdin.readline()
    used = time.process_time()
    latencies = asyncio.run(commit(ledger, told))
    print(json.dumps({"latencies": latencies, "processor": time.process_time() - used}))
    ledger.close()
    database.close()


async def commit(ledger: SqlLedger, told: dict[str, Any]) -> list[float]:
    """Commits with so many always waiting, for so long."""
    caller = Caller(SYSTEM, Origin("127.0.0.1", "127.0.0.1", "bench", "0" * 32), LOCAL)
    latencies: list[float] = []
    until = time.perf_counter() + told["seconds"]

    async def one() -> None:
        while (begun := time.perf_counter()) < until:
            await ledger.commit(Act(Event(Kind.MANIFEST_PULL, caller, project="p", repository="p/r", reference="v1")))
            latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*(one() for _ in range(told["waiting"])))
    return latencies


if __name__ == "__main__":
    main()
