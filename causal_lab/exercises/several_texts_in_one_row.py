"""The exercises of notebook 14: packed documents, a source and its target, passages."""

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker
from causal_lab.masks.rules import generate_causal_mask

TRUE_MEANS_BLOCKED = "Yours is True where attention is *allowed*. Here True means blocked."


def _later(ids: Tensor) -> Tensor:
    return generate_causal_mask(len(ids))


def _other(ids: Tensor) -> Tensor:
    return ids[:, None] != ids


DOCUMENT_MASK = Exercise(
    name="document_mask",
    level="easy",
    minutes=4,
    solutions=[
        """
        def document_mask(ids):
            later = torch.ones(len(ids), len(ids)).triu(1).bool()
            return later | (ids[:, None] != ids)
        """,
        """
        def document_mask(ids):
            same = ids[:, None] == ids
            return ~(same & torch.ones(len(ids), len(ids)).tril().bool())
        """,
    ],
    cases=[
        (torch.tensor([0, 0, 1]),),
        (torch.tensor([5, 5, 5, 2, 2]),),
        (torch.tensor([1, 2, 2, 1]),),
        (torch.tensor([0, 1, 2]),),
    ],
    misconceptions=[
        Misconception(
            "polarity",
            TRUE_MEANS_BLOCKED,
            lambda ids: ~(_later(ids) | _other(ids)),
        ),
        Misconception(
            "& for |",
            "You block what is later *and* in another document. Each rule blocks on its own: |. "
            "With & the tokens of one document see their own future.",
            lambda ids: _later(ids) & _other(ids),
        ),
        Misconception(
            "forgot causal",
            "Your documents are apart, but inside each one the tokens see their future.",
            _other,
        ),
        Misconception(
            "forgot the documents",
            "Yours is the causal mask alone: a document sees those that were packed before it.",
            _later,
        ),
        Misconception(
            "strict",
            "Your tokens do not see themselves. Blocked is what comes *after* the query: the "
            "triangle begins one above the diagonal, triu(1).",
            lambda ids: torch.ones(len(ids), len(ids)).triu().bool() | _other(ids),
        ),
        Misconception(
            "upside down",
            "Your triangle is upside down: it blocks the past. Rows are queries, columns are keys.",
            lambda ids: _later(ids).T | _other(ids),
        ),
        Misconception(
            "order of the numbers",
            "You compare the numbers of the documents with < or >. They are names, not an order: "
            "another document is one whose number is not the same.",
            lambda ids: _later(ids) | (ids > ids[:, None]),
        ),
        Misconception(
            "one polarity of each",
            "One of your two masks is True where blocked, the other where allowed. Turn it around "
            "with ~, or compare with != instead of ==.",
            lambda ids: _later(ids) | ~_other(ids),
        ),
    ],
    axes=("query", "key"),
)


def _joint(padding: Tensor, target_len: int) -> Tensor:
    blocked = generate_causal_mask(len(padding) + target_len)
    blocked[:, : len(padding)] = padding
    return blocked


def _with_source(padding: Tensor, target_len: int, part: Tensor) -> Tensor:
    """Put another rule where the source looks at the source."""
    blocked = _joint(padding, target_len)
    blocked[: len(padding), : len(padding)] = part
    return blocked


def _with_target(padding: Tensor, target_len: int, part: bool) -> Tensor:
    """Put another rule where the target looks at the target."""
    blocked = _joint(padding, target_len)
    blocked[len(padding) :, len(padding) :] = part
    return blocked


def _source_sees_target(padding: Tensor, target_len: int) -> Tensor:
    blocked = _joint(padding, target_len)
    blocked[: len(padding), len(padding) :] = False
    return blocked


def _triangle_across(padding: Tensor, target_len: int) -> Tensor:
    source_len = len(padding)
    blocked = _joint(padding, target_len)
    across = torch.ones(target_len, source_len).triu(1).bool()
    blocked[source_len:, :source_len] |= across
    return blocked


def _two_texts_apart(padding: Tensor, target_len: int) -> Tensor:
    blocked = _joint(padding, target_len)
    blocked[len(padding) :, : len(padding)] = True
    return blocked


def _padding_is_deaf(padding: Tensor, target_len: int) -> Tensor:
    blocked = _joint(padding, target_len)
    blocked[: len(padding)][padding] = True
    return blocked


