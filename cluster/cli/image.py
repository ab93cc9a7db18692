"""`sandpool image build|list|inspect|prune|import`: the sandbox images of this machine. Needs no cluster, build needs
root.

Only shows and passes on: `workers.images` does the work. The environment is handed to uv and pip, which read from it
where packages come from. Progress goes to standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from cluster.cli.exits import Exit
from cluster.cli.grid import grid_from_rows, print_grid
from cluster.cli.invocation import Invocation, configured
from workers.images.build import build
from workers.images.importing import import_archive
from workers.images.recipe import RECIPE, load
from workers.images.store import BuiltImage, ImageStore

DEFAULT_FOLDER = Path(".sandpool/images")
DEFAULT_RECIPES = Path("images")
SHORT_DIGEST = 12
LISTED = ("name", "digest", "built_at", "origin", "size_bytes", "content", "description")
"""Of each image in a JSON listing; `inspect` shows everything."""


def kept(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option that names the folder of built images."""
    path = click.Path(path_type=Path)
    text = "Folder of built images."
    return click.option("--folder", type=path, default=DEFAULT_FOLDER, show_default=True, metavar="DIR", help=text)(
        command
    )


@click.group()
def image() -> None:
    """Build, list, inspect, prune and import sandbox images."""


@image.command("build")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--recipes", type=click.Path(path_type=Path), default=DEFAULT_RECIPES, show_default=True, metavar="DIR")
@kept
@configured
def build_images(invocation: Invocation, names: Sequence[str], recipes: Path, folder: Path) -> Exit:
    """Build images from NAME/image.toml; without NAME, all of them. One that is built already is left alone."""
    wanted = names or sorted(path.parent.name for path in recipes.glob(f"*/{RECIPE}"))
    loaded = [load(recipes / name) for name in wanted]  # all of them first: a broken recipe must not cost a build
    store = ImageStore(folder)
    built = [build(store, recipe, environment=invocation.environment, say=invocation.say) for recipe in loaded]
    return _show(invocation, store, built)


@image.command("list")
@kept
@configured
def list_images(invocation: Invocation, folder: Path) -> Exit:
    """List what is built here; `*` marks the version that the plain name means."""
    store = ImageStore(folder)
    return _show(invocation, store, store.list_all())


@image.command()
@click.argument("ref", metavar="NAME[@DIGEST]")
@kept
@configured
def inspect(invocation: Invocation, ref: str, folder: Path) -> Exit:
    """Print everything that is known of one image: packages and their versions, limits, digest of its content."""
    found = ImageStore(folder).find(ref)
    if invocation.as_json:
        invocation.emit(found)
    else:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    return Exit.Ok


@image.command()
@click.option(
    "--keep", type=click.IntRange(1), default=1, show_default=True, help="Newest versions of each name to keep."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@kept
@configured
def prune(invocation: Invocation, keep: int, dry_run: bool, folder: Path) -> Exit:
    """Remove versions that no name means and no host uses, and what dead builds left."""
    store = ImageStore(folder)
    return _show(invocation, store, store.prune(keep=keep, dry_run=dry_run))


@image.command("import")
@click.argument("archive", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--limit", "limits", multiple=True, metavar="KEY=NUMBER", help="The most a sandbox of it may ask for.")
@kept
@configured
def import_image(invocation: Invocation, archive: Path, name: str, limits: Sequence[str], folder: Path) -> Exit:
    """Make the image NAME of an OCI archive, for example of `skopeo copy docker://IMAGE oci-archive:FILE`."""
    store = ImageStore(folder)
    return _show(invocation, store, [import_archive(store, archive, name, dict(map(_limit, limits)))])


def _limit(text: str) -> tuple[str, float | int]:
    key, _, value = text.partition("=")
    try:
        return key, int(value) if value.isdigit() else float(value)
    except ValueError:
        raise click.UsageError(f"--limit {text}: not KEY=NUMBER") from None


def _show(invocation: Invocation, store: ImageStore, built: Sequence[BuiltImage]) -> Exit:
    if invocation.as_json:
        invocation.emit([{key: getattr(one, key) for key in LISTED} for one in built])
        return Exit.Ok
    rows = [
        (
            "*" if store.current(one.name) == one.digest else "",
            f"{one.name}@{one.digest[:SHORT_DIGEST]}",
            f"{one.size_bytes >> 20}",
            one.built_at.strftime("%Y-%m-%d %H:%M"),
            one.description,
        )
        for one in built
    ]
    if rows:
        print_grid(grid_from_rows(("", "image", "MiB", "built (UTC)", "what it is"), rows, ("MiB",)))
    return Exit.Ok
