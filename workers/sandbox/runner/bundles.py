"""A value as a MIME bundle: type -> bytes, by the methods that Jupyter defined, with figures and tables on top.

Called by `cells` for the last expression, for `display` and for open figures. Everything here may run the user's own
code (a repr, for example), so it is called where interrupts reach it. It never sends anything.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

Bundle = dict[str, bytes]

METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
}
ARROW = "application/vnd.apache.arrow.stream"
TEXT_CHARACTERS = 256 * 1024
MOST_FIGURES = 32


class TooLarge(Exception):
    """A table that no result may hold."""


def bundle_of(value: Any, limit_bytes: int) -> tuple[Bundle, int]:
    """At least `text/plain`, and how many types were left out for their size. A method that fails leaves its type out
    too, as in Jupyter, but that is not counted.

    Raises what `repr` raises.
    """
    text = repr(value)
    if len(text) > TEXT_CHARACTERS:
        text = f"{text[:TEXT_CHARACTERS]}… ({len(text)} characters)"
    found: Bundle = {"text/plain": _encode(text)}
    if isinstance(value, type):
        return found, 0  # its methods want an instance
    found.update(_from_methods(value))
    try:
        table = _arrow(value, limit_bytes)
    except TooLarge:
        return found, 1
    if table is not None:
        found[ARROW] = table
    return found, 0


def figures() -> Iterator[Bundle]:
    """Every open matplotlib figure as PNG; then they are closed. Nothing where matplotlib is not loaded."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    try:
        for number in pyplot.get_fignums()[:MOST_FIGURES]:
            target = io.BytesIO()
            pyplot.figure(number).savefig(target, format="png", bbox_inches="tight")
            yield {"image/png": target.getvalue()}
    finally:
        pyplot.close("all")


def _from_methods(value: Any) -> Bundle:
    found: Bundle = {}
    whole = _call(value, "_repr_mimebundle_")
    if isinstance(whole, tuple):  # (data, metadata)
        whole = whole[0] if whole else None
    if isinstance(whole, dict):
        for kind, data in whole.items():
            content = _content(kind, data) if isinstance(kind, str) else None
            if content is not None:
                found[kind] = content
    for method, kind in METHODS.items():
        if kind not in found:
            content = _content(kind, _call(value, method))
            if content is not None:
                found[kind] = content
    return found


def _call(value: Any, method: str) -> Any:
    try:
        function = getattr(value, method, None)
        # Objects that answer every name (mocks, lazy proxies) would answer this one too.
        if function is None or not callable(function) or hasattr(value, "_sandpool_no_such_method_"):
            return None
        return function()
    except Exception:  # noqa: BLE001 - any class of the user's
        return None


def _content(kind: str, data: Any) -> bytes | None:
    if isinstance(data, tuple):  # (data, metadata)
        data = data[0] if data else None
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    if isinstance(data, str):
        is_image = kind.startswith("image/") and kind != "image/svg+xml"
        try:
            return base64.b64decode(data, validate=True) if is_image else _encode(data)
        except ValueError:
            return None
    if isinstance(data, (dict, list)):
        try:
            return json.dumps(data, allow_nan=False).encode()
        except (TypeError, ValueError):
            return None
    return None


def _arrow(value: Any, limit_bytes: int) -> bytes | None:
    """Tables of pandas, polars, pyarrow and whoever else offers Arrow's stream interface. Raises TooLarge."""
    if not hasattr(type(value), "__arrow_c_stream__") or importlib.util.find_spec("pyarrow") is None:
        return None
    try:
        import pyarrow  # noqa: PLC0415 - 0.3 s, and most images have none

        pandas = sys.modules.get("pandas")
        is_frame = pandas is not None and isinstance(value, pandas.DataFrame)
        # Asked first: a frame of pandas is copied to become a table.
        if is_frame and int(value.memory_usage(deep=False).sum()) > 4 * limit_bytes:
            raise TooLarge
        table = pyarrow.Table.from_pandas(value) if is_frame else pyarrow.table(value)
        if table.nbytes > limit_bytes:
            raise TooLarge
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())
    except TooLarge:
        raise
    except Exception:  # noqa: BLE001 - columns of mixed types, for example: then there is no such table
        return None


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
