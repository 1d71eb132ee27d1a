"""The pages of projects, users and one's own account: what they show, change, and say beside a field."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.access.rules import size_text
from gateway.console.pages.settings import size_bytes
from tests.console.browsing import PASSWORD, Browser, Desk, Sheet
from tests.house import OPERATOR, second_over

MEMBERS = "/console/projects/gallery/members"
ROBOTS = "/console/projects/gallery/robots"
SETTINGS = "/console/projects/gallery/settings"


def owner(desk: Desk, name: str = "olive", project: str = "gallery") -> Browser:
    """A browser of the owner of a new project."""
    desk.project(project)
    browser = desk.browser(name)
    desk.grant(name, "owner", project)
    return browser


def link(sheet: Sheet, words: str) -> str:
    """Where the link leads that says *words*, on the page."""
    for target, text in re.findall(r'<a[^>]*href="([^"]+)"[^>]*>(.*?)</a>', sheet.text, re.DOTALL):
        if words in " ".join(re.sub(r"<[^>]*>", "", text).split()):
            return str(target).replace("&amp;", "&")
    raise AssertionError(f"no link says {words}: {sheet.words}")


# projects


def test_an_administrator_adds_a_project(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    sheet = root.follow(root.fill("/console/projects/new", name="gallery", public="yes"))
    assert (sheet.status, sheet.heading) == (200, "gallery")
    assert "Added." in sheet.words
    listed = root.get("/console/projects").words
    assert "gallery public" in listed


def test_a_name_outside_the_grammar_is_told_beside_the_field_and_kept(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    answer = root.fill("/console/projects/new", name="Not A Name", public="yes")
    assert answer.status == 422
    assert "lower-case" in answer.error("name")
    assert answer.fields["name"] == "Not A Name"
    assert answer.fields["public"] == "yes"
    desk.project("gallery")
    assert "already" in root.fill("/console/projects/new", name="gallery").error("name")


def test_one_sees_the_projects_one_may_see(desk: Desk) -> None:
    olive = owner(desk)
    desk.project("hidden")
    desk.project("open", public=True)
    words = olive.get("/console/projects").words
    assert "gallery" in words
    assert "open" in words
    assert "hidden" not in words
    assert "New project" not in words


def test_projects_are_found_by_a_part_of_their_name(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    for number in range(12):
        desk.project(f"project-{number}")
    words = root.get("/console/projects?q=t-1").words
    assert "project-11" in words
    assert "project-2" not in words
    assert "No project of yours has zzz" in root.get("/console/projects?q=zzz").words


# members


def test_an_owner_gives_and_takes_a_role(desk: Desk) -> None:
    olive = owner(desk)
    desk.user("jane")
    day = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    added = olive.follow(olive.fill(MEMBERS, principal="jane", role="pusher", pattern="ui-*", expires=day))
    assert "jane pusher gallery/ui-*" in added.words
    assert f'datetime="{day}T23:59:59+00:00"' in added.text
    assert desk.run(desk.acts.grants.ask(OPERATOR, "jane", "push", "gallery/ui-web")).allowed
    removing = olive.get(link(added, "Remove jane on gallery/ui-*"))
    assert "Take pusher on gallery/ui-* from jane?" in removing.words
    removed = olive.follow(olive.post(f"{MEMBERS}/remove", removing.fields))
    assert "jane" not in removed.words
    assert desk.last("grant.remove")["principal"] == "olive"


def test_each_wrong_field_has_its_own_message_and_the_rest_is_kept(desk: Desk) -> None:
    olive = owner(desk)
    answer = olive.fill(MEMBERS, principal="No Name", role="pusher", pattern="a**b", expires="2001-01-01")
    assert answer.status == 422
    assert "user name" in answer.error("principal")
    assert "pattern" in answer.error("pattern").lower()
    assert "to come" in answer.error("expires")
    filled = {"principal": "No Name", "role": "pusher", "pattern": "a**b", "expires": "2001-01-01"}
    assert filled.items() <= answer.fields.items()
    assert 'aria-invalid="true"' in answer.text
    assert "There is no user nobody" in olive.fill(MEMBERS, principal="nobody").error("principal")
    assert "Write a day" in olive.fill(MEMBERS, principal="olive", expires="soon").error("expires")


def test_a_grant_that_exists_is_not_replaced_by_adding_it(desk: Desk) -> None:
    olive = owner(desk)
    desk.user("jane")
    desk.grant("jane", "maintainer", "gallery")
    answer = olive.fill(MEMBERS, principal="jane", role="puller")
    assert answer.status == 422
    assert "already" in answer.words
    assert desk.run(desk.acts.grants.ask(OPERATOR, "jane", "delete", "gallery/x")).allowed


def test_of_two_who_edit_one_grant_the_second_sees_what_the_first_did(desk: Desk) -> None:
    olive = owner(desk)
    ophelia = desk.browser("ophelia")
    desk.grant("ophelia", "owner", "gallery")
    desk.user("jane")
    desk.grant("jane", "puller", "gallery")
    edit = link(olive.get(MEMBERS), "Change jane")
    first, second = olive.get(edit), ophelia.get(edit)
    assert olive.post(f"{MEMBERS}/edit", {**first.fields, "role": "maintainer"}).status == 303
    told = ophelia.post(f"{MEMBERS}/edit", {**second.fields, "role": "pusher"})
    assert told.status == 409
    assert "It is now maintainer" in told.words
    assert told.fields["role"] == "pusher"
    assert desk.run(desk.acts.grants.ask(OPERATOR, "jane", "delete", "gallery/x")).allowed, "it was overwritten"
    assert ophelia.post(f"{MEMBERS}/edit", told.fields).status == 303
    assert not desk.run(desk.acts.grants.ask(OPERATOR, "jane", "delete", "gallery/x")).allowed


def test_a_grant_that_is_gone_cannot_be_edited_back(desk: Desk) -> None:
    olive = owner(desk)
    desk.user("jane")
    desk.grant("jane", "puller", "gallery")
    form = olive.get(link(olive.get(MEMBERS), "Change jane")).fields
    desk.run(desk.acts.grants.remove_grant(OPERATOR, "jane", "gallery"))
    assert olive.post(f"{MEMBERS}/edit", {**form, "role": "owner"}).status == 404
    assert not desk.run(desk.acts.grants.ask(OPERATOR, "jane", "pull", "gallery/x")).allowed


def test_what_would_be_removed_is_looked_at_again_when_it_changed(desk: Desk) -> None:
    olive = owner(desk)
    desk.user("jane")
    desk.grant("jane", "puller", "gallery")
    form = olive.get(link(olive.get(MEMBERS), "Remove jane")).fields
    desk.grant("jane", "owner", "gallery")
    told = olive.post(f"{MEMBERS}/remove", form)
    assert told.status == 409
    assert "Take owner on gallery from jane?" in told.words
    assert olive.post(f"{MEMBERS}/remove", told.fields).status == 303


def test_an_expiry_nobody_touched_stays_to_the_second(desk: Desk) -> None:
    olive = owner(desk)
    desk.user("jane")
    until = timedelta(days=3, hours=5)
    before = desk.run(desk.acts.grants.add_grant(OPERATOR, "jane", "puller", "gallery", expires=until))
    form = olive.get(link(olive.get(MEMBERS), "Change jane")).fields
    assert olive.post(f"{MEMBERS}/edit", {**form, "role": "pusher"}).status == 303
    [after] = desk.run(desk.acts.grants.list_grants(OPERATOR, principal="jane"))
    assert after.role == "pusher"
    assert abs((after.expires_at - before.expires_at).total_seconds()) <= 1


def test_a_role_of_a_grant_that_has_expired_is_kept_and_asks_until_when(desk: Desk) -> None:
    olive = owner(desk)
    desk.user("jane")
    desk.run(desk.acts.grants.add_grant(OPERATOR, "jane", "puller", "gallery", expires=timedelta(seconds=1)))
    second_over()
    second_over()
    form = olive.get(link(olive.get(MEMBERS), "Change jane")).fields
    told = olive.post(f"{MEMBERS}/edit", {**form, "role": "pusher"})
    assert (told.status, "until when it holds" in told.error("expires")) == (422, True)
    assert told.fields["role"] == "pusher"
    later = f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}"
    assert olive.post(f"{MEMBERS}/edit", {**told.fields, "expires": later}).status == 303


def test_a_member_who_is_no_owner_sees_neither_members_nor_settings(desk: Desk) -> None:
    owner(desk)
    jane = desk.browser("jane")
    desk.grant("jane", "puller", "gallery")
    for page in (MEMBERS, ROBOTS, SETTINGS):
        assert jane.get(page).status == 403
    assert jane.post(MEMBERS, {"principal": "jane", "role": "owner"}).status == 403


# robots


def test_a_robot_is_added_with_a_secret_that_is_shown_once(desk: Desk) -> None:
    olive = owner(desk)
    shown = olive.fill(ROBOTS, name="ci", role="pusher", days="30")
    assert shown.status == 200
    [secret] = set(re.findall(r"gwr_[\w-]{43}[0-9a-z]{6}", shown.text))
    assert "docker login -u gallery+ci" in shown.words
    listed = olive.get(ROBOTS)
    assert "gallery+ci live never" in listed.words
    assert secret not in listed.text


def test_a_robot_gets_a_new_secret_while_the_old_one_still_works(desk: Desk) -> None:
    olive = owner(desk)
    olive.fill(ROBOTS, name="ci", role="pusher")
    shown = olive.fill(f"{ROBOTS}/ci/rotate", overlap="86400")
    assert "The old one stops working in a day." in shown.words
    listed = olive.get(ROBOTS)
    assert "old one works too" in listed.words
    ended = olive.follow(olive.post(f"{ROBOTS}/ci/end-overlap", {"version": listed.fields["version"]}))
    assert "only the new one works" in ended.words
    assert "old one works too" not in ended.words
    at_once = olive.fill(f"{ROBOTS}/ci/rotate", overlap="0")
    assert "The old one stops working at once." in at_once.words


def test_a_secret_that_somebody_else_has_handed_out_meanwhile_is_not_replaced_unseen(desk: Desk) -> None:
    olive, root = owner(desk), desk.browser("root", administrator=True)
    olive.fill(ROBOTS, name="ci", role="pusher")
    olive.fill(f"{ROBOTS}/ci/rotate", overlap="86400")
    listed, form = root.get(ROBOTS).fields, root.get(f"{ROBOTS}/ci/rotate").fields
    second_over()
    olive.fill(f"{ROBOTS}/ci/rotate", overlap="3600")
    told = root.post(f"{ROBOTS}/ci/rotate", {**form, "days": "30", "overlap": "0"})
    assert (told.status, "This robot was changed while you had it open" in told.words) == (409, True)
    assert (told.fields["days"], told.fields["overlap"]) == ("30", "0")
    assert desk.last("robot.rotate")["reason"] == "stale"
    ended = root.post(f"{ROBOTS}/ci/end-overlap", {"version": listed["version"]})
    assert (ended.status, "No secret was ended" in ended.words) == (409, True)
    assert "old one works too" in root.get(ROBOTS).words
    assert "stops working at once" in root.post(f"{ROBOTS}/ci/rotate", told.fields).words


def test_a_secret_that_was_asked_for_twice_is_not_said_to_be_somebody_elses(desk: Desk) -> None:
    olive = owner(desk)
    olive.fill(ROBOTS, name="ci", role="pusher")
    form = olive.get(f"{ROBOTS}/ci/rotate").fields
    second_over()
    assert olive.post(f"{ROBOTS}/ci/rotate", form).status == 200
    told = olive.post(f"{ROBOTS}/ci/rotate", form)
    assert (told.status, "by you or somebody else" in told.words) == (409, True)
    assert "Somebody changed" not in told.words
    assert len(desk.house.records(kind="robot.rotate", outcome="allowed")) == 1


def test_a_robot_is_removed_when_that_was_confirmed(desk: Desk) -> None:
    olive = owner(desk)
    olive.fill(ROBOTS, name="ci", role="pusher")
    asked = olive.get(f"{ROBOTS}/ci/remove")
    assert "gallery+ci" in olive.get(ROBOTS).words
    olive.post(f"{ROBOTS}/ci/remove", asked.fields)
    assert "No robots yet" in olive.get(ROBOTS).words
    assert olive.get(f"{ROBOTS}/ci/rotate").status == 404


def test_wrong_fields_of_a_robot_are_told_beside_them(desk: Desk) -> None:
    olive = owner(desk)
    answer = olive.fill(ROBOTS, name="No", days="9999")
    assert "robot" in answer.error("name")
    assert "how long" in answer.error("days")
    olive.fill(ROBOTS, name="ci")
    assert "already" in olive.fill(ROBOTS, name="ci").error("name")
    assert "old secret" in olive.post(f"{ROBOTS}/ci/rotate", {"days": "90", "overlap": "-1"}).error("overlap")


# settings


def test_an_owner_sets_the_rules_of_a_project(desk: Desk) -> None:
    olive = owner(desk)
    saved = olive.follow(
        olive.fill(SETTINGS, public="yes", immutable="v*\nrelease-*", read_only="Moving to another host")
    )
    assert saved.fields["immutable"] == "v*\nrelease-*"
    assert saved.fields["read_only"] == "Moving to another host"
    assert saved.fields["public"] == "yes"
    after = desk.last("project.set")["after"]
    assert (after["public"], after["immutable"]) == (True, ["v*", "release-*"])
    olive.fill(SETTINGS, public=None, immutable="", read_only="")
    assert desk.last("project.set")["after"]["read_only"] == ""


def test_a_quota_is_an_administrators_to_set(desk: Desk) -> None:
    olive, root = owner(desk), desk.browser("root", administrator=True)
    assert "quota" not in olive.get(SETTINGS).fields
    olive.post(SETTINGS, {**olive.get(SETTINGS).fields, "quota": "1 GiB"})
    assert desk.last("project.set")["after"]["quota_bytes"] is None
    root.fill(SETTINGS, quota="10 GiB")
    assert desk.last("project.set")["after"]["quota_bytes"] == 10 * 2**30
    assert "0 bytes of 10 GiB used" in olive.get(SETTINGS).words
    root.fill(SETTINGS, quota="")
    assert desk.last("project.set")["after"]["quota_bytes"] is None
    wrong = root.fill(SETTINGS, quota="much", immutable="**", read_only="two\nlines")
    assert "10 GiB" in wrong.error("quota")
    assert wrong.error("immutable")
    assert wrong.error("read_only")
    assert wrong.fields["quota"] == "much"


def test_a_quota_that_is_not_touched_is_not_rounded(desk: Desk) -> None:
    owner(desk)
    root = desk.browser("root", administrator=True)
    desk.run(desk.acts.projects.set_project(OPERATOR, "gallery", quota_bytes=1_234_567))
    root.fill(SETTINGS, public="yes")
    assert desk.last("project.set")["after"]["quota_bytes"] == 1_234_567


@given(st.integers(min_value=0, max_value=1023), st.integers(min_value=0, max_value=5))
def test_a_size_is_read_as_it_is_shown(count: int, unit: int) -> None:
    size = count * 1024**unit
    assert size_bytes(size_text(size)) == size


def test_of_two_who_edit_the_settings_the_second_sees_what_the_first_did(desk: Desk) -> None:
    olive, root = owner(desk), desk.browser("root", administrator=True)
    form = olive.get(SETTINGS).fields
    root.fill(SETTINGS, read_only="frozen for the audit")
    told = olive.post(SETTINGS, {**form, "public": "yes"})
    assert told.status == 409
    assert "read-only: frozen for the audit" in told.words
    assert told.fields["public"] == "yes"
    assert olive.post(SETTINGS, told.fields).status == 303


def test_a_project_is_removed_when_its_name_was_typed(desk: Desk) -> None:
    olive, root = owner(desk), desk.browser("root", administrator=True)
    page = f"{SETTINGS}/remove"
    assert root.fill(page, typed="galery").error("typed")
    assert olive.fill(page, typed="gallery").status == 403
    assert root.follow(root.fill(page, typed="gallery")).heading == "Projects"
    assert root.get(SETTINGS).status == 404


# users


def test_an_administrator_adds_a_user_and_sees_the_password_once(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    shown = root.fill("/console/users/new", name="jane.doe", auditor="yes")
    [password] = re.findall(r'id="secret">([^<]+)<', shown.text)
    user = root.get("/console/users/jane.doe")
    assert password not in user.text
    assert user.fields["auditor"] == "yes"
    signed_in = desk.browser().post("/console/sign-in", {"name": "jane.doe", "password": password})
    assert signed_in.status == 303


def test_wrong_fields_of_a_user_are_told_beside_them(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    assert root.fill("/console/users/new", name="A B").error("name")
    assert root.fill("/console/users/new", name="jane", password="short").error("password")
    assert "reserved" in root.fill("/console/users/new", name="gateway").error("name")
    assert "already" in root.fill("/console/users/new", name="root").words


def test_system_roles_are_given_and_taken_by_one_at_a_time(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    desk.user("jane")
    form = root.get("/console/users/jane").fields
    assert root.post("/console/users/jane/roles", {**form, "auditor": "yes"}).status == 303
    stale = root.post("/console/users/jane/roles", {**form, "administrator": "yes"})
    assert stale.status == 409
    assert "an auditor" in stale.words
    last = root.get("/console/users/root").fields
    kept = root.post("/console/users/root/roles", {"version": last["version"]})
    assert "last enabled administrator" in kept.words


def test_a_user_is_disabled_given_a_password_and_removed(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    desk.user("jane")
    page = "/console/users/jane"
    assert "disabled" in root.follow(root.post(f"{page}/state", {"enabled": "no"})).words
    assert "enabled" in root.follow(root.post(f"{page}/state", {"enabled": "yes"})).words
    assert root.fill(f"{page}/password", password="another good one").status == 303
    assert desk.browser().post("/console/sign-in", {"name": "jane", "password": "another good one"}).status == 303
    assert "jane" in root.follow(root.post(f"{page}/sign-out")).words
    assert root.post(f"{page}/remove", root.get(f"{page}/remove").fields).status == 303
    assert root.get(page).status == 404
    assert "last enabled" in root.post("/console/users/root/remove").words


def test_users_are_nobodys_to_see_without_a_role_of_the_system(desk: Desk) -> None:
    desk.browser("root", administrator=True)
    jane = desk.browser("jane")
    for page in ("/console/users", "/console/users/root", "/console/users/jane/password", "/console/grants"):
        assert jane.get(page).status == 403
    assert jane.fill("/console/account", "/console/users/new", name="evil").status == 403


# my account


def test_one_changes_ones_password_and_stays_signed_in_here_alone(desk: Desk) -> None:
    jane, elsewhere = desk.browser("jane"), desk.browser("jane")
    wrong = jane.fill("/console/account", "/console/account/password", password="bad", new_password="short")
    assert wrong.error("new_password")
    assert "same" in wrong.error("new_password_again")
    good = {"new_password": "another good one", "new_password_again": "another good one"}
    assert "wrong" in jane.post("/console/account/password", {"password": "wrong wrong", **good}).error("password")
    done = jane.post("/console/account/password", {"password": PASSWORD, **good})
    assert "The password was changed" in jane.follow(done).words
    assert elsewhere.get("/console/account").status == 303
    assert desk.browser().post("/console/sign-in", {"name": "jane", "password": PASSWORD}).status == 403


def test_a_token_is_made_shown_once_and_revoked(desk: Desk) -> None:
    jane = desk.browser("jane")
    page = "/console/account/tokens"
    none = jane.post(page, {"name": "laptop", "days": "90"})
    assert "at least one" in none.error("actions")
    assert none.fields["name"] == "laptop"
    assert jane.post(page, {"name": "x", "actions": "pull", "days": "90", "projects": "Bad!"}).error("projects")
    made = jane.post(page, {"name": "laptop", "actions": ["pull", "push"], "days": "30", "projects": "gallery"})
    [token] = set(re.findall(r"gwp_[\w-]{43}[0-9a-z]{6}", made.text))
    listed = jane.get(page)
    assert "laptop pull, push gallery never" in listed.words
    assert token not in listed.text
    asked = jane.get(link(listed, "Revoke laptop"))
    revoked = jane.post(link(listed, "Revoke laptop"), asked.fields)
    assert "No tokens yet" in jane.follow(revoked).words


def test_one_sees_and_ends_ones_sessions(desk: Desk) -> None:
    jane, elsewhere, third = desk.browser("jane"), desk.browser("jane"), desk.browser("jane")
    listed = jane.get("/console/account/sessions")
    assert listed.text.count("this one") == 1
    number = listed.fields["number"]
    assert "was ended" in jane.follow(jane.post("/console/account/sessions/end", {"number": number})).words
    assert sorted(browser.get("/console/account").status for browser in (elsewhere, third)) == [200, 303]
    jane.post("/console/account/sessions/end-others")
    assert [browser.get("/console/account").status for browser in (jane, elsewhere, third)] == [200, 303, 303]


# of strangers, and of strangers' things


def test_no_object_of_one_project_is_reached_by_the_owner_of_another(desk: Desk) -> None:
    olive = owner(desk)
    olive.fill(ROBOTS, name="ci", role="pusher")
    mallory = owner(desk, "mallory", "beta")
    before = len(desk.house.records())
    pages = [MEMBERS, ROBOTS, SETTINGS, f"{SETTINGS}/remove", f"{ROBOTS}/ci/rotate", f"{ROBOTS}/ci/remove"]
    pages += [f"{MEMBERS}/edit?principal=olive&reach=gallery", f"{MEMBERS}/remove?principal=olive&reach=gallery"]
    for page in pages:
        seen, unknown = mallory.get(page), mallory.get(page.replace("gallery", "nothing"))
        assert seen.status == unknown.status == 403, page
        assert seen.words.replace("gallery", "nothing") == unknown.words
    grant = {"principal": "olive", "reach": "gallery", "version": "x", "role": "puller"}
    posts: list[tuple[str, dict[str, str]]] = [
        (MEMBERS, {"principal": "mallory", "role": "owner"}),
        (f"{MEMBERS}/edit", grant),
        (f"{MEMBERS}/remove", grant),
        (ROBOTS, {"name": "mine", "role": "owner", "days": "90"}),
        (f"{ROBOTS}/ci/rotate", {"days": "90", "overlap": "0"}),
        (f"{ROBOTS}/ci/end-overlap", {}),
        (f"{ROBOTS}/ci/remove", {}),
        (SETTINGS, {"public": "yes"}),
        (f"{SETTINGS}/remove", {"typed": "gallery"}),
        # An object of one project, named through another that is mine.
        ("/console/projects/beta/members/edit", grant),
        ("/console/projects/beta/members/remove", grant),
        ("/console/projects/beta/robots/ci/remove", {}),
    ]
    for page, fields in posts:
        assert mallory.post(page, fields).status in {403, 404}, page
    done = [event for event in desk.house.records()[before:] if event["outcome"] == "allowed"]
    assert not [event for event in done if event["kind"].endswith((".add", ".set", ".remove", ".rotate"))]


def test_nobody_reaches_tokens_and_sessions_of_others(desk: Desk) -> None:
    jane, mallory = desk.browser("jane"), desk.browser("mallory")
    jane.fill("/console/account/tokens", name="laptop", actions="pull")
    revoke = link(jane.get("/console/account/tokens"), "Revoke laptop")
    assert mallory.get(revoke).status == 404
    assert mallory.post(revoke).status == 404
    number = desk.run(desk.acts.sessions.find(jane.cookie, OPERATOR.origin)).row.id
    assert mallory.post("/console/account/sessions/end", {"number": str(number)}).status == 404
    assert jane.get("/console/account").status == 200


# what a stranger typed is text

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</textarea><script>alert(1)</script>",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(1)",
]


def test_whatever_is_typed_comes_back_as_text(desk: Desk) -> None:
    root = desk.browser("root", administrator=True)
    desk.project("gallery")
    for text in HOSTILE:
        sheets = [
            root.fill("/console/projects/new", name=text),
            root.fill(MEMBERS, principal=text, pattern=text, expires=text, role=text),
            root.fill(ROBOTS, name=text),
            root.fill(SETTINGS, immutable=text, quota=text),
            root.fill("/console/users/new", name=text),
            root.post("/console/account/tokens", {"name": text, "projects": text, "days": text}),
            root.get("/console/projects", None),
            desk.browser().post("/console/sign-in", {"name": text, "password": "x", "next": text, "carried": text}),
        ]
        for sheet in sheets:
            assert "<" not in text or text not in sheet.text
            assert not re.search(r"<(script(?! src)|img (?!src=\"/console/static)|svg onload)", sheet.text)
            assert not re.search(r"(href|action|src)=\"javascript", sheet.text)
            assert sheet.fields.get("name", text) in {text, ""}


def test_what_is_kept_comes_back_as_text(desk: Desk) -> None:
    desk.project("gallery")
    for number, text in enumerate(HOSTILE):
        root = desk.browser("root", administrator=True)
        browser = desk.browser()
        browser.agent = text
        browser.post("/console/sign-in", {"name": "root", "password": PASSWORD})
        root.post("/console/account/tokens", {"name": f"{number} {text}", "actions": "pull", "days": "90"})
        root.fill(SETTINGS, read_only=text)
        for page in ("/console/account/sessions", "/console/account/tokens", SETTINGS, "/console/projects"):
            sheet = root.get(page)
            assert sheet.status == 200
            assert "<script>alert" not in sheet.text
            assert "<img src=x" not in sheet.text
            assert "<svg onload" not in sheet.text
