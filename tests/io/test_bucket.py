"""Objects in a bucket, through Google's own client: conditions, answers that are lost, refusals."""

import errno

import pytest

from jaxformer import files
from jaxformer.files import as_path, patient, replace_file
from jaxformer.io.bucket import ABSENT, BucketObjects, Changed
from jaxformer.io.record import Metrics, read_config, read_metrics, write_config
from tests.bucket_server import BucketServer

pytestmark = pytest.mark.needs("gcs")


@pytest.fixture
def server(monkeypatch):
    """Returns a bucket that the clients of this process come to."""
    with BucketServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def test_an_object_is_written_only_as_it_was_known(server):
    objects = BucketObjects("gs://bucket/run")
    assert objects.read("lock") is None
    first = objects.write("lock", b"one\r\n", ABSENT)
    assert objects.read("lock") == (b"one\r\n", first)
    with pytest.raises(Changed, match="Another process has written it: 'gs://bucket/run/lock'"):
        objects.write("lock", b"two", ABSENT)
    second = objects.write("lock", b"two", first)
    with pytest.raises(Changed):
        objects.delete("lock", first)
    assert objects.read("lock") == (b"two", second)
    objects.delete("lock", second)
    # Gone already.
    objects.delete("lock", second)
    assert server.objects == {}


def test_a_write_whose_answer_is_lost_is_known_as_ones_own(server):
    objects = BucketObjects("gs://bucket/run")
    put = server.put

    def lose(name, data, query):
        put(name, data, query)
        server.put = put
        raise ConnectionResetError

    server.put = lose
    generation = objects.write("a", b"mine", ABSENT)
    assert objects.read("a") == (b"mine", generation)
    # Anybody's empty object looks the same.
    server.put = lose
    with pytest.raises(Changed):
        objects.write("b", b"", ABSENT)


def test_names_are_those_directly_in_the_folder(server):
    for name in ("run/b", "run/a", "run/deeper/c", "runs/d", "run"):
        server.put(name, b"", {})
    assert sorted(BucketObjects("gs://bucket/run").names()) == ["a", "b"]


def test_what_the_bucket_refuses_names_the_object(server):
    objects = BucketObjects("gs://bucket/run")
    server.refuse = lambda method, name: 403
    for use in (objects.check, objects.names, lambda: objects.read("a")):
        with pytest.raises(PermissionError, match=r"do not permit it .*'gs://bucket/run"):
            use()
    server.refuse = lambda method, name: 0
    with pytest.raises(ValueError, match="there is no bucket 'other'. Make it"):
        BucketObjects("gs://other/run").check()


def test_a_refusal_that_passes_is_borne(server):
    objects, codes = BucketObjects("gs://bucket/run"), iter([503, 429])
    server.refuse = lambda method, name: 503
    with patient(0.1), pytest.raises(OSError, match="cannot be reached"):
        objects.check()
    server.refuse = lambda method, name: next(codes, 0)
    objects.check()
    assert list(codes) == []


@pytest.fixture
def used_before(server, monkeypatch):
    """Has etils make its file system before this project has set up the clients."""
    import fsspec
    from etils.epath import backend
    from gcsfs.core import GCSFileSystem

    monkeypatch.setenv("EPATH_USE_TF", "false")
    for name in ("gs", "gcs"):
        fsspec.register_implementation(name, GCSFileSystem, clobber=True)
    backend.fsspec_backend._get_filesystem.cache_clear()
    files._set_up_clients.cache_clear()
    assert type(backend.fsspec_backend.fs("gs://bucket/run")) is GCSFileSystem


def test_files_are_asked_for_as_patiently(server, used_before, monkeypatch):
    path, errors = as_path("gs://bucket/run/config.json"), []
    server.put("run/config.json", b"{}", {})
    from gcsfs.core import GCSFileSystem
    from gcsfs.retry import HttpError as refusal

    request = GCSFileSystem._request

    async def give_up(*args, **kwargs):
        if errors:
            raise errors.pop()
        return await request(*args, **kwargs)

    monkeypatch.setattr(GCSFileSystem, "_request", give_up)
    errors[:] = [refusal({"code": 503, "message": "silent"}) for _ in range(3)]
    assert path.read_bytes() == b"{}"
    assert errors == []
    errors[:] = [refusal({"code": 503, "message": "silent"})]
    with patient(-1.0), pytest.raises(refusal):
        path.read_bytes()
    errors[:] = [refusal({"code": 400, "message": "wrong"})]
    with pytest.raises(refusal):
        path.read_bytes()


def test_records_are_replaced_and_read(server):
    config = {"train": {"seed": 1}}
    write_config("gs://bucket/run", config)
    assert read_config("gs://bucket/run") == config
    assert read_config(as_path("gs://bucket/run")) == config
    with pytest.raises(ValueError, match="gs://bucket/run holds a run with other settings"):
        write_config("gs://bucket/run", {"train": {"seed": 2}})
    write_config("gs://bucket/run", {"train": {"seed": 2}}, may_change=["train.seed"])
    assert read_config("gs://bucket/run") == {"train": {"seed": 2}}
    assert sorted(server.objects) == ["run/config.json"]
    server.refuse = lambda method, name: 400 if method == "POST" else 0
    with pytest.raises(OSError, match="It was to be refused") as raised:
        replace_file("gs://bucket/run/config.json", "{}")
    assert raised.value.errno == errno.EIO
    assert raised.value.filename == "gs://bucket/run/config.json"


def test_lines_of_metrics_go_on_where_they_stopped(server):
    path = "gs://bucket/run/metrics.jsonl"
    with Metrics(path, 0) as metrics:
        metrics.write({"step": 1, "loss": float("nan")})
        metrics.sync()
        metrics.write({"step": 2})
        metrics.write({"step": 3})
    with Metrics(path, 2) as metrics:
        assert [row["step"] for row in read_metrics(path)] == [1, 2]
        metrics.write({"step": 4})
        # A process that has lost the run, and wakes, finds its next segment taken.
        with pytest.raises(Changed):
            BucketObjects(path).write("00000002.jsonl", b"{}", ABSENT)
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 4]
    assert as_path(path).exists()
    assert sorted(server.objects) == [
        f"run/metrics.jsonl/{number:08d}.jsonl" for number in range(3)
    ]
    with pytest.raises(FileNotFoundError):
        read_metrics("gs://bucket/run/other.jsonl")
