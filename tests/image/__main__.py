"""Build and run the image where there is no container engine: sudo python3 -m tests.image [--base DIR] [--suite S].

The instructions of the Dockerfile are carried out one by one in copies of a Debian that debootstrap makes; it stands in
for the official Python image.  What comes out is run as a pod would run it: process 1, uid 65532, no capability, no
file system that can be written, a network of its own with a Redis in it.  Ends with 1 at the first failure.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.redis import RedisServer

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates,netbase,tzdata"
"""What official slim images have, too; venv for Debian, which keeps it apart."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = ("null", "zero", "full", "random", "urandom")
FROM_HERE = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
"""How this machine reaches the network: seen by the steps, not kept."""
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
UID = 65532
OUTSIDE = "192.0.2.1"
"""The pod's address, where the kubelet asks."""
PATIENCE = 60.0


def say(text: str) -> None:
    print(text, flush=True)


def check(what: str, holds: bool, found: object = "") -> None:
    if not holds:
        raise SystemExit(f"NOT SO: {what}: {found}")
    say(f"  ok  {what}{f': {found}' if found != '' else ''}")


def until(what: str, attempt: Callable[[], bool], alive: Callable[[], bool] = lambda: True) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if attempt():
                return
        if time.monotonic() > deadline or not alive():
            raise SystemExit(f"NOT SO: {what}")
        time.sleep(0.02)


def size(place: Path) -> str:
    done = subprocess.run(["du", "-sxm", place], capture_output=True, text=True, check=True)
    return f"{done.stdout.split()[0]} MiB"


def debian(suite: str, place: Path) -> None:
    """A small Debian with Python, without bytecode and package lists, as official images are."""
    if (place / "usr/bin/python3").exists():
        say(f"base: {place}, as it is")
        return
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, place], check=True, stdout=2)
    for cache in [*place.glob("usr/lib/python3*/**/__pycache__")]:
        shutil.rmtree(cache, ignore_errors=True)
    for left in [*place.glob("var/cache/apt/archives/*.deb"), *place.glob("var/lib/apt/lists/*_*")]:
        left.unlink()


def mount_script(root: Path, *steps: str) -> str:
    """For sh, in a mount namespace of its own: /proc and a small /dev, then the steps."""
    dev = shlex.quote(str(root / "dev"))
    lines = ["set -e", *steps, f"mount -t proc proc {shlex.quote(str(root / 'proc'))}", f"mount -t tmpfs tmpfs {dev}"]
    lines += [f"touch {dev}/{name} && mount --bind /dev/{name} {dev}/{name}" for name in DEVICES]
    return "\n".join(lines)


