"""No list of commands is kept: whatever Redis knows is answered by Redis, and so is what it does not know."""

from __future__ import annotations

import pytest
import redis

from tests.wire.corners import Corner, ask, command

ELSEWHERE = {"monitor", "psync", "sync", "quit", "reset", "multi", "subscribe", "psubscribe", "ssubscribe"}
"""They change the connection, and have tests of their own."""
NEVER = {"shutdown", "debug", "pfselftest", "bgsave", "bgrewriteaof", "save", "failover", "post", "host:"}
"""They end the server or the connection, or take long."""
OTHERWISE = {"info", "lolwut", "randomkey", "command"}
"""They answer otherwise each time, or in an order of their own."""


def known(direct: redis.Redis) -> list[str]:
    """The names of all commands."""
    return sorted(direct.command())


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b"], ["1", "a", "1", "b"]], ids=len)
def test_every_command_of_this_redis(arguments: list[str], protocol: str, corner: Corner, direct: redis.Redis) -> None:
    """envoy#38492, twemproxy's notes/redis.md: dozens of commands were errors of the proxy.

    Most are refused for their arguments here, in Redis' words and not in those of a proxy.
    """
    names = [name for name in known(direct) if name not in ELSEWHERE | NEVER | OTHERWISE]
    assert len(names) > 190
    steps = [command(name, *arguments) for name in names]
    corner.same(command("HELLO", protocol), *steps, differs=r"\d+")


@pytest.mark.parametrize(
    "words",
    ["INFO", "INFO all", "CONFIG GET *", "CLIENT LIST", "CLIENT INFO", "MEMORY STATS", "LATENCY DOCTOR", "LOLWUT",
     "COMMAND DOCS", "ACL LOG", "SLOWLOG GET", "OBJECT HELP", "SCRIPT LOAD return", "CLUSTER INFO"],
)  # fmt: skip
def test_commands_about_the_server(words: str, corner: Corner) -> None:
    """envoy#38517: INFO was unknown, and so are the tools that begin with it."""
    for protocol in ("2", "3"):
        with corner.sidecar.connect() as sock:
            ask(sock, command("HELLO", protocol))
            assert ask(sock, command(*words.split()))
            corner.follows(sock)


@pytest.mark.parametrize(
    "words", ["PROXY CONFIG GET", "SETT a b", "RPUSHH jobs:a {}", "traceparent", "XADDD jobs:a * a b"]
)
def test_commands_that_nobody_knows(words: str, corner: Corner) -> None:
    assert corner.same(command(*words.split())).startswith(b"-ERR unknown command ")
