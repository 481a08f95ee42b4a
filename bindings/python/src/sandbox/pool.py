"""Sandboxes that are ready before somebody wants them."""

from collections.abc import Mapping
from ctypes import byref, c_int64, c_size_t
from dataclasses import dataclass
from datetime import datetime
from typing import Callable, Optional, Union

from . import _abi as abi
from ._abi import OnMiss, PoolCounter
from ._boundary import Closable, Handle, Text, begun, call, decoded, encoded, interruptible, make, seconds
from .errors import SandboxCreationError, SandboxDeletionError
from .info import point
from .machine import Machine


@dataclass(frozen=True)
class Filled:
    """What Pool.fill() has done.

    created: sandboxes that it has made.
    retired: sandboxes whose deletion it has requested: they had ended, were too old, or of another spec.
    """

    created: int
    retired: int


@dataclass(frozen=True)
class PoolStatus:
    """What there is of a pool at one moment.

    ready: sandboxes that can be claimed.
    filling: sandboxes that are being made.
    claimed: sandboxes that were claimed and still exist.
    ending: sandboxes that have ended or are being deleted, and were not claimed.
    foreign: sandboxes of other specs, not claimed.
    oldest: when the oldest one that can be claimed was made, in UTC.
    held: why the pool is not filled, as far as the Pods and this object's own attempts tell.
    """

    ready: int
    filling: int
    claimed: int
    ending: int
    foreign: int
    oldest: Optional[datetime]
    held: Optional[str]


@dataclass(frozen=True)
class PoolCounters:
    """Counts of a Pool's work since it was made.

    hits: claims that got what was ready at once.
    misses: claims that found nothing ready.
    conflicts: attempts to take a sandbox that somebody else took first, or that had ended.
    waiting: claims that wait for a sandbox now.
    bad: sandboxes that were taken, could not be reached, and were deleted.
    created: sandboxes that it has made for the pool.
    retired: sandboxes whose deletion it has requested.
    """

    hits: int
    misses: int
    conflicts: int
    waiting: int
    bad: int
    created: int
    retired: int


class Pool(Closable):
    """A named pool of sandboxes of one spec that are created in advance; made by Client.pool(). Its state is in the
    cluster only: any number of processes fill it and claim from it, each sandbox goes to exactly one claim, and what a
    killed process leaves behind is found by the others. It may be used from several threads.
    close(), or the end of a `with` block, stops its background work and deletes sandboxes that are half created, for
    which it waits up to 10 seconds; all others stay.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle: Optional[Handle] = handle

    def __repr__(self) -> str:
        return "<sandbox.Pool, closed>" if self.closed else f"<sandbox.Pool {self.name!r}>"

    @property
    def name(self) -> str:
        """The name of the pool."""
        return decoded(abi.sbx_pool_name(self._open()))

    def fill(self) -> Filled:
        """Creates the sandboxes that the pool lacks, and deletes those that have ended, are too old, or were made from
        an older spec. Returns when that is done.

        Fails as Client.create(), with the first error; after that no further sandbox is begun. ConflictError if another
        process fills the pool from a newer spec.
        """
        created, retired = c_size_t(), c_size_t()
        work = (abi.sbx_pool_fill, self._open(), byref(created), byref(retired))
        interruptible(call, *work, subject=SandboxCreationError)
        return Filled(created.value, retired.value)

    def claim(
        self,
        *,
        env: Optional[Mapping[str, str]] = None,
        labels: Optional[Mapping[str, str]] = None,
        annotations: Optional[Mapping[str, str]] = None,
        lifetime: Optional[float] = None,
        owner: Optional[str] = None,
        files: Optional[Mapping[Text, Union[bytes, str]]] = None,
        on_miss: OnMiss = OnMiss.CREATE,
    ) -> Machine:
        """Takes a ready sandbox out of the pool, or does what `on_miss` says if there is none;
        Machine.timings says which it was. `with pool.claim() as machine:` deletes it at the block's end.

        env: environment variables for all later commands in it; they override those of the spec.
        labels, annotations: Kubernetes labels and annotations of its Pod.
        lifetime: seconds until it expires, from the claim on. Default: as the spec says, else as configured.
        owner: the new owner. Default: the configured owner.
        files: what to write before it is handed out, by path; text is written as UTF-8.

        PoolEmptyError and TimedOutError by `on_miss`; PermissionDeniedError if the sandboxes were made with another SSH
        key and this client has no right to pods/exec; else as Client.create() and SandboxPath.write_bytes().
        """
        claim = make(abi.sbx_claim_new, abi.sbx_claim_free)
        for function, texts in (
            (abi.sbx_claim_set_env, env),
            (abi.sbx_claim_set_label, labels),
            (abi.sbx_claim_set_annotation, annotations),
        ):
            for name, text in (texts or {}).items():
                call(function, claim, encoded(name), encoded(text))
        if lifetime is not None:
            call(abi.sbx_claim_set_lifetime, claim, seconds(lifetime))
        if owner is not None:
            call(abi.sbx_claim_set_owner, claim, encoded(owner))
        for path, contents in (files or {}).items():
            data = contents.encode() if isinstance(contents, str) else bytes(contents)
            call(abi.sbx_claim_add_file, claim, encoded(path), data, len(data))
        call(abi.sbx_claim_set_on_miss, claim, on_miss)
        work = (abi.sbx_pool_claim, abi.sbx_sandbox_free, self._open(), claim)
        return Machine(begun(*work, subject=SandboxCreationError, discard=_delete), is_own=True)

    def status(self) -> PoolStatus:
        """What there is of the pool now: one API call."""
        state = interruptible(make, abi.sbx_pool_status, abi.sbx_pool_state_free, self._open())
        oldest = c_int64()
        is_known = abi.sbx_pool_state_oldest(state, byref(oldest))
        held = abi.sbx_pool_state_held(state)
        return PoolStatus(
            ready=abi.sbx_pool_state_ready(state),
            filling=abi.sbx_pool_state_filling(state),
            claimed=abi.sbx_pool_state_claimed(state),
            ending=abi.sbx_pool_state_ending(state),
            foreign=abi.sbx_pool_state_foreign(state),
            oldest=point(oldest.value) if is_known else None,
            held=None if held is None else decoded(held),
        )

    @property
    def counters(self) -> PoolCounters:
        """Counts of this object's work since it was made."""
        handle = self._open()
        return PoolCounters(**{kind.name.lower(): abi.sbx_pool_counter(handle, kind) for kind in PoolCounter})

    def drain(self) -> int:
        """Deletes all unclaimed sandboxes of the pool, without waiting for their end, and returns how
        many. This object stops filling the pool in the background; other processes that fill it will do so again.
        """
        return self._deleted(abi.sbx_pool_drain)

    def remove(self) -> int:
        """drain(), which waits until the sandboxes are gone. Claimed sandboxes stay. ConflictError if sandboxes
        are still there after a minute, for example because another process fills the pool.
        """
        return self._deleted(abi.sbx_pool_remove)

    def _deleted(self, function: Callable[..., int]) -> int:
        count = c_size_t()
        interruptible(call, function, self._open(), byref(count), subject=SandboxDeletionError)
        return count.value


def _delete(sandbox: Handle) -> None:
    call(abi.sbx_sandbox_delete, sandbox, subject=SandboxDeletionError)
