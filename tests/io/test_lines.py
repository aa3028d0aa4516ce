"""Lines in segments: those a file would have, each once, after a kill too."""

import json

import pytest

from jaxformer.io.bucket import Changed
from jaxformer.io.lines import SegmentLines, parts
from jaxformer.io.record import Metrics, read_metrics
from tests.memory_objects import Clock, MemoryObjects


def line(step):
    return json.dumps({"step": step}).encode() + b"\n"


def open_lines(path, objects, clock, resume_step=0):
    def keep(part, before, is_last):
        assert part.parent == path
        rows = before.splitlines(keepends=True)
        return b"".join(row for row in rows if json.loads(row)["step"] <= resume_step)

    return SegmentLines(path, keep, objects, clock)


def steps(objects):
    text = b"".join(objects.stored[name][0] for name in sorted(objects.stored))
    return [json.loads(row)["step"] for row in text.splitlines()]


def test_a_segment_goes_to_the_bucket_at_the_latest_when_it_is_waited_for(tmp_path):
    objects, clock = MemoryObjects(), Clock()
    lines = open_lines(tmp_path, objects, clock)
    lines.append(line(1))
    clock.sleep(9)
    lines.append(line(2))
    assert steps(objects) == []
    clock.sleep(1)
    lines.append(line(3))
    assert steps(objects) == [1, 2, 3]
    lines.append(line(4))
    assert steps(objects) == [1, 2, 3]
    lines.sync()
    assert steps(objects) == [1, 2, 3, 4]
    # A wait without a line in between makes no segment.
    lines.sync()
    lines.append(line(5))
    lines.close()
    assert steps(objects) == [1, 2, 3, 4, 5]
    assert sorted(objects.stored) == ["00000000.jsonl", "00000001.jsonl"]
    assert objects.stored["00000001.jsonl"][0] == line(5)


def write(path, objects, *segments, resume_step=0):
    lines = open_lines(path, objects, Clock(), resume_step)
    for segment in segments:
        for step in segment:
            lines.append(line(step))
        lines.sync()
    lines.close()


@pytest.mark.parametrize("resume_step", range(8))
def test_resuming_drops_later_lines_and_repeats_none(tmp_path, resume_step):
    objects = MemoryObjects()
    write(tmp_path, objects, [1, 2], [3, 4, 5], [6])
    kept = [step for step in range(1, 7) if step <= resume_step]
    lines = open_lines(tmp_path, objects, Clock(), resume_step)
    assert steps(objects) == kept
    lines.append(line(resume_step + 1))
    lines.close()
    assert steps(objects) == [*kept, resume_step + 1]


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_a_kill_while_resuming_leaves_a_beginning_of_the_lines(tmp_path, removed):
    objects = MemoryObjects()
    write(tmp_path, objects, [1, 2], [3, 4], [5], [6], [7])
    delete, left = objects.delete, removed

    def killed(*arguments):
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        delete(*arguments)

    objects.delete = killed
    with pytest.raises(KeyboardInterrupt):
        open_lines(tmp_path, objects, Clock(), 3)
    assert steps(objects) == list(range(1, 8 - removed))
    objects.delete = delete
    write(tmp_path, objects, [4], resume_step=3)
    assert steps(objects) == [1, 2, 3, 4]


def test_a_process_that_has_lost_its_run_writes_no_line_into_it(tmp_path):
    objects = MemoryObjects()
    write(tmp_path, objects, [1, 2])
    lost = open_lines(tmp_path, objects, Clock(), 2)
    write(tmp_path, objects, [3], [4], resume_step=2)
    lost.append(line(3))
    with pytest.raises(Changed):
        lost.sync()
    # Nor tries it again when it is closed.
    lost.close()
    assert steps(objects) == [1, 2, 3, 4]


@pytest.mark.parametrize("written", [[], [3], [3, 4]])
def test_nor_does_it_before_the_new_one_has_written_any(tmp_path, written):
    objects = MemoryObjects()
    write(tmp_path, objects, [1, 2])
    lost = open_lines(tmp_path, objects, Clock(), 2)
    for step in written:
        lost.append(line(step))
        lost.sync()
    lost.append(line(5))
    lines = open_lines(tmp_path, objects, Clock(), 2)
    with pytest.raises(Changed):
        lost.sync()
    for step in (3, 4):
        lines.append(line(step))
        lines.sync()
    assert steps(objects) == [1, 2, 3, 4]


def test_two_who_begin_at_once_write_different_segments(tmp_path):
    objects, others = MemoryObjects(), []
    names = objects.names

    def slow():
        found = names()
        objects.names = names
        others.append(open_lines(tmp_path, objects, Clock()))
        return found

    objects.names = slow
    lines = open_lines(tmp_path, objects, Clock())
    lines.append(line(1))
    lines.sync()
    others[0].append(line(1))
    with pytest.raises(Changed):
        others[0].sync()
    assert steps(objects) == [1]


def test_a_broken_line_is_forgiven_in_the_last_segment_alone(tmp_path):
    objects, told = MemoryObjects(), []
    write(tmp_path, objects, [1], [2], [3])

    def note(part, before, is_last):
        told.append((part.name, is_last))
        return before

    SegmentLines(tmp_path, note, objects, Clock())
    assert told == [
        ("00000002.jsonl", True),
        ("00000001.jsonl", False),
        ("00000000.jsonl", False),
    ]


def test_a_line_that_could_not_be_written_is_told_once(tmp_path):
    objects = MemoryObjects()
    lines = open_lines(tmp_path, objects, Clock())
    lines.append(line(1))
    objects.is_reachable = False
    with pytest.raises(OSError, match="the network is down"):
        lines.sync()
    lines.close()


def test_a_folder_of_segments_reads_like_the_file(tmp_path):
    folder, file = tmp_path / "folder" / "metrics.jsonl", tmp_path / "metrics.jsonl"
    folder.mkdir(parents=True)
    (folder / "00000001.jsonl").write_bytes(line(3))
    (folder / "00000000.jsonl").write_bytes(line(1) + line(2))
    with Metrics(file, 0) as metrics:
        for step in (1, 2, 3):
            metrics.write({"step": step})
    assert b"".join(text for _, text, _ in parts(folder)) == file.read_bytes()
    assert read_metrics(folder) == read_metrics(file)
    # Where a process has begun, and written none yet.
    for number in (2, 3):
        (folder / f"{number:08d}.jsonl").write_bytes(b"")
    # What is none is not read.
    (folder / "notes.txt").write_bytes(b"a word")
    assert read_metrics(folder) == read_metrics(file)
    # A copy that was broken off may lack the end of the last one, and of no other.
    (folder / "00000003.jsonl").write_bytes(b'{"st')
    assert read_metrics(folder) == read_metrics(file)
    (folder / "00000001.jsonl").write_bytes(b'{"st')
    with pytest.raises(ValueError, match=r"Line 1 of .*00000001\.jsonl is not a row of metrics"):
        read_metrics(folder)
    (folder / "00000000.jsonl").write_bytes(line(1) + b"\n" + line(2))
    with pytest.raises(ValueError, match=r"Line 2 of .*00000000\.jsonl is not a row of metrics"):
        read_metrics(folder)
