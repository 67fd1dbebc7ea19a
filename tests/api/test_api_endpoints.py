"""Which endpoints are taken, and what the ``Host`` of each is."""

import pytest

from batchscan.api.client import Endpoint, endpoint
from batchscan.api.endpoints import proxy_url
from batchscan.errors import UsageError


def test_presets() -> None:
    assert endpoint("intl") == Endpoint("intl", "https://csip.intl.tencentcloudapi.com/", "en-US")
    assert endpoint("china") == Endpoint("china", "https://csip.tencentcloudapi.com/", "zh-CN")
    assert endpoint("intl").host == "csip.intl.tencentcloudapi.com"


def test_the_url_of_a_preset_is_the_preset_with_its_caps() -> None:
    assert endpoint("https://CSIP.tencentcloudapi.com:443") is endpoint("china")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://Scan.Example.com/", "scan.example.com"),
        ("https://scan.example.com:443", "scan.example.com"),
        ("https://scan.example.com:8443", "scan.example.com:8443"),
        ("http://127.0.0.1:8099", "127.0.0.1:8099"),
        ("http://127.9.9.9", "127.9.9.9"),
        ("http://localhost:80/", "localhost"),
        ("http://[::1]:8099/", "[::1]:8099"),
    ],
)
def test_urls(url: str, name: str) -> None:
    taken = endpoint(url)
    assert taken.name == taken.host == name
    assert taken.url.endswith(f"//{name}/")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "itnl",
        "embedded",
        "csip.example.com",
        "ftp://example.com",
        "https://",
        "https://:443",
        "https://a:b:c",
        "https://example.com:99999",
        "https://example.com:0",
        "https://[::1",
        "https://example.com/api",
        "https://example.com/?x=1",
        "https://example.com/?",
        "https://example.com/#x",
        "http://example.com",
        "http://10.0.0.1:8080",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0.0.0.0:80",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError):
        endpoint(text)


def test_a_key_in_the_url_is_refused_and_not_shown() -> None:
    for url in ("https://id:hunter2@example.com/", "http://id:hunter2@example.com/x"):
        with pytest.raises(UsageError) as caught:
            endpoint(url)
        assert "hunter2" not in str(caught.value)


def test_loopback() -> None:
    assert Endpoint("embedded", "http://127.0.0.1:1").is_loopback
    assert not endpoint("intl").is_loopback


@pytest.mark.parametrize("text", ["", "proxy:3128", "socks5://u:hunter2@p:1", "http://", "http://p:x"])
def test_proxies_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        proxy_url(text)
    assert "hunter2" not in str(caught.value)
