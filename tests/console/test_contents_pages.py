"""What is kept, as pages: looked at by who may, removed after a question that says what else goes."""

from __future__ import annotations

import pytest

from tests.administration.stocking import AMD64
from tests.console.browsing import HOST, Desk
from tests.console.stocked import copied, stock_of, team


def test_a_projects_page_lists_its_repositories(desk: Desk) -> None:
    stock = team(desk)
    image = stock.image("gallery/ui", "v1", "latest", layers=[b"x" * 2048])
    stock.image("gallery/api", "v1")
    stock.pull("gallery/ui", image, stock.who)

    page = desk.browser("jane").get("/console/projects/gallery")

    assert (page.status, page.heading) == (200, "gallery")
    assert "gallery/api" in page.words
    assert "gallery/ui 2 2" in page.words
    assert "by jane" in page.words
    found = desk.browser("jane").get("/console/projects/gallery?q=ui")
    assert "gallery/ui" in found.words
    assert "gallery/api" not in found.words


def test_repositories_and_tags_come_in_pages(desk: Desk) -> None:
    stock = team(desk)
    stock.image("gallery/ui", *(f"v{number:03}" for number in range(60)))
    copied(desk, "gallery", [f"r{number:03}" for number in range(51)])
    jane = desk.browser("jane")
    for path, first, last in (
        ("/console/projects/gallery", "gallery/r000", "gallery/ui"),
        ("/console/repositories/gallery/ui", "v000", "v059"),
    ):
        page = jane.get(path)
        assert first in page.words
        assert last not in page.words
        link = page.text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        following = jane.get(link)
        assert last in following.words
        assert 'rel="next"' not in following.text


def test_a_repositorys_page_tells_its_tags(desk: Desk) -> None:
    stock = team(desk)
    image = stock.image("gallery/ui", "v1")
    page = desk.browser("jane").get("/console/repositories/gallery/ui")
    assert page.heading == "gallery/ui"
    assert image.digest.text in page.text
    assert "linux/amd64" in page.words
    assert "by jane" in page.words
    assert "no pull on record" in page.words


def test_a_manifests_page_tells_what_is_in_it(desk: Desk) -> None:
    stock = team(desk)
    image = stock.image("gallery/ui", "v1", annotations={"org.example.source": "https://example.com/x"})
    stock.about("gallery/ui", image, "application/vnd.cncf.notary.signature")
    for reference in ("v1", image.digest.text):
        page = desk.browser("jane").get(f"/console/manifests/{reference}/gallery/ui")
        assert page.status == 200
        assert f"docker pull {HOST}/gallery/ui@{image.digest}" in page.words
        for told in ("linux/amd64", "ADD files /", "USER app", "org.example.source", "signature", "/bin/serve"):
            assert told in page.words


def test_an_index_leads_to_what_it_lists(desk: Desk) -> None:
    stock = team(desk)
    image = stock.image("gallery/ui")
    stock.index("gallery/ui", "all", children=[(image, {"platform": {"os": "linux", "architecture": "riscv64"}})])
    page = desk.browser("jane").get("/console/manifests/all/gallery/ui")
    assert "linux/riscv64" in page.words
    assert f"/console/manifests/{image.digest}/gallery/ui" in page.text


def test_a_tag_is_removed_after_a_question(desk: Desk) -> None:
    stock = team(desk)
    stock.image("gallery/ui", "v1", "latest")
    jane = desk.browser("jane")

    question = jane.get("/console/removals/v1/gallery/ui")
    done = jane.fill("/console/removals/v1/gallery/ui")

    assert question.heading == "Remove tag v1 of gallery/ui?"
    assert "its manifest stays" in question.words
    after = jane.follow(done)
    assert "Removed." in after.words
    assert "v1" not in after.words
    assert "latest" in after.words


def test_a_manifest_is_removed_with_what_was_told_to_go(desk: Desk) -> None:
    stock = team(desk)
    image = stock.image("gallery/ui", "v1", "latest")
    stock.image("gallery/ui", "other", layers=[b"other"])
    index = stock.index("gallery/ui", "all", children=[(image, {})])
    jane = desk.browser("jane")
    address = f"/console/removals/{image.digest}/gallery/ui"

    question = jane.get(address)
    assert "With it: 2 tags, latest, v1." in question.words
    assert f"in 1 index of this repository: {index.digest.text[:19]}" in question.words
    after = jane.follow(jane.fill(address))
    assert "latest" not in after.words
    assert "other" in after.words


