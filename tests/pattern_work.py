"""A backtracking matcher that counts its steps, and texts that make a pattern work hard.

CPU time depends on the machine; steps do not. The matcher follows the parsed pattern as ``re``
does, without its shortcuts, and so never counts less than ``re`` does. The texts come out of the
pattern itself: samples of its parts, repeated, with something behind them that does not match.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

#: Longer matches are given up: enough for anything linear at the sizes in use.
MOST_STEPS = 600_000
#: What may follow a repetition without matching anything of it.
_BEHIND = ("", "\0", "!", "\n", " ", '"')
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
Fits = Callable[[str], bool]


class TooManyStepsError(Exception):
    """A match that did not end within the most steps."""


class StepCounter:
    """A pattern as a program for a backtracking machine; ``search`` and ``match`` count steps."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        text = pattern.pattern
        source = text.decode("latin-1") if isinstance(text, bytes) else text
        self.flags = pattern.flags | (re.ASCII if isinstance(text, bytes) else 0)
        flags = self.flags & ~re.UNICODE if self.flags & re.ASCII else self.flags
        self.tree = parser.parse(source, flags)
        self.program: list[tuple[Any, ...]] = []
        self._sequence(self.tree, self.flags)
        self.program.append(("found",))
        self.steps = 0

    def search(self, text: str, *, anchored: bool = False) -> bool:
        """Count the steps of looking everywhere in a text, or from its beginning only."""
        self.steps = 0
        starts = range(1 if anchored else len(text) + 1)
        return any(self._run(0, text, start) is not None for start in starts)

    def _run(self, pc: int, text: str, place: int) -> int | None:
        stack = [(pc, place)]
        while stack:
            pc, place = stack.pop()
            while True:
                self.steps += 1
                if self.steps > MOST_STEPS:
                    raise TooManyStepsError
                step = self.program[pc]
                name = step[0]
                if name == "char":
                    if place >= len(text) or not step[1](text[place]):
                        break
                    pc, place = pc + 1, place + 1
                elif name == "split":
                    stack.append((step[2], place))
                    pc = step[1]
                elif name == "jump":
                    pc = step[1]
                elif name == "at":
                    if not step[1](text, place):
                        break
                    pc += 1
                elif name == "found":
                    return place
                else:
                    end = self._aside(pc, text, place)
                    if end is None:
                        break
                    pc, place = step[1], end
        return None

    def _aside(self, pc: int, text: str, place: int) -> int | None:
        """Run what stands in an atomic group or an assertion: where to go on, if at all."""
        name, *given = self.program[pc]
        if name == "atomic":
            return self._run(pc + 1, text, place)
        _, direction, negative, width = given
        begin = place - width if direction < 0 else place
        seen = begin >= 0 and self._run(pc + 1, text, begin) is not None
        return None if seen == negative else place

    def _sequence(self, nodes: Any, flags: int) -> None:
        for kind, value in nodes:
            self._node(kind, value, flags)

    def _node(self, kind: Any, value: Any, flags: int) -> None:
        program = self.program
        if kind in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            program.append(("char", _fits(kind, value, flags)))
        elif kind is sre.AT:
            program.append(("at", _position(value, flags)))
        elif kind is sre.SUBPATTERN:
            self._sequence(value[3], (flags | value[1]) & ~value[2])
        elif kind is sre.BRANCH:
            self._branch(value[1], flags)
        elif kind in _REPEATS:
            least, most, inner = value
            self._repeat(kind, least, most, inner, flags)
        elif kind is sre.ATOMIC_GROUP:
            self._apart("atomic", lambda: self._sequence(value, flags))
        elif kind in (sre.ASSERT, sre.ASSERT_NOT):
            direction, inner = value
            rest = (direction, kind is sre.ASSERT_NOT, inner.getwidth()[0])
            self._apart("look", lambda: self._sequence(inner, flags), *rest)
        else:
            raise NotImplementedError(f"steps of {kind} cannot be counted: write it another way")

    def _apart(self, name: str, inside: Callable[[], None], *rest: Any) -> None:
        at = len(self.program)
        self.program.append(())
        inside()
        self.program.append(("found",))
        self.program[at] = (name, len(self.program), *rest)

    def _branch(self, branches: Any, flags: int) -> None:
        jumps = []
        for nodes in branches[:-1]:
            at = len(self.program)
            self.program.append(())
            self._sequence(nodes, flags)
            jumps.append(len(self.program))
            self.program.append(())
            self.program[at] = ("split", at + 1, len(self.program))
        self._sequence(branches[-1], flags)
        for at in jumps:
            self.program[at] = ("jump", len(self.program))

    def _repeat(self, kind: Any, least: int, most: Any, inner: Any, flags: int) -> None:
        if kind is sre.POSSESSIVE_REPEAT:
            self._apart("atomic", lambda: self._repeat(sre.MAX_REPEAT, least, most, inner, flags))
            return
        assert inner.getwidth()[0] > 0 or most is not sre.MAXREPEAT, "a loop around nothing"
        for _ in range(least):
            self._sequence(inner, flags)
        lazy, program = kind is sre.MIN_REPEAT, self.program
        splits = []
        for _ in range(1 if most is sre.MAXREPEAT else most - least):
            splits.append(len(program))
            program.append(())
            self._sequence(inner, flags)
        if most is sre.MAXREPEAT:
            program.append(("jump", splits[0]))
        for at in splits:
            ways = (at + 1, len(program))
            program[at] = ("split", *(ways[::-1] if lazy else ways))


