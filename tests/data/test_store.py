"""Laws of the caches: nothing that was added is lost, whoever writes, and when he is killed."""

import os
import pickle
import signal
import subprocess
import sys

import pytest
import torch

from flowact.data import store
from flowact.data.store import CacheReader, CacheWriter, cache_key
from flowact.rng import keyed_normal

MADE_BY = {"model": "tiny", "geometry": {"fps": 25}}


def tensors_of(id):
    return {
        "latents": keyed_normal((4, 7, 2, 3), id).bfloat16(),
        "frames": torch.arange(len(id)),
        "scalar": torch.tensor(2.5),
    }


def check(folder, ids):
    """The cache holds ``ids``, each as it was, and nothing else."""
    reader = CacheReader(folder, "latents")
    assert reader.ids == set(ids)
    for id in ids:
        for name, tensor in tensors_of(id).items():
            read = reader.read(id, name)
            assert read.dtype == tensor.dtype
            assert torch.equal(read, tensor)


def files(folder):
    return sorted(path.name for path in folder.glob("latents-*/*.safetensors"))


def test_key_is_of_the_content_alone():
    assert cache_key({"a": 1, "b": [1, 2]}) == cache_key({"b": (1, 2), "a": 1})
    assert cache_key({"a": 1}) != cache_key({"a": 2})
    assert len(cache_key(MADE_BY)) == 12


def test_what_was_added_is_read_before_and_after_it_is_merged(tmp_path):
    writer = CacheWriter(tmp_path, "latents", MADE_BY, shard_bytes=3000)
    ids = [f"clip.{n}" for n in range(9)]
    for n, id in enumerate(ids, 1):
        writer.add(id, tensors_of(id))
        check(tmp_path, ids[:n])
    assert {name.split("-")[0] for name in files(tmp_path)} == {"clip", "shard"}
    writer.close()
    assert {name.split("-")[0] for name in files(tmp_path)} == {"shard"}
    check(tmp_path, ids)


def test_a_clip_done_is_left_as_it_is(tmp_path):
    writer = CacheWriter(tmp_path, "latents", MADE_BY)
    writer.add("a", tensors_of("a"))
    writer.add("a", tensors_of("other"))
    check(tmp_path, ["a"])


def test_ranks_write_side_by_side_and_others_go_on(tmp_path):
    """Three ranks, of which none is closed; then two, which see all that the three have done."""
    ids = [f"clip{n}" for n in range(12)]
    for rank in range(3):
        writer = CacheWriter(tmp_path, "latents", MADE_BY, rank, shard_bytes=2000)
        for id in ids[rank:9:3]:
            writer.add(id, tensors_of(id))
    for rank in range(2):
        writer = CacheWriter(tmp_path, "latents", MADE_BY, rank)
        assert writer.done >= set(ids[:9])
        for id in ids[9 + rank :: 2]:
            writer.add(id, tensors_of(id))
        writer.close()
    check(tmp_path, ids)


def test_a_clip_added_by_two_ranks_is_one(tmp_path):
    writers = [CacheWriter(tmp_path, "latents", MADE_BY, rank) for rank in range(2)]
    for writer in writers:
        writer.add("a", tensors_of("a"))
    check(tmp_path, ["a"])
    for writer in writers:
        writer.close()
    check(tmp_path, ["a"])


def test_a_kill_between_shard_and_removal_leaves_no_trace(tmp_path, monkeypatch):
    writer = CacheWriter(tmp_path, "latents", MADE_BY)
    for id in "abc":
        writer.add(id, tensors_of(id))
    monkeypatch.setattr(type(tmp_path), "unlink", lambda path: sys.exit("killed"))
    with pytest.raises(SystemExit):
        writer.close()
    monkeypatch.undo()
    assert len(files(tmp_path)) == 4
    check(tmp_path, "abc")
    again = CacheWriter(tmp_path, "latents", MADE_BY)
    assert again.done == set("abc")
    assert len(files(tmp_path)) == 1
    again.add("d", tensors_of("d"))
    again.close()
    check(tmp_path, "abcd")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store import MADE_BY, tensors_of
from flowact.data.store import CacheWriter
writer = CacheWriter(Path(sys.argv[1]), "latents", MADE_BY, shard_bytes=5000)
for n in range(100_000):
    id = f"clip{n}"
    if id not in writer.done:
        writer.add(id, tensors_of(id))
        print(id, flush=True)