def test_a_repository_is_removed_once_its_name_was_typed(desk: Desk) -> None:
    team(desk).image("gallery/ui", "v1")
    jane = desk.browser("jane")
    address = "/console/repository-removals/gallery/ui"
    wrong = jane.fill(address, typed="gallery/u")
    assert (wrong.status, wrong.error("typed")) == (422, "Type gallery/ui to confirm.")
    after = jane.follow(jane.fill(address, typed="gallery/ui"))
    assert "gallery/ui" not in after.words


def test_a_tag_that_moved_meanwhile_is_kept_and_shown_again(desk: Desk) -> None:
    stock = team(desk)
    old = stock.image("gallery/ui", "v1")
    stock.image("gallery/ui", "v1", layers=[b"newer"])
    jane = desk.browser("jane")
    answer = jane.post("/console/removals/v1/gallery/ui", {"digest": old.digest.text})
    assert answer.status == 422
    assert "was moved" in answer.words
    assert "v1" in jane.get("/console/repositories/gallery/ui").words


def test_a_rule_takes_the_button_away(desk: Desk) -> None:
    team(desk).image("gallery/ui", "v1")
    desk.run(desk.acts.projects.set_project(stock_of(desk, "jane").who, "gallery", immutable=["v*"]))
    page = desk.browser("jane").get("/console/removals/v1/gallery/ui")
    assert "v*" in page.words
    assert '<form class="card danger' not in page.text


def test_who_may_only_pull_finds_no_button_and_is_refused(desk: Desk) -> None:
    image = team(desk).image("gallery/ui", "v1")
    reader = desk.browser("reader")
    for path in ("repositories/gallery/ui", "manifests/v1/gallery/ui"):
        page = reader.get(f"/console/{path}")
        assert page.status == 200
        assert "removals" not in page.text
    for path in ("removals/v1/gallery/ui", f"removals/{image.digest}/gallery/ui", "repository-removals/gallery/ui"):
        assert reader.get(f"/console/{path}").status == 403
        assert reader.post(f"/console/{path}", {"typed": "gallery/ui"}).status in {403, 422}
    assert "v1" in reader.get("/console/repositories/gallery/ui").words


#: Every page about something of a project, and every act.
PAGES = (
    "projects/{project}",
    "projects/{project}/access",
    "projects/{project}/access?repository={project}/ui",
    "repositories/{project}/ui",
    "repositories/{project}/ui?q=v",
    "manifests/v1/{project}/ui",
    "manifests/{digest}/{project}/ui",
    "removals/v1/{project}/ui",
    "removals/{digest}/{project}/ui",
    "repository-removals/{project}/ui",
    "access?account=jane&project={project}",
)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_of_another_project_is_refused_as_if_it_were_not_there(desk: Desk, method: str) -> None:
    image = team(desk).image("gallery/ui", "v1")
    joe = desk.browser("joe")
    for page in PAGES:
        answers = []
        for project in ("gallery", "nowhere"):
            path = "/console/" + page.format(project=project, digest=image.digest)
            answer = joe.get(path) if method == "GET" else joe.post(path, {"typed": f"{project}/ui", "digest": ""})
            answers.append((answer.status, answer.words.replace(project, "it")))
        assert answers[0] == answers[1], page
        assert answers[0][0] >= 400, page
    assert "v1" in desk.browser("jane").get("/console/repositories/gallery/ui").words


def test_an_auditor_sees_access_and_no_content(desk: Desk) -> None:
    team(desk).image("gallery/ui", "v1")
    auditor = desk.browser("auditor", auditor=True)
    assert "gallery/ui" not in auditor.get("/console/projects/gallery").words
    assert auditor.get("/console/repositories/gallery/ui").status == 403
    assert auditor.get("/console/manifests/v1/gallery/ui").status == 403
    assert auditor.get("/console/projects/gallery/access?repository=gallery/ui").status == 200


def test_a_page_stays_light_whatever_was_pushed(desk: Desk) -> None:
    stock = team(desk)
    annotations = {f"{number:03}{'n' * 100}": "x" * 3000 for number in range(150)}
    config = {**AMD64, "history": [{"created_by": "y" * 3000}] * 300, "config": {"Cmd": ["z" * 3000] * 50}}
    stock.image("gallery/ui", "v1", config=config, layers=[b"%d" % n for n in range(60)], annotations=annotations)
    page = desk.browser("jane").get("/console/manifests/v1/gallery/ui")
    assert page.status == 200
    assert len(page.text.encode()) <= 100_000
