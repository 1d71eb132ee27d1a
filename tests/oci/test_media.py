import pytest

from gateway.oci.media import MANIFEST_MEDIA_TYPES, essence, is_distributable, is_media_type


@pytest.mark.parametrize(
    "text",
    [
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "text/plain",
        "a/b",
        "application/vnd.cncf.helm.config.v1+json",
        "a" * 127 + "/" + "b" * 127,
        *sorted(MANIFEST_MEDIA_TYPES),
    ],
)
def test_registered_shapes_are_media_types(text: str) -> None:
    assert is_media_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "/",
        "a/",
        "/b",
        "a/b/c",
        "a/b\n",
        "a b/c",
        "a/b;c=d",
        ".a/b",
        "a/+b",
        "é/b",
        "a/b<script>",
        "a" * 128 + "/b",
        "a/" + "b" * 128,
    ],
)
def test_other_shapes_are_not(text: str) -> None:
    assert not is_media_type(text)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, ""),
        ("", ""),
        (" Text/PLAIN ; charset=utf-8", "text/plain"),
        ("a/b;", "a/b"),
        ("application/vnd.doc\u212aer", ""),
    ],
)
def test_essence_is_the_type_alone_in_lower_case(header: str | None, expected: str) -> None:
    assert essence(header) == expected


def test_layers_that_may_not_be_handed_on_are_recognised() -> None:
    assert not is_distributable("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd")
    assert not is_distributable("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    assert is_distributable("application/vnd.oci.image.layer.v1.tar+gzip")
