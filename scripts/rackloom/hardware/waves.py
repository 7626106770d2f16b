"""Many BMCs at once, but not too many: a wave. One that fails stops no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from .bmc import Bmc, BmcError, BmcTarget, Power, Wish
from .connect import connect

SWITCH_SECONDS = 60
_LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class BmcResult:
    """What came of one node: value of the action, or the error."""

    node: str
    value: object = None
    error: BmcError | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.error is None


Action = Callable[[Bmc], object]
Watcher = Callable[[BmcResult], None]


def _one(target: BmcTarget, action: Action, stop: threading.Event) -> BmcResult:
    started = time.monotonic()
    value: object = None
    error: BmcError | None = None
    if stop.is_set():
        return BmcResult(
            target.node, error=BmcError(target.node, "Stopped before its turn.", "Run it again.")
        )
    try:
        bmc = connect(target)
        try:
            value = action(bmc)
        finally:
            bmc.close()
    except BmcError as failure:
        error = failure
    except Exception as failure:  # noqa: BLE001 - a fault of one conversation is that node's, not the others'
        error = BmcError(target.node, f"{type(failure).__name__}: {failure}", "This is a bug of Rackloom's.")
    return BmcResult(target.node, value, error, time.monotonic() - started)


def run_wave(
    targets: Iterable[BmcTarget], action: Action, wave: int, on_result: Watcher | None = None
) -> list[BmcResult]:
    """Do `action` with each BMC, at most `wave` at the same time. Results in the order of the targets.

    on_result is called from the calling thread as results come. Ctrl-C lets those that run finish and starts no more.
    """
    todo = list(targets)
    stop = threading.Event()
    results: dict[str, BmcResult] = {}
    with ThreadPoolExecutor(max_workers=max(1, min(wave, len(todo) or 1)), thread_name_prefix="bmc") as pool:
        futures: list[Future[BmcResult]] = [pool.submit(_one, target, action, stop) for target in todo]
        try:
            for future in as_completed(futures):
                result = future.result()
                results[result.node] = result
                if on_result is not None:
                    on_result(result)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[target.node] for target in todo]


def switch(
    bmc: Bmc, wish: Wish, seconds: float = SWITCH_SECONDS, pause: float = _LOOK_AGAIN_SECONDS
) -> Power:
    """Ask for a state and wait until the machine has it. Raises BmcError if it does not come."""
    bmc.set_power(wish)
    wanted: Power = "off" if wish == "off" else "on"
    end = time.monotonic() + seconds
    while (now := bmc.power()) != wanted:
        if time.monotonic() >= end:
            message = (
                f"The BMC took the order, but the machine is not {wanted} after {seconds:.0f} s ({now})."
            )
            raise BmcError(
                bmc.target.node, message, "Look at it with `rackloom node console`, or on the spot."
            )
        time.sleep(pause)
    return now
