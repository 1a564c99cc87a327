"""What the benchmark of FineHARD's readers measures is what it says."""

from __future__ import annotations

import mmap

from benchmarks import finehard_reading
from fgclip_det.datasets import FineHARDStream
from fgclip_det.datasets.finehard import prepare_shards


def test_a_grown_data_set_has_each_item_so_many_times(tmp_path):
    annotations, images = finehard_reading.generate(tmp_path, 5, (32, 24))
    prepare_shards(annotations, images, tmp_path / "once", 3)
    stream = FineHARDStream(str(finehard_reading.grow(tmp_path / "once", tmp_path / "grown", 4)))
    assert len(stream) == 20 and len({stream.key(number) for number in range(20)}) == 20
    captions = [stream[number]["long_caption"] for number in range(20)]
    assert sorted(captions) == sorted(4 * sorted({*captions})) and len({*captions}) == 5


def test_memory_that_is_kept_is_seen():
    before = finehard_reading.private_memory()
    # Pages of the kernel: an allocator may hand out what was freed and never given back.
    with mmap.mmap(-1, 40_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as kept:
        kept.write(bytes([1]) * len(kept))
        assert finehard_reading.private_memory() - before > 35_000_000


def test_times_are_of_files_and_of_shards(tmp_path):
    found = finehard_reading.reading_times(tmp_path, 10, repeats=2)
    times, parts = found["times"], found["parts"]
    assert {*times} == {"bytes, cold", "bytes, warm", "samples, warm"}
    for kinds in times.values():
        assert {kind: len(taken) for kind, taken in kinds.items()} == {"files": 2, "shards": 2}
        assert all(taken > 0 for one in kinds.values() for taken in one)
    # Pictures of 640 x 480 and 46 captions.
    assert {*parts} > {*finehard_reading.PARTS} and all(taken > 0 for taken in parts.values())
    text = finehard_reading.tables({**found, "memory": [(10, 2.0), (20, 2.1)]})
    assert "bytes, cold" in text and "1.050" in text and "| decoding the picture |" in text
    assert "private memory" not in finehard_reading.tables(found)
