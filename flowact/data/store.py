"""Tensors of many clips on disk, in folders keyed by what made them (design 7).

A cache is a folder ``KIND-KEY`` with ``meta.json`` and safetensors files in which a tensor is named
``ID/NAME``. What is added is a file of its own at once; a rank merges its own files into shards as
they gather. All files are written aside and renamed, and a shard is there before the files that
it holds are removed, so that a kill at any moment loses nothing.
"""

import hashlib
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, KeysView, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

META = "meta.json"
SUFFIX = ".safetensors"
# Clips too tiny to weigh a shard are merged by number, so that a folder stays quick to list.
MAX_LOOSE_FILES = 1000
MAX_OPEN_FILES = 16


def cache_key(made_by: Mapping[str, Any]) -> str:
    """12 hex digits for ``made_by``, of what JSON can hold; the order of its keys is nothing."""
    return hashlib.blake2b(_canonical(made_by).encode(), digest_size=6).hexdigest()


def caption_id(caption: str) -> str:
    """The id of a caption in the text cache."""
    return hashlib.blake2b(caption.encode(), digest_size=8).hexdigest()


class CacheWriter:
    """Adds clips to a cache; several ranks may do so side by side.

    Args:
        folder: of the dataset; the cache is a folder in it.
        kind: latents, features, text or generated.
        made_by: everything that the tensors depend on, apart from the clip.
        rank: of this process among those that write now; no other rank's files are touched.
        shard_bytes: size at which loose files are merged.

    Attributes:
        folder: of the cache.
        done: ids on disk: those that any rank had added when this writer was made, and its own.

    Raises:
        ValueError: a file of the cache is damaged.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        made_by: Mapping[str, Any],
        rank: int = 0,
        shard_bytes: int = 256 << 20,
    ) -> None:
        key = cache_key(made_by)
        self.folder = folder / f"{kind}-{key}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._rank = f"{rank:05d}"
        self._shard_bytes = shard_bytes
        meta = {"kind": kind, "key": key, "made_by": made_by}
        self._write(self.folder / META, json.dumps(meta, indent=2).encode())
        file_of_id = _files(self.folder)
        self.done = set(file_of_id)
        self._loose = self._clean_up(set(file_of_id.values()))
        self._loose_bytes = sum(path.stat().st_size for path in self._loose)

    def add(self, id: str, tensors: Mapping[str, Tensor]) -> None:
        """Store ``tensors`` under ``id``; they are on disk when this returns.

        An id that is done already is left as it is: under the same key it is the same.
        """
        if id in self.done:
            return
        path = self.folder / f"clip-{self._rank}-{caption_id(id)}{SUFFIX}"
        data = save({f"{id}/{name}": tensor.contiguous() for name, tensor in tensors.items()})
        self._write(path, data)
        self.done.add(id)
        self._loose.append(path)
        self._loose_bytes += len(data)
        if self._loose_bytes >= self._shard_bytes or len(self._loose) >= MAX_LOOSE_FILES:
            self.close()

    def close(self) -> None:
        """Merge the loose files into a shard, then remove them; more may be added afterwards."""
        if not self._loose:
            return
        tensors: dict[str, Tensor] = {}
        for path in self._loose:
            # Of every tensor that an open file gives, safetensors keeps some bytes for ever.
            tensors |= load(path.read_bytes())
        shards = self._mine("shard")
        number = int(shards[-1].stem.rpartition("-")[2]) + 1 if shards else 0
        self._write(self.folder / f"shard-{self._rank}-{number:05d}{SUFFIX}", save(tensors))
        for path in self._loose:
            path.unlink()
        self._loose, self._loose_bytes = [], 0

    def _mine(self, what: str) -> list[Path]:
        return sorted(self.folder.glob(f"{what}-{self._rank}-*{SUFFIX}"))

    def _clean_up(self, holding: set[Path]) -> list[Path]:
        """Remove what a kill left, half-written or already merged; returns the loose files."""
        for path in self.folder.glob(f"*.{self._rank}.aside"):
            path.unlink()
        for path in set(self._mine("clip")) - holding:
            path.unlink()
        return self._mine("clip")

    def _write(self, path: Path, data: bytes) -> None:
        """Write ``path`` aside, then rename it: it is there as a whole or not at all."""
        aside = path.with_name(f"{path.name}.{self._rank}.aside")
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)


def remove_other_caches(cache: Path) -> None:
    """Remove those of the same folder and kind as ``cache``; several ranks may do so side by side.

    What a kill leaves of one is no cache any more, and goes the next time.
    """
    kind, _, key = cache.name.rpartition("-")
    for other in cache.parent.glob(f"{kind}-{'[0-9a-f]' * len(key)}"):
        if other != cache:
            (other / META).unlink(missing_ok=True)
            shutil.rmtree(other, ignore_errors=True)  # another rank may be at it


class CacheReader:
    """Reads slices of a cache. It may be forked, pickled, and used in DataLoader workers.

    Args:
        folder: of the dataset.
        kind: latents, features, text or generated.
        made_by: what must have made the cache; None takes the only one that is there.

    Attributes:
        folder: of the cache.
        made_by: what made it.

    Raises:
        ValueError: there is no such cache, or there are several to choose from; or a file of it is
            damaged.
    """

    def __init__(self, folder: Path, kind: str, made_by: Mapping[str, Any] | None = None) -> None:
        self.folder = _find_cache(folder, kind, made_by)
        self.made_by = _made_by(self.folder)
        self._file_of_id = _files(self.folder)
        self._open: OrderedDict[Path, Callable[[str], Tensor]] = OrderedDict()
        self._process = os.getpid()

    @property
    def ids(self) -> KeysView[str]:
        return self._file_of_id.keys()

    def read(self, id: str, name: str, at: tuple[slice, ...] = ()) -> Tensor:
        """Tensor ``name`` of ``id``; ``at`` slices its first axes, and only that part is read.

        Raises:
            ValueError: the cache has no such id or tensor, or its file is damaged or gone.
        """
        return self._view(id, name)[at].clone()

    def shape(self, id: str, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which is not read for it.

        Raises:
            ValueError: as ``read``.
        """
        return tuple(self._view(id, name).shape)

    def _view(self, id: str, name: str) -> Tensor:
        """A tensor that is mapped, and not read before it is copied."""
        tensor_of = self._file(id)
        try:
            return tensor_of(f"{id}/{name}")
        except SafetensorError as error:
            path = self._file_of_id[id]
            raise ValueError(f"{path}: has no {name!r} of {id}; {_mend(path)}") from error

    def _file(self, id: str) -> Callable[[str], Tensor]:
        """The tensors of the file that holds ``id``; the one used longest ago is closed for it."""
        if id not in self._file_of_id:
            raise ValueError(f"{self.folder}: has no clip {id!r}; run scripts/preprocess.py again")
        if self._process != os.getpid():
            self._open, self._process = OrderedDict(), os.getpid()
        path = self._file_of_id[id]
        if path not in self._open:
            try:
                # Of every tensor that it gives, safetensors keeps some bytes for ever.
                self._open[path] = cache(_opened(path).get_tensor)
            except FileNotFoundError as error:
                script = _script(path.parent.name.partition("-")[0])
                raise ValueError(f"{path}: is gone; start again once {script} has ended") from error
            if len(self._open) > MAX_OPEN_FILES:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}


