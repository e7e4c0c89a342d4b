"""Lists the clips of an input and compares them with those that a store has: what :func:`prepare` is to read."""

import os
from dataclasses import replace
from pathlib import Path

from coablate_platform.data.formats.clip import NO_VIDEO, ClipRef, Reader
from coablate_platform.data.shard import PrepareOptions, Shard, clip_stamp, describe_change
from coablate_platform.study.errors import InputError


def existing_path(input: Path, source: str) -> Path:  # noqa: A002 - the command line's word
    """Return the absolute path of the input.

    Raises:
        InputError: it does not exist, or cannot be reached.
    """
    try:
        input.stat()
        return input.absolute()
    except OSError as error:
        raise InputError(f"{input}: no such folder to prepare {source} from ({error.strerror})") from None


def list_input(reader: Reader, path: str, options: PrepareOptions) -> tuple[list[ClipRef], dict[str, str]]:
    """Return the clips to store, and those that are left out without being read, with the reason.

    Raises:
        InputError: a clip appears twice, or the reader refuses the input.
    """
    missing, found = reader.missing(path), reader.list_clips(path)
    if options.skeleton_only:
        missing = {name: reason for name, reason in missing.items() if reason != NO_VIDEO}
        found = [replace(ref, video=None) for ref in found]
    refs = [ref for ref in found if ref.name not in missing]
    _check_names(refs)
    return refs, missing


def stored_names(shards: list[Shard]) -> set[str]:
    """Return the names of the clips that are stored."""
    return {name for shard in shards for name in shard.digests}


def clips_to_read(refs: list[ClipRef], shards: list[Shard]) -> list[ClipRef]:
    """Return the clips that are neither stored nor known to be bad with the same files."""
    stored = stored_names(shards)
    bad = {(clip.name, clip.stamp) for shard in shards for clip in shard.bad}
    return [ref for ref in refs if ref.name not in stored and (ref.name, clip_stamp(ref)) not in bad]


def _check_names(refs: list[ClipRef]) -> None:
    seen: dict[str, ClipRef] = {}
    for ref in refs:
        if ref.name in seen:
            raise InputError(f"clip {ref.name} appears twice: {seen[ref.name].skeleton} and {ref.skeleton}")
        seen[ref.name] = ref


def check_files(store: Path, refs: list[ClipRef], shards: list[Shard]) -> None:
    """Refuse an input in which the files of stored clips have changed."""
    before = {name: found for shard in shards for name, found in shard.fingerprints.items()}
    changes = [found for ref in refs if ref.name in before and (found := describe_change(ref, before[ref.name]))]
    if changes:
        raise InputError(
            f"{store}: the files of {len(changes)} clips have changed since they were stored, the first: {changes[0]}; "
            "prepare them into a new store"
        )


def without_removed(shards: list[Shard], refs: list[ClipRef], path: str) -> list[Shard]:
    """Return the shards without the bad clips whose files lay under the input and were removed."""
    names = {ref.name for ref in refs}
    folder = f"{path}{os.sep}"
    return [
        replace(shard, bad=[clip for clip in shard.bad if clip.name in names or not clip.file.startswith(folder)])
        for shard in shards
    ]
