"""A private RabbitMQ node: its own folder, its own port mapper, loopback only, gone with its owner.

`start_rabbitmq(folder)` for whoever needs a real broker without an installation of the machine's own: demo,
`up --local`, tests, benchmarks. It has no management plugin (memory and start-up time); users are made by one remote
call (10 ms) where `erl_call` is there, else by `rabbitmqctl` (1 s).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from cluster.local.account import Account, private_folder, remove_folder, service_account, write_private
from cluster.local.errors import ServiceFailed, ServiceMissing
from cluster.local.ports import free_port
from cluster.local.process import PROGRAM_PATH, OwnedProcess

START_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 60.0
STOP_GRACE_S = 20.0
ADMIN = "sandpool-admin"
NODE = "sandpool@localhost"
EVERYTHING = (".*", ".*", ".*")
AMQP_GREETING = b"AMQP\x00\x00\x09\x01"
REMEDY = (
    "on Debian or Ubuntu run `make setup` as root, or `apt-get install rabbitmq-server`; "
    "elsewhere see rabbitmq.com/docs/download"
)
SCRIPT_FOLDERS = ("/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "/opt/rabbitmq/sbin")
SETTINGS = """\
listeners.tcp.local = 127.0.0.1:{port}
load_definitions = {definitions}
loopback_users = none
log.console = true
log.console.level = info
log.file = false
disk_free_limit.absolute = 100MB
consumer_timeout = 90000000
"""


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """A user to make. `permissions` are the three patterns (configure, write, read) in the virtual host `/`."""

    name: str
    password: str
    tags: tuple[str, ...] = ()
    permissions: tuple[str, str, str] = EVERYTHING


def find_rabbitmq() -> Path:
    """The folder of RabbitMQ's own scripts (not Debian's wrappers, which insist on the system's node)."""
    for pattern in SCRIPT_FOLDERS:
        for folder in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
            if (folder / "rabbitmq-server").exists() and shutil.which("erl", path=PROGRAM_PATH):
                return folder
    raise ServiceMissing("RabbitMQ", REMEDY)