def _canonical(made_by: Mapping[str, Any]) -> str:
    return json.dumps(made_by, sort_keys=True, separators=(",", ":"))


def _files(folder: Path) -> dict[str, Path]:
    """Which file of a cache holds an id: a shard, if one does.

    Loose files are listed before the shards: one that is merged and removed meanwhile is in a
    shard by then.
    """
    file_of_id: dict[str, Path] = {}
    for pattern in ("clip-*", "shard-*"):
        for path in sorted(folder.glob(f"{pattern}{SUFFIX}")):
            with suppress(FileNotFoundError), _opened(path) as file:
                file_of_id |= {key.rpartition("/")[0]: path for key in file.keys()}  # noqa: SIM118
    return file_of_id


def _opened(path: Path) -> Any:
    """``path`` as an open safetensors file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path}: is damaged ({error}); {_mend(path)}") from error


def _mend(path: Path) -> str:
    script = _script(path.parent.name.partition("-")[0])
    return f"remove {path.name} and run {script} again to make its clips anew"


def _script(kind: str) -> str:
    """What makes caches of ``kind``."""
    return f"scripts/{'make_generated_latents' if kind == 'generated' else 'preprocess'}.py"


def _find_cache(folder: Path, kind: str, made_by: Mapping[str, Any] | None) -> Path:
    found = sorted(path.parent for path in folder.glob(f"{kind}-*/{META}"))
    if not found:
        raise ValueError(f"{folder}: has no cache of {kind}; make it with {_script(kind)}")
    names = ", ".join(path.name for path in found)
    if made_by is None:
        if len(found) > 1:
            mend = "keep one of them"
            if kind == "generated":
                mend += f", or let {_script(kind)} end, which does"
            raise ValueError(f"{folder}: has several caches of {kind}, {names}; {mend}")
        return found[0]
    wanted = folder / f"{kind}-{cache_key(made_by)}"
    if wanted not in found:
        theirs, ours = _made_by(found[0]), json.loads(_canonical(made_by))
        keys = sorted({*theirs, *ours})
        differing = ", ".join(key for key in keys if theirs.get(key) != ours.get(key))
        raise ValueError(
            f"{folder}: has {names}, not {wanted.name} (they differ in {differing}); "
            "run scripts/preprocess.py with the settings that are wanted"
        )
    return wanted


def _made_by(cache: Path) -> dict[str, Any]:
    try:
        made_by: dict[str, Any] = json.loads((cache / META).read_text())["made_by"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{cache / META}: is damaged; run scripts/preprocess.py again") from error
    return made_by
