"""The last act of a save; apart from checkpoint.py because it imports Orbax at once."""

import asyncio
import uuid

import orbax.checkpoint as ocp
from etils import epath

from jaxformer.files import sync_folder
from jaxformer.io.bucket import ABSENT, BucketObjects
from jaxformer.io.digest import PROMISE, SUMS, has_sums, sums_of_objects, write_sums


class SummedFolder(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A checkpoint's temporary folder, which gets its sums before it gets its name.

    So there is never a step without sums, whenever a kill comes. Orbax calls this in the thread
    that writes the checkpoint: training goes on meanwhile.
    """

    async def finalize(self) -> None:
        """Renames a step's folder twice: Orbax writes its last files just before it renames."""
        final, suffix = self._final_path, ocp.path.atomicity.TMP_DIR_SUFFIX
        if final.parent.suffix == suffix:
            # A part of a step, whose files the step's sums hold.
            await super().finalize()
            return
        # Still a temporary name to Orbax, which clears such folders away.
        summed = final.with_name(f"{final.name}.unsummed{suffix}")
        self._final_path = summed
        try:
            await super().finalize()
        finally:
            self._final_path = final
        await asyncio.to_thread(write_sums, summed)
        summed.rename(final)
        await asyncio.to_thread(sync_folder, final.parent)


class SummedObjects(ocp.path.atomicity.CommitFileTemporaryPath):
    """A checkpoint in a bucket, written under its own name and complete with its sums.

    Orbax takes its own mark, `commit_success.txt`, for the last object; here the sums come after
    it, and hold it too. Before any array comes a promise of them, whose place they take if nobody
    else has promised meanwhile: of two processes that write one step, only the later completes it.
    """

    async def create(self) -> epath.Path:
        """Begins a step, whatever is left of another attempt being removed, with the promise."""
        path = await super().create()
        if _is_step(path):
            promise = PROMISE + f": it is being written (attempt {uuid.uuid4().hex}).\n".encode()
            self._objects = BucketObjects(path)
            self._promise = await asyncio.to_thread(self._objects.write, SUMS, promise, ABSENT)
        return path

    async def finalize(self) -> None:
        """Writes the sums of a step when all else is there. Raises: Changed if it is another's."""
        await super().finalize()
        if _is_step(self._final_path):
            sums = (await asyncio.to_thread(sums_of_objects, self._final_path)).encode()
            await asyncio.to_thread(self._objects.write, SUMS, sums, self._promise)

    @classmethod
    async def validate(cls, temporary_path: epath.Path) -> None:
        """Tells Orbax which steps are leftovers: what is not complete, and was not set aside."""
        if not _is_step(temporary_path) or await _is_complete(temporary_path):
            raise ocp.path.atomicity_types.ValidationError(f"{temporary_path} is no leftover.")

    @classmethod
    async def validate_final(cls, final_path: epath.Path) -> None:
        """Tells Orbax which steps are complete."""
        if not await _is_complete(final_path):
            raise ocp.path.atomicity_types.ValidationError(f"{final_path} has no {SUMS}.")


def _is_step(path: epath.Path) -> bool:
    return path.name.isdecimal()


async def _is_complete(path: epath.Path) -> bool:
    return await asyncio.to_thread(has_sums, path)
