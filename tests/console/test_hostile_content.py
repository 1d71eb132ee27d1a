"""Whatever a client controls is text on every page: nothing of it becomes markup, an address or a command."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import quote

import pytest

from tests.administration.stocking import EMPTY, Stock
from tests.console.browsing import Desk, Sheet
from tests.console.hostile import CORPUS, wrong_in
from tests.console.stocked import team

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SOME_OR_ALL = (CORPUS[:4], pytest.param(CORPUS, marks=pytest.mark.long))


def hostile_image(stock: Stock, repository: str, text: str) -> tuple[str, str]:
    """An image in which everything that a pusher writes is *text*, and what refers to it; its and an index's digest."""
    config: dict[str, Any] = {
        "os": text,
        "architecture": text,
        "variant": text,
        "created": text,
        "author": text,
        "config": {"User": text, "WorkingDir": text, "Entrypoint": [text], "Cmd": [text], "ExposedPorts": {text: {}}},
        "history": [
            {"created": text, "created_by": text, "comment": text},
            {"created_by": text, "empty_layer": True},
        ],
    }
    annotations = {text: text, "org.opencontainers.image.source": text}
    image = stock.image(repository, "v1", config=config, annotations=annotations)
    stock.about(repository, image, text, annotations={**annotations, "dev.sigstore.bundle.content": text})
    stock.image(repository, "artifact", config=b"{}", config_type=EMPTY, artifactType=text)
    platform = {"os": text, "architecture": text, "variant": text}
    listed = {"platform": platform, "annotations": {"vnd.docker.reference.digest": text}, "artifactType": text}
    index = stock.index(repository, "index", children=[(image, listed)])
    return image.digest.text, index.digest.text


def sound(page: Sheet) -> None:
    assert page.status in {200, 403, 404, 422}, page.words
    assert wrong_in(page.text) == []
    assert page.header("content-security-policy") == POLICY
    assert page.header("x-content-type-options") == "nosniff"


@pytest.mark.parametrize("corpus", SOME_OR_ALL)
def test_what_a_pusher_writes_is_shown_as_it_was_written(desk: Desk, corpus: tuple[str, ...]) -> None:
    stock, jane = team(desk), desk.browser("jane")
    for number, text in enumerate(corpus):
        repository = f"gallery/r{number}"
        image, index = hostile_image(stock, repository, text)
        for reference in ("v1", image, "index", index, "artifact"):
            page = jane.get(f"/console/manifests/{reference}/{repository}")
            assert page.status == 200
            sound(page)
            if reference in {"v1", image}:
                assert text in html.unescape(page.text)
        for path in (f"repositories/{repository}", "removals/v1/" + repository, f"removals/{image}/{repository}"):
            sound(jane.get(f"/console/{path}"))
    sound(jane.get("/console/projects/gallery"))


@pytest.mark.parametrize("corpus", SOME_OR_ALL)
def test_what_stands_in_an_address_is_text(desk: Desk, corpus: tuple[str, ...]) -> None:
    team(desk).image("gallery/ui", "v1")
    jane = desk.browser("jane")
    for text in corpus:
        jane.agent = text.encode("ascii", "replace").decode()
        said = quote(text, safe="")
        for path in (
            f"projects/gallery?q={said}",
            f"projects/gallery?after={said}&said={said}",
            f"repositories/gallery/ui?q={said}",
            f"repositories/gallery/ui?after={said}",
            f"access?account=jane&repository={said}",
            f"access?account={said}",
            f"projects/gallery/access?repository={said}",
            f"projects/gallery/access?repository=gallery/ui&after={said}",
        ):
            sound(jane.get(f"/console/{path}"))
        for path in (f"projects/{text}", f"repositories/gallery/{text}", f"manifests/{text}/gallery/ui"):
            if "?" not in path:
                page = jane.get(f"/console/{path}")
                assert page.status >= 400
                sound_refusal(page)
        answer = jane.post("/console/repository-removals/gallery/ui", {"typed": text})
        assert answer.status == 422
        sound_refusal(answer)


def sound_refusal(page: Sheet) -> None:
    assert wrong_in(page.text) == []
    assert page.header("content-security-policy") == POLICY


@pytest.mark.parametrize(
    "text",
    [
        '<script>"x"</script>',
        "<b onclick=x>",
        "<a href='javascript:x'>",
        "<!-- x -->",
        "<script src=/console/static/copy.js?v=0123456789ab></script>",
        "<script src='/console/static/copy.js?v=0123456789ab' defer>x</script>",
    ],
)
def test_the_test_itself_would_see_markup(text: str) -> None:
    assert wrong_in(f"<p>{text}</p>")
