"""Runs by HTTP: asked for, followed, listed, ended; idempotent, and kept."""

from cli_lab import by_path, skill, skills
from service_lab import ServiceLab


async def test_a_run_is_carried_out_and_told_of(lab: ServiceLab) -> None:
    skills(lab.inputs, 3)
    (lab.inputs / "bad.zip").write_bytes(skill("evil"))
    async with lab.service() as service, lab.serving(lab.settings(service)) as serving:
        reply = await serving.post("/runs", {"sources": [str(lab.inputs)]})
        assert reply.status == 202
        run_id = reply.json["run_id"]
        assert reply.headers["Location"] == f"/api/v1/runs/{run_id}"
        run = await serving.ended(run_id)
        assert run["state"] == "complete"
        assert run["summary"]["counts"]["scanned"] == 4
        assert run["summary"]["verdicts"]["malicious"] == 1
        rows = by_path(lab.rows_of(4, lab.report_of(run_id)))
        assert rows["bad.zip"]["verdict"] == "malicious"
        again = await serving.ended((await serving.order({"sources": [str(lab.inputs)]}))["run_id"])
        assert again["summary"]["counts"]["reused"] == 4
        assert service.creates.total() == 4
