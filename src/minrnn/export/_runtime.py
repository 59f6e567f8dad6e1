"""onnxruntime-web: the files that run a graph in a browser, from npm."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from minrnn.errors import UserError

from ..data._files import cached
from ..training._files import replacing, writing

VERSION = "1.22.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
SHA512 = "Ud/+EBo6mhuaQWt/OjaOk0iNWjXqJoeeMFr6xQEERZdIZH2OWpGzuujz7lfuOBjUa6TEE/sc4nb7Da5dNL34fg=="
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
BY_HAND = f"unpack {PACKAGE} (https://www.npmjs.com/package/onnxruntime-web) and name its folder with --runtime FOLDER"
PATIENCE = 600  # seconds that npm may take


def copy_runtime(into: Path, unpacked: str | os.PathLike[str] | None = None) -> None:
    """Put what a page needs of onnxruntime-web into a folder.

    Args:
        unpacked: folder of the unpacked package; by default npm fetches the pinned version, once, into a cache, and its
            checksum has to be that of npm's registry.

    Raises:
        UserError: npm is missing or fails, or the package is not what it should be.
    """
    with writing(into):
        into.mkdir()
        if unpacked is not None:
            _copy_folder(Path(unpacked), into)
        else:
            _copy_archive(_archive(), into)


def _copy_folder(unpacked: Path, into: Path) -> None:
    inside = next(
        (unpacked / part for part in ("dist", "package/dist", ".") if (unpacked / part / FILES[0]).is_file()), None
    )
    missing = FILES[0] if inside is None else next((name for name in FILES if not (inside / name).is_file()), None)
    if inside is None or missing:
        raise UserError(f"--runtime {unpacked} has no dist/{missing}; give the folder of the unpacked {PACKAGE}")
    for name in FILES:
        shutil.copyfile(inside / name, into / name)


def _copy_archive(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as package:
        for name in FILES:
            content = package.extractfile(f"package/dist/{name}")
            assert content is not None
            with (into / name).open("wb") as file:
                shutil.copyfileobj(content, file)


def _archive() -> Path:
    """The package, from the cache or from npm."""
    path = cached(f"onnxruntime-web-{VERSION}.tgz")
    if path is None:
        raise UserError(f"there is no folder to keep {PACKAGE} in; name one in MINRNN_CACHE, or {BY_HAND}")
    if path.is_file() and _is_right(path):
        return path
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"--format web needs npm, which fetches onnxruntime-web; install Node.js, or {BY_HAND}")
    with writing(path), tempfile.TemporaryDirectory() as folder:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(
                [npm, "pack", "--silent", PACKAGE], cwd=folder, check=True, capture_output=True, timeout=PATIENCE
            )
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise UserError(f"npm pack {PACKAGE} failed ({lines[0]}); check the network, or {BY_HAND}") from None
        except subprocess.TimeoutExpired:
            raise UserError(
                f"npm pack {PACKAGE} took longer than {PATIENCE} s; check the network, or {BY_HAND}"
            ) from None
        found = Path(folder) / path.name
        if not (found.is_file() and _is_right(found)):
            raise UserError(f"what npm fetched as {PACKAGE} has another checksum than it should have; {BY_HAND}")
        with replacing(path) as temporary:
            shutil.copyfile(found, temporary)
    return path


def _is_right(archive: Path) -> bool:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha512").digest() == base64.b64decode(SHA512)
