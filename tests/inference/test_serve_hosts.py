"""Under which names the server answers: a page whose name leads to it by DNS gets nothing."""

import socket

import pytest

pytest.importorskip("fastapi", reason="needs `pip install truemask[serve]`")
httpx = pytest.importorskip("httpx", reason="needs `pip install httpx`")

from serve_material import encoded, pixels, served  # noqa: E402

from truemask.errors import UsageError  # noqa: E402
from truemask.inference.serve import create_app  # noqa: E402
from truemask.inference.serve_hosts import Hosts, host_of  # noqa: E402
from truemask.inference.serve_http import run_in_thread  # noqa: E402
from truemask.inference.serve_limits import Limits  # noqa: E402


@pytest.fixture(scope="module")
def address():
    hosts = Hosts.of("127.0.0.1", "127.0.0.1", ["Roads.example.org."])
    place, stop = run_in_thread(create_app([served()], Limits(), hosts=hosts))
    try:
        yield place
    finally:
        stop()


OWN = ("localhost", "127.0.0.1:8000", "LOCALHOST:1", "[::1]:8000", "[::1]", "roads.example.org:443")
STRANGE = (
    "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.5",
    "[2001:db8::1]:80", "", "localhost@evil.example", "[::1", "::1:x", "example.org", "\u00e9",
)  # fmt: skip


@pytest.mark.parametrize("host", OWN)
def test_its_own_names_are_answered(address, host):
    for path in ("/", "/models", "/health", "/metrics", "/openapi.json"):
        assert httpx.get(address + path, headers={"Host": host}).status_code == 200
    answer = httpx.post(f"{address}/predict", content=encoded(pixels()), headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize("host", STRANGE)
def test_no_other_name_is_answered(address, host):
    for path in ("/", "/models", "/metrics", "/nothing"):
        answer = httpx.get(address + path, headers={"Host": host.encode()})
        assert answer.status_code == 400
        assert "--allowed-host" in answer.json()["detail"]
        assert answer.text.count("\n") == 0
        assert answer.headers["x-content-type-options"] == "nosniff"
    content = encoded(pixels(300, 400))
    answer = httpx.post(f"{address}/predict", content=content, headers={"Host": host.encode()})
    assert answer.status_code == 400


def test_load_balancers_may_ask_for_health_by_address(address):
    for host in ("10.0.0.5:8000", "[2001:db8::1]:80"):
        assert httpx.get(f"{address}/health", headers={"Host": host}).status_code == 200
        assert httpx.head(f"{address}/health", headers={"Host": host}).status_code == 200
    assert httpx.get(f"{address}/health", headers={"Host": "evil.example"}).status_code == 400
    port = int(address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_refusals_are_counted(address):
    httpx.get(f"{address}/models", headers={"Host": "evil.example"})
    assert 'path="/models",status="400"}' in httpx.get(f"{address}/metrics").text


@pytest.mark.parametrize(
    ("host", "bound", "allowed", "answered", "refused"),
    [
        ("127.0.0.1", "127.0.0.1", [], ["localhost", "[::1]"], ["roads", "192.168.0.5"]),
        ("0.0.0.0", "0.0.0.0", [], ["anything", "192.168.0.5"], []),
        ("::", "::", [], ["anything"], []),
        ("0.0.0.0", "0.0.0.0", ["roads"], ["roads:80", "localhost"], ["anything", "192.168.0.5"]),
        ("127.0.0.1", "127.0.0.1", ["a", "*"], ["anything"], []),
        ("Pc7", "192.168.0.5", [], ["pc7:1", "192.168.0.5", "localhost"], ["pc8"]),
        ("fe80::1%eth0", "fe80::1%eth0", [], ["localhost"], ["pc8"]),
        ("127.0.0.1", "127.0.0.1", ["[2001:DB8::1]"], ["[2001:db8::1]:80"], ["[2001:db8::2]"]),
    ],
)
def test_what_a_server_answers_to(host, bound, allowed, answered, refused):
    hosts = Hosts.of(host, bound, allowed)
    assert [name for name in answered if not hosts.answers(name, "/predict")] == []
    assert [name for name in refused if hosts.answers(name, "/predict")] == []


@pytest.mark.parametrize("word", ["http://roads", "roads:80", "a b", "", "*.example.org", "a/b"])
def test_what_is_no_name_is_one_line(word):
    with pytest.raises(UsageError, match="no name of a machine"):
        Hosts.of("127.0.0.1", "127.0.0.1", [word])


def test_a_name_in_a_header():
    assert host_of(" Example.ORG.:80 ") == "example.org"
    assert host_of("[::1]:80") == host_of("[::1]") == "::1"
