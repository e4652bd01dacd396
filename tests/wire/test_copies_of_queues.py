"""Jobs that move by other commands than a queue's: replicas, dumps, copies, scripts. What is stored stays as it is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import redis

from tests.conftest import StartSidecar
from tests.redis import RedisServer, executable
from tests.wire.corners import JOB, LISTS, Corner, ask, bulk, command
from tests.wire.sockets import wait_for


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_replica_behind_redspan(diskless: str, tmp_path: Path, start_sidecar: StartSidecar) -> None:
    """PSYNC is answered by a file without an end of line, or with a mark for its end; then commands follow."""
    (tmp_path / "replica").mkdir()
    with (
        RedisServer(tmp_path, repl_diskless_sync=diskless, repl_diskless_sync_delay="0") as master,
        RedisServer(tmp_path / "replica") as replica,
        redis.Redis.from_url(master.url) as client,
        redis.Redis.from_url(replica.url) as copy,
    ):
        sidecar = start_sidecar({"listeners": [{"upstream": master.url}], "frameworks": LISTS})
        client.mset({f"key:{number}": "x" * 1000 for number in range(3000)})
        copy.replicaof("127.0.0.1", sidecar.port)
        wait_for(lambda: copy.info("replication").get("master_link_status") == "up", "no replica")
        client.rpush("jobs:a", JOB, b"\r\n$-1\r\n*3\r\n")
        assert client.wait(1, 10_000) == 1
        assert copy.lrange("jobs:a", 0, -1) == client.lrange("jobs:a", 0, -1)
        assert copy.dbsize() == 3001
        wait_for(lambda: sidecar.metric("redspan_blind_total", reason="replication") == 1, "not counted")
        assert sidecar.metric("redspan_blind_total") == 1


def test_a_backup_by_redis_cli(tmp_path: Path, start_sidecar: StartSidecar) -> None:
    cli = shutil.which("redis-cli") or str(Path(executable()).with_name("redis-cli"))
    file = tmp_path / "backup.rdb"
    with RedisServer(tmp_path, repl_diskless_sync_delay="0") as server, redis.Redis.from_url(server.url) as client:
        client.set("key", b"\r\n" * 1000)
        sidecar = start_sidecar({"listeners": [{"upstream": server.url}], "frameworks": LISTS})
        asked = [cli, "-p", str(sidecar.port), "--rdb", str(file)]
        subprocess.run(asked, capture_output=True, timeout=60, check=True)
    assert file.read_bytes().startswith(b"REDIS")


@pytest.mark.parametrize(
    ("moving", "to"),
    [
        (["RENAME jobs:a jobs:b"], "jobs:b"),
        (["COPY jobs:a jobs:b", "DEL jobs:a"], "jobs:b"),
        (["MOVE jobs:a 1", "SELECT 1"], "jobs:a"),
        (["LMOVE jobs:a other LEFT LEFT", "LMOVE other jobs:b LEFT LEFT"], "jobs:b"),
        (["SWAPDB 0 1", "SELECT 1"], "jobs:a"),
        (["SORT jobs:a BY nosort STORE jobs:b"], "jobs:b"),
    ],
)
def test_moved_jobs_are_taken_as_they_were_stored(moving: list[str], to: str, corner: Corner) -> None:
    with corner.sidecar.connect() as sock:
        ask(sock, command("RPUSH", "jobs:a", JOB))
        stored = ask(sock, command("LINDEX", "jobs:a", "0"))
        assert b"traceparent" in stored
        ask(sock, *(command(*line.split()) for line in moving))
        assert ask(sock, command("LPOP", to)) == stored
        ask(sock, command("SELECT", "0"), command("FLUSHALL"))
        corner.follows(sock)


def test_dumped_and_restored(corner: Corner, direct: redis.Redis) -> None:
    with corner.sidecar.connect() as sock, redis.Redis.from_url(corner.sidecar.url) as client:
        ask(sock, command("RPUSH", "jobs:a", JOB, b"\x80\x05pickle", b"\xc1\xff\0"))
        dumped = client.dump("jobs:a")
        assert dumped == direct.dump("jobs:a")
        assert client.restore("jobs:b", 0, dumped)
        assert direct.lrange("jobs:b", 0, -1) == direct.lrange("jobs:a", 0, -1)
        corner.follows(sock)


def test_migrated_to_another_redis(tmp_path: Path, corner: Corner, direct: redis.Redis) -> None:
    with RedisServer(tmp_path) as target, redis.Redis.from_url(target.url) as there, corner.sidecar.connect() as sock:
        ask(sock, command("RPUSH", "jobs:a", JOB))
        (stored,) = direct.lrange("jobs:a", 0, -1)
        answer = ask(sock, command("MIGRATE", "127.0.0.1", str(target.port), "jobs:a", "0", "5000"))
        assert answer == b"+OK\r\n"
        assert there.lrange("jobs:a", 0, -1) == [stored]
        corner.follows(sock)


def test_a_push_by_a_script_is_not_written_into(corner: Corner, direct: redis.Redis) -> None:
    """Which of a script's arguments is a job is known of no script but those of frameworks."""
    script = "return redis.call('RPUSH', KEYS[1], ARGV[1])"
    with corner.sidecar.connect() as sock:
        sha = ask(sock, command("SCRIPT", "LOAD", script))[5:-2]
        for run in ([b"EVAL", script.encode()], [b"EVALSHA", sha]):
            ask(sock, command(*run, "1", "jobs:a", JOB))
        assert ask(sock, command("EVALSHA", "0" * 40, "1", "jobs:a", JOB)).startswith(b"-NOSCRIPT ")
        assert ask(sock, command("LPOP", "jobs:a")) == bulk(JOB)
        corner.follows(sock)
    assert direct.lrange("jobs:a", 0, -1) == [JOB]
