"""The signature against the vendor's worked examples and against its SDK."""

# the vendor's SDK, a witness only, has no types
# mypy: disable-error-code="import-untyped"

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tencentcloud.common import abstract_client
from tencentcloud.common.abstract_client import AbstractClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.http.request import RequestInternal
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from batchscan.api import signature

VECTORS = json.loads((Path(__file__).parent / "data" / "golden_vectors.json").read_text("utf-8"))


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def signed_headers(vector: dict[str, Any]) -> list[tuple[str, str]]:
    block = vector["canonical_request"].split("\n\n", 2)[1]
    pairs = [line.split(":", 1) for line in block.splitlines()]
    return [(name, value) for name, value in pairs]


@pytest.mark.parametrize("vector", VECTORS, ids=named)
def test_golden_vector(vector: dict[str, Any]) -> None:
    assert (
        signature.signature(
            secret_key=vector["secret_key"],
            timestamp=vector["timestamp"],
            service=vector["service"],
            signed_headers=signed_headers(vector),
            payload_hash=vector["canonical_request"].rpartition("\n")[2],
        )
        == vector["signature"]
    )


@pytest.mark.parametrize("vector", [v for v in VECTORS if "authorization" in v], ids=named)
def test_golden_authorization(vector: dict[str, Any]) -> None:
    unsigned = vector["headers"].get("X-TC-Content-SHA256")
    hashed = (unsigned or vector["body"]).encode()
    assert (
        signature.authorization(
            secret_id=vector["secret_id"],
            secret_key=vector["secret_key"],
            host=vector["headers"]["Host"],
            content_type=vector["headers"]["Content-Type"],
            timestamp=vector["timestamp"],
            payload_hash=signature.payload_sha256(hashed),
        )
        == vector["authorization"]
    )
    assert unsigned in {None, signature.UNSIGNED_PAYLOAD}


def test_values_are_trimmed_and_lowered_for_the_verifier() -> None:
    def sign(value: str) -> str:
        return signature.signature(
            secret_key="k",
            timestamp=1551113065,
            service="cvm",
            signed_headers=[("x-tc-action", value)],
            payload_hash="0" * 64,
        )

    assert sign(" DescribeInstances ") == sign("describeinstances") != sign("describeinstance")


KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
HOSTS = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,40}(:[1-9][0-9]{0,4})?", fullmatch=True)
FIELDS = st.dictionaries(st.text(max_size=20), st.text(max_size=50) | st.integers(), max_size=4)


@settings(max_examples=300, deadline=None)
@given(KEYS, KEYS, HOSTS, FIELDS, st.integers(0, 4_102_444_799))
def test_equals_the_official_sdk(
    secret_id: str, secret_key: str, host: str, fields: dict[str, Any], timestamp: int
) -> None:
    client = AbstractClient(
        Credential(secret_id, secret_key), "", ClientProfile(httpProfile=HttpProfile(endpoint=host))
    )
    client._service, client._apiVersion = "csip", "2022-11-21"
    request = RequestInternal(host, "POST", "/")
    with mock.patch.object(abstract_client.time, "time", return_value=float(timestamp)):
        client._build_req_with_tc3_signature("CreateSkillScan", fields, request)
    assert request.header["Authorization"] == signature.authorization(
        secret_id=secret_id,
        secret_key=secret_key,
        host=host,
        content_type="application/json",
        timestamp=timestamp,
        payload_hash=signature.payload_sha256(request.data.encode()),
    )
