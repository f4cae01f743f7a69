"""Doing something at every place of some modules where Python lets a signal handler in."""

from __future__ import annotations

import dis
import os
import sys
from collections.abc import Callable, Collection
from types import CodeType, FrameType, ModuleType
from typing import Any

STRIDE = int(os.environ.get("AMFS_INTERRUPT_STRIDE", "5"))
"""How many places are passed over for each that is tried: 1 tries all, in a few minutes."""

Place = tuple[CodeType, int]


def _lets_in(name: str) -> bool:
    """Whether the interpreter looks for signals once it has done an instruction."""
    return name in ("RESUME", "CALL", "CALL_KW", "CALL_FUNCTION_EX") or "JUMP_BACKWARD" in name


class Places:
    """Calls `action` the first time that a thread is at one place; notes all that it comes past.

    A trace function may raise and call whatever it likes there, as a signal handler may.
    """

    def __init__(
        self,
        modules: Collection[ModuleType],
        wanted: Place | None = None,
        action: Callable[[], object] = lambda: None,
    ) -> None:
        self.seen: dict[Place, None] = {}
        self.came = False
        self._files = {module.__file__ for module in modules}
        self._wanted = wanted
        self._action = action
        self._last: dict[FrameType, str] = {}
        self._names: dict[CodeType, dict[int, str]] = {}

    def during(self, use: Callable[[], object]) -> object:
        # Python 3.12 looks when tracing begins whether any frame wants its instructions.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self)
        try:
            return use()
        finally:
            sys.settrace(None)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace = self._step  # first: Python 3.13 looks for it on the next line
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return":
            self._last.pop(frame, None)
        if event != "opcode":
            return self._step
        code = frame.f_code
        if code not in self._names:
            self._names[code] = {
                instruction.offset: instruction.opname for instruction in dis.get_instructions(code)
            }
        name = self._names[code][frame.f_lasti]
        before = self._last.get(frame)
        self._last[frame] = name
        if before is not None and _lets_in(before):
            place = code, frame.f_lasti
            self.seen[place] = None
            if place == self._wanted and not self.came:
                self.came = True
                self._action()
        return self._step
