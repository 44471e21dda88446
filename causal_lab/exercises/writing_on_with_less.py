"""The exercises of notebook 08: what a sliding cache holds, and where padded texts stand."""

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker


def _kept(length: int, window: int, sinks: int) -> list[int]:
    return [p for p in range(length) if p < sinks or p >= length - window]


def _overlap_twice(length: int, window: int, sinks: int) -> list[int]:
    rest = list(range(length))
    return rest if length <= window else rest[:sinks] + rest[-window:]


def _cut_out(length: int, window: int, sinks: int) -> list[int]:
    rest = list(range(length))
    if sinks < length:
        del rest[sinks : length - window]
    return rest


KEPT = Exercise(
    name="kept",
    level="medium",
    minutes=5,
    solutions=[
        """
        def kept(length, window, sinks):
            return [p for p in range(length) if p < sinks or p >= length - window]
        """,
        """
        def kept(length, window, sinks):
            first = list(range(min(sinks, length)))
            return first + list(range(max(sinks, length - window), length))
        """,
        """
        def kept(length, window, sinks):
            return sorted(set(range(length)[:sinks]) | set(range(length)[-window:]))
        """,
    ],
    cases=[(4, 2, 1), (7, 3, 2), (9, 4, 1), (3, 2, 0), (4, 3, 2), (2, 3, 1), (1, 2, 3), (4, 5, 1)],
    misconceptions=[
        Misconception(
            "window too small",
            "Your window is one too small. A window of 2 means two tokens, and the newest is one "
            "of them: it is the query's own.",
            lambda length, window, sinks: _kept(length, window - 1, sinks),
        ),
        Misconception(
            "window too large",
            "Your window is one too large. A window of 2 means the newest token and one before "
            "it, not two before it.",
            lambda length, window, sinks: _kept(length, window + 1, sinks),
        ),
        Misconception(
            "a sink too many",
            "You keep one sink too many. Positions are counted from 0, so 2 sinks are positions 0 "
            "and 1: p < sinks.",
            lambda length, window, sinks: _kept(length, window, sinks + 1),
        ),
        Misconception(
            "newest not stored",
            "You are one token behind: the newest stands at length - 1 and is stored too. A token "
            "is stored before it asks, because it sees itself.",
            lambda length, window, sinks: [
                p for p in range(length - 1) if p < sinks or p >= length - 1 - window
            ],
        ),
        Misconception(
            "newest left out",
            "The newest token is missing, though your window begins at the right place. range "
            "leaves its end out by itself, so the end is length, not length - 1.",
            lambda length, window, sinks: [
                p for p in range(length - 1) if p < sinks or p >= length - window
            ],
        ),
        Misconception(
            "sinks forgotten",
            "You forgot the sinks: the first tokens are kept for ever, however long the text gets.",
            lambda length, window, sinks: _kept(length, window, 0),
        ),
        Misconception(
            "sinks not protected",
            "You keep the right number, but all from the end: your sinks only make the window "
            "larger and fall out of it like the rest. Hold the first tokens back.",
            lambda length, window, sinks: _kept(length, window + sinks, 0),
        ),
        Misconception(
            "sinks taken from the window",
            "You take the sinks out of the window, so that the cache never holds more than window. "
            "They come on top: a long text keeps sinks + window tokens.",
            lambda length, window, sinks: _kept(length, window - sinks, sinks),
        ),
        Misconception(
            "the oldest stay",
            "Your list goes 0, 1, 2, … without a gap. Either the cache is full and you drop the "
            "newest, or you number its places. Wanted are the positions in the text, and in a long "
            "text there is a gap behind the sinks.",
            lambda length, window, sinks: list(range(min(length, window + sinks))),
        ),
        Misconception(
            "listed twice",
            "In a short text a token may be a sink and in the window at once. You list it twice, "
            "the cache keeps it once.",
            lambda length, window, sinks: (
                list(range(length))[:sinks] + list(range(length))[-window:]
            ),
        ),
        Misconception(
            "before the start",
            "Your window reaches back before the start of a short text: there is no token at a "
            "negative position. Begin at max(0, length - window).",
            lambda length, window, sinks: sorted(
                {*range(min(sinks, length)), *range(length - window, length)}
            ),
        ),
        Misconception(
            "sinks that never came",
            "You list sinks that have not come yet: a text shorter than sinks has no more than "
            "length tokens to keep.",
            lambda length, window, sinks: sorted(
                {*range(sinks), *range(max(0, length - window), length)}
            ),
        ),
        Misconception(
            "two ranges",
            "Right for a long text. In a short one your two ranges overlap, or reach beyond its "
            "ends: go through range(length) instead and ask of each position whether it stays.",
            lambda length, window, sinks: [*range(sinks), *range(length - window, length)],
        ),
        Misconception(
            "window first",
            "The right positions, in another order: return them sorted, the sinks first.",
            lambda length, window, sinks: [
                *range(max(0, length - window), length),
                *range(min(sinks, max(0, length - window))),
            ],
        ),
        Misconception(
            "True and False",
            "You say of each position whether it stays. Wanted is the list of those that do.",
            lambda length, window, sinks: [
                p < sinks or p >= length - window for p in range(length)
            ],
        ),
        Misconception(
            "the overlap twice",
            "In a text a little longer than the window the sinks and the window may overlap. You "
            "list what is in both twice, the cache keeps it once.",
            _overlap_twice,
        ),
        Misconception(
            "a slice from behind",
            "length − window is negative in a short text, and a slice with a negative end counts "
            "from behind. Take max(0, length − window).",
            _cut_out,
        ),
    ],
)


