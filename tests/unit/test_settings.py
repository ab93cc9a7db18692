"""The configuration file: it documents every key truthfully, and every kind of mistake gets a line that says where."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, SecretStr

from cluster.errors import SettingsInvalid
from cluster.settings import CONFIG_VARIABLE, Settings, load

REPOSITORY = Path(__file__).parents[2]
SAMPLE = REPOSITORY / "configs" / "sandpool.toml"
KEY = re.compile(r"#?([a-z_]+) = ")
DEFAULT = re.compile(r"Default: (.+?)$")
ENVIRONMENT = {
    "SANDPOOL_BROKER_URL": "amqp://sandpool:secret@broker/sandpool",
    "SANDPOOL_CLIENT_URL": "amqp://acme:secret@broker/sandpool",
    "SANDPOOL_FLIGHTS_DSN": "postgresql://reader:secret@db/flights",
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


def documented() -> dict[str, tuple[str, bool]]:
    """Every key of the sample, by its path with names left out: its comment, and whether it is left at its default."""
    found: dict[str, tuple[str, bool]] = {}
    section, comment = "", []
    for line in SAMPLE.read_text().splitlines():
        if line.startswith("["):
            section, comment = line.strip("[]").split(".")[0] + ".", []
        elif key := KEY.match(line):
            found[section + key[1]] = (" ".join(comment), line.startswith("#"))
            comment = []
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        else:
            comment = []
    return found


def fields(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every key of the model, by its path with names left out; the value is its default, or ... when it is required."""
    found: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if section := section_of(info.annotation):
            found |= fields(section, f"{name}.")
        elif prefix or name != "policies":
            found[prefix + name] = ... if info.is_required() else info.default
    return found


def section_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *get_args(annotation)]
    if get_origin(annotation) in (Union, UnionType):
        return None
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def test_every_field_is_documented_and_nothing_else() -> None:
    assert documented().keys() == fields(Settings).keys()


@pytest.mark.parametrize(("key", "default"), fields(Settings).items())
def test_the_documented_default_is_the_real_one(key: str, default: Any) -> None:
    comment, is_left_out = documented()[key]
    if default is ...:
        assert comment.endswith("Required.")
        assert not is_left_out, f"{key} is required, so the sample must set it"
        return
    written = DEFAULT.search(comment)
    assert written, f"{key}: its comment does not end with `Default: ...`"
    if default is None:
        assert written[1] == "none"
    else:
        value = tomllib.loads(f"value = {written[1]}")["value"]
        assert value == (list(default) if isinstance(default, tuple) else default)


def test_the_sample_loads() -> None:
    settings = load(SAMPLE, ENVIRONMENT)
    assert settings.broker.url.get_secret_value() == ENVIRONMENT["SANDPOOL_BROKER_URL"]
    assert Path(settings.folder) == REPOSITORY / ".sandpool"
    assert settings.volumes["results"].url == f"file://{REPOSITORY}/.sandpool/results"
    assert "tables" in settings.policies["flights"]


def test_the_sample_loads_with_every_key_set(tmp_path: Path) -> None:
    text = re.sub(r"^#([a-z_]+ = )", r"\1", SAMPLE.read_text(), flags=re.MULTILINE)
    (tmp_path / "policies").symlink_to(REPOSITORY / "configs" / "policies")
    (tmp_path / "sandpool.toml").write_text(text)
    settings = load(tmp_path / "sandpool.toml", ENVIRONMENT)
    left_out = [key for key, (_, is_left_out) in documented().items() if is_left_out]
    assert len(left_out) > 10
    assert settings.scheduler == Settings.model_fields["scheduler"].default


def test_no_secret_shows_in_the_settings() -> None:
    settings = load(SAMPLE, ENVIRONMENT)
    assert "secret@" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_the_environment_names_the_file(minimal: Callable[..., Path]) -> None:
    assert load(None, {CONFIG_VARIABLE: str(minimal())}).databases.keys() == {"flights"}


