"""The way into the console, over a house whose clock can be moved: signing in, second factors, sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from gateway.access.credentials import Credentials
from gateway.access.principals import Caller, Credential, CredentialKind, Origin
from gateway.access.second_factors import STEP_SECONDS, code_at, open_key
from gateway.administration import Enrolment, SecondFactorNeeded, SignIn
from gateway.administration.codes import Codes
from gateway.administration.second_factor import SecondFactor
from gateway.records import second_factors
from gateway.records.credentials import CredentialRecords
from tests.administration.rooms import Rooms
from tests.house import ORIGIN

PASSWORD = "correct horse battery"


@dataclass(slots=True)
class Entrance:
    """Signing in and second factors of one process."""

    rooms: Rooms
    now: datetime = datetime(2026, 5, 1, 12, tzinfo=UTC)
    sign_in: SignIn = field(init=False)
    second_factor: SecondFactor = field(init=False)

    def __post_init__(self) -> None:
        house, acts = self.rooms.house, self.rooms.acts
        stored = CredentialRecords(house.database)
        credentials = Credentials(
            stored, stored, acts.secrets, acts.hashing, stored, clock=self.clock, floor_seconds=0.0
        )
        codes = Codes(house.database, acts.secrets)
        self.sign_in = SignIn(house.gate, house.database, acts.secrets, credentials, codes, acts.hashing, self.clock)
        self.second_factor = SecondFactor(house.gate, house.database, acts.secrets, codes, self.clock)

    def clock(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)

    def password(self, name: str, password: str = PASSWORD, origin: Origin = ORIGIN) -> Caller | SecondFactorNeeded:
        return self.rooms.run(self.sign_in.by_password(name, password, origin))

    def ticket(self, name: str) -> str:
        needed = self.password(name)
        assert isinstance(needed, SecondFactorNeeded)
        return needed.ticket

    def code(self, ticket: str, code: str, origin: Origin = ORIGIN) -> Caller:
        return self.rooms.run(self.sign_in.second_factor(ticket, code, origin))

    def enrolled(self, name: str = "writer") -> tuple[Caller, tuple[str, ...]]:
        """A new user with a second factor, and its recovery codes; a minute has passed since it was confirmed."""
        caller = self.rooms.user(name)
        self.begin(caller)
        confirmed = self.rooms.run(self.second_factor.confirm(caller, self.shown(caller)))
        self.move(minutes=1)
        return confirmed.caller, confirmed.codes

    def begin(self, caller: Caller) -> Enrolment:
        return self.rooms.run(self.second_factor.begin(caller, "registry.test"))

    def shown(self, caller: Caller, steps: int = 0) -> str:
        """What the phone shows now, or *steps* half minutes from now."""
        number, secret = caller.principal.id, self.rooms.acts.secrets.second_factors
        found = self.rooms.house.database.read_now(lambda connection: second_factors.find(connection, number))
        assert found is not None
        key = open_key(found.sealed, number, secret)
        return code_at(key, int(self.now.timestamp()) // STEP_SECONDS + steps)

    def wrong(self, caller: Caller) -> str:
        """Six digits that no phone shows around now."""
        near = {self.shown(caller, steps) for steps in range(-3, 4)}
        return next(text for text in map("{:06}".format, range(10)) if text not in near)


def in_session(caller: Caller, number: int) -> Caller:
    """*caller* with the session of that number."""
    return Caller(caller.principal, caller.origin, Credential(CredentialKind.SESSION, str(number)))