class Build:
    """A Dockerfile's instructions, carried out. One that is not known here is an error."""

    def __init__(self, base: Path, work: Path) -> None:
        self.base = base
        self.work = work
        self.context = work / "context"
        self.stages: dict[str, Path] = {}
        self.arguments: dict[str, str] = {}
        self.root = Path("/nowhere")
        self.env: dict[str, str] = {}
        self.cwd = "/"
        self.user = ""
        self.entrypoint: list[str] = []
        self.cmd: list[str] = []
        self.stop_signal = ""
        self.ports: list[str] = []

    def run(self) -> None:
        self._make_context()
        for name, rest in instructions((ROOT / "Dockerfile").read_text()):
            step: Callable[[str], None] | None = getattr(self, f"_do_{name.lower()}", None)
            if step is None:
                raise SystemExit(f"{name}: this instruction is not known to {__file__}")
            say(f"{name} {rest if len(rest) < 90 else rest[:87] + '...'}")
            began = time.monotonic()
            step(rest)
            if name in ("RUN", "COPY"):
                say(f"      {time.monotonic() - began:.1f} s, the stage has {size(self.root)}")

    def _make_context(self) -> None:
        """Only what .dockerignore lets through, so that a file which it forgets is missing here too."""
        lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
        everything, *lines = lines
        names = [line[1:] for line in lines if line.startswith("!")]
        patterns = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
        if everything != "*" or len(names) + len(patterns) != len(lines):
            raise SystemExit(f".dockerignore has patterns that are not known to {__file__}")
        self.context.mkdir()
        for name in names:
            copy(ROOT / name, self.context / name, *patterns)

    def _do_arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self.arguments[name] = default

    def _do_from(self, rest: str) -> None:
        image, _, name = rest.partition(" AS ")
        if not string.Template(image).substitute(self.arguments).startswith("python:"):
            raise SystemExit(f"FROM {rest}: this Debian stands in for an official Python image only")
        self.root = self.stages[name] = self.work / (name or "final")
        subprocess.run(["cp", "-a", "--reflink=auto", self.base, self.root], check=True)
        self.env, self.cwd, self.user = {"PATH": PATH}, "/", ""
        say(f"      {self.base} stands in for it: {size(self.root)}")

    def _do_workdir(self, rest: str) -> None:
        self.cwd = os.path.join(self.cwd, rest)  # noqa: PTH118 - a path in the image
        (self.root / self.cwd.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _do_copy(self, rest: str) -> None:
        *sources, target = rest.split()
        tree = self.context
        if sources[0].startswith("--from="):
            tree = self.stages[sources.pop(0).removeprefix("--from=")]
        into = self.root / os.path.join(self.cwd, target).lstrip("/")  # noqa: PTH118
        for source in sources:
            found = tree / source.lstrip("/")
            copy(found, into if found.is_dir() or target[-1] not in "/." else into / found.name)

    def _do_run(self, rest: str) -> None:
        seen = list(FROM_HERE)
        found = re.match(r"--mount=type=secret,id=pip,target=(\S+)\s+(.*)", rest)
        if found:
            rest = found[2]
            seen.append(found[1])
        made = []
        steps = []
        for name in seen:
            place = self.root / name.lstrip("/")
            if not Path(name).exists():
                continue
            if not place.exists():
                place.touch()
                made.append(place)
            steps.append(f"mount --bind {name} {shlex.quote(str(place))}")
        here = f"cd {shlex.quote(self.cwd)} && {rest}"
        script = f'{mount_script(self.root, *steps)}\nexec chroot {shlex.quote(str(self.root))} /bin/sh -c "$1"'
        env = {**{name: os.environ[name] for name in PROXIES if name in os.environ}, "HOME": "/root", **self.env}
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", here]
        status = subprocess.run(command, env=env, check=False).returncode
        if status:
            raise SystemExit(f"a RUN step ended with {status}: {rest}")
        for place in made:
            place.unlink()

    def _do_env(self, rest: str) -> None:
        before = dict(self.env)
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self.env[name] = string.Template(value).substitute(before)

    def _do_label(self, rest: str) -> None:
        for pair in shlex.split(rest):
            if not pair.startswith("org.opencontainers.image.") or "=" not in pair:
                raise SystemExit(f"no OCI label: {pair}")

    def _do_user(self, rest: str) -> None:
        self.user = rest

    def _do_expose(self, rest: str) -> None:
        self.ports = rest.split()

    def _do_stopsignal(self, rest: str) -> None:
        self.stop_signal = rest

    def _do_entrypoint(self, rest: str) -> None:
        self.entrypoint = json.loads(rest)

    def _do_cmd(self, rest: str) -> None:
        self.cmd = json.loads(rest)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Name and rest of each, with its lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, rest = line.strip().partition(" ")
        yield name, rest.strip()


def copy(source: Path, target: Path, *ignored: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        ignore = shutil.ignore_patterns(*ignored)
        shutil.copytree(source, target, symlinks=True, ignore=ignore, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def inventory(root: Path) -> dict[str, tuple[int, int, int, int]]:
    found = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            place = Path(folder, name)
            about = place.lstat()
            found[str(place)] = (about.st_mode, about.st_uid, about.st_size, about.st_mtime_ns)
    return found


def look_at_files(build: Build) -> None:
    root = build.root
    files = inventory(root)
    pip = [name for name in files if re.search(r"/(pip[\d.]*|ensurepip|setuptools|hatchling)$", name)]
    check("no pip, ensurepip, setuptools or hatchling", not pip, pip or "")
    sources = [name for name in files if name.startswith(f"{root}/opt/redspan/lib/") and name.endswith(".py")]
    check("redspan and what it needs are there", len(sources) > 1000, f"{len(sources)} modules")
    tag = next((root / "opt/redspan/lib").glob("python3*")).name.replace("python3.", "cpython-3")
    bare = []
    for name in sources:
        code = Path(name).parent / "__pycache__" / f"{Path(name).stem}.{tag}.pyc"
        # PEP 552: bit 0 says that a hash stands for the source, bit 1 that it is compared with it.
        if not code.exists() or code.read_bytes()[4] != 0b01:
            bare.append(name)
    check("all of them are compiled, with bytecode that is not compared with its source", not bare, bare[:3] or "")
    # What both processes import, the standard library too, in the image's own Python.
    question = "import sys, proxy.supervisor, proxy.tracer.process, proxy.admin.app, os.path as p; "
    question += "print([m for m in sys.modules.values() if (c := getattr(m, '__cached__', 0)) and not p.exists(c)])"
    command = ["chroot", str(root), "/opt/redspan/bin/python3", "-c", question]
    answer = subprocess.run(command, env=build.env, capture_output=True, text=True, check=True).stdout.strip()
    check("no module that redspan imports is without bytecode", answer == "[]", answer)
    theirs = [name for name, (_, uid, _, _) in files.items() if uid == UID]
    check(f"nothing belongs to uid {UID}", not theirs, theirs[:3] or "")
    say(f"      /opt/redspan has {size(root / 'opt/redspan')}, the whole root {size(root)}")


def ask(host: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, 9464, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def own_network() -> None:
    """From here on this process has its own loopback, with the default ports free, and nothing else."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000):  # CLONE_NEWNET
        raise SystemExit(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{OUTSIDE}/32", "dev", "lo"], check=True)


def start(build: Build) -> subprocess.Popen[bytes]:
    root = shlex.quote(str(build.root))
    uid, gid = build.user.split(":")
    read_only = (f"mount --bind {root} {root}", f"mount -o remount,bind,ro {root}")
    drop = f"setpriv --reuid {uid} --regid {gid} --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs"
    after = f'mount -o remount,ro {root}/dev\nexec chroot {root} {drop} -- "$@"'
    script = f"{mount_script(build.root, *read_only)}\n{after}"
    command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    return subprocess.Popen([*command, "sh", *build.entrypoint, *build.cmd], env={**build.env, "HOME": "/"})


def end(process: subprocess.Popen[bytes]) -> None:
    """At once. Process 1 by itself: the kernel forgets unshare's --kill-child when the child changes its user."""
    if process.poll() is None:
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()


def run(build: Build) -> None:
    check("the user is a number", build.user == f"{UID}:{UID}", build.user)
    check("it stops by SIGTERM", build.stop_signal == "SIGTERM")
    check("its ports are named", build.ports == ["6380", "9464"])
    before = inventory(build.root)
    began = time.monotonic()
    process = start(build)
    try:
        until("/readyz answers 200", lambda: ask(OUTSIDE, "/readyz")[0] == 200, lambda: process.poll() is None)
        check("/readyz answers 200 outside of loopback", True, f"after {time.monotonic() - began:.2f} s")
        first = children(process.pid)[0]
        look_at_process(first)
        look_at_service()
        look_at_tracer(first)
        began = time.monotonic()
        os.kill(first, signal.SIGTERM)
        code = process.wait(PATIENCE)
        check("SIGTERM ends it with 0", code == 0, f"{code} after {time.monotonic() - began:.2f} s")
    finally:
        end(process)
    check("nothing was written", inventory(build.root) == before)


def look_at_process(pid: int) -> None:
    about = status(pid)
    check("it is process 1", about["NSpid"].split()[-1] == "1")
    check(f"uid and gid {UID}", about["Uid"].split() == about["Gid"].split() == [str(UID)] * 4)
    check("no capability, and none to be had", int(about["CapEff"], 16) == int(about["CapBnd"], 16) == 0)
    check("no new privileges", about["NoNewPrivs"] == "1")
    for place in ("tmp", "var/tmp", "opt/redspan", "dev"):
        try:
            Path(f"/proc/{pid}/root/{place}/written").touch()
            found = "written"
        except OSError as error:
            found = errno.errorcode[error.errno or 0]
        check(f"/{place} is read-only, even for root", found == "EROFS", found)


def look_at_service() -> None:
    with socket.create_connection(("127.0.0.1", 6380), 5) as client:
        client.sendall(b"PING\r\n")
        reply = client.recv(100)
    check("PING reaches the Redis outside", reply == b"+PONG\r\n", reply)
    try:
        socket.create_connection((OUTSIDE, 6380), 5).close()
        reached = True
    except ConnectionRefusedError:
        reached = False
    check("clients are served on loopback only", not reached)
    check("/healthz answers 200", ask(OUTSIDE, "/healthz")[0] == 200)
    until("/metrics answers 200", lambda: ask(OUTSIDE, "/metrics")[0] == 200)
    check("/metrics come from the tracer", "redspan_build_info" in ask(OUTSIDE, "/metrics")[1])


def look_at_tracer(first: int) -> None:
    """Killed, it is replaced, and process 1 leaves no dead child about."""
    (tracer,) = children(first)
    resident = [status(pid)["VmRSS"] for pid in (first, tracer)]
    say(f"      memory: relay {resident[0]}, tracer {resident[1]}")
    os.kill(tracer, signal.SIGKILL)
    until("a killed tracer is replaced", lambda: children(first) not in ([], [tracer]))
    until("/metrics come back", lambda: ask(OUTSIDE, "/metrics")[0] == 200)
    states = [status(pid)["State"][0] for pid in children(first)]
    check("a killed tracer is replaced and reaped", len(states) == 1 and "Z" not in states, "".join(states))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.image", description="Build and run it without an engine.")
    parser.add_argument("--suite", default="trixie", help="the Debian that stands in for the official Python image")
    parser.add_argument("--base", type=Path, help="keep that Debian here, and use it if it is there")
    options = parser.parse_args()
    missing = [name for name in ("debootstrap", "ip", "unshare", "redis-server") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        raise SystemExit(f"this needs root, and debootstrap, iproute2, util-linux and redis-server; missing: {missing}")
    with tempfile.TemporaryDirectory(prefix="redspan-image-") as folder:
        work = Path(folder)
        work.chmod(0o755)
        base = options.base or work / "base"
        debian(options.suite, base)
        build = Build(base, work)
        build.run()
        look_at_files(build)
        own_network()
        with RedisServer(port=6379):
            run(build)
    say("the image is as it should be, but for the official base image itself")
    return 0


if __name__ == "__main__":
    sys.exit(main())
