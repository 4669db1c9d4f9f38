"""Hostile bundles, each from a seed, and a worker process that tries to load them.

    python -m tests.registry.mutations WORK_DIRECTORY FIRST LAST

prints one JSON line a seed. Digests are mostly made right again, so that the parsers see the bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import re
import shutil
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent / "format1"
MODEL_TYPES = ("lightgbm", "random_forest", "xgboost")
CANARY = "canary"
NAMES = (
    "../outside", "/etc/passwd", "members/../../outside", "members/0/../../../outside", "C:\\x", "~/x",
    "members/0/.hidden", "", ".", "..", "members//x", "a\x00b", "members/9/model.txt", "x" * 5_000, "con",
)  # fmt: skip
NUMBERS = (
    "-1",
    "0",
    "2147483647",
    "2147483648",
    "-2147483649",
    "1e308",
    "9" * 400,
    "nan",
    "1e-320",
    "4294967295",
)
VALUES = (None, True, -1, 2**63, 1e308, "x" * 100_000, [], {}, [[]] * 1000, "../x", float("nan"))

Mutation = Callable[[random.Random, Path], bool]
"""Changes a bundle; whether its digests are to be made right again."""


class Payload:
    """Runs when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (CANARY,)


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def model_files(root: Path) -> list[Path]:
    return [path for path in files(root) if path.name.startswith("model.")]


def flip_bits(rng: random.Random, root: Path) -> bool:
    path = rng.choice(files(root) + 3 * model_files(root))
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return rng.random() < 0.9


def truncate(rng: random.Random, root: Path) -> bool:
    path = rng.choice(files(root) + 3 * model_files(root))
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    return rng.random() < 0.9


def repeat_a_part(rng: random.Random, root: Path) -> bool:
    path = rng.choice(files(root) + 3 * model_files(root))
    data = path.read_bytes()
    begin, end = sorted(rng.randrange(len(data)) for _ in range(2))
    end = min(end, begin + 4096)
    where = rng.randrange(len(data))
    path.write_bytes(data[:where] + data[begin:end] * rng.randint(1, 3) + data[where:])
    return True


def overwrite_words(rng: random.Random, root: Path) -> bool:
    path = rng.choice(model_files(root))
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(len(data) - 8, 1))
        value = rng.choice((-1, 0, 1, 2**31 - 1, -(2**31), 2**63 - 1, rng.getrandbits(63)))
        data[at : at + 8] = struct.pack(">q", value)
    path.write_bytes(data)
    return True


def change_numbers(rng: random.Random, root: Path) -> bool:
    """In a text; a UBJSON file has its counts and indexes changed instead."""
    path = rng.choice(files(root) + 6 * model_files(root))
    data = path.read_bytes()
    pattern = rb"L[\x00-\x00]{5}[\s\S]{3}" if path.suffix == ".ubj" else rb"-?\d+(\.\d+)?(e-?\d+)?"
    found = list(re.finditer(pattern, data))
    for hit in sorted(
        rng.sample(found, min(len(found), rng.randint(1, 3))), key=lambda m: -m.start()
    ):
        if path.suffix == ".ubj":
            new = b"L" + struct.pack(">q", rng.choice((-1, 2**62, 2**31, 0, rng.randrange(300))))
        else:
            new = rng.choice((*NUMBERS, str(rng.randint(-20, 20)))).encode()
        data = data[: hit.start()] + new + data[hit.end() :]
    path.write_bytes(data)
    return True


def change_ubjson_values(rng: random.Random, root: Path) -> bool:
    """Node tables of an XGBoost file with other numbers of the right size."""
    path = rng.choice(model_files(root))
    data = bytearray(path.read_bytes())
    names = (
        b"left_children",
        b"right_children",
        b"split_indices",
        b"parents",
        b"split_type",
        b"default_left",
    )
    hits = [hit for name in names for hit in re.finditer(re.escape(name), bytes(data))]
    for hit in rng.sample(hits, min(len(hits), 3)):
        at = hit.end() + 12 + 4 * rng.randrange(8)
        data[at : at + 4] = struct.pack(">i", rng.choice((-1, 0, 1, 5, 100, 2**31 - 1, -(2**31))))
    path.write_bytes(data)
    return True


def change_lines(rng: random.Random, root: Path) -> bool:
    path = rng.choice(model_files(root))
    lines = path.read_bytes().split(b"\n")
    kind, at = rng.randrange(4), rng.randrange(len(lines))
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind == 2:
        lines[at] = lines[at].split(b"=")[0] + b"=" + b"7 " * rng.choice((0, 1, 100_000))
    else:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    path.write_bytes(b"\n".join(lines))
    return True


def swap_files(rng: random.Random, root: Path) -> bool:
    a, b = rng.sample(files(root), 2)
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    return True


