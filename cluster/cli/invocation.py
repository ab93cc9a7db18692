"""One call of the command line: which options every command shares, and what they lead to.

`connected` and `configured` add the shared options to a command and hand it an `Invocation`, which finds the
configuration, the broker's URL and the client, each only when it is asked for. Tests give one with a connection of
their own. Only this file decides where the URL comes from; no URL is ever printed, since it holds a password.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click
import msgspec

from cluster.errors import SettingsInvalid

if TYPE_CHECKING:
    from cluster.settings import Settings
    from queues.dead import DeadLetters
    from sandpool import AsyncClient

URL_VARIABLE = "SANDPOOL_URL"
CONNECT_TIMEOUT_S = 10.0
"""Shorter than the client's own default: a person waits."""

Command = Callable[..., Any]


class Invocation:
    """What a command needs beside its own options."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        connect: Callable[[str], AsyncClient] | None = None,
        open_dead: Callable[[str], DeadLetters] | None = None,
    ) -> None:
        self.environment = os.environ if environment is None else environment
        self.as_json = False
        self.config: Path | None = None
        self._url: str | None = None
        self._connect = connect
        self._open_dead = open_dead

    def take(self, *, as_json: bool, config: Path | None, url: str | None) -> None:
        """The shared options of this call."""
        self.as_json, self.config, self._url = as_json, config, url

    @cached_property
    def settings(self) -> Settings:
        """The configuration. Raises SettingsInvalid."""
        from cluster.settings import load  # noqa: PLC0415 - pydantic costs 100 ms; most client calls get a URL

        return load(self.config, self.environment)

    @property
    def config_path(self) -> Path:
        """The file that `settings` reads."""
        from cluster.settings import CONFIG_VARIABLE, DEFAULT_PATH  # noqa: PLC0415 - as above, 100 ms

        return self.config or Path(self.environment.get(CONFIG_VARIABLE, DEFAULT_PATH))

    @property
    def has_settings(self) -> bool:
        """Whether there is a configuration file at all: a client on another machine has none."""
        return self.config is not None or self.config_path.is_file()

    @cached_property
    def url(self) -> str:
        """The broker's URL: --url, SANDPOOL_URL, or [client].url. Raises SettingsInvalid, click.UsageError."""
        if given := self._url or self.environment.get(URL_VARIABLE):
            return given
        hint = f"give --url AMQP_URL, set {URL_VARIABLE}, or set url in section [client] of the configuration"
        if not self.has_settings:
            raise click.UsageError(f"no broker URL: {hint}")
        if self.settings.client.url is None:
            raise SettingsInvalid(f"{self.config_path}: client.url is not set: {hint}")
        return self.settings.client.url.get_secret_value()

    @property
    def tenant(self) -> str:
        """The broker user of the URL, which is the tenant."""
        user = urlsplit(self.url).username
        if not user:
            raise click.UsageError("the broker URL names no user: amqp://tenant:password@host/vhost")
        return unquote(user)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncClient]:
        """An open client. Raises BrokerUnavailable, UsageError; SettingsInvalid and click.UsageError without a URL."""
        client = self.client()
        await client.open(timeout=CONNECT_TIMEOUT_S)
        try:
            yield client
        finally:
            await client.close()

    def client(self) -> AsyncClient:
        """A client that is not open yet."""
        if self._connect is not None:
            return self._connect(self.url)
        from sandpool import AsyncClient  # noqa: PLC0415 - aio_pika costs 150 ms

        return AsyncClient(self.url)

    def dead_letters(self) -> DeadLetters:
        """The operator's side of `sandpool.dead`, not open yet. Raises SettingsInvalid."""
        url = self.settings.broker.url.get_secret_value()
        if self._open_dead is not None:
            return self._open_dead(url)
        from queues.dead import AmqpDeadLetters  # noqa: PLC0415 - the AMQP library costs 190 ms

        return AmqpDeadLetters(url)

    def emit(self, value: Any) -> None:
        """One JSON document on standard output."""
        click.echo(msgspec.json.encode(value).decode())

    def say(self, text: str) -> None:
        """One line for a person, on standard error."""
        click.echo(text, err=True)

    @property
    def is_watched(self) -> bool:
        """Whether a person looks at standard error now, so that a live display makes sense."""
        return sys.stderr.isatty() and self.environment.get("TERM", "") != "dumb"


def configured(command: Command) -> Command:
    """Options --json and --config; the command is called with an Invocation first."""
    return _with_invocation(command, connects=False)


def connected(command: Command) -> Command:
    """As `configured`, and --url."""
    return _with_invocation(command, connects=True)


def _with_invocation(command: Command, *, connects: bool) -> Command:
    @click.pass_context
    def run(ctx: click.Context, /, *args: Any, as_json: bool, config: Path | None, **options: Any) -> Any:
        invocation = ctx.ensure_object(Invocation)
        invocation.take(as_json=as_json, config=config, url=options.pop("url", None))
        return ctx.invoke(command, invocation, *args, **options)

    decorated = update_wrapper(run, command)
    if connects:
        decorated = click.option("--url", metavar="AMQP_URL", help=f"Broker; else {URL_VARIABLE}, else [client].url.")(
            decorated
        )
    decorated = click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration; else SANDPOOL_CONFIG."
    )(decorated)
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, and nothing else.")(
        decorated
    )
