import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ManifestInvalid, ManifestTooLarge, MediaTypeUnsupported
from gateway.oci.digest import Algorithm, Digest
from gateway.oci.manifest import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    ENTRIES,
    LIMIT_BYTES,
    MANIFEST_MEDIA_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    load,
)

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN_TYPE = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
Json = dict[str, Any]


def entry(name: str, media_type: str = LAYER_TYPE, **more: object) -> Json:
    return {"mediaType": media_type, "digest": str(Digest.of(name.encode())), "size": len(name), **more}


def digest_of(name: str) -> Digest:
    return Digest.of(name.encode())


def image(media_type: str = OCI_MANIFEST, **more: object) -> Json:
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": entry("config", CONFIG_TYPE),
        "layers": [entry("one"), entry("two")],
        **more,
    }


def index(media_type: str = OCI_INDEX, **more: object) -> Json:
    children = [entry("amd64", OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"})]
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": children, **more}


def read(document: object, content_type: str | None = None, **more: Any) -> Manifest:
    if content_type is None and isinstance(document, dict):
        content_type = document.get("mediaType", OCI_MANIFEST)
    return load(json.dumps(document).encode(), content_type, **more)


def refusal(document: object, content_type: str | None = None) -> str:
    with pytest.raises(ManifestInvalid) as refused:
        read(document, content_type)
    return refused.value.message


# what is accepted


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_image_is_loaded_with_everything_it_names(media_type: str) -> None:
    content = json.dumps(image(media_type, annotations={"a": "b"})).encode()
    manifest = load(content, media_type)
    assert manifest.media_type == media_type
    assert manifest.content == content
    assert manifest.digest == Digest.of(content)
    assert manifest.config == Descriptor(CONFIG_TYPE, digest_of("config"), 6)
    assert [layer.digest for layer in manifest.layers] == [digest_of("one"), digest_of("two")]
    assert manifest.manifests == ()
    assert not manifest.is_index
    assert manifest.subject is None
    assert manifest.artifact_type == CONFIG_TYPE
    assert manifest.annotations == {"a": "b"}
    assert manifest.required == (digest_of("config"), digest_of("one"), digest_of("two"))


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_MANIFEST_LIST])
def test_index_is_loaded_with_its_children(media_type: str) -> None:
    manifest = read(index(media_type))
    assert manifest.is_index
    assert manifest.config is None
    assert manifest.layers == ()
    assert manifest.artifact_type is None
    assert manifest.required == manifest.references == (digest_of("amd64"),)
    assert manifest.manifests[0].platform == {"os": "linux", "architecture": "amd64"}


def test_index_has_an_artifact_type_only_when_it_says_so() -> None:
    assert read(index(artifactType="application/example")).artifact_type == "application/example"


def test_own_artifact_type_goes_before_that_of_the_config() -> None:
    assert read(image(artifactType="application/example")).artifact_type == "application/example"
    assert read(image(artifactType="")).artifact_type == CONFIG_TYPE


def test_subject_is_kept_apart_from_what_must_exist() -> None:
    manifest = read(image(subject=entry("subject", OCI_MANIFEST)))
    assert manifest.subject is not None
    assert manifest.subject.digest == digest_of("subject")
    assert digest_of("subject") not in manifest.required + manifest.references
    assert read(index(subject=entry("subject", OCI_MANIFEST))).subject == manifest.subject


@pytest.mark.parametrize("media_type", [FOREIGN_TYPE, "application/vnd.oci.image.layer.nondistributable.v1.tar"])
def test_foreign_layers_are_named_but_need_not_exist(media_type: str) -> None:
    manifest = read(image(layers=[entry("far", media_type, urls=["http://169.254.169.254/"]), entry("one")]))
    assert manifest.layers[0].urls == ("http://169.254.169.254/",)
    assert manifest.required == (digest_of("config"), digest_of("one"))
    assert manifest.references == (digest_of("config"), digest_of("far"), digest_of("one"))


def test_digest_that_occurs_twice_is_required_once() -> None:
    manifest = read(image(layers=[entry("one"), entry("one"), entry("config")]))
    assert len(manifest.layers) == 3
    assert manifest.required == manifest.references == (digest_of("config"), digest_of("one"))


