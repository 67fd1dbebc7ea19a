"""Which service is spoken to, and the rule that nothing leaves this machine in the clear."""

import ipaddress
from typing import Final

import msgspec
import yarl

from batchscan.errors import UsageError

_DEFAULT_LANGUAGE = "en-US"


class Endpoint(msgspec.Struct, frozen=True):
    """One scan service.

    Attributes:
        name: ``intl``, ``china``, ``embedded``, or the host of a URL.
        url: where requests are posted to.
        language: of names and descriptions in the answers, ``en-US`` or ``zh-CN``; None: the service's own.
    """

    name: str
    url: str
    language: str | None = None

    @property
    def host(self) -> str:
        """The ``Host`` that is sent and signed: with the port where it is not the scheme's own."""
        return yarl.URL(self.url).host_port_subcomponent or ""

    @property
    def is_loopback(self) -> bool:
        """Whether requests stay on this machine."""
        return _is_loopback(yarl.URL(self.url).host or "")


PRESETS: Final = {
    "intl": Endpoint("intl", "https://csip.intl.tencentcloudapi.com/", "en-US"),
    "china": Endpoint("china", "https://csip.tencentcloudapi.com/", "zh-CN"),
}


def endpoint(name_or_url: str) -> Endpoint:
    """The endpoint that ``intl``, ``china`` or a URL stands for; a preset's URL is the preset.

    Raises:
        UsageError: neither a preset nor a URL that can be used, or plain http to another machine.
    """
    preset = PRESETS.get(name_or_url)
    if preset is not None:
        return preset
    if name_or_url == "embedded":
        raise UsageError("the embedded endpoint has no address before it is started")
    url = _parsed(name_or_url)
    host = url.host_port_subcomponent or ""
    for preset in PRESETS.values():
        if host == preset.host:
            return preset
    return Endpoint(host, f"{url.scheme}://{host}/", _DEFAULT_LANGUAGE)


def proxy_url(text: str) -> yarl.URL:
    """A proxy's address, checked.

    Raises:
        UsageError: it is none. The message leaves the address out: it may hold a password.
    """
    url = _url(text)
    if url is None or url.scheme not in {"http", "https"} or not url.host:
        raise UsageError("the proxy is not a URL such as http://proxy.example:3128")
    return url


def receiver_url(text: str) -> yarl.URL:
    """The address of whoever is told of a run, checked.

    Raises:
        UsageError: it is none, or plain http to another machine. The message leaves the address out: whoever
            knows it can write there.
    """
    url = _url(text)
    if url is None or url.scheme not in {"http", "https"} or not url.host:
        raise UsageError("is not a URL such as https://hooks.example.com/...")
    if url.scheme == "http" and not _is_loopback(url.host):
        raise UsageError("what is found is not told in the clear; use https")
    if url.user is not None or url.password is not None:
        raise UsageError("user and password are not sent; give a URL without them")
    return url


def _parsed(text: str) -> yarl.URL:
    hint = "give embedded, intl, china or a URL such as https://scan.example.com"
    url = _url(text)
    if url is None or url.scheme not in {"http", "https"} or not url.host:
        raise UsageError(f"endpoint {_shown(text)}: not known; {hint}")
    if url.user is not None or url.password is not None:
        raise UsageError(f"endpoint at {url.host}: keys do not go into the URL; see `batchscan doctor`")
    if url.path not in {"", "/"} or url.query_string or url.fragment or "?" in text or "#" in text:
        raise UsageError(f"endpoint {_shown(text)}: the API is at /, leave out what follows the host")
    if url.scheme == "http" and not _is_loopback(url.host):
        raise UsageError(f"endpoint {_shown(text)}: files and keys are not sent in the clear; use https")
    return url


def _url(text: str) -> yarl.URL | None:
    try:
        url = yarl.URL(text)
        return url if url.port is None or 0 < url.port < 65536 else None  # noqa: PLR2004 - RFC 9293
    except (ValueError, IndexError):  # yarl 1.25 raises the second for http://[::1]@
        return None


def _shown(text: str) -> str:
    """What was given, without a user part and without flooding the terminal."""
    return repr(text.rpartition("@")[2][:100])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