"""


def test_a_killed_process_loses_nothing(tmp_path):
    """Killed after any number of clips, several times over, merges included."""
    command = [sys.executable, "-c", KILLED, str(tmp_path), os.path.dirname(__file__)]
    told = []
    for wanted in (23, 40):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        told += [process.stdout.readline().strip() for _ in range(wanted)]
        process.send_signal(signal.SIGKILL)
        told += process.communicate()[0].split()
    assert len(told) == len(set(told)) >= 63
    reader = CacheReader(tmp_path, "latents")
    # The one being added may be there without having been told of.
    assert set(told) <= reader.ids
    check(tmp_path, reader.ids)


def test_loose_files_are_merged_by_number_too(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MAX_LOOSE_FILES", 4)
    writer = CacheWriter(tmp_path, "latents", MADE_BY)
    for n in range(9):
        writer.add(str(n), tensors_of(str(n)))
    assert len(files(tmp_path)) == 3
    check(tmp_path, map(str, range(9)))


def test_a_removed_shard_costs_its_own_clips_alone(tmp_path):
    """Its number is not given to the next one while a later one is there."""
    for id in "abc":
        writer = CacheWriter(tmp_path, "latents", MADE_BY)
        writer.add(id, tensors_of(id))
        writer.close()
    next(tmp_path.glob("latents-*/shard-*-00000.safetensors")).unlink()
    writer = CacheWriter(tmp_path, "latents", MADE_BY)
    assert writer.done == {"b", "c"}
    writer.add("a", tensors_of("a"))
    writer.close()
    check(tmp_path, "abc")


def test_slices_are_the_slices_of_the_whole(tmp_path):
    CacheWriter(tmp_path, "latents", MADE_BY).add("a", tensors_of("a"))
    reader = CacheReader(tmp_path, "latents", MADE_BY)
    whole = tensors_of("a")["latents"]
    assert torch.equal(
        reader.read("a", "latents", (slice(None), slice(2, 5))), whole[:, 2:5].contiguous()
    )
    assert torch.equal(reader.read("a", "frames", (slice(0, 0),)), torch.arange(0))
    assert reader.shape("a", "latents") == (4, 7, 2, 3)


def test_what_was_read_is_a_copy(tmp_path):
    CacheWriter(tmp_path, "latents", MADE_BY).add("a", tensors_of("a"))
    reader = CacheReader(tmp_path, "latents")
    reader.read("a", "latents").zero_()
    assert torch.equal(reader.read("a", "latents"), tensors_of("a")["latents"])


def test_few_files_are_open_at_once_and_all_are_read(tmp_path):
    writer = CacheWriter(tmp_path, "latents", MADE_BY)
    ids = [str(n) for n in range(2 * store.MAX_OPEN_FILES)]
    for id in ids:
        writer.add(id, tensors_of(id))
    reader = CacheReader(tmp_path, "latents")
    for id in (*ids, *ids):
        assert torch.equal(reader.read(id, "latents"), tensors_of(id)["latents"])
    assert len(reader._open) == store.MAX_OPEN_FILES


def test_reader_is_pickled_and_forked(tmp_path):
    """A child opens the files itself: it must not share a position in them with its parent."""
    CacheWriter(tmp_path, "latents", MADE_BY).add("a", tensors_of("a"))
    reader = CacheReader(tmp_path, "latents")
    expected = reader.read("a", "latents")
    assert torch.equal(pickle.loads(pickle.dumps(reader)).read("a", "latents"), expected)
    (parents,) = reader._open.values()
    child = os.fork()
    if child == 0:
        same = torch.equal(reader.read("a", "latents"), expected)
        os._exit(0 if same and parents not in reader._open.values() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_errors_name_what_is_wrong_and_the_mend(tmp_path):
    with pytest.raises(ValueError, match=r"no cache of latents.*preprocess"):
        CacheReader(tmp_path, "latents")
    CacheWriter(tmp_path, "latents", MADE_BY).add("a", tensors_of("a"))
    other = {**MADE_BY, "model": "other"}
    with pytest.raises(ValueError, match=rf"latents-{cache_key(MADE_BY)}.*{cache_key(other)}") as e:
        CacheReader(tmp_path, "latents", other)
    assert "differ in model)" in str(e.value)
    reader = CacheReader(tmp_path, "latents")
    with pytest.raises(ValueError, match="no clip 'b'"):
        reader.read("b", "latents")
    with pytest.raises(ValueError, match=r"clip-.*no 'nothing' of a"):
        reader.read("a", "nothing")
    CacheWriter(tmp_path, "latents", other)
    with pytest.raises(ValueError, match="several caches of latents"):
        CacheReader(tmp_path, "latents")


def test_damage_is_named(tmp_path):
    writer = CacheWriter(tmp_path, "latents", MADE_BY)
    writer.add("a", tensors_of("a"))
    writer.close()
    reader = CacheReader(tmp_path, "latents")
    shard = next(tmp_path.glob("latents-*/shard-*"))
    shard.write_bytes(shard.read_bytes()[:-5])
    for read in (
        lambda: CacheReader(tmp_path, "latents"),
        lambda: CacheWriter(tmp_path, "latents", MADE_BY),
        lambda: reader.read("a", "latents"),
    ):
        with pytest.raises(ValueError, match=rf"{shard.name}: is damaged .*remove {shard.name}"):
            read()
    shard.unlink()
    with pytest.raises(ValueError, match=rf"{shard.name}: is gone"):
        reader.read("a", "latents")
    (shard.parent / store.META).write_text("{}")
    with pytest.raises(ValueError, match=r"meta.json: is damaged"):
        CacheReader(tmp_path, "latents")
    writer = CacheWriter(tmp_path, "generated", MADE_BY)
    writer.add("a", tensors_of("a"))
    next(writer.folder.glob("clip-*")).write_bytes(b"")
    with pytest.raises(ValueError, match=r"run scripts/make_generated_latents\.py again"):
        CacheReader(tmp_path, "generated")
