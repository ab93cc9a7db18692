"""Names of objects: reversible, safe for every tenant name that an AMQP broker can have, refused otherwise."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sandpool.job import new_job_id
from workers.volumes import keys
from workers.volumes.keys import UnsafeName

IDS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
NASTY = [
    "..",
    ".",
    "../../etc",
    "a/b",
    "/",
    "%2e%2e",
    "!2E",
    "a!b",
    "ä",
    "名前",
    "a\0b",
    "a b",
    "-rf",
    "~root",
    "a\\b",
    ".incoming",
]


@given(tenant=st.one_of(st.text(min_size=1, max_size=60), st.sampled_from(NASTY)), job_id=IDS, attempt_id=IDS)
def test_every_name_comes_back_from_its_key(tenant: str, job_id: str, attempt_id: str) -> None:
    try:
        key = keys.record_key(tenant, job_id)
    except UnsafeName:
        assume(False)
        return
    assert keys.parse_record_key(key) == keys.RecordName(tenant, job_id)
    part = keys.part_key(tenant, job_id, attempt_id, 7)
    assert keys.parse_data_key(part) == keys.DataName(tenant, job_id, attempt_id)
    assert keys.parse_record_key(part) is keys.parse_data_key(key) is None
    assert key.startswith(keys.job_prefix(tenant, job_id))
    assert keys.job_prefix(tenant, job_id).startswith(keys.tenant_prefix(tenant))
    assert keys.check_key(key) == key
    assert keys.check_key(part) == part


@given(tenant=st.text(max_size=100))
def test_a_tenant_is_one_harmless_segment_or_is_refused(tenant: str) -> None:
    try:
        segment = keys.encode_tenant(tenant)
    except UnsafeName:
        assert not tenant or len(tenant.encode("utf-8", "surrogatepass")) * 3 > 255 or not _is_unicode(tenant)
        return
    assert segment.isascii()
    assert not set(segment) & set("/\\%~\0 \"'")
    assert not segment.startswith(".")
    assert keys.decode_tenant(segment) == tenant


@given(one=st.text(min_size=1, max_size=20), other=st.text(min_size=1, max_size=20), job_id=IDS)
def test_no_tenant_reaches_anothers_record(one: str, other: str, job_id: str) -> None:
    assume(one != other and _is_unicode(one) and _is_unicode(other))
    assert keys.record_key(one, job_id) != keys.record_key(other, job_id)
    assert not keys.record_key(other, job_id).startswith(keys.tenant_prefix(one))


@given(segment=st.text(max_size=40))
def test_only_what_encode_makes_is_decoded(segment: str) -> None:
    tenant = keys.decode_tenant(segment)
    assert tenant is None or keys.encode_tenant(tenant) == segment


@pytest.mark.parametrize("segment", ["", "!2f", "!61", "a!", "a!2", "!", "!FF", ".a", "a/b", "é"])
def test_other_spellings_of_a_tenant_are_not_decoded(segment: str) -> None:
    assert keys.decode_tenant(segment) is None


@pytest.mark.parametrize(
    ("tenant", "segment"),
    [("acme", "acme"), ("..", "!2E."), ("a/b", "a!2Fb"), ("ops@x.org", "ops!40x.org"), ("ä", "!C3!A4")],
)
def test_the_encoding_is_what_the_documentation_says(tenant: str, segment: str) -> None:
    assert keys.encode_tenant(tenant) == segment


@pytest.mark.parametrize("tenant", ["", "x" * 256, "ä" * 60, "\ud800"])
def test_a_tenant_that_has_no_safe_name_is_refused(tenant: str) -> None:
    with pytest.raises(UnsafeName):
        keys.record_key(tenant, "job")


@pytest.mark.parametrize("odd", ["", "a/b", "..", "-a", "_a", "a.b", "a b", "x" * 65, "ä", "a\n"])
def test_an_odd_job_or_attempt_id_is_refused(odd: str) -> None:
    for call in (
        lambda: keys.record_key("t", odd),
        lambda: keys.job_prefix("t", odd),
        lambda: keys.part_key("t", "j", odd, 0),
    ):
        with pytest.raises(UnsafeName):
            call()


@pytest.mark.parametrize("number", [-1, 100_000])
def test_a_part_number_outside_its_digits_is_refused(number: int) -> None:
    with pytest.raises(UnsafeName):
        keys.part_key("t", "j", "1-a", number)


@pytest.mark.parametrize(
    "key",
    [
        "t/j/1-a/part-0.parquet",
        "t/j/1-a/part-00000.parquet.tmp",
        "t/j/a/b/manifest.json",
        "manifest.json",
        "!2f/j/manifest.json",
        "t/../manifest.json",
    ],
)
def test_foreign_keys_mean_nothing(key: str) -> None:
    assert keys.parse_record_key(key) is keys.parse_data_key(key) is None


@given(st.text(max_size=60))
def test_a_checked_key_stays_below_any_root(key: str) -> None:
    try:
        keys.check_key(key)
    except UnsafeName:
        return
    assert not key.startswith("/")
    assert all(segment and not segment.startswith(".") for segment in key.split("/"))


def test_ids_made_from_a_moment_on_sort_behind_its_bound() -> None:
    before, job_id = datetime.now(UTC), new_job_id()
    assert keys.first_job_id_since(before) <= job_id
    assert keys.first_job_id_since(datetime(2100, 1, 1, tzinfo=UTC)) > job_id


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(
    tenant=st.sampled_from(["acme", *NASTY]),
    job_id=IDS,
    attempt_id=IDS,
    folder=st.sampled_from(keys.FOLDERS),
    path=st.text(max_size=400) | st.sampled_from([*NASTY, "a/" * 100 + "b", "名前/ä b.png", "\ud800"]),
)
def test_whatever_code_names_its_files_there_is_one_harmless_key(
    tenant: str, job_id: str, attempt_id: str, folder: keys.Folder, path: str
) -> None:
    key = keys.output_key(tenant, job_id, attempt_id, folder, path)
    assert keys.check_key(key) == key
    assert keys.parse_data_key(key) == keys.DataName(tenant, job_id, attempt_id)
    assert key.startswith(f"{keys.job_prefix(tenant, job_id)}{attempt_id}/{folder}/")
    assert keys.parse_record_key(key) is None


def test_two_files_never_share_a_key() -> None:
    names = ["a", "A", "a!41", "a A", "a/b", "ab", ".a", "!2Ea", "ä", "x" * 300, "x" * 301]
    assert len({keys.output_key("t", "j", "1", "out", name) for name in names}) == len(names)