JOINT_MASK = Exercise(
    name="joint_mask",
    level="medium",
    minutes=6,
    solutions=[
        """
        def joint_mask(source_padding, target_len):
            source_len = len(source_padding)
            T = source_len + target_len
            blocked = torch.ones(T, T).triu(1).bool()
            blocked[:, :source_len] = source_padding
            return blocked
        """,
        """
        def joint_mask(source_padding, target_len):
            source_len = len(source_padding)
            T = source_len + target_len
            query, key = torch.arange(T)[:, None], torch.arange(T)
            padding = torch.cat([source_padding, torch.zeros(target_len).bool()])
            return ((key > query) & (key >= source_len)) | padding
        """,
        """
        def joint_mask(source_padding, target_len):
            source_len = len(source_padding)
            source = source_padding.repeat(source_len + target_len, 1)
            never = torch.ones(source_len, target_len).bool()
            later = torch.ones(target_len, target_len).triu(1).bool()
            return torch.cat([source, torch.cat([never, later])], dim=1)
        """,
    ],
    cases=[
        (torch.tensor([False, False]), 1),
        (torch.tensor([False, True]), 2),
        (torch.tensor([False, False, True]), 2),
        (torch.tensor([True, False, False]), 4),
        (torch.tensor([False, False, True, True]), 3),
        (torch.tensor([False, True, False]), 3),  # any token may be padding
    ],
    misconceptions=[
        Misconception(
            "polarity",
            TRUE_MEANS_BLOCKED,
            lambda source_padding, target_len: ~_joint(source_padding, target_len),
        ),
        Misconception(
            "padding forgotten",
            "You do not block the padding of the source: everybody looks at tokens that are no "
            "words.",
            lambda source_padding, target_len: _joint(torch.zeros_like(source_padding), target_len),
        ),
        Misconception(
            "causal source",
            "Your source is causal. All of it is known before the first word of the target, so it "
            "may look at itself both ways.",
            lambda source_padding, target_len: _with_source(
                source_padding, target_len, _later(source_padding) | source_padding
            ),
        ),
        Misconception(
            "source sees target",
            "Your source looks at the target: that is what is still to be written.",
            _source_sees_target,
        ),
        Misconception(
            "triangle across",
            "You have put a triangle between target and source, too. The target may look at all of "
            "the source from its first word on.",
            _triangle_across,
        ),
        Misconception(
            "target not causal",
            "Your target sees its own future. Of the three attentions this one needs the triangle.",
            lambda source_padding, target_len: _with_target(source_padding, target_len, False),
        ),
        Misconception(
            "two texts apart",
            "You keep the two texts apart, so the target does not see what it is to translate.",
            _two_texts_apart,
        ),
        Misconception(
            "padding may not look",
            "You block the rows of the padding as well. A mask blocks *keys*; what padding itself "
            "sees does not matter, and a row with nothing to see is NaN in a plain softmax.",
            _padding_is_deaf,
        ),
        Misconception(
            "True is real",
            "You read source_padding the other way round: True is padding, a real token is False.",
            lambda source_padding, target_len: _joint(~source_padding, target_len),
        ),
        Misconception(
            "target first",
            "You put the target first. The source is the first part of the row.",
            lambda source_padding, target_len: _joint(source_padding, target_len).roll(
                (target_len, target_len), (0, 1)
            ),
        ),
    ],
    axes=("query", "key"),
)


def _apart(ids: Tensor) -> Tensor:
    return _other(ids) & (ids[:, None] > 0) & (ids > 0)


RAG_MASK = Exercise(
    name="rag_mask",
    level="hard",
    minutes=8,
    solutions=[
        """
        def rag_mask(ids):
            later = torch.ones(len(ids), len(ids)).triu(1).bool()
            passage = ids > 0
            elsewhere = (ids[:, None] != ids) & passage[:, None] & passage
            return later | elsewhere
        """,
        """
        def rag_mask(ids):
            later = torch.ones(len(ids), len(ids)).triu(1).bool()
            same = ids[:, None] == ids
            shared = (ids[:, None] == 0) | (ids == 0)
            return later | ~(same | shared)
        """,
    ],
    cases=[
        (torch.tensor([1, 2, 0]),),
        (torch.tensor([0, 1, 2, 0]),),
        (torch.tensor([0, 0, 1, 1, 2, 2, 0, 0]),),
        (torch.tensor([1, 1, 2, 3, 3, 0, 0]),),
        (torch.tensor([0, 2, 2, 1, 1, 0]),),
    ],
    misconceptions=[
        Misconception("polarity", TRUE_MEANS_BLOCKED, lambda ids: ~(_later(ids) | _apart(ids))),
        Misconception(
            "documents",
            "You keep all segments apart, so the question sees no passage: it might as well not "
            "have looked anything up. Segment 0 sees all and is seen by all.",
            lambda ids: _later(ids) | _other(ids),
        ),
        Misconception(
            "forgot causal",
            "Your passages are apart, but every token sees the future of its passage and of the "
            "shared text.",
            _apart,
        ),
        Misconception(
            "only causal",
            "Yours is the causal mask: the second passage sees the first one, so its keys depend "
            "on what happens to stand before it.",
            _later,
        ),
        Misconception(
            "& for |",
            "You block what is later *and* in another passage. Each rule blocks on its own: |.",
            lambda ids: _later(ids) & _apart(ids),
        ),
        Misconception(
            "the question hears, nobody hears the instruction",
            "The question sees all, but your passages do not see the instruction: segment 0 must "
            "be seen by all, too, so exempt it as key as well as query.",
            lambda ids: _later(ids) | (_other(ids) & (ids[:, None] > 0)),
        ),
        Misconception(
            "seen by all, blind itself",
            "The shared text is seen by all, but your question does not see the passages: exempt "
            "segment 0 as query as well as key.",
            lambda ids: _later(ids) | (_other(ids) & (ids > 0)),
        ),
        Misconception(
            "passages without themselves",
            "You block each passage from *itself*, and let it see the others: compare with !=.",
            lambda ids: _later(ids) | ((ids[:, None] == ids) & (ids[:, None] > 0) & (ids > 0)),
        ),
        Misconception(
            "shared against time",
            "You let the shared text see everything, and be seen by all, even against the order of"
            " time. Nobody sees the future, the question neither.",
            lambda ids: (_later(ids) | _other(ids)) & (ids[:, None] > 0) & (ids > 0),
        ),
        Misconception(
            "order of the numbers",
            "You compare the numbers of the passages with < or >. They are names, not an order: "
            "another passage is one whose number is not the same.",
            lambda ids: _later(ids) | ((ids < ids[:, None]) & (ids > 0)),
        ),
        Misconception(
            "shared keys against time",
            "You let everybody see the shared text, even where it comes later. Nobody sees the "
            "future, and a question at the end is future to the passages.",
            lambda ids: (_later(ids) | _apart(ids)) & (ids > 0),
        ),
    ],
    axes=("query", "key"),
)

check = checker(DOCUMENT_MASK, JOINT_MASK, RAG_MASK)