def test_index_may_hold_layers_as_build_caches_do() -> None:
    children = [entry("one"), entry("cache", "application/vnd.buildkit.cacheconfig.v0")]
    assert read(index(manifests=children)).required == (digest_of("one"), digest_of("cache"))


@pytest.mark.parametrize("empty", [[], None])
def test_layers_and_children_may_be_empty(empty: object) -> None:
    assert read(image(layers=empty)).required == (digest_of("config"),)
    assert read(index(manifests=empty)).required == ()


def test_oci_manifest_need_not_name_its_type() -> None:
    for document, media_type in ((image(), OCI_MANIFEST), (index(), OCI_INDEX)):
        del document["mediaType"]
        assert read(document, media_type).media_type == media_type


def test_unknown_fields_are_allowed_everywhere() -> None:
    document = image(org_example={"deep": [1, None]})
    document["config"]["unknown"] = 1
    assert read(document).config == read(image()).config


def test_absent_values_may_be_written_as_null() -> None:
    document = image(annotations=None, subject=None, artifactType=None)
    document["layers"][0].update(annotations=None, urls=None, platform=None, data=None, artifactType=None)
    assert read(document).layers == read(image()).layers


def test_descriptor_keeps_its_optional_fields() -> None:
    layer = entry("one", annotations={"title": "x"}, artifactType="application/example", urls=["a", "b"])
    assert read(image(layers=[layer])).layers == (
        Descriptor(LAYER_TYPE, digest_of("one"), 3, "application/example", {"title": "x"}, ("a", "b")),
    )


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_embedded_content_that_matches_is_allowed(algorithm: Algorithm) -> None:
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": str(Digest.of(b"{}", algorithm)),
        "size": 2,
        "data": base64.b64encode(b"{}").decode(),
    }
    assert read(image(config=empty)).config is not None


def test_embedded_content_of_another_size_is_refused() -> None:
    embedded = entry("one", data=base64.b64encode(b"one").decode())
    assert read(image(layers=[embedded])).layers == (Descriptor(LAYER_TYPE, digest_of("one"), 3),)
    assert "data" in refusal(image(layers=[embedded | {"size": 4}]))


def test_digest_is_taken_with_the_algorithm_asked_for() -> None:
    manifest = read(image(), algorithm=Algorithm.SHA512)
    assert manifest.digest == Digest.of(manifest.content, Algorithm.SHA512)


@pytest.mark.parametrize(
    "content_type",
    [
        OCI_MANIFEST,
        OCI_MANIFEST + "; charset=utf-8",
        OCI_MANIFEST + ";x=y;z",
        OCI_MANIFEST.upper(),
        f" {OCI_MANIFEST} ",
    ],
)
def test_parameters_and_case_of_the_content_type_do_not_matter(content_type: str) -> None:
    assert read(image(), content_type).media_type == OCI_MANIFEST


def test_nearly_four_mebibytes_of_annotations_are_allowed() -> None:
    annotations = {f"large-annotation-{place}": "A" * 10_000 for place in range(390)}
    manifest = read(image(annotations=annotations))
    assert len(manifest.content) > 3_900_000
    assert len(manifest.annotations) == 390


def test_manifest_describes_itself_to_a_list_of_referrers() -> None:
    manifest = read(image(annotations={"a": "b"}))
    assert manifest.descriptor == Descriptor(
        OCI_MANIFEST, manifest.digest, len(manifest.content), CONFIG_TYPE, {"a": "b"}
    )


def test_manifests_and_descriptors_can_be_members_of_a_set() -> None:
    assert len({read(image(annotations={"a": "b"})), read(image(annotations={"a": "b"}))}) == 1
    assert len(set(read(index()).manifests)) == 1


# what is refused


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        ";",
        "application/json",
        "text/html",
        "image/svg+xml",
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.oci.artifact.manifest.v1+json",
        OCI_MANIFEST + "x",
        "x" + OCI_MANIFEST,
        f"{OCI_MANIFEST}, {OCI_INDEX}",
        DOCKER_MANIFEST.replace("k", "\N{KELVIN SIGN}"),
        "application/<script>",
    ],
)
def test_other_content_types_are_refused_whatever_the_document_says(content_type: str | None) -> None:
    with pytest.raises(MediaTypeUnsupported) as refused:
        load(json.dumps(image()).encode(), content_type)
    assert "<script>" not in refused.value.message
    assert all(media_type in refused.value.message for media_type in MANIFEST_MEDIA_TYPES)


