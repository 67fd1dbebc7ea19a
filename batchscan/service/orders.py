"""Orders: from what somebody asks for to what a run is to do, and to the settings that it has.

The service's own settings hold for every run, but for what belongs to an endpoint of the settings file. A run
that goes on has the settings that it began with, as `batchscan resume` has it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from batchscan.config import Config
from batchscan.errors import UsageError
from batchscan.ledger.chosen import Selection
from batchscan.ledger.queue import Work
from batchscan.ledger.runs import RunRequest
from batchscan.service.roots import OutsideRootsError, Roots
from batchscan.settings import Recorded, Settled, settle

_DIRECTORY = "/"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Who judges, where it is not who judges for the whole service.

    Attributes:
        endpoint: a table of the settings file, or None; of the operator's own file also any other.
        profile: of the credentials, or None.
        settings: further ones, by the names of ``Config``.
    """

    endpoint: str | None = None
    profile: str | None = None
    settings: Mapping[str, Any] = {}


class NoSuchEndpointError(UsageError):
    """A target names an endpoint that the settings file does not."""


class Orders:
    """Writes orders. All of it blocks: files are looked at.

    Args:
        flags: what the service was started with; they hold for each run.
        settled: the service's settings.
        roots: where callers may send it.
    """

    def __init__(self, flags: Mapping[str, Any], settled: Settled, roots: Roots) -> None:
        # the ledger is open: no file that has been edited meanwhile moves it
        self._flags = {**flags, "state_dir": str(settled.config.state_dir)}
        self._settled = settled
        self._roots = roots

    @property
    def flags(self) -> Mapping[str, Any]:
        """What the service was started with."""
        return self._flags

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names that a target may have."""
        return tuple(dict.fromkeys((self._settled.endpoint_name, *self._settled.endpoints)))

    def confined(
        self,
        *,
        sources: Sequence[str],
        manifests: Sequence[str],
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        target: Target = Target(),  # noqa: B008 - frozen
    ) -> RunRequest:
        """Write down a scan that a caller asked for: below the roots, whatever links lead out of them.

        Raises:
            OutsideRootsError: a source is not below a root.
            UsageError: something else is wrong with it.
        """
        return self.trusted(
            sources=[self._roots.place(name) for name in sources],
            manifests=[self._roots.place(name) for name in manifests],
            include=include,
            exclude=exclude,
            target=target,
            roots=self._roots.real,
        )

    def trusted(
        self,
        *,
        sources: Sequence[str],
        manifests: Sequence[str] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        target: Target = Target(),  # noqa: B008 - frozen
        roots: tuple[str, ...] | None = None,
    ) -> RunRequest:
        """Write down a scan that the operator's own file asks for; paths are absolute.

        Raises:
            UsageError: something is wrong with it.
        """
        if not sources and not manifests:
            raise UsageError("nothing to scan: name sources or manifests")
        return msgspec.structs.replace(
            self._request(target, named=roots is not None),
            sources=tuple(sources),
            manifests=tuple(manifests),
            include=tuple(include),
            exclude=tuple(exclude),
            roots=roots,
        )

    def again(
        self,
        selection: Selection,
        *,
        sample: int | None,
        confined: bool,
        target: Target = Target(),  # noqa: B008 - frozen
    ) -> RunRequest:
        """Write down a rescan; where it is confined, files that lie elsewhere by now are not read.

        Raises:
            UsageError: something is wrong with it.
        """
        if confined and not self._roots.real:
            raise OutsideRootsError("this service scans no files on a caller's word: see its [service] roots")
        roots = self._roots.real if confined else None
        request = self._request(target, named=confined)
        return msgspec.structs.replace(request, rescan=selection, sample=sample, roots=roots)

    def config(self, run_id: str, work: Work) -> Config:
        """Settle what a run is carried out with, whether it begins or goes on.

        Raises:
            UsageError: the settings file leads elsewhere by now, or is wrong.
        """
        request = work.request
        recorded = Recorded(
            run_id, request.endpoint, request.endpoint_name, request.profile, request.settings
        )
        return settle(self._flags | {"endpoint": None, "profile": None}, recorded).config

    def _request(self, target: Target, *, named: bool) -> RunRequest:
        """Begin a request; callers may only ask for endpoints by the names that the operator gave."""
        settled = self._settled
        if target != Target():
            if named and target.endpoint is not None and target.endpoint not in self.endpoints:
                known = ", ".join(self.endpoints)
                raise NoSuchEndpointError(f"endpoint: {target.endpoint!r} is not one of {known}")
            given = {"endpoint": target.endpoint, "profile": target.profile, **target.settings}
            flags = self._flags | {name: value for name, value in given.items() if value is not None}
            settled = settle(flags)
        return RunRequest(
            sources=(),
            directory=_DIRECTORY,
            endpoint=settled.config.endpoint,
            endpoint_name=settled.endpoint_name,
            profile=settled.config.profile,
            settings=settled.to_record(),
        )
