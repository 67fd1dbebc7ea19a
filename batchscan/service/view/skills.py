"""A skill's history: all that was ever judged of one content, by every engine and at every endpoint."""

from typing import Any

from aiohttp import web

from batchscan.explain import Explanation, explain_all
from batchscan.pages.rendering import middle_cut, prose
from batchscan.service.guard import VIEW
from batchscan.service.keys import READER
from batchscan.service.operations import path_parameter
from batchscan.service.problems import RefusedError
from batchscan.service.view.rendering import page, see

_LONGEST = 4096
_SHOWN = 50  # files, verdicts and runs of one content


async def find_skill(request: web.Request) -> web.StreamResponse:
    """Find a skill by its path, or by its SHA-256 or the beginning of it."""
    name = request.query.get("name", "").strip()
    if not name:
        return page(request, "skills.html", name="", found=None)
    if len(name) > _LONGEST:
        raise RefusedError(422, f"a path has at most {_LONGEST} characters")
    found = await explain_all(request.app[READER], name)
    if len(found) == 1:
        return see(f"{VIEW}/skills/{found[0].sha256}")
    return page(request, "skills.html", name=name, found=found)


async def show_skill(request: web.Request) -> web.StreamResponse:
    """Show the history of a content."""
    sha256 = path_parameter(request, "sha256")
    found = [each for each in await explain_all(request.app[READER], sha256) if each.sha256 == sha256]
    if not found:
        raise RefusedError(404, "nothing is known of this content: scan it first")
    return page(request, "skill.html", **_content(found[0]))


def _content(skill: Explanation) -> dict[str, Any]:
    stands = [judged for judged in skill.verdicts if judged.stands and not judged.expired]
    worst = min(stands, key=lambda judged: _RANK[judged.verdict], default=None)
    called = next((judged.skill for judged in skill.verdicts if judged.skill), None)
    path = skill.files[0].path if skill.files else None
    return {
        "skill": skill,
        "name": middle_cut((path or called or skill.sha256).rpartition("/")[2], 120),
        "called": prose(called, 120),
        "worst": worst,
        "shown": _SHOWN,
        "mixed": len({judged.verdict for judged in stands}) > 1,
    }


_RANK = {"malicious": 0, "suspicious": 1, "benign": 2}