def test_size_is_judged_before_everything_else() -> None:
    content = json.dumps(image()).encode()
    assert load(content, OCI_MANIFEST, limit_bytes=len(content)).content == content
    with pytest.raises(ManifestTooLarge):
        load(content, "text/html", limit_bytes=len(content) - 1)
    with pytest.raises(ManifestTooLarge):
        load(b" " * (LIMIT_BYTES + 1), OCI_MANIFEST)


@pytest.mark.parametrize("version", [1, 3, "2", 2.0, True, None, [2]])
def test_schema_version_other_than_two_is_refused(version: object) -> None:
    assert "schemaVersion" in refusal(image(schemaVersion=version))


def test_missing_schema_version_is_refused() -> None:
    document = image()
    del document["schemaVersion"]
    assert "schemaVersion" in refusal(document)


@pytest.mark.parametrize(
    "named", [DOCKER_MANIFEST, OCI_INDEX, "", 7, ["x"], OCI_MANIFEST.upper(), OCI_MANIFEST + ";a=b"]
)
def test_media_type_that_differs_from_the_content_type_is_refused(named: object) -> None:
    assert "mediaType" in refusal(image(mediaType=named), OCI_MANIFEST)


def test_docker_manifest_without_its_type_is_refused() -> None:
    for document, media_type in ((image(), DOCKER_MANIFEST), (index(), DOCKER_MANIFEST_LIST)):
        del document["mediaType"]
        assert "mediaType" in refusal(document, media_type)


@pytest.mark.parametrize("media_type", sorted(MANIFEST_MEDIA_TYPES))
@pytest.mark.parametrize("extra", [[], None, [entry("one")]])
def test_document_of_two_kinds_is_refused(media_type: str, extra: object) -> None:
    for both in (image(media_type, manifests=extra), index(media_type, layers=extra), index(media_type, config=extra)):
        refusal(both)


def test_schema_one_in_disguise_is_refused() -> None:
    assert "fsLayers" in refusal(image(fsLayers=[]))


@pytest.mark.parametrize("name", ["config", "layers"])
def test_image_without_config_or_layers_is_refused(name: str) -> None:
    document = image()
    del document[name]
    assert name in refusal(document)


def test_index_without_children_is_refused() -> None:
    document = index()
    del document["manifests"]
    assert "manifests" in refusal(document)


@pytest.mark.parametrize("wrong", [{}, "x", 1, [1], [[]], [None]])
def test_lists_of_anything_but_descriptors_are_refused(wrong: object) -> None:
    assert "layers" in refusal(image(layers=wrong))
    assert "manifests" in refusal(index(manifests=wrong))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("mediaType", None),
        ("mediaType", ""),
        ("mediaType", 1),
        ("mediaType", "text"),
        ("mediaType", "a/b c"),
        ("mediaType", "a/b\n"),
        ("mediaType", "a/" + "b" * 300),
        ("digest", None),
        ("digest", 1),
        ("digest", ""),
        ("digest", "sha256:abc"),
        ("digest", "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ("digest", "sha256:" + "A" * 64),
        ("digest", "sha256:" + "a" * 64 + "\n"),
        ("size", None),
        ("size", -1),
        ("size", True),
        ("size", 1.0),
        ("size", "1"),
        ("size", 2**63),
        ("annotations", []),
        ("annotations", {"a": 1}),
        ("annotations", {"a": None}),
        ("annotations", {"a": {"b": "c"}}),
        ("urls", "http://x"),
        ("urls", [1]),
        ("urls", {}),
        ("urls", ["x"] * 65),
        ("platform", "linux"),
        ("platform", []),
        ("artifactType", 1),
        ("artifactType", "a" * 256),
        ("data", 1),
        ("data", ""),
        ("data", "%%%%"),
        ("data", "b25l\n"),
        ("data", base64.b64encode(b"two").decode()),
        ("data", base64.b64encode(b"ones").decode()),
    ],
)
def test_wrong_field_of_a_descriptor_is_refused_by_its_name(field: str, wrong: object) -> None:
    broken = entry("one")
    if wrong is None and field in broken:
        del broken[field]
    else:
        broken[field] = wrong
    for document, where in (
        (image(layers=[entry("zero"), broken]), "layers[1]"),
        (image(config=broken), "config"),
        (image(subject=broken), "subject"),
        (index(manifests=[broken]), "manifests[0]"),
    ):
        message = refusal(document)
        assert where in message
        assert field in message