def take_from_another_bundle(rng: random.Random, root: Path) -> bool:
    other = rng.choice(files(SOURCE / rng.choice(MODEL_TYPES)))
    rng.choice(files(root)).write_bytes(other.read_bytes())
    return True


def rename_pickle(rng: random.Random, root: Path) -> bool:
    payload = pickle.dumps(Payload(), protocol=rng.randint(0, 5))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(rng.choice(("schema.json", "0.npy", "data.pkl")), payload)
        payload = buffer.getvalue()
    rng.choice(files(root)).write_bytes(payload)
    return True


def hide_pickle_in_skops(rng: random.Random, root: Path) -> bool:
    """A skops schema that asks for a type or a function of the attacker's."""
    path = rng.choice(model_files(root))
    wanted = rng.choice(
        (("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("posix", "mkdir"))
    )
    loader = rng.choice(("ReduceNode", "TypeNode", "FunctionNode", "ObjectNode", "PartialNode"))
    schema = {
        "__class__": wanted[1], "__module__": wanted[0], "__loader__": loader, "__id__": 1, "content": CANARY,
        "args": CANARY, "type": "list", "protocol": 2, "_skops_version": "0.16.0",
    }  # fmt: skip
    write_zip(path, {"schema.json": json.dumps(schema).encode()})
    return True


def bomb(rng: random.Random, root: Path) -> bool:
    """Gigabytes of zeros in a small archive."""
    path = rng.choice([*model_files(root), root / "selftest.feather"])
    name = rng.choice(("schema.json", "0.npy", "filler"))
    path.write_bytes(zeros_in_zip(name, rng.choice((64, 600))))
    return True


@cache
def zeros_in_zip(name: str, n_mebibytes: int) -> bytes:
    """The same few for all seeds: packing half a gigabyte takes a second."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w") as out,
    ):
        for _ in range(n_mebibytes):
            out.write(bytes(1024**2))
    return buffer.getvalue()


def bomb_in_place(rng: random.Random, root: Path) -> bool:
    """A forest file whose arrays or schema are padded beyond all measure."""
    path = rng.choice(model_files(root))
    if path.suffix != ".skops":
        return bomb(rng, root)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(parts))
    kind = rng.randrange(3)
    if kind == 0:
        parts[name] += bytes(300 * 1024**2)
    elif kind == 1:
        header = re.sub(
            rb"'shape': \(\d+", b"'shape': (%d" % rng.choice((2**40, 2**62)), parts[name]
        )
        parts[name] = header
    else:
        parts["schema.json"] = b'{"content": ' * 50_000 + b"1" + b"}" * 50_000
    write_zip(path, parts)
    return True


def compress_table(rng: random.Random, root: Path) -> bool:
    """A table of two gigabytes in a file of some hundred kilobytes."""
    size, n_chunks = rng.choice((10**6, 10**8)), rng.choice((1, 20))
    packed = zeros_in_table(size, n_chunks, rng.choice(("zstd", "lz4")))
    (root / rng.choice(("selftest.feather", "selftest_expected.feather"))).write_bytes(packed)
    return True


@cache
def zeros_in_table(size: int, n_chunks: int, compression: str) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    zeros = pa.array([bytes(size)], pa.large_binary())
    table = pa.table({"pair": pa.chunked_array([zeros] * n_chunks)})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, table.schema, options=options) as out:
        out.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def write_zip(path: Path, parts: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def change_manifest(rng: random.Random, root: Path) -> bool:
    path = root / "manifest.json"
    content = json.loads(path.read_text())
    content[rng.choice([*content, "unknown"])] = rng.choice(VALUES)
    path.write_text(json.dumps(content))
    return rng.random() < 0.5


def traverse(rng: random.Random, root: Path) -> bool:
    path = root / "manifest.json"
    content = json.loads(path.read_text())
    entry = content["files"].pop(rng.choice(sorted(content["files"])))
    content["files"][rng.choice(NAMES)] = entry
    path.write_text(json.dumps(content))
    return False


def count_hugely(rng: random.Random, root: Path) -> bool:
    path = root / "manifest.json"
    content = json.loads(path.read_text())
    kind = rng.randrange(4)
    if kind == 0:
        content["files"] |= {
            f"members/0/{k}": {"sha256": "0" * 64, "size": 1} for k in range(20_000)
        }
    elif kind == 1:
        content["members"] *= 5_000
    elif kind == 2:
        content["features"] = [f"f{k}" for k in range(200_000)]
    else:
        rng.choice(list(content["files"].values()))["size"] = 2**60
    path.write_text(json.dumps(content))
    return False


def nest_deeply(rng: random.Random, root: Path) -> bool:
    path = rng.choice([path for path in files(root) if path.suffix == ".json"])
    path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    return True


def link_elsewhere(rng: random.Random, root: Path) -> bool:
    path = rng.choice(files(root))
    path.unlink()
    if rng.random() < 0.2:
        os.mkfifo(path)
    else:
        path.symlink_to(
            rng.choice(("/etc/passwd", "/dev/zero", "../outside", str(path), "/dev/tty"))
        )
    return False


def add_or_lose(rng: random.Random, root: Path) -> bool:
    if rng.random() < 0.5:
        rng.choice(files(root)).unlink()
        return rng.random() < 0.5
    (root / rng.choice(("extra", "members/0/model.pkl", "signature", "members/7"))).write_bytes(
        b"\x80\x04N."
    )
    return False


def fill_with_noise(rng: random.Random, root: Path) -> bool:
    path = rng.choice(files(root))
    path.write_bytes(rng.randbytes(path.stat().st_size))
    return True


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits, flip_bits, truncate, repeat_a_part, overwrite_words, change_numbers, change_numbers,
    change_ubjson_values, change_lines, swap_files, take_from_another_bundle, rename_pickle, hide_pickle_in_skops,
    bomb, bomb_in_place, compress_table, change_manifest, traverse, count_hugely, nest_deeply, link_elsewhere,
    add_or_lose, fill_with_noise,
)  # fmt: skip


def make_right(root: Path) -> None:
    """Let the manifest say what the files are now."""
    path = root / "manifest.json"
    try:
        content = json.loads(path.read_bytes())
        for name in content["files"]:
            data = (root / name).read_bytes()
            content["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    except (ValueError, TypeError, KeyError, OSError, RecursionError, AttributeError):
        return
    path.write_text(json.dumps(content))


def build(seed: int, root: Path) -> str:
    """Write the hostile bundle of a seed; its description."""
    rng = random.Random(seed)
    model_type, mutation = rng.choice(MODEL_TYPES), MUTATIONS[seed % len(MUTATIONS)]
    shutil.copytree(SOURCE / model_type, root)
    if mutation(rng, root):
        make_right(root)
    return f"{model_type} {mutation.__name__}"


def watch(allowed: Path, seen: list[str]) -> None:
    """Note every start of a program and every write outside `allowed`, for good."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in (
            "os.system",
            "subprocess.Popen",
            "os.exec",
            "os.posix_spawn",
            "pickle.find_class",
            "os.mkdir",
        ):
            inside = event == "os.mkdir" and str(arguments[0]).startswith(str(allowed))
            if not inside:
                seen.append(f"{event} {arguments[:2]}")
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path, flags = os.fsdecode(arguments[0]), arguments[2]
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and not path.startswith(str(allowed)):
                seen.append(f"open {path}")

    sys.addaudithook(hook)


def main(directory: Path, first: int, last: int) -> None:
    from freqtrade_mlpipe.exceptions import BundleError
    from freqtrade_mlpipe.registry import load_bundle
    from tests.registry.conftest import compute, make_candles

    X = compute(make_candles(), "BTC/USDT")
    known = json.loads((SOURCE / "predictions.json").read_text())
    warm = {name: load_bundle(SOURCE / name) for name in MODEL_TYPES}
    for bundle in warm.values():
        bundle.self_test(compute)
    predicted = {
        name: [m.predict_proba(X) for m in bundle.members] for name, bundle in warm.items()
    }
    seen: list[str] = []
    watching = False
    for seed in range(first, last):
        root = directory / str(seed)
        print(json.dumps({"seed": seed}), flush=True)
        what = build(seed, root)
        name = what.split()[0]
        if not watching:  # building needs freedoms that loading must not take
            watch(directory, seen)
            watching = True
        seen.clear()
        row: dict[str, object] = {"seed": seed, "what": what}
        for check, digest in (("registered", known[name]["digest"]), ("unregistered", None)):
            begin = time.process_time()
            try:
                bundle = load_bundle(root, expect_digest=digest)
                bundle.self_test(compute)
                found = [member.predict_proba(X) for member in bundle.members]
                same = all(map(_equal, found, predicted[name])) and len(found) == len(
                    predicted[name]
                )
                row[check] = "identical" if same else "other"
            except BundleError as error:
                row[check] = "refused"
                row["message"] = str(error)[:200]
            except BaseException as error:  # noqa: BLE001  what the test is about
                row[check] = f"{type(error).__name__}: {error}"[:300]
            row["seconds"] = max(time.process_time() - begin, float(row.get("seconds", 0)))  # type: ignore[arg-type]
        row["violations"] = list(seen)
        print(json.dumps(row), flush=True)
        _discard(root)


def _equal(a: object, b: object) -> bool:
    import numpy as np

    return np.array_equal(a, b, equal_nan=True)  # type: ignore[arg-type]


def _discard(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
