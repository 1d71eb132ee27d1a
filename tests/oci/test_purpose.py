"""What a manifest is for, by its types and annotations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oci.media import OCI_INDEX, OCI_MANIFEST
from gateway.oci.purpose import Purpose, companions, purpose_of

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


@pytest.mark.parametrize(
    ("media_type", "artifact_type", "annotations", "layers", "purpose"),
    [
        (OCI_MANIFEST, CONFIG, {}, (), Purpose.IMAGE),
        (OCI_MANIFEST, None, {}, (), Purpose.IMAGE),
        (OCI_INDEX, None, {}, (), Purpose.INDEX),
        (OCI_MANIFEST, "application/vnd.cncf.notary.signature", {}, (), Purpose.SIGNATURE),
        (OCI_MANIFEST, "application/spdx+json", {}, (), Purpose.SBOM),
        (OCI_MANIFEST, "application/vnd.cyclonedx+json", {}, (), Purpose.SBOM),
        (OCI_MANIFEST, "application/vnd.in-toto+json", {}, (), Purpose.ATTESTATION),
        (OCI_MANIFEST, "application/sarif+json", {}, (), Purpose.REPORT),
        (OCI_MANIFEST, "application/vnd.cncf.helm.config.v1+json", {}, (), Purpose.CHART),
        (OCI_MANIFEST, "application/x.mine", {}, (), Purpose.ARTIFACT),
        (OCI_MANIFEST, BUNDLE, {"dev.sigstore.bundle.content": "message-signature"}, (), Purpose.SIGNATURE),
        (OCI_MANIFEST, BUNDLE, {"dev.sigstore.bundle.content": "dsse-envelope"}, (), Purpose.ATTESTATION),
        (
            OCI_MANIFEST,
            BUNDLE,
            {"dev.sigstore.bundle.predicateType": "https://spdx.dev/Document/v2.3"},
            (),
            Purpose.SBOM,
        ),
        (OCI_MANIFEST, CONFIG, {}, ("application/vnd.dev.cosign.simplesigning.v1+json",), Purpose.SIGNATURE),
        (OCI_MANIFEST, CONFIG, {"vnd.docker.reference.type": "attestation-manifest"}, (), Purpose.ATTESTATION),
    ],
)
def test_signatures_boms_and_attestations_are_told_from_images(
    media_type: str, artifact_type: str | None, annotations: dict[str, str], layers: tuple[str, ...], purpose: Purpose
) -> None:
    assert purpose_of(media_type, artifact_type, annotations, layers) is purpose


def test_what_cosign_keeps_under_tags_is_found_by_the_digest() -> None:
    found = companions("sha256:" + "a" * 64)
    assert found[f"sha256-{'a' * 64}.sig"] is Purpose.SIGNATURE
    assert len(found) == 3


@given(st.text(), st.none() | st.text(), st.dictionaries(st.text(), st.text()), st.lists(st.text()))
def test_whatever_is_written_has_some_purpose(
    media_type: str, artifact_type: str | None, annotations: dict[str, str], layers: list[str]
) -> None:
    assert purpose_of(media_type, artifact_type, annotations, tuple(layers)) in Purpose
