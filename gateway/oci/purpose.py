"""What a manifest is for, as its types and annotations tell it: the word of its pusher, for which nobody vouches."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from gateway.oci.media import INDEX_MEDIA_TYPES


class Purpose(StrEnum):
    """The closed set of purposes people look for."""

    IMAGE = "image"
    INDEX = "index"
    SIGNATURE = "signature"
    SBOM = "SBOM"
    ATTESTATION = "attestation"
    REPORT = "report"
    CHART = "Helm chart"
    ARTIFACT = "artifact"


_IMAGE_CONFIGS: Final = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
#: By the whole artifact type, or the media type of a layer: cosign's older artifacts have the type of an image.
_TYPES: Final = {
    "application/vnd.dev.cosign.artifact.sig.v1+json": Purpose.SIGNATURE,
    "application/vnd.dev.cosign.simplesigning.v1+json": Purpose.SIGNATURE,
    "application/vnd.cncf.notary.signature": Purpose.SIGNATURE,
    "application/vnd.cncf.notary.v2.signature": Purpose.SIGNATURE,
    "application/vnd.dev.cosign.artifact.sbom.v1+json": Purpose.SBOM,
    "application/spdx+json": Purpose.SBOM,
    "application/spdx+xml": Purpose.SBOM,
    "text/spdx": Purpose.SBOM,
    "text/spdx+json": Purpose.SBOM,
    "text/spdx+xml": Purpose.SBOM,
    "application/vnd.cyclonedx": Purpose.SBOM,
    "application/vnd.cyclonedx+json": Purpose.SBOM,
    "application/vnd.cyclonedx+xml": Purpose.SBOM,
    "application/vnd.syft+json": Purpose.SBOM,
    "application/vnd.in-toto+json": Purpose.ATTESTATION,
    "application/vnd.dsse.envelope.v1+json": Purpose.ATTESTATION,
    "application/vnd.dev.cosign.artifact.attestation.v1+json": Purpose.ATTESTATION,
    "application/sarif+json": Purpose.REPORT,
    "application/vnd.aquasec.trivy.report.sarif.v1": Purpose.REPORT,
    "application/vnd.cncf.helm.config.v1+json": Purpose.CHART,
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip": Purpose.CHART,
}
#: A bundle holds either; what it holds stands in an annotation.
_BUNDLE: Final = "application/vnd.dev.sigstore.bundle"
_BUNDLED: Final = "dev.sigstore.bundle.content"
_PREDICATE: Final = "dev.sigstore.bundle.predicateType"
_PREDICATES: Final = {"spdx": Purpose.SBOM, "cyclonedx": Purpose.SBOM, "vuln": Purpose.REPORT}
_BUILDKIT: Final = "vnd.docker.reference.type"
#: The endings of the tags under which cosign kept what is about `sha256:…` before there were referrers.
COMPANIONS: Final = {"sig": Purpose.SIGNATURE, "att": Purpose.ATTESTATION, "sbom": Purpose.SBOM}


def purpose_of(
    media_type: str, artifact_type: str | None, annotations: Mapping[str, str], layers: tuple[str, ...] = ()
) -> Purpose:
    """
    What a manifest of these types is for; *layers* are the media types of its layers, when they are known.

    An attestation that says of itself to be a bill of materials is one.
    """
    if annotations.get(_BUILDKIT) == "attestation-manifest":
        return Purpose.ATTESTATION
    kind = artifact_type or ""
    if kind.startswith(_BUNDLE):
        return _bundled(annotations)
    found = _TYPES.get(kind) or next((_TYPES[layer] for layer in layers if layer in _TYPES), None)
    if found is not None:
        return _attested(annotations) or found if found is Purpose.ATTESTATION else found
    if media_type in INDEX_MEDIA_TYPES and not kind:
        return Purpose.INDEX
    return Purpose.IMAGE if not kind or kind in _IMAGE_CONFIGS else Purpose.ARTIFACT


def companions(digest: str) -> dict[str, Purpose]:
    """The tags under which cosign keeps what is about the manifest *digest*, with what each is for."""
    stem = digest.replace(":", "-", 1)
    return {f"{stem}.{ending}": purpose for ending, purpose in COMPANIONS.items()}


def _bundled(annotations: Mapping[str, str]) -> Purpose:
    if annotations.get(_BUNDLED) == "message-signature":
        return Purpose.SIGNATURE
    return _attested(annotations) or Purpose.ATTESTATION


def _attested(annotations: Mapping[str, str]) -> Purpose | None:
    said = annotations.get(_PREDICATE, "").lower()
    return next((purpose for word, purpose in _PREDICATES.items() if word in said), None)