@pytest.fixture
def minimal(tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration that is right, but for one replaced piece of text."""

    def write(old: str = "", new: str = "", more: str = "") -> Path:
        text = """
            [broker]
            url = "amqp://sandpool:topsecret@broker/sandpool"
            [volumes.results]
            url = "file://./results"
            [databases.flights]
            dsn = "postgresql://reader:topsecret@db/flights"
            policy = "flights.toml"
            [tenants.acme]
            databases = ["flights"]
        """
        assert old in text
        (tmp_path / "flights.toml").write_text('tables = "all"\n')
        path = tmp_path / "sandpool.toml"
        path.write_text(text.replace(old, new) + more if old else text + more)
        return path

    return write


def test_the_minimal_file_is_right_and_paths_are_relative_to_it(minimal: Callable[..., Path], tmp_path: Path) -> None:
    settings = load(minimal(), {})
    assert settings.volumes["results"].url == f"file://{tmp_path}/results"
    assert settings.folder == str(tmp_path / ".sandpool")
    assert settings.tenants["acme"].volumes == ("results",)


def test_a_secret_may_lie_in_a_file_or_in_the_environment(minimal: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("postgresql://a:b@c/d\n")
    by_file = load(minimal('"postgresql://reader:topsecret@db/flights"', '"file:dsn"'), {})
    by_name = load(minimal('"postgresql://reader:topsecret@db/flights"', '"env:DSN"'), {"DSN": "postgresql://a:b@c/d"})
    assert by_file.databases["flights"].dsn == by_name.databases["flights"].dsn == SecretStr("postgresql://a:b@c/d")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[broker]", "[brocker]", ("broker: Field required", "brocker: Extra inputs are not permitted")),
        ('url = "amqp', 'url = ["amqp', ("sandpool.toml:",)),
        ('url = "amqp://sandpool:topsecret@broker/sandpool"', "", ("broker.url: Field required",)),
        ('url = "amqp://sandpool:topsecret@broker/sandpool"', "url = 5", ("broker.url: ",)),
        ('policy = "flights.toml"', 'policy = "flights.toml"\nbudget = "8"', ("databases.flights.budget: ",)),
        ('policy = "flights.toml"', 'policy = "flights.toml"\nbudget = 1', ("databases.flights.budget: ", "2")),
        ('policy = "flights.toml"', 'policy = "flights.toml"\nread_only = "yes"', ("databases.flights.read_only: ",)),
        ('policy = "flights.toml"', 'policy = "flights.toml"\nengine = "oracle"', ("databases.flights.engine: ",)),
        ('policy = "flights.toml"', 'policy = "nowhere.toml"', ("databases.flights.policy: ", "nowhere.toml")),
        ('policy = "flights.toml"', "", ("databases.flights.policy: Field required",)),
        ('["flights"]', '["flight"]', ("tenants.acme.databases: 'flight' is not a registered database",)),
        (
            '["flights"]',
            '["flights"]\nvolumes = ["other"]',
            ("tenants.acme.volumes: 'other' is not a registered volume",),
        ),
        ('["flights"]', '["flights"]\nmax_attempts = 0', ("tenants.acme.max_attempts: ",)),
        ('["flights"]', '["flights"]\nvolumes = []', ("tenants.acme.volumes: ", "at least 1")),
        ("[broker]", '[policies]\nflights = "x"\n[broker]', ("policies: ", "databases.NAME.policy")),
        ('["flights"]', '"flights"', ("tenants.acme.databases: ",)),
        ("[tenants.acme]", '[tenants."a/b"]', ("tenants.a/b", "pattern")),
        ("[databases.flights]", "[databases.Flights]", ("databases.Flights", "pattern")),
        (
            '"postgresql://reader:topsecret@db/flights"',
            '"env:MISSING_DSN"',
            ("databases: flights: dsn: ", "MISSING_DSN"),
        ),
        ('"postgresql://reader:topsecret@db/flights"', '"file:missing"', ("databases: flights: dsn: ", "file:missing")),
        ('url = "file://./results"', 'url = "file://./results"\nretention_s = 0', ("volumes.results.retention_s: ",)),
        ('url = "file://./results"', 'url = "x"\noptions = { region = 5 }', ("volumes.results.options.region: ",)),
    ],
)
def test_a_mistake_gets_a_line_that_names_file_and_key(
    minimal: Callable[..., Path], old: str, new: str, says: tuple[str, ...]
) -> None:
    path = minimal(old, new)
    with pytest.raises(SettingsInvalid) as caught:
        load(path, {})
    message = str(caught.value)
    assert all(piece in message for piece in says), message
    assert all(line.startswith(str(path)) for line in message.splitlines())
    assert "topsecret" not in message


def test_all_mistakes_are_told_at_once(minimal: Callable[..., Path]) -> None:
    path = minimal(
        'policy = "flights.toml"', 'policy = "flights.toml"\nbudget = 0\nread_only = 1', "\nmax_attempts = 0\n"
    )
    with pytest.raises(SettingsInvalid) as caught:
        load(path, {})
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_missing_unreadable_or_no_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="No such file"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(SettingsInvalid, match="directory"):
        load(tmp_path, {})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsInvalid, match=r"binary\.toml"):
        load(tmp_path / "binary.toml", {})
