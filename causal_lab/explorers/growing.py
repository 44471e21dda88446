"""One step of a model that writes, as a picture: attention, and the boxes that grow by a row."""

from collections.abc import Sequence

import numpy as np

from causal_lab.explorers.recording import Pass
from causal_lab.plots.picture import FRAMES, Boxes, Heat, Picture
from causal_lab.plots.style import printable

CACHED, UNCACHED = "with a cache", "without a cache"
NOISE = 1e-5  # two ways to compute one number differ by less
_TITLE_LENGTH, _WORD_LENGTH = 44, 11


def draw_step(
    step: int,
    computed: str,
    passes: dict[str, Sequence[Pass]],
    labels: Sequence[str],
    room: int,
    limit: float,
) -> Picture:
    """Draw what one head has computed by a step, with a caption that counts both ways.

    Args:
        computed: ``CACHED`` or ``UNCACHED``.
        passes: of both, of one head, up to this step.
        labels: of the prompt and of ``step`` tokens after it; the newest was not read yet.
        room: rows of the boxes.
        limit: where their colours end.

    >>> seen = Pass(1, *np.ones((4, 1, 1), dtype=np.float32))
    >>> ways = {CACHED: [seen], UNCACHED: [seen]}
    >>> draw_step(0, CACHED, ways, ["a"], 1, 1.0).caption
    'nothing is written yet: the prompt is read in one pass, 1 row'
    """
    *before, now = passes[computed]
    read, fresh, words = len(now.weights), now.fresh, tuple(labels)
    moved = _movement(before[-1].weights, now.weights) if before else np.zeros((0, 0))
    # Wide enough for a pointer to find each number.
    look = {"room": room, "limit": limit, "width": max(110, 3 * now.keys.shape[-1])}
    kept = "kept in the cache" if computed == CACHED else "computed anew, then forgotten"
    panels = (
        _draw_weights(now, words, moved > NOISE),
        Boxes(
            (now.queries,),
            ("q",),
            (fresh,),
            labels=words[read - fresh : read],
            title="asks",
            **look,
        ),
        Boxes(
            (now.keys, now.values),
            ("K", "V"),
            (fresh, fresh),
            labels=words[:read],
            title=kept,
            **look,
        ),
    )
    return Picture(panels, _read_out(step, computed, passes, words[-1], moved))


def _read_out(
    step: int, computed: str, passes: dict[str, Sequence[Pass]], newest: str, moved: np.ndarray
) -> str:
    other = UNCACHED if computed == CACHED else CACHED
    rows = {way: [one.fresh for one in seen] for way, seen in passes.items()}
    now = f"{rows[computed][-1]} row" + ("" if rows[computed][-1] == 1 else "s")
    if not step:
        return f"nothing is written yet: the prompt is read in one pass, {now}"
    caption = (
        f"step {step} writes “{_shortened(newest)}”: computed {now}, {other} {rows[other][-1]}; "
        f"since the start {sum(rows[computed])}, {other} {sum(rows[other])}"
    )
    if computed == CACHED or not moved.size:
        return caption
    past = moved[np.tri(len(moved), dtype=bool)]
    changed = f"{(past > NOISE).sum()} of {past.size} old weights changed"
    return f"{caption}; {changed}, by {past.max():.5f} at most"


def _movement(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Say how far the weights have moved that were there before, (old query, old key)."""
    return np.abs(new[: len(old), : len(old)] - old)


def _draw_weights(now: Pass, labels: tuple[str, ...], changed: np.ndarray) -> Heat:
    T, read = len(labels), len(now.weights)
    cells, frames = np.zeros((T, T), dtype=np.float32), np.zeros((T, T), dtype=np.uint8)
    cells[:read, :read] = now.weights
    frames[: len(changed), : len(changed)] = FRAMES.index("ink") * changed
    absent = np.zeros((T, T), dtype=bool)
    absent[read:] = True
    return Heat(
        cells,
        blocked=~np.tri(T, dtype=bool),
        absent=absent,
        frames=frames,
        labels=labels,
        rows=tuple(range(read - now.fresh, read)),
        dim=True,
        title=_end_of_text(labels),
    )


def _shortened(label: str) -> str:
    word = printable(label)
    return word if len(word) <= _WORD_LENGTH else word[: _WORD_LENGTH - 1] + "…"


def _end_of_text(labels: Sequence[str]) -> str:
    """Write the text in one line; characters without gaps, words with."""
    gap = "" if all(len(label) == 1 for label in labels) else " "
    text = printable(gap.join(labels).replace("␣", " "))
    return text if len(text) <= _TITLE_LENGTH else "…" + text[1 - _TITLE_LENGTH :]