def test_largest_size_is_allowed() -> None:
    assert read(image(layers=[entry("one") | {"size": 2**63 - 1}])).layers[0].size == 2**63 - 1


@pytest.mark.parametrize("wrong", [[], {"a": 1}, "x"])
def test_wrong_annotations_of_the_manifest_are_refused(wrong: object) -> None:
    assert "annotations" in refusal(image(annotations=wrong))


def test_too_many_entries_are_refused_though_their_bytes_would_fit() -> None:
    small = entry("one", "a/b")
    assert len(read(index(manifests=[small] * ENTRIES)).manifests) == ENTRIES
    assert "4096" in refusal(index(manifests=[small] * (ENTRIES + 1)))
    assert "4096" in refusal(image(layers=[small] * 10_000))


def test_too_many_annotations_are_refused() -> None:
    assert len(read(image(annotations={str(n): "" for n in range(4096)})).annotations) == 4096
    assert "annotations" in refusal(image(annotations={str(n): "" for n in range(4097)}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"not json",
        b"\xef\xbb\xbf{}",
        b"[" * 5000,
        b'{"a":' * 5000,
        b'{"schemaVersion":2,"schemaVersion":2}',
        b'{"schemaVersion":' + b"2" * 5000 + b"}",
        b'{"schemaVersion":NaN}',
        b'{"a":"\\ud800"}',
    ],
)
def test_documents_that_are_not_sound_json_objects_are_refused(content: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        load(content, OCI_MANIFEST)


def test_refusal_repeats_little_of_the_manifest() -> None:
    long = "x" * 10_000
    for document in (image(mediaType=long), image(config=entry("c") | {"digest": long}), image(annotations={long: 1})):
        message = refusal(document, OCI_MANIFEST)
        assert "x" * 60 in message
        assert "x" * 61 not in message


# properties

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.binary(max_size=100), st.one_of(st.none(), st.sampled_from(sorted(MANIFEST_MEDIA_TYPES)), st.text(max_size=20))
)
def test_arbitrary_bytes_raise_nothing_but_refusals(content: bytes, content_type: str | None) -> None:
    with pytest.raises(ManifestInvalid):
        load(content, content_type)


def paths(value: object, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [here] if here else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*here, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            found += paths(inner, (*here, place))
    return found


FULL_LAYER = entry(
    "one", annotations={"a": "b"}, urls=["u"], platform={"os": "x"}, data=base64.b64encode(b"one").decode()
)
FULL = image(layers=[FULL_LAYER], subject=entry("subject"), annotations={"k": "v"}, artifactType="a/b")


@given(st.sampled_from(paths(FULL)), json_values)
def test_no_mutation_of_a_manifest_raises_anything_but_a_refusal(path: tuple[str | int, ...], value: object) -> None:
    document: Any = copy.deepcopy(FULL)
    target = document
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    content = json.dumps(document).encode()
    try:
        manifest = load(content, OCI_MANIFEST)
    except ManifestInvalid:
        return
    assert manifest.content == content
    assert set(manifest.required) <= set(manifest.references)


names = st.text("abc", min_size=1, max_size=3)
entries = st.builds(entry, names, st.sampled_from([LAYER_TYPE, FOREIGN_TYPE]))
makers: st.SearchStrategy[Callable[[list[Json]], Json]] = st.sampled_from(
    [lambda found: image(layers=found), lambda found: index(manifests=found)]
)


@given(st.lists(entries, max_size=6), makers)
def test_requirements_are_exactly_the_distributable_references(
    found: list[Json], make: Callable[[list[Json]], Json]
) -> None:
    manifest = read(make(found))
    config = [] if manifest.is_index else [str(digest_of("config"))]
    named = config + [one["digest"] for one in found]
    needed = config + [one["digest"] for one in found if one["mediaType"] == LAYER_TYPE]
    assert [str(one) for one in manifest.references] == list(dict.fromkeys(named))
    assert [str(one) for one in manifest.required] == list(dict.fromkeys(needed))