class RabbitNode:
    """One node. `start`, `stop` and `kill` may alternate; port, users and messages stay the same."""

    def __init__(self, folder: Path, users: tuple[BrokerUser, ...] = (), *, temporary: bool = False) -> None:
        """`temporary`: should we be killed, the folder goes too."""
        self._scripts = find_rabbitmq()
        self._requested = folder
        self._account: Account | None = service_account("rabbitmq")
        self.folder = private_folder(folder, self._account)
        self.port = free_port()
        self.mapper_port = free_port()
        self.distribution_port = free_port()
        self._admin_password = secrets.token_urlsafe(18)
        self.log = self.folder / "rabbitmq.log"
        self._write_configuration((BrokerUser(ADMIN, self._admin_password, ("administrator",)), *users))
        env = self._environment()
        self._mapper = OwnedProcess(
            "epmd",
            ["epmd", "-port", str(self.mapper_port), "-address", "127.0.0.1"],
            folder=self.folder,
            log=self.folder / "epmd.log",
            env=env,
            account=self._account,
        )
        self._server = OwnedProcess(
            "RabbitMQ",
            [str(self._scripts / "rabbitmq-server")],
            folder=self.folder,
            log=self.log,
            env=env,
            account=self._account,
            grace_s=STOP_GRACE_S,
            remove_if_orphaned=self.folder if temporary else None,
        )

    @property
    def admin_url(self) -> str:
        """URL of a user who may do everything in the virtual host `/`."""
        return self.url(ADMIN, self._admin_password)

    def url(self, name: str, password: str) -> str:
        return f"amqp://{quote(name, safe='')}:{quote(password, safe='')}@127.0.0.1:{self.port}/"

    @property
    def running(self) -> bool:
        return self._server.running

    def start(self) -> None:
        """Start (again) and return when it accepts connections; 3-6 s."""
        self._mapper.start()
        self._server.start()
        self._server.wait_until(self._greets, START_TIMEOUT_S)

    def stop(self) -> None:
        """Shut down cleanly; data stay."""
        self._server.stop()
        self._mapper.stop()

    def kill(self) -> None:
        """Crash: SIGKILL without warning; data stay as a crash leaves them."""
        self._server.kill()
        self._mapper.kill()

    def freeze(self) -> None:
        """Connections stay open and nothing answers, until `thaw`."""
        self._server.freeze()

    def thaw(self) -> None:
        self._server.thaw()

    def remove(self) -> None:
        """End it and delete its folder."""
        self.kill()
        remove_folder(self._requested)

    def add_user(
        self,
        name: str,
        password: str,
        tags: tuple[str, ...] = (),
        permissions: tuple[str, str, str] = EVERYTHING,
    ) -> str:
        """Make a user, or give an existing one this password and these rights. Returns the user's URL."""
        return self.add_users((BrokerUser(name, password, tags, permissions),))[0]

    def add_users(self, users: tuple[BrokerUser, ...]) -> list[str]:
        """Several at the price of one."""
        definitions = json.dumps({"users": [user_entry(user) for user in users], **rights(users)}, sort_keys=True)
        encoded = base64.b64encode(definitions.encode()).decode()
        self.evaluate(f'ok = rabbit_definitions:import_raw(base64:decode(<<"{encoded}">>)).')
        return [self.url(user.name, user.password) for user in users]

    def delete_user(self, name: str) -> None:
        """Delete a user; the broker closes the user's connections."""
        encoded = base64.b64encode(name.encode()).decode()
        self.evaluate(f'ok = rabbit_auth_backend_internal:delete_user(base64:decode(<<"{encoded}">>), <<"sandpool">>).')

    def close_connections(self) -> None:
        """Make the broker close every client connection, as an operator would before maintenance."""
        self.evaluate(
            '[rabbit_networking:close_connection(C, "closed by a test") || C <- rabbit_networking:connections()], ok.'
        )

    def evaluate(self, expression: str) -> str:
        """Run Erlang on the node and return what it printed as its value. For tests and for what has no other door."""
        caller = shutil.which("erl_call", path=PROGRAM_PATH)
        if caller is None:
            command = [str(self._scripts / "rabbitmqctl"), "--quiet", "--node", NODE, "eval", expression]
        else:
            command = [caller, "-sname", NODE, "-e"]
        run = subprocess.run(  # noqa: S603 - fixed programs, no shell
            command,
            input=expression.encode() + b"\n",
            capture_output=True,
            env={"PATH": PROGRAM_PATH, **self._environment()},
            cwd=self.folder,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            user=self._account.uid if self._account else None,
            group=self._account.gid if self._account else None,
            extra_groups=[] if self._account else None,
        )
        said = run.stdout.decode(errors="replace").strip()
        if run.returncode != 0 or said.startswith("{error"):
            raise ServiceFailed("RabbitMQ", f"refused a command: {said} {run.stderr.decode(errors='replace').strip()}")
        return said.removeprefix("{ok, ").removesuffix("}") if caller else said

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _greets(self) -> bool:
        """The broker answers the protocol's greeting with `Connection.Start` (a method frame: first byte 1)."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as connection:
                connection.sendall(AMQP_GREETING)
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def _write_configuration(self, users: tuple[BrokerUser, ...]) -> None:
        definitions = {"vhosts": [{"name": "/"}], "users": [user_entry(user) for user in users], **rights(users)}
        files = {
            "definitions.json": json.dumps(definitions),
            "rabbitmq.conf": SETTINGS.format(port=self.port, definitions=self.folder / "definitions.json"),
            "enabled_plugins": "[].\n",
            ".erlang.cookie": secrets.token_hex(16),
        }
        for name, text in files.items():
            path = self.folder / name
            if name == ".erlang.cookie" and path.exists():
                continue  # the node of an earlier start may still be told to end with it
            write_private(path, text, self._account, 0o400 if name == ".erlang.cookie" else 0o600)

    def _environment(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            # Spinning schedulers would take the CPU from the clients on the same few cores.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false +sbwt none +sbwtdcpu none +sbwtdio none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        }


def start_rabbitmq(folder: Path, users: tuple[BrokerUser, ...] = (), *, temporary: bool = False) -> RabbitNode:
    """A running node in `folder` (made if needed). ServiceMissing when RabbitMQ is not installed."""
    node = RabbitNode(folder, users, temporary=temporary)
    node.start()
    return node


def user_entry(user: BrokerUser) -> dict[str, object]:
    """A user as RabbitMQ's definitions carry it: salted SHA-256, salt first (rabbitmq.com/docs/passwords)."""
    salt = secrets.token_bytes(4)
    digest = base64.b64encode(salt + hashlib.sha256(salt + user.password.encode()).digest()).decode()
    return {
        "name": user.name,
        "password_hash": digest,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": list(user.tags),
        "limits": {},
    }


def rights(users: tuple[BrokerUser, ...]) -> dict[str, object]:
    permissions = [
        {"user": user.name, "vhost": "/", "configure": configure, "write": write, "read": read}
        for user in users
        for configure, write, read in [user.permissions]
    ]
    return {"permissions": permissions}
