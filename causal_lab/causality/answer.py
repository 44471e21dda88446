"""What comparisons answer, and in which words."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from causal_lab.causality.report import Caution
from causal_lab.causality.watch import Blame

_MOST_NAMED = 8  # rows of a chunk that are written out


@dataclass(frozen=True, repr=False)
class Answer:
    """What comparisons give: the same, or not, or why it cannot be said.

    Args:
        same: True: all agrees. False: something differs by more than rounding. None: it could not
            be decided, see ``reason``.
        reason: why, and what the pattern suggests as a cause.
        results: by the name of what was compared.
        cautions: why a True is worth nothing; the report is then not truthy, unless allowed.
        blame: the submodule in which the two ways part, if that was asked for.
    """

    same: bool | None
    reason: str
    results: dict
    cautions: tuple[Caution, ...] = ()
    blame: Blame | None = None

    def __bool__(self) -> bool:
        return self.same is True and all(caution.allowed for caution in self.cautions)

    def __repr__(self) -> str:
        if self:
            return f"<{type(self).__name__} same=True>"
        return f"<{type(self).__name__} same={self.same}: {self.reason}>"

    def __str__(self) -> str:
        verdict = {True: "The same", False: "NOT the same", None: "Undecided"}[self.same]
        lines = [f"{verdict}: {self.reason}", *(f"  {one}" for one in self.results.values())]
        lines += [f"  {self.blame}".replace("\n", "\n  ")] * (self.blame is not None)
        return "\n".join(lines)

    def assert_same(self):
        """Raise unless all was found to be the same, and not in vain: the line for a test suite.

        Raises:
            AssertionError: with the whole report, if something differs, nothing could be decided,
                or the answer is worth nothing and that was not allowed.
        """
        if not self:
            raise AssertionError(str(self))
        return self


@dataclass(frozen=True)
class Result:
    """What one comparison gave.

    Args:
        same: whether every row agrees; None if it could not be run.
        difference: the worst one: in 64 bits where rows are wrong, else what rounding makes;
            infinite where only one of the two is a number.
        wrong_rows: positions that differ by more than rounding.
        failure: why it could not be run, else empty.
        chunks: of a schedule, their lengths.
        amounts: of padding, how many tokens changed something.
        words: for what agrees, and for which rows.

    >>> result = Result("chunks of 3", False, 0.3, (3, 4, 5), chunks=(3, 3, 1))
    >>> result.first_wrong_row, result.chunk
    (3, [3, 4, 5])
    >>> print(result)
    chunks of 3: rows 3 to 5, in the chunk [3, 4, 5], differ by up to 0.3
    """

    name: str
    same: bool | None
    difference: float
    wrong_rows: tuple[int, ...] = ()
    failure: str = ""
    chunks: tuple[int, ...] = ()
    amounts: tuple[int, ...] = ()
    words: tuple[str, str] = ("agrees", "")

    @property
    def first_wrong_row(self) -> int | None:
        """The first position that differs, if any does."""
        return self.wrong_rows[0] if self.wrong_rows else None

    @property
    def chunk(self) -> list[int] | None:
        """The positions of the chunk in which the first wrong row lies."""
        return next((c for c in positions(self.chunks) if self.first_wrong_row in c), None)

    def __str__(self) -> str:
        if self.same is None:
            return f"{self.name}: could not be run; {self.failure}"
        if self.same:
            return f"{self.name}: {self.words[0]}{rounding_aside(self.difference)}"
        rows = rows_in_words(self.wrong_rows) + self.words[1]
        verb = "differs" if len(self.wrong_rows) == 1 else "differ"
        size = f"{verb} by up to {self.difference:.2g}"
        if len(self.amounts) == 1:
            size += f" under {self.amounts[0]} padding tokens"
        if not self.chunk:
            return f"{self.name}: {rows} {size}"
        place = f"in the chunk {listed(self.chunk)}"
        if self.wrong_rows[-1] in self.chunk:
            return f"{self.name}: {rows}, {place}, {size}"
        return f"{self.name}: {rows} {size}, the first {place}"


def left_open(results: Iterable[Result], is_random: bool, model: nn.Module) -> str:
    """Say why nothing can be decided, if so: something could not be run, or chance decides.

    >>> left_open([Result("chunks", False, 0.5)], True, nn.Dropout().eval())[:52]
    'random numbers are drawn in eval mode too (a dropout'
    """
    same = verdict_of(results)
    if same is None:
        return str(next(result for result in results if result.same is None))
    if same is not False or not is_random:
        return ""
    if any(module.training for module in model.modules() if module is not model):
        return (
            "random numbers are drawn (dropout in train mode?), and they fall differently; call "
            ".eval() on the modules"
        )
    return (
        "random numbers are drawn in eval mode too (a dropout that is always on?), and they fall "
        "differently"
    )


def listed(rows: list[int]) -> str:
    """Write some rows out, of many the first and the last.

    >>> listed(list(range(20)))
    '[0, …, 19]'
    """
    return str(rows) if len(rows) <= _MOST_NAMED else f"[{rows[0]}, …, {rows[-1]}]"


def verdict_of(results: Iterable) -> bool | None:
    """Answer False where anything is wrong; else None where anything could not be run.

    >>> verdict_of([])
    True
    """
    found = [result.same for result in results]
    return False if False in found else None if None in found else True


def unread(what: str, allow: tuple[str, ...]) -> Caution:
    """Warn that what was asked for was never used.

    >>> unread("so would no cache", ("unread",)).allowed
    True
    """
    return Caution("unread", what, "unread" in allow)


def positions(chunks: Iterable[int]) -> list[list[int]]:
    """List the places in each chunk.

    >>> positions([2, 1])
    [[0, 1], [2]]
    """
    found, start = [], 0
    for size in chunks:
        found.append(list(range(start, start + size)))
        start += size
    return found


def rows_in_words(rows: tuple[int, ...]) -> str:
    """Write positions as a learner would say them.

    >>> rows_in_words((3, 4, 5, 7))
    'rows 3 to 5 and 7'
    """
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][-1] + 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return f"row{'s' if len(rows) > 1 else ''} {all_of(words)}"


def rounding_aside(difference: float) -> str:
    """Say how large rounding was.

    >>> rounding_aside(1e-7)
    ', rounding of up to 1e-07 aside'
    """
    return f", rounding of up to {difference:.1g} aside" if difference else ""


def all_of(words: Iterable) -> str:
    """Join words with commas and *and*.

    >>> all_of([1, 2, 3])
    '1, 2 and 3'
    """
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last
