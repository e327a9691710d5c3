"""A real S3 server on loopback: SeaweedFS, which checks signatures and preconditions and survives kill -9.

Fixtures `s3`, `s3_env` and `proxy` (imported by conftest.py). The server starts when the first test asks
for one of them, is shared by the session, and dies with it however the session ends. Tests keep apart by
prefixes of one bucket: each bucket takes seven volumes of a number that the free disk limits, so that the
eighth bucket finds no room.
"""

import http.client
import json
import os
import re
import shutil
import subprocess
import sysconfig
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import FaultProxy
from ports import GRPC, free_ports

BUCKET = "pairstream"
REGION = "us-east-1"
_SERVICES = ("master", "volume", "filer", "s3")
_COMPLAINT = re.compile(r"no space|disk free|created 0|fail|error|fatal|panic|denied|in use", re.IGNORECASE)
_READY_S = 300.0  # 3 s on an idle machine


@dataclass(frozen=True)
class Identity:
    """A user of the server."""

    name: str
    access_key: str
    secret_key: str
    actions: tuple[str, ...]


ADMIN = Identity(
    "admin", "AdminAccessKey00", "admin-secret-7hQ2", ("Admin", "Read", "Write", "List", "Tagging")
)
READER = Identity("reader", "ReaderAccessKey0", "reader-secret-Zk91", ("Read", "List"))