def _counted(padding: Tensor, start: int) -> Tensor:
    return start + (~padding).cumsum(-1) - 1


_ROWS = [[0, 0, 0], [1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0]]
_PADDING = [torch.tensor(row).bool() for row in _ROWS]

PADDED_POSITIONS = Exercise(
    name="padded_positions",
    level="medium",
    minutes=6,
    solutions=[
        """
        def padded_positions(padding, past_len):
            counted = past_len + (~padding).cumsum(dim=-1) - 1
            return counted.masked_fill(padding, 0)
        """,
        """
        def padded_positions(padding, past_len):
            return (past_len + ((~padding).cumsum(-1) - 1)).masked_fill(padding, 0)
        """,
        """
        def padded_positions(padding, past_len):
            return torch.where(padding, 0, past_len + (~padding).cumsum(-1) - 1)
        """,
        """
        def padded_positions(padding, past_len):
            positions, nth = [], past_len
            for is_padding in padding:
                if is_padding:
                    positions.append(0)
                else:
                    positions.append(nth)
                    nth = nth + 1
            return torch.tensor(positions)
        """,
    ],
    cases=[
        (_PADDING[1], 0),
        (_PADDING[0], 0),
        (_PADDING[0], 4),
        (_PADDING[2], 3),
        (_PADDING[3], 7),
        (torch.tensor([0, 0, 1, 1]).bool(), 2),
    ],
    misconceptions=[
        Misconception(
            "padding counted",
            "You number all places, padding too. The first real token must get the same position "
            "with padding before it as without.",
            lambda padding, past_len: (past_len + torch.arange(len(padding))).masked_fill(
                padding, 0
            ),
        ),
        Misconception(
            "a plain range",
            "You number the places of the chunk and do not look at padding at all. Count the "
            "tokens where padding is False: (~padding).cumsum(-1).",
            lambda padding, past_len: past_len + torch.arange(len(padding)),
        ),
        Misconception(
            "the past forgotten",
            "You begin at 0 although tokens are cached. The first real token of the chunk stands "
            "at past_len.",
            lambda padding, past_len: _counted(padding, 0).masked_fill(padding, 0),
        ),
        Misconception(
            "from 1",
            "You are one too far: cumsum counts from 1, positions from 0.",
            lambda padding, past_len: _counted(padding, past_len + 1).masked_fill(padding, 0),
        ),
        Misconception(
            "negative",
            "The real tokens are right, but padding does not get 0. Before the first token a count "
            "gives −1, and a table read at −1 gives its *last* row.",
            lambda padding, past_len: _counted(padding, past_len),
        ),
        Misconception(
            "the padding is counted",
            "You count the padding instead of the tokens: cumsum of padding, not of ~padding.",
            lambda padding, past_len: (past_len + padding.cumsum(-1) - 1).masked_fill(padding, 0),
        ),
        Misconception(
            "shifted by the padding",
            "You add the padding to the positions instead of leaving it out.",
            lambda padding, past_len: (
                past_len + int(padding.sum()) + torch.arange(len(padding))
            ).masked_fill(padding, 0),
        ),
        Misconception(
            "padding on the left",
            "You take off the whole number of padded places everywhere, as if all of them stood on"
            " the left. Count the real tokens up to each place instead.",
            lambda padding, past_len: (
                past_len + torch.arange(len(padding)) - padding.sum()
            ).masked_fill(padding, 0),
        ),
    ],
)

check = checker(PADDED_POSITIONS, KEPT)
