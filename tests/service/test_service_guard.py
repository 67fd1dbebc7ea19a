"""What a request must be to be let in: whose, from where, of which size; and what no answer is without."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cli_lab import TOKEN, skills
from service_lab import API, JSON, Reply, ServiceLab, Serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_BODY = 4096


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serving(shared_lab: ServiceLab) -> AsyncIterator[Serving]:
    """Of the embedded endpoint, and with a token."""
    secret(shared_lab.path / "token", TOKEN)
    keys = {"token_file": "token", "max_body": MAX_BODY, "max_streams": 2}
    async with shared_lab.serving(shared_lab.settings(None, keys), token=TOKEN) as serving:
        yield serving


def secret(path: Path, text: str) -> None:
    """Put a token in place as one should: a new file, renamed over the old one."""
    new = path.with_suffix(".new")
    new.write_text(text + "\n")
    new.chmod(0o600)
    new.replace(path)


async def bare(serving: Serving, path: str, headers: dict[str, str], method: str = "GET") -> Reply:
    """Ask without the token that the lab sends otherwise."""
    async with serving.http.request(method, serving.url + path, headers=headers) as reply:
        return Reply(reply.status, reply.headers, await reply.text())


async def test_nothing_is_told_without_the_token(serving: Serving) -> None:
    wrong: tuple[dict[str, str], ...] = (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer \u00e9\u00e9"},
        {"Authorization": TOKEN},
        {"Cookie": f"token={TOKEN}"},
    )
    for headers in wrong:
        for path in (f"{API}/runs", f"{API}/openapi.json", f"{API}/events", "/metrics", "/nothing-here"):
            reply = await bare(serving, path, headers)
            reply.problem(401, "unauthorized")
            assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await bare(serving, f"{API}/runs?token={TOKEN}", {})).status == 401
    assert (await bare(serving, f"{API}/runs", {"Authorization": f"bearer  {TOKEN} "})).status == 200
    for path in ("/healthz", "/readyz"):
        assert (await bare(serving, path, {})).status == 200


async def test_a_token_is_rotated_without_a_restart(serving: Serving, shared_lab: ServiceLab) -> None:
    path, other = shared_lab.path / "token", TOKEN[::-1]

    async def answer(token: str) -> int:
        return (await bare(serving, f"{API}/runs", {"Authorization": f"Bearer {token}"})).status

    async def turned(token: str, status: int) -> None:
        while await answer(token) != status:  # noqa: ASYNC110 - the file is looked at once a second
            await asyncio.sleep(0.1)

    secret(path, other)
    await turned(other, 200)
    assert await answer(TOKEN) == 401
    path.chmod(0o644)  # others can read it: it is no secret any more
    await turned(other, 401)
    path.unlink()
    assert await answer(other) == 401
    assert await answer("") == 401
    secret(path, TOKEN)
    await turned(TOKEN, 200)
    assert await answer(other) == 401


async def test_pages_of_others_get_nothing_done(serving: Serving) -> None:
    order = {"sources": ["/"]}
    for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "a b"):
        (await serving.get("/runs", headers={"Host": name})).problem(421, "misdirected")
    port = serving.url.rpartition(":")[2]
    for name in (f"localhost:{port}", "localhost", "127.0.0.1", "LOCALHOST"):
        assert (await serving.get("/runs", headers={"Host": name})).status == 200
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"{serving.url}.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        (await serving.post("/runs", order, headers=headers)).problem(403, "forbidden")
    own = {"Origin": serving.url, "Sec-Fetch-Site": "same-origin"}
    (await serving.post("/runs", order, headers=own)).problem(403, "outside-roots")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        sent = {"Content-Type": kind}
        reply = await serving.ask("POST", f"{API}/runs", data=json.dumps(order), headers=sent)
        reply.problem(415, "unsupported-media-type")
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    reply = await serving.ask("OPTIONS", f"{API}/runs", headers=preflight)
    assert reply.status in (403, 405)
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]


async def test_every_answer_has_its_headers(serving: Serving) -> None:
    ids = set()
    for reply in (
        await serving.get("/runs"),
        await serving.get("/nothing"),
        await serving.ask("PUT", f"{API}/runs"),
        await serving.ask("GET", "/healthz"),
        await bare(serving, f"{API}/runs", {}),
    ):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Server"] == "batchscan"
        ids.add(reply.headers["X-Request-ID"])
    assert len(ids) == 5
    given = await serving.get("/runs", headers={"X-Request-ID": "from-the-runbook.7"})
    assert given.headers["X-Request-ID"] == "from-the-runbook.7"
    forged = await serving.get("/runs", headers={"X-Request-ID": "a" * 65})
    assert forged.headers["X-Request-ID"] != "a" * 65


async def test_refusals_say_what_and_where(serving: Serving) -> None:
    (await serving.get("/nothing")).problem(404, "not-found")
    (await serving.get("/runs/20260501T020000Z-0badcafe")).problem(404, "not-found")
    (await serving.get("/runs/..%2f..%2fetc")).problem(404, "not-found")
    (await serving.get("/files/" + "0" * 64)).problem(404, "not-found")
    (await serving.get("/files", params={"path": "nowhere.zip"})).problem(404, "not-found")
    reply = await serving.ask("DELETE", f"{API}/runs")
    reply.problem(405, "method-not-allowed")
    assert {name.strip() for name in reply.headers["Allow"].split(",")} == {"GET", "POST"}
    for body in (b"", b"{", b"\xff", b"[" * 2000, b'{"sources": '):
        (await serving.ask("POST", f"{API}/runs", data=body, headers=JSON)).problem(400, "bad-request")
    for order, where in (
        ({}, "body"),
        ({"sources": []}, "body"),
        ({"sources": ["/a"], "rescan": {"which": "all"}}, "body"),
        ({"sources": "/a"}, "body/sources"),
        ({"sources": ["/a"], "priority": 101}, "body/priority"),
        ({"sources": ["/a"], "priority": "7"}, "body/priority"),
        ({"sources": ["/a"], "priority": True}, "body/priority"),
        ({"sources": ["/a"], "output": "/etc/passwd"}, "body/output"),
        ({"sources": ["/a"], "fail_on": "benign"}, "body/fail_on"),
        ({"rescan": {"which": "verdict", "value": "odd"}}, "body/rescan/verdict/value"),
        ({"rescan": {"which": "everything"}}, "body/rescan"),
        ({"sources": ["/a"] * 501}, "body/sources"),
        ([], "body"),
    ):
        document = (await serving.post("/runs", order)).problem(422, "invalid")
        assert document["errors"][0]["where"] == where
    for query in (
        "limit=0",
        "limit=101",
        "limit=x",
        "state=odd",
        "before=x",
        "limit=1&limit=2",
        "nonsense=1",
    ):
        (await serving.get(f"/runs?{query}")).problem(422, "invalid")
    (await serving.post("/runs", {"sources": ["/a"]}, headers={"Idempotency-Key": "a b"})).problem(
        422, "invalid"
    )
    (await serving.post("/runs", {"sources": ["/a"], "endpoint": "https://evil.example"})).problem(
        403, "outside-roots"
    )
    rescan = {"rescan": {"which": "all"}, "endpoint": "https://evil.example"}
    (await serving.post("/runs", rescan)).problem(404, "no-such-endpoint")


async def test_what_is_too_large_is_not_read(serving: Serving) -> None:
    huge = b'{"sources": ["/' + b"a" * MAX_BODY + b'"]}'
    (await serving.ask("POST", f"{API}/runs", data=huge, headers=JSON)).problem(413, "too-large")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    (await serving.ask("POST", f"{API}/runs", data=endless(), headers=JSON)).problem(413, "too-large")
    assert (await serving.get("/runs")).status == 200


async def test_streams_are_bounded(serving: Serving) -> None:
    first, second = serving.events("/events"), serving.events("/events")
    await anext(first)
    await anext(second)
    reply = await serving.get("/events")
    reply.problem(503, "unavailable")
    assert reply.headers["Retry-After"]
    await first.aclose()
    while (await closing(serving)) == 503:  # noqa: ASYNC110 - it is noticed in another process
        await asyncio.sleep(0.1)
    await second.aclose()


async def closing(serving: Serving) -> int:
    """Open a stream and leave it; tell whether there was room."""
    async with serving.http.get(f"{serving.url}{API}/events", headers=serving.headers) as reply:
        return reply.status


async def test_no_source_leads_out_of_the_roots(serving: Serving, shared_lab: ServiceLab) -> None:
    root, outside = shared_lab.inputs, shared_lab.path / "outside"
    skills(outside, 2, "outside")
    skills(root / "in", 1, "inside")
    skills(shared_lab.path / "in-and-more", 1, "neighbour")
    (root / "link").symlink_to(outside)
    (root / "relative").symlink_to("../outside/../outside")
    (root / "chain").symlink_to("link")
    (root / "file.zip").symlink_to(outside / "outside-0000.zip")
    (root / "loop").symlink_to("loop")
    (root / "list.txt").symlink_to("/etc/passwd")
    for name in (
        str(outside),
        f"{root}/../outside",
        f"{root}/in/../../outside",
        f"{root}/link",
        f"{root}/link/outside-0000.zip",
        f"{root}/relative",
        f"{root}/chain",
        f"{root}/file.zip",
        f"{root}/loop",
        f"{root}/nothing",
        f"{root}/in\0",
        f"{root}-and-more",
        f"{shared_lab.path}/in-and-more",
        "/",
        "/etc",
        "in",
        "./in",
        "~/in",
        "-",
        "//etc/passwd",
        "/proc/self/root/etc",
        f"{root}/in/inside-0000.zip/x",
        "/" + "a" * 4000,
    ):
        for key in ("sources", "manifests"):
            reply = await serving.post("/runs", {key: [name]})
            reply.problem(403, "outside-roots")
            assert "root:" not in reply.text
    (await serving.post("/runs", {"manifests": [f"{root}/list.txt"]})).problem(403, "outside-roots")
    assert (await serving.get("/runs")).json["runs"] == []
    for name in (f"{root}/in", f"{root}//in/.", str(root / "in" / "inside-0000.zip")):
        run = await serving.ended((await serving.order({"sources": [name]}))["run_id"])
        assert run["summary"]["inputs"] == 1


async def test_links_and_lists_inside_lead_nowhere_else(serving: Serving, shared_lab: ServiceLab) -> None:
    root, outside = shared_lab.inputs / "tree", shared_lab.path / "secrets"
    (secret_zip,) = skills(outside, 1, "hidden")
    (good,) = skills(root, 1, "good")
    (root / "link.zip").symlink_to(secret_zip)
    (root / "inner.zip").symlink_to(good)
    (root / "way-out").symlink_to(outside)
    run = await serving.ended((await serving.order({"sources": [str(root)]}))["run_id"])
    rows = outcomes(shared_lab, run)
    assert rows == {"good-0000.zip": None, "inner.zip": None, "link.zip": "outside-roots"}
    assert run["summary"]["skipped"] == {"symlink-leads-out-of-roots": 1}
    listed = root / "list.jsonl"
    names = [
        str(good),
        str(secret_zip),
        "../../secrets/hidden-0000.zip",
        "/etc/passwd",
        "way-out/hidden-0000.zip",
    ]
    listed.write_text("".join(json.dumps({"path": name}) + "\n" for name in names))
    run = await serving.ended((await serving.order({"manifests": [str(listed)]}))["run_id"])
    rows = outcomes(shared_lab, run)
    assert rows == {str(good): None} | dict.fromkeys(names[1:], "outside-roots")
    known = await serving.get("/files", params={"path": str(secret_zip)})
    assert known.status == 404, "it was read"
    # nor is told what the operator has found out about it; an old file is not read twice
    os.utime(secret_zip, (1_700_000_000, 1_700_000_000))
    done = await shared_lab.run("scan", outside, root / "link.zip", "--state-dir", shared_lab.state)
    assert done.code == 0, done.err
    run = await serving.ended((await serving.order({"sources": [str(root)]}))["run_id"])
    assert outcomes(shared_lab, run)["link.zip"] == "outside-roots"


def outcomes(lab: ServiceLab, run: dict[str, Any]) -> dict[str, str | None]:
    rows = lab.rows(lab.report_of(run["run_id"]))
    return {row["path"]: None if row["error"] is None else row["error"]["code"] for row in rows}