class S3Server:
    """A SeaweedFS server with its data in a folder.

    Args:
        folder: for its data, configuration and log; a new one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "weed.log"
        self.data.mkdir(parents=True)
        identities = [
            {
                "name": one.name,
                "credentials": [{"accessKey": one.access_key, "secretKey": one.secret_key}],
                "actions": one.actions,
            }
            for one in (ADMIN, READER)
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}), "utf-8")
        self.ports = dict(zip(_SERVICES, free_ports(len(_SERVICES)), strict=True))
        self._processes: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]] | None = None
        self.admin = self.client()
        """A client of the administrator's, shared because opening one takes 0.1 s."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of its S3 service."""
        return "127.0.0.1", self.ports["s3"]

    @property
    def endpoint(self) -> str:
        """URL of its S3 service."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def pid(self) -> int:
        """Of the server while it runs."""
        assert self._processes
        return self._processes[0].pid

    def start(self) -> None:
        """Starts the server, on the same ports and folder each time, and waits until it stores objects."""
        assert not self._processes, "runs already"
        with self.log.open("ab") as log:
            server = subprocess.Popen(
                self.command(),
                env=without_aws() | {"GOMEMLIMIT": "400MiB"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the tests is not for the server
            )
        self._processes = server, guard(server.pid, self._sockets())
        self._wait_until_ready()

    def kill(self) -> None:
        """Ends the server by SIGKILL, as a crash does. Its folder stays."""
        if not self._processes:
            return
        server, guard = self._processes
        self._processes = None
        guard.kill()  # before the server: afterwards its pid may be another's
        guard.communicate()
        server.kill()
        server.wait()
        for name in self._sockets():
            Path(name).unlink(missing_ok=True)

    def client(self, identity: Identity = ADMIN, endpoint: str | None = None) -> Any:
        """A boto3 client that tries once, not to be kept by its variables; close it in the end."""
        import boto3
        from botocore.config import Config

        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=60,
            read_timeout=120,
            proxies={},
            max_pool_connections=32,
        )
        return boto3.session.Session(
            aws_access_key_id=identity.access_key,
            aws_secret_access_key=identity.secret_key,
            region_name=REGION,
        ).client("s3", endpoint_url=endpoint or self.endpoint, config=config)

    def command(self) -> list[str]:
        """The line that runs it."""
        ports = [f"-{name}.port={port}" for name, port in self.ports.items()]
        return [
            str(Path(sysconfig.get_path("scripts")) / "weed"),
            *("-logtostderr=true", "server", f"-dir={self.data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *ports,
            *("-filer", "-s3", f"-s3.config={self.folder / 's3.json'}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", "-s3.iam=false"),
            *("-master.telemetry=false", "-master.electionTimeout=1s", "-master.volumeSizeLimitMB=1024"),
            *("-volume.max=0", "-volume.preStopSeconds=0"),
        ]

    def _wait_until_ready(self) -> None:
        """Until a bucket is there and takes an object, and that one can be read."""
        assert self._processes
        limit = time.monotonic() + _READY_S
        while True:
            try:
                with suppress(self.admin.exceptions.BucketAlreadyOwnedByYou):
                    self.admin.create_bucket(Bucket=BUCKET)
                self.admin.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
                assert self.admin.get_object(Bucket=BUCKET, Key="ready")["Body"].read() == b"ready"
                return
            except Exception as error:  # whatever a server does that is half up
                if self._processes[0].poll() is None and time.monotonic() < limit:
                    time.sleep(0.05)
                    continue
                why = self.why_not()
                self.kill()
                raise RuntimeError(f"the S3 server does not start ({error}); {why}") from error

    def why_not(self) -> str:
        """What may keep it from starting: the room on the disk, and what its log complains of."""
        free, size = (number / 1e9 for number in shutil.disk_usage(self.folder)[2::-2])
        text = self.log.read_text("utf-8", "replace")
        # Without the time, each complaint once; a full disk, for one, shows in lines of level I alone.
        messages = dict.fromkeys(line.split(maxsplit=2)[-1] for line in text.splitlines() if line.strip())
        found = [one[:300] for one in messages if _COMPLAINT.search(one)]
        return (
            f"{free:.1f} of {size:.1f} GB are free in {self.folder}, of which it leaves 1 % alone; its log "
            f"complains\n{chr(10).join(found[-20:])}\nand ends\n{text[-1500:]}"
        )

    def _sockets(self) -> list[str]:
        """The Unix sockets that SIGKILL leaves in /tmp."""
        names = [f"{name}-{port}" for name, port in self.ports.items()]
        names += [f"{name}-grpc-{port + GRPC}" for name, port in self.ports.items()]
        return [f"/tmp/seaweedfs-{name}.sock" for name in names]


def without_aws() -> dict[str, str]:
    """The process's variables without those that would give the server one more administrator."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def guard(pid: int, files: list[str]) -> "subprocess.Popen[bytes]":
    """A process that kills `pid` and removes `files` when this one is gone, by whatever end.

    Its standard input closes then. PR_SET_PDEATHSIG would fire at the end of the thread that started the
    server, and needs Linux.
    """
    return subprocess.Popen(
        ["sh", "-c", 'cat > /dev/null; kill -9 "$1"; shift; rm -f "$@"', "sh", str(pid), *files],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def client_of(server: S3Server, identity: Identity = ADMIN, endpoint: str | None = None) -> Iterator[Any]:
    """A boto3 client of the server, closed at the end."""
    client = server.client(identity, endpoint)
    try:
        yield client
    finally:
        client.close()


@dataclass(frozen=True, kw_only=True)
class S3Env:
    """An empty prefix on the server, and the process's AWS variables, which lead there."""

    server: S3Server
    url: str
    """``s3://BUCKET/PREFIX``"""
    monkeypatch: pytest.MonkeyPatch

    @property
    def bucket(self) -> str:
        """The bucket of `url`."""
        return self.url.split("/")[2]

    @property
    def prefix(self) -> str:
        """The key prefix of `url`, without a slash at its end."""
        return self.url.split("/", 3)[3]

    def key(self, name: str) -> str:
        """The key of an object below `url`."""
        return f"{self.prefix}/{name}"

    def use(self, identity: Identity = ADMIN, endpoint: str | None = None) -> None:
        """From now on, the process's AWS variables name this user and endpoint."""
        self.monkeypatch.setenv("AWS_ACCESS_KEY_ID", identity.access_key)
        self.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", identity.secret_key)
        self.monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint or self.server.endpoint)

    def put(self, name: str, data: bytes) -> None:
        """Stores an object below `url`, past any proxy."""
        self.server.admin.put_object(Bucket=self.bucket, Key=self.key(name), Body=data)

    def put_empty(self, names: Iterable[str]) -> None:
        """Stores objects of no bytes below `url`, ten times as fast as `put`: through the server's filer."""
        filer = http.client.HTTPConnection("127.0.0.1", self.server.ports["filer"])
        with closing(filer):
            for name in names:
                filer.request("PUT", f"/buckets/{self.bucket}/{self.key(name)}")
                answer = filer.getresponse()
                assert answer.status == 201, answer.read()
                answer.read()

    def get(self, name: str) -> bytes:
        """An object below `url`, past any proxy."""
        data: bytes = self.server.admin.get_object(Bucket=self.bucket, Key=self.key(name))["Body"].read()
        return data

    def keys(self) -> list[str]:
        """The names of all objects below `url`, past any proxy."""
        pages = self.server.admin.get_paginator("list_objects_v2")
        answers = pages.paginate(Bucket=self.bucket, Prefix=self.key(""))
        found = [one["Key"] for answer in answers for one in answer.get("Contents", [])]
        return sorted(key.removeprefix(self.key("")) for key in found)

    def uploads(self) -> list[str]:
        """The keys of unfinished multipart uploads below `url`."""
        found = self.server.admin.list_multipart_uploads(Bucket=self.bucket, Prefix=self.key(""))
        return [one["Key"].removeprefix(self.key("")) for one in found.get("Uploads", [])]


