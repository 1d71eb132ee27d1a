import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.oci.descriptor import Descriptor
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import OCI_INDEX, OCI_MANIFEST, load
from gateway.oci.referrers import fallback_tag, index_entry, referrers_index

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=10)
descriptors = st.builds(
    Descriptor,
    media_type=st.just(OCI_MANIFEST),
    digest=st.binary().map(Digest.of),
    size=st.integers(0, 2**63 - 1),
    artifact_type=st.none() | st.just("application/example"),
    annotations=st.dictionaries(texts, texts, max_size=3),
)


def test_no_referrers_are_an_index_with_an_empty_list() -> None:
    assert json.loads(referrers_index([])) == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


def test_descriptor_says_what_it_has_and_nothing_else() -> None:
    digest = Digest.of(b"x")
    bare = Descriptor(OCI_MANIFEST, digest, 1, urls=("https://elsewhere",), platform={"os": "linux"})
    full = Descriptor(OCI_INDEX, digest, 2, "application/example", {"key": "välue"})
    assert json.loads(referrers_index(map(index_entry, [bare, full])))["manifests"] == [
        {"mediaType": OCI_MANIFEST, "size": 1, "digest": str(digest)},
        {
            "mediaType": OCI_INDEX,
            "size": 2,
            "digest": str(digest),
            "artifactType": "application/example",
            "annotations": {"key": "välue"},
        },
    ]


@given(st.lists(descriptors, max_size=5))
def test_index_of_referrers_is_a_manifest_we_accept_ourselves(listed: list[Descriptor]) -> None:
    assert list(load(referrers_index(map(index_entry, listed)), OCI_INDEX).manifests) == listed


@given(st.binary(), st.sampled_from(Algorithm))
def test_fallback_tag_is_algorithm_and_64_digits(content: bytes, algorithm: Algorithm) -> None:
    digest = Digest.of(content, algorithm)
    assert str(fallback_tag(digest)) == f"{algorithm.value}-{digest.hex[:64]}"
