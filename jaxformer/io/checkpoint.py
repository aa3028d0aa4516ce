"""Checkpoints of a training, kept by Orbax.

On disk: `directory/<step>/` with two items, `state` (every array of the training state) and `meta`
(JSON), and SHA256SUMS, the sums of all files, which are compared before anything is read. A step's
folder carries a temporary name until all of that is complete and is then renamed, so a kill at any
moment leaves either the whole step or a leftover that nothing reads. In a bucket, where nothing can
be renamed, a step is complete when it has its SHA256SUMS, which are written last.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from jaxformer.files import as_path, in_bucket, is_folder
from jaxformer.io.digest import find_fault
from jaxformer.io.expectation import as_structs, find_difference
from jaxformer.io.hosts import channel
from jaxformer.io.quiet import hush_orbax
from jaxformer.io.record import to_json
from jaxformer.io.retention import Retention

# What a checkpoint remembers beside the caller's meta: `Retention.recent`.
_RECENT = "recent"


class Checkpoints:
    """The checkpoints of one training, oldest to newest.

    A state is any pytree with fields `step` (an integer scalar) and `params`: typed PRNG keys,
    named tuples and flax dataclasses come back as they were. Saving is asynchronous, and reading
    waits for the save in flight, so a reader never sees half a checkpoint.

    With several processes all of them make this object and call its methods, in the same order, and
    each saves and reads what its devices hold. Process 0 alone sums, commits, checks and removes.

    Args:
      directory: made when missing, unless `read_only`.
      keep: the newest `keep` checkpoints that were due stay, and the best. One is removed only
        after a newer one is complete.
      read_only: neither makes, removes nor saves anything; leftovers of a killed save are ignored.
        Without it they are removed.

    Raises: ValueError if keep < 1, or if `read_only` and there is no such directory.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep: int = 1,
        *,
        read_only: bool = False,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep} would remove every checkpoint. Keep at least 1.")
        is_remote = in_bucket(directory)
        # The path of a bucket also sets up its clients, whom Orbax calls on its own.
        directory = as_path(directory) if is_remote else os.path.abspath(directory)
        self.directory = os.fspath(directory)
        if read_only and not is_folder(self.directory):
            raise ValueError(f"No checkpoints at {directory}: train first, or correct the path.")
        self._read_only = read_only
        self._in_flight: int | None = None
        self._has_failed = False
        self._sound: set[int] = set()
        # Orbax takes a second or two to import; the commands that fail early or only print their
        # usage should not wait for it.
        import orbax.checkpoint as ocp

        from jaxformer.io.commit import SummedFolder, SummedObjects

        hush_orbax()
        # Jax on CPUs gives up when one process is half a minute behind another.
        channel().wait_for_all()
        self._ocp, self._retention = ocp, Retention(keep)
        self._knows_recent = False
        self._manager = ocp.CheckpointManager(
            self.directory,
            # Naming the handlers lets a manager that has saved nothing yet read shapes.
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._retention,
                temporary_path_class=SummedObjects if is_remote else SummedFolder,
                create=not read_only,
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
            ),
        )

    def save(
        self,
        state: Any,
        meta: Mapping[str, Any] | None = None,
        *,
        is_due: bool = True,
        best: int | None = None,
    ) -> None:
        """Starts to save `state` as its `state.step`; the state may be donated right after.

        Args:
          meta: a small mapping for JSON (a position in the data, say), read by `read_meta`.
          is_due: otherwise it gives way to the next one.
          best: the step of a checkpoint, this or an older one, that is not to be removed.

        Raises: ValueError if the step is not newer than the newest checkpoint; OSError if this
          save, or the one before it, could not be written.
        """
        step = int(state.step)
        self.wait()
        newest = self.latest_step()
        if newest is not None and step <= newest:
            raise ValueError(
                f"Step {step} cannot be saved: {self.directory} already holds step {newest}, and "
                f"steps only grow. Restore that checkpoint first, or use another directory."
            )
        if not self._knows_recent:
            self._retention.recent, self._knows_recent = self._recent_steps(), True
        self._retention.add(step, is_due=is_due, best=best)
        meta = {**(meta or {}), _RECENT: self._retention.recent}
        args = self._ocp.args.Composite(
            state=self._ocp.args.StandardSave(state),
            meta=self._ocp.args.JsonSave(to_json(meta)),
        )
        self._in_flight = step
        try:
            accepted = self._manager.save(step, args=args)
        except Exception as error:
            raise self._unwritten(error) from error
        if not accepted:  # Orbax's way of refusing: silence.
            self._in_flight = None
            reason = "it was opened for reading only" if self._read_only else "Orbax refused it"
            raise ValueError(f"Step {step} was not saved in {self.directory}: {reason}.")

    def wait(self) -> None:
        """Returns when the save in flight is complete. Raises: OSError if it failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._unwritten(error) from error
        self._in_flight = None

    def all_steps(self) -> list[int]:
        """The steps there are, ascending."""
        self.wait()
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The newest step, None when there is none."""
        return max(self.all_steps(), default=None)

    def newest_sound(self) -> tuple[int | None, dict[int, str]]:
        """Returns the newest step that is as it was saved, and what is wrong with each newer one.

        Raises: ValueError if there are steps and none is sound.
        """
        faults = {}
        for step in reversed(self.all_steps()):
            fault = self._find_fault(step)
            if fault is None:
                return step, faults
            faults[step] = fault
        if faults:
            told = "; ".join(f"{step} ({fault})" for step, fault in faults.items())
            raise ValueError(
                f"No checkpoint in {self.directory} is as it was saved: {told}. Bring one back "
                "from a copy, or move the folder away to start from the beginning."
            )
        return None, faults

    def set_aside(self, step: int) -> str:
        """Renames the folder of `step`, which is no checkpoint then, and returns its new path."""
        self.wait()
        self._knows_recent = False
        path = new = os.path.join(self.directory, f"{step}.damaged")
        if channel().process_id == 0:
            number = 1
            while as_path(new).exists():
                number += 1
                new = f"{path}-{number}"
            as_path(os.path.join(self.directory, str(step))).rename(new)
        new = channel().from_first(new)
        self._manager.reload()
        return new

    def restore(self, abstract_state: Any, step: int | None = None) -> Any:
        """The state saved at `step` (default: the newest), with the structure of `abstract_state`.

        Its leaves have a shape and a dtype (`jax.eval_shape`'s result will do); one that has a
        `sharding` too is restored to it, any other to the first local device.

        Raises: ValueError if there is no such step, if a leaf is missing or another than expected,
          or if the files are damaged; OSError if a bucket cannot be read now.
        """
        step = self._choose(step)
        target = as_structs(abstract_state)
        self._check(step, target, "")
        try:
            args = self._ocp.args.Composite(state=self._ocp.args.StandardRestore(target))
            return self._manager.restore(step, args=args)["state"]
        except Exception as error:
            raise self._unread(step, error) from error

    def last_steps(self, n: int) -> list[int]:
        """Returns the newest `n` steps that stay for their age, newest first.

        Fewer when there are fewer; an older one that is there because it is the best is none of
        them. Raises: ValueError if n < 1.
        """
        if n < 1:
            raise ValueError(f"n={n} checkpoints were asked for. Ask for at least 1.")
        steps = self.all_steps()
        recent = {*self._recent_steps(), *steps[-1:]}
        return [step for step in reversed(steps) if step in recent][:n]

    def _recent_steps(self) -> list[int]:
        """The steps that the newest checkpoint says were due; all, if it is older than that."""
        steps = self.all_steps()
        if not steps:
            return steps
        try:
            args = self._ocp.args.Composite(meta=self._ocp.args.JsonRestore())
            recent = self._manager.restore(steps[-1], args=args)["meta"].get(_RECENT, steps)
        except Exception as error:
            if not in_bucket(self.directory):
                # It is damaged, which whoever reads it will say.
                return steps
            raise self._unread(steps[-1], error) from error
        return [step for step in steps if step in recent]

    def params_of(self, steps: Sequence[int], abstract_params: Any) -> Iterator[Any]:
        """Yields the parameters, and nothing else, saved at each step.

        One is read when it is asked for, and not held on to. Raises: as `restore`, for the step.
        """
        target = {"params": as_structs(abstract_params)}
        args = self._ocp.args.PyTreeRestore(
            item=target,
            restore_args=self._ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=True,
        )
        # Not the manager: it is bound to the whole state, and refuses a part of it.
        with self._ocp.Checkpointer(self._ocp.PyTreeCheckpointHandler()) as reader:
            for step in steps:
                self._check(self._choose(step), target, "params.")
                try:
                    path = os.path.join(self.directory, str(step), "state")
                    params = reader.restore(path, args=args)["params"]
                except Exception as error:
                    raise self._unread(step, error) from error
                yield params

    def read_meta(self, step: int | None = None) -> dict[str, Any]:
        """What `save` was given as `meta` at `step` (default: the newest). Raises: as `restore`."""
        step = self._choose(step)
        self._verify(step)
        try:
            args = self._ocp.args.Composite(meta=self._ocp.args.JsonRestore())
            meta = self._manager.restore(step, args=args)["meta"]
            return {name: value for name, value in meta.items() if name != _RECENT}
        except Exception as error:
            raise self._unread(step, error) from error

    def close(self) -> None:
        """Waits for the save in flight and ends Orbax's threads. Raises: OSError as `wait`."""
        try:
            self.wait()
        finally:
            self._close_manager()

    def _close_manager(self) -> None:
        try:
            self._manager.close()
        except Exception:
            # In a bucket Orbax raises once more, and then no more, what `wait` has raised.
            if not self._has_failed:
                raise
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _choose(self, step: int | None) -> int:
        steps = self.all_steps()
        if not steps:
            raise ValueError(
                f"No checkpoint in {self.directory}: train first, or correct the path."
            )
        if step is None:
            return steps[-1]
        if step not in steps:
            held = ", ".join(map(str, steps))
            raise ValueError(f"No checkpoint of step {step} in {self.directory}: it holds {held}.")
        return step

    def _check(self, step: int, target: Any, part: str) -> None:
        """Compares the target with what is stored, before Orbax does so on many pages."""
        self._verify(step)
        try:
            stored = self._manager.item_metadata(step)["state"].tree
        except Exception as error:
            raise self._unread(step, error) from error
        difference = find_difference(stored, target, part)
        if difference:
            raise ValueError(
                f"Checkpoint {step} in {self.directory} has {difference}. Restore with the "
                "settings it was saved with, those in its workdir's config.json."
            )

    def _find_fault(self, step: int) -> str | None:
        fault = None
        if step not in self._sound:
            # One process reads all files for all of them.
            path = os.path.join(self.directory, str(step))
            is_first = channel().process_id == 0
            fault = channel().from_first(find_fault(path) if is_first else None)
        if fault is None:
            self._sound.add(step)
        return fault

    def _verify(self, step: int) -> None:
        fault = self._find_fault(step)
        if fault is not None:
            raise self._unreadable(step, fault)

    def _unwritten(self, error: Exception) -> OSError:
        step, self._in_flight, self._has_failed = self._in_flight, None, True
        self._knows_recent = False
        # Orbax has already forgotten the steps that the failed one was to replace.
        self._manager.reload()
        kept = ", ".join(map(str, sorted(self._manager.all_steps()))) or "none"
        return OSError(
            f"Checkpoint {step} could not be written to {self.directory} "
            f"({_reason(error)}). Those there are kept: {kept}."
        )

    def _unread(self, step: int, error: Exception) -> OSError | ValueError:
        """What a failure to read files says, whose sums are right as far as they are known."""
        if in_bucket(self.directory):
            told = f"Step {step} could not be read now ({_reason(error)})"
            return OSError(errno.EIO, told, self.directory)
        return self._unreadable(step, _reason(error))

    def _unreadable(self, step: int, reason: str) -> ValueError:
        return ValueError(
            f"Checkpoint {step} in {self.directory} cannot be read ({reason}). "
            f"Move its folder away to do without it."
        )


def _reason(error: Exception) -> str:
    """The innermost cause: messages here are nested, each level with the path of a file."""
    text = str(error).strip().split("\n", 1)[0].rsplit('": ', 1)[-1]
    text = re.sub(r" \[(os_error_code|source locations)=.*", "", text) or type(error).__name__
    if len(text) <= 200:
        return text
    # One that quotes a whole specification: the system's word for it, or the end, says the most.
    code = re.search(r"os_error_code='?(\d+)", str(error))
    return f"{text[:97]} ...: {os.strerror(int(code[1])) if code else text[-97:]}"
