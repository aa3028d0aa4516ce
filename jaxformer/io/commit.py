"""The last act of a save; apart from checkpoint.py because it imports Orbax at once."""

import asyncio

import orbax.checkpoint as ocp

from jaxformer.files import sync_folder
from jaxformer.io.digest import write_sums


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
