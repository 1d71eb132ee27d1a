"""What operators do, each a process of its own that may be struck."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.harness.journal import GONE, Acknowledged, Noun, Thing
from tests.faults.harness.operations import HERE, Act, Operation, content_of, push_blob, push_image, sha256
from tests.faults.harness.site import PROJECT, Site, Unanswered, folder

#: What a command says of something that is there, or gone, already.
_CONFLICT, _UNKNOWN = 4, 3
_KILLED = -9
_PASSWORD = "a password that is long enough"


@dataclass(frozen=True, slots=True)
class Command:
    """
    A command line that changes something: *thing* has *value* after it, and an event of *kind* has *word* in it.

    *done* is the exit status that says that nothing is left to do.
    """

    words: tuple[str, ...]
    kind: str
    word: str
    thing: Thing | None = None
    value: str = GONE
    done: int = _CONFLICT
    stdin: str = ""

    def run(self, site: Site, *, again: bool) -> None:
        """Does it; raises `Unanswered` if the process was killed, or says that it could not."""
        if self.thing is not None:
            site.journal.intends(self.thing, self.value)
        ended = site.command(*self.words, stdin=self.stdin)
        if ended.code in (_KILLED, 5, 70):
            raise Unanswered(ended.output[-300:])
        assert ended.code == 0 or (again and ended.code == self.done), f"{self.words}: {ended.code} {ended.output}"
        act = Acknowledged(self.kind, word=self.word) if ended.code == 0 else None
        if self.thing is None:
            site.journal.counts(act)
        else:
            site.journal.acknowledges(self.thing, self.value, act)


def _as_act(site: Site, command: Command) -> Act:
    return lambda *, again: command.run(site, again=again)


def adding_user(name: str) -> Command:
    thing = Thing(Noun.ACCOUNT, "", name)
    return Command(("user", "add", name, "--password-stdin"), "account.add", name, thing, "there", stdin=_PASSWORD)


def adding_project(name: str) -> Command:
    return Command(("project", "add", name), "project.add", name, Thing(Noun.PROJECT, "", name), "there")


def granting(name: str, role: str = "puller") -> Command:
    thing = Thing(Noun.GRANT, name, PROJECT)
    return Command(("grant", name, role, PROJECT), "grant.add", name, thing, role)


def revoking(name: str) -> Command:
    thing = Thing(Noun.GRANT, name, PROJECT)
    return Command(("revoke", name, PROJECT), "grant.remove", name, thing, GONE, _UNKNOWN)


def _adds_user(site: Site, number: int) -> Act:
    return _as_act(site, adding_user(f"user-{number}"))


def _adds_project(site: Site, number: int) -> Act:
    return _as_act(site, adding_project(f"project-{number}"))


def _grants(site: Site, number: int) -> Act:
    adding_user(f"user-{number}").run(site, again=False)
    return _as_act(site, granting(f"user-{number}"))


def _revokes(site: Site, number: int) -> Act:
    adding_user(f"user-{number}").run(site, again=False)
    granting(f"user-{number}").run(site, again=False)
    return _as_act(site, revoking(f"user-{number}"))


def _removes_user(site: Site, number: int) -> Act:
    adding_user(f"user-{number}").run(site, again=False)
    thing = Thing(Noun.ACCOUNT, "", f"user-{number}")
    name = f"user-{number}"
    return _as_act(site, Command(("user", "remove", name), "account.remove", name, thing, GONE, _UNKNOWN))


def _rotates_key(site: Site, number: int) -> Act:
    command = Command(("key", "rotate"), "key.rotate", "key.rotate")

    def act(*, again: bool) -> None:
        command.run(site, again=again)
        # Tokens that were given before are good, and new ones are given.
        site.client.ask("GET", "/v2/", 200)
        site.client.forget_token()
        site.client.ask("GET", "/v2/", 200)

    return act


def _sweeps(site: Site, number: int) -> Act:
    """What somebody deleted goes from the disk, and what is referenced stays."""
    push_image(site, number, f"kept-{number}")
    content = content_of(-number)
    push_blob(site, content)
    command = Command(("sweep", "--grace", "0s"), "storage.sweep", "storage.sweep")

    def act(*, again: bool) -> None:
        # Nothing names it, so it may go; what was pushed in this very second may stay.
        site.journal.intends(Thing(Noun.BLOB, HERE, sha256(content)), GONE)
        command.run(site, again=again)

    return act


def _repairs(site: Site, number: int) -> Act:
    """A damaged blob is put aside, and a push heals it."""
    content = content_of(number)
    push_blob(site, content)
    digest = sha256(content)
    file = folder(site) / "blobs" / "sha256" / digest[7:9] / digest[7:]
    file.write_bytes(content[:-1])

    def act(*, again: bool) -> None:
        ended = site.command("check", "--repair", "--json")
        if ended.code in (_KILLED, 5, 70):
            raise Unanswered(ended.output[-300:])
        # Not well: the bytes are still missing. A second repair may find that all is done, the push as well.
        assert ended.code in ((0, 1) if again else (1,)), ended.output
        push_blob(site, content)

    return act


COMMANDS = (
    Operation("add a user", _adds_user, command=True),
    Operation("remove a user", _removes_user, command=True),
    Operation("add a project", _adds_project, command=True),
    Operation("grant", _grants, command=True),
    Operation("revoke", _revokes, command=True),
    Operation("rotate the key", _rotates_key, command=True),
    Operation("sweep", _sweeps, command=True),
    Operation("repair", _repairs, command=True),
)