def upload(server: S3Server, folder: Path, url: str) -> str:
    """Puts the files of a folder, such as a packed dataset, below an ``s3://`` URL; returns the URL."""
    _, _, bucket, prefix = url.split("/", 3)
    for file in sorted(folder.iterdir()):
        server.admin.put_object(Bucket=bucket, Key=f"{prefix}/{file.name}", Body=file.read_bytes())
    return url


@contextmanager
def serving(folder: Path) -> Iterator[S3Server]:
    """A server that runs for the length of the block; its folder is removed at the end."""
    server = S3Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        server.admin.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The session's S3 server. A test that kills it must start it again."""
    with serving(tmp_path_factory.mktemp("s3")) as server:
        yield server


@contextmanager
def environment(server: S3Server, folder: Path) -> Iterator[S3Env]:
    """An empty prefix, and AWS variables that lead there as administrator, for subprocesses too.

    Args:
        server: which.
        folder: where no AWS configuration lies.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in list(os.environ):
            if name.startswith("AWS_") or name.lower().endswith("_proxy"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "no-aws-config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no-aws-credentials"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        env = S3Env(server=server, url=new_url(), monkeypatch=monkeypatch)
        env.use()
        yield env


def new_url() -> str:
    """An ``s3://`` URL below which there is nothing."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}/data"


@contextmanager
def proxying(env: S3Env) -> Iterator[FaultProxy]:
    """A fault proxy before the server, to which the AWS variables lead; `plan()` gives it faults."""
    admin = env.server.admin

    def replace(path: str) -> None:
        bucket, key = path.removeprefix("/").split("/", 1)
        data = admin.get_object(Bucket=bucket, Key=key)["Body"].read()
        admin.put_object(Bucket=bucket, Key=key, Body=bytes(byte ^ 0x5A for byte in data))

    with FaultProxy(env.server.address, on_replace=replace, port=free_ports(1)[0]) as proxy:
        env.use(endpoint=proxy.endpoint)
        yield proxy


@pytest.fixture
def s3_env(s3: S3Server, tmp_path: Path) -> Iterator[S3Env]:
    """See `environment`."""
    with environment(s3, tmp_path) as env:
        yield env


@pytest.fixture
def proxy(s3_env: S3Env) -> Iterator[FaultProxy]:
    """See `proxying`."""
    with proxying(s3_env) as proxy:
        yield proxy


@pytest.fixture(scope="module", name="s3_env")
def module_s3_env(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Env]:
    """`s3_env` for all tests of a module that imports this, so that they can share what leads there."""
    with environment(s3, tmp_path_factory.mktemp("aws")) as env:
        yield env


@pytest.fixture(scope="module")
def shared_proxy(s3_env: S3Env) -> Iterator[FaultProxy]:
    """See `proxying`; for a module that imports `module_s3_env`."""
    with proxying(s3_env) as proxy:
        yield proxy


@pytest.fixture(name="proxy")
def module_proxy(shared_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """The shared one, without faults."""
    shared_proxy.plan()
    yield shared_proxy
    shared_proxy.plan()
    shared_proxy.accept()
