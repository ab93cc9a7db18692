"""OCI archives, honest and hostile: what they amount to before a byte is written."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.oci import Member, layer, write_archive
from workers.images import archive as archive_module
from workers.images import merge as merge_module
from workers.images.archive import open_archive
from workers.images.errors import ArchiveInvalid
from workers.images.merge import File, Folder, Link, Merger, safe_path


def merged(*layers: list[Member]) -> Folder:
    merger = Merger()
    for number, members in enumerate(layers):
        with tarfile.open(fileobj=io.BytesIO(layer(members))) as stream:
            merger.lay_over(stream, number)
    return merger.root


def names(folder: Folder, prefix: str = "") -> set[str]:
    found = set()
    for name, node in folder.children.items():
        found.add(prefix + name)
        if isinstance(node, Folder):
            found |= names(node, f"{prefix}{name}/")
    return found


def test_upper_layers_replace_and_hide_what_lower_ones_have() -> None:
    root = merged(
        [Member("a"), Member("dir/x"), Member("dir/y"), Member("gone/z"), Member("kept/k")],
        [Member("dir/.wh.x"), Member(".wh.gone"), Member("a", content=b"new"), Member("dir/n")],
    )
    assert names(root) == {"a", "dir", "dir/y", "dir/n", "kept", "kept/k"}
    assert isinstance(node := root.children["a"], File)
    assert node.layer == 1


def test_an_opaque_folder_hides_lower_layers_and_not_its_own() -> None:
    root = merged([Member("d/old")], [Member("d/new"), Member("d/.wh..wh..opq")])
    assert names(root) == {"d", "d/new"}


def test_a_file_takes_the_place_of_a_folder_and_the_other_way_round() -> None:
    assert names(merged([Member("x/y")], [Member("x")])) == {"x"}
    assert names(merged([Member("x")], [Member(".wh.x"), Member("x/y")])) == {"x", "x/y"}


def test_hard_links_share_one_content() -> None:
    root = merged([Member("a", content=b"1"), Member("b", kind=tarfile.LNKTYPE, target="a")])
    assert root.children["a"] is root.children["b"]


def test_special_bits_are_dropped() -> None:
    root = merged([Member("su", mode=0o6755), Member("tmp", kind=tarfile.DIRTYPE, mode=0o7777)])
    assert isinstance(file := root.children["su"], File)
    assert isinstance(folder := root.children["tmp"], Folder)
    assert (file.mode, folder.mode) == (0o755, 0o1777)


@pytest.mark.parametrize(
    "members",
    [
        [Member("../escape")],
        [Member("a/../../escape")],
        [Member("link", kind=tarfile.SYMTYPE, target="/etc"), Member("link/passwd")],
        [Member("link", kind=tarfile.SYMTYPE, target=".."), Member("link/sub/file")],
        [Member("hard", kind=tarfile.LNKTYPE, target="../../etc/passwd")],
        [Member("hard", kind=tarfile.LNKTYPE, target="absent")],
        [Member("d", kind=tarfile.DIRTYPE), Member("hard", kind=tarfile.LNKTYPE, target="d")],
        [Member("disk", kind=tarfile.BLKTYPE)],
        [Member("mem", kind=tarfile.CHRTYPE)],
        [Member("pipe", kind=tarfile.FIFOTYPE)],
        [Member("file"), Member("file/below")],
        [Member(".wh..")],
        [Member("x/.wh...")],
        [Member("/".join("a" * 100))],
        [Member("n" * 256)],
    ],
    ids=lambda members: members[-1].name[:20],
)
def test_a_hostile_member_is_refused(members: list[Member]) -> None:
    with pytest.raises(ArchiveInvalid):
        merged(members)


def test_a_link_of_a_lower_layer_is_not_followed_either() -> None:
    with pytest.raises(ArchiveInvalid, match="used as a folder"):
        merged([Member("link", kind=tarfile.SYMTYPE, target="/etc")], [Member("link/passwd")])


def test_an_absolute_name_means_the_root_of_the_image() -> None:
    assert names(merged([Member("/etc/passwd")])) == {"etc", "etc/passwd"}


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_module, "MAX_ENTRIES", 10)
    with pytest.raises(ArchiveInvalid, match="more than"):
        merged([Member(f"f{i}") for i in range(11)])


def test_a_bomb_is_refused_by_what_it_says_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_module, "MAX_CONTENT_BYTES", 1000)
    with pytest.raises(ArchiveInvalid, match="more than"):
        merged([Member("big", content=b"0" * 1001)])


parts = st.sampled_from(["a", "b", "..", ".", ".wh.a", ".wh..wh..opq", ""])
members = st.builds(
    Member,
    name=st.lists(parts, min_size=1, max_size=4).map("/".join).filter(bool),
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
    target=st.lists(parts, min_size=1, max_size=3).map("/".join),
    content=st.just(b""),
)


@given(st.lists(st.lists(members, max_size=8), max_size=3))
def test_every_merged_name_is_a_plain_name_below_real_folders(layers: list[list[Member]]) -> None:
    """So writing the tree in order, folders first and links last, can never leave it."""
    try:
        root = merged(*layers)
    except ArchiveInvalid:
        return
    for path in names(root):
        assert not {"", ".", ".."} & set(path.split("/"))


@given(st.text(max_size=300))
def test_a_safe_path_never_leaves_the_root(name: str) -> None:
    try:
        path = safe_path(name)
    except ArchiveInvalid:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lambda raw: pa.compress(raw, codec="zstd", asbytes=True)])
def test_layers_are_read_however_they_are_compressed(tmp_path: Path, compress: Any) -> None:
    path = write_archive(tmp_path / "a.tar", [[Member("etc/x", content=b"hello")]], compress=compress)
    opened = open_archive(path)
    assert names(opened.merge()) == {"etc", "etc/x"}
    assert [(name, stream.read()) for name, stream in opened.contents(0)] == [("etc/x", b"hello")]


def test_configuration_and_identity_come_from_the_archive(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", [[Member("x")]], config={"Env": ["A=1"], "Cmd": ["sh"]})
    opened = open_archive(path)
    assert opened.config == {"Env": ["A=1"], "Cmd": ["sh"]}
    assert opened.digest == open_archive(path).digest


def test_a_damaged_blob_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", [[Member("x", content=b"original-content")]])
    path.write_bytes(path.read_bytes().replace(b"original-content", b"replaced-content"))
    with pytest.raises(ArchiveInvalid, match="damaged"):
        open_archive(path).merge()


def test_a_truncated_layer_is_refused(tmp_path: Path) -> None:
    def cut(raw: bytes) -> bytes:
        return gzip.compress(raw)[:-20]

    path = write_archive(tmp_path / "a.tar", [[Member("x", content=b"0" * 4096)]], compress=cut)
    with pytest.raises(ArchiveInvalid, match="damaged"):
        open_archive(path).merge()


@pytest.mark.parametrize(
    "content", [b"", b"not a tar file" * 100, gzip.compress(b"x" * 2000, mtime=0)], ids=["empty", "text", "gzip"]
)
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(ArchiveInvalid):
        open_archive(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveInvalid, match="no file"):
        open_archive(tmp_path / "absent.tar")


def test_an_archive_for_another_machine_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", [[Member("x")]], architecture="riscv64")
    with pytest.raises(ArchiveInvalid, match="amd64"):
        open_archive(path)


@pytest.mark.parametrize(
    "index",
    [[], {}, {"manifests": []}, {"manifests": [{}]}, {"manifests": [{"digest": "sha256:../../etc/passwd"}]}, 1, None],
)
def test_an_index_that_makes_no_sense_is_refused(tmp_path: Path, index: Any) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as outer:
        content = json.dumps(index).encode()
        info = tarfile.TarInfo("index.json")
        info.size = len(content)
        outer.addfile(info, io.BytesIO(content))
    with pytest.raises(ArchiveInvalid):
        open_archive(path)


def test_json_of_any_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_archive(tmp_path / "a.tar", [[Member("x")]], config={"Env": ["A=" + "x" * 2000]})
    monkeypatch.setattr(archive_module, "MAX_JSON_BYTES", 1000)
    with pytest.raises(ArchiveInvalid, match="larger"):
        open_archive(path)


def test_a_layout_folder_serves_as_well_as_an_archive(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", [[Member("x", content=b"1")]])
    with tarfile.open(path) as outer:
        outer.extractall(tmp_path / "layout", filter="data")
    assert open_archive(tmp_path / "layout").digest == open_archive(path).digest
    assert names(open_archive(tmp_path / "layout").merge()) == {"x"}


def test_symbolic_links_are_kept_as_they_stand() -> None:
    root = merged([Member("l", kind=tarfile.SYMTYPE, target="../../../etc/shadow")])
    assert root.children["l"] == Link(target="../../../etc/shadow")


def test_digests_are_those_of_the_content(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", [[Member("x")]])
    opened = open_archive(path)
    assert opened.layers == (f"sha256:{hashlib.sha256(layer([Member('x')])).hexdigest()}",)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_layer_without_padding_at_its_end_is_whole_and_one_without_content_is_damaged(
    tmp_path: Path, compress: Any
) -> None:
    """`umoci insert` writes such layers."""
    end = 512 + len(b"two")  # a header and the content
    path = write_archive(
        tmp_path / "a.tar", [[Member("two", content=b"two")]], compress=lambda raw: compress(raw[:end])
    )
    archive = open_archive(path)
    assert names(archive.merge()) == {"two"}
    assert [(name, content.read()) for name, content in archive.contents(0)] == [("two", b"two")]
    short = write_archive(
        tmp_path / "b.tar", [[Member("two", content=b"two")]], compress=lambda raw: compress(raw[: end - 1])
    )
    with pytest.raises(ArchiveInvalid, match="damaged"):
        open_archive(short).merge()


def tar_header(kind: bytes, size: int, name: str = "header") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse_header() -> bytes:
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x"}
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("header", "filling"),
    [
        (tar_header(tarfile.XHDTYPE, 64 << 20), b"\0"),
        (tar_header(tarfile.XGLTYPE, 64 << 20), b"\0"),
        (tar_header(tarfile.GNUTYPE_LONGNAME, 64 << 20), b"\0"),
        (tar_header(tarfile.GNUTYPE_LONGLINK, 64 << 20), b"\0"),
        (tar_header(tarfile.GNUTYPE_SPARSE, 100), b"\0"),
        (sparse_header() + b"9\n", b"1"),
        (tar_header(tarfile.XHDTYPE, 0) * 3000, b""),
    ],
    ids=["pax", "global pax", "long name", "long link", "sparse", "endless sparse map", "headers of headers"],
)
def test_a_layer_that_unpacks_into_memory_is_refused_before_it_does(
    tmp_path: Path, header: bytes, filling: bytes
) -> None:
    """A few KiB as they travel, gigabytes as tar reads them: headers are held in memory, whole."""
    content = header + (filling * (64 << 20) or bytes(2048))
    path = write_archive(tmp_path / "bomb.tar", [[]], compress=lambda _raw: gzip.compress(content, compresslevel=1))
    tracemalloc.start()
    with pytest.raises(ArchiveInvalid):
        open_archive(path).merge()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 48 << 20  # what one step of unzipping takes; the bombs are larger


def test_json_of_an_archive_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "layout"
    path.mkdir()
    (path / "index.json").write_bytes(b"[" * 500_000)
    with pytest.raises(ArchiveInvalid):
        open_archive(path)