def _fits(kind: Any, value: Any, flags: int) -> Fits:
    found: dict[str, bool] = {}

    def fits(char: str) -> bool:
        if char not in found:
            found[char] = _is_in(kind, value, flags, char)
        return found[char]

    return fits


def _is_in(kind: Any, value: Any, flags: int, char: str) -> bool:
    """Return True if one character fits, by asking ``re`` for this node alone."""
    if kind is sre.ANY:
        return char != "\n" or bool(flags & re.DOTALL)
    cases = {char, char.lower(), char.upper()} if flags & re.IGNORECASE else {char}
    codes = {ord(case) for case in cases if len(case) == 1}
    if kind is sre.LITERAL:
        return value in codes
    if kind is sre.NOT_LITERAL:
        return value not in codes
    negative = value[0][0] is sre.NEGATE
    return negative != any(_is_item(item, codes, char, flags) for item in value)


def _is_item(item: tuple[Any, Any], codes: set[int], char: str, flags: int) -> bool:
    kind, value = item
    if kind is sre.LITERAL:
        return value in codes
    if kind is sre.RANGE:
        return any(value[0] <= code <= value[1] for code in codes)
    return kind is sre.CATEGORY and _category(value, flags & re.ASCII).match(char) is not None


@cache
def _category(value: Any, ascii_only: int) -> re.Pattern[str]:
    letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[str(value).rpartition("_")[2]]
    letter = letter.upper() if "NOT" in str(value) else letter
    return re.compile(rf"\{letter}", ascii_only)


def _position(value: Any, flags: int) -> Callable[[str, int], bool]:
    code = {
        sre.AT_BEGINNING: "^", sre.AT_BEGINNING_STRING: r"\A", sre.AT_END: "$",
        sre.AT_END_STRING: r"\Z", sre.AT_BOUNDARY: r"\b", sre.AT_NON_BOUNDARY: r"\B",
    }[value]  # fmt: skip
    if code not in (r"\b", r"\B"):
        pattern = re.compile(code, flags & re.MULTILINE)
        return lambda text, place: pattern.match(text, place) is not None
    edge = re.compile(code, flags & re.ASCII)

    def is_there(text: str, place: int) -> bool:
        start = max(0, place - 1)
        return edge.match(text[start : place + 1], place - start) is not None

    return is_there


def hard_texts(counter: StepCounter, size: int) -> Iterator[str]:
    """Texts of about this size out of the pattern's own parts, the same ones for each size."""
    dice = random.Random(repr(counter.tree))
    parts = sorted(
        {part for part in _parts(counter.tree, dice) if part}, key=lambda part: (len(part), part)
    )
    heads = [_sample(counter.tree[:end], dice) for end in range(len(counter.tree) + 1)]
    units = [*dice.sample(parts, min(len(parts), 8)), *heads[1:]]
    units += ["".join(dice.choices(parts, k=2)) for _ in range(8)] if parts else []
    units += [dice.choice(heads) + char for char in "-. x"]
    for unit in dict.fromkeys(filter(None, units)):
        head, times = dice.choice(heads), size // len(unit)
        ends = [dice.choice(_BEHIND), dice.choice(_BEHIND)]
        if times > 2:
            yield unit * times + ends[0]
            yield head + unit * times + ends[1]


def _parts(nodes: Any, dice: random.Random) -> Iterator[str]:
    """Samples of every part of a pattern, those below repetitions in particular."""
    for kind, value in nodes:
        yield _sample([(kind, value)], dice)
        if kind in _REPEATS:
            yield from _parts(value[2], dice)
            yield _sample(value[2], dice)
        elif kind is sre.SUBPATTERN:
            yield from _parts(value[3], dice)
        elif kind is sre.ATOMIC_GROUP:
            yield from _parts(value, dice)
        elif kind is sre.BRANCH:
            for branch in value[1]:
                yield from _parts(branch, dice)
        elif kind in (sre.ASSERT, sre.ASSERT_NOT):
            yield from _parts(value[1], dice)


def _sample(nodes: Any, dice: random.Random) -> str:
    return "".join(_sample_of(kind, value, dice) for kind, value in nodes)


def _sample_of(kind: Any, value: Any, dice: random.Random) -> str:
    if kind is sre.LITERAL:
        return chr(value)
    if kind in (sre.NOT_LITERAL, sre.ANY, sre.IN):
        fitting = [char for char in _alphabet(value) if _is_in(kind, value, 0, char)]
        return dice.choice(fitting) if fitting else ""
    if kind is sre.SUBPATTERN:
        return _sample(value[3], dice)
    if kind is sre.ATOMIC_GROUP:
        return _sample(value, dice)
    if kind is sre.BRANCH:
        return _sample(dice.choice(value[1]), dice)
    if kind in _REPEATS:
        least, most, inner = value
        return "".join(_sample(inner, dice) for _ in range(min(max(least, 1), int(most), 300)))
    return ""


def _alphabet(value: Any) -> str:
    """Characters to choose from: plain ones, and those that a class itself names."""
    named = ""
    for kind, item in value if isinstance(value, list) else ():
        named += chr(item) if kind is sre.LITERAL else ""
        named += chr(item[0]) + chr(item[1]) if kind is sre.RANGE else ""
    return 'aZ09 .-_:/<"=,\n\t{' + named
