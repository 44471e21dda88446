"""The exercises of notebook 00: who may look at whom, in plain Python."""

from causal_lab.exercises.frame import Exercise, Misconception, checker

MAY_LOOK = Exercise(
    name="may_look",
    level="easy",
    minutes=2,
    solutions=[
        """
        def may_look(query, key):
            return key <= query
        """,
        """
        def may_look(query, key):
            return query >= key
        """,
        """
        def may_look(query, key):
            return key in range(query + 1)
        """,
        """
        def may_look(query, key):
            return key < query or key == query
        """,
    ],
    cases=[
        *((q, k) for total in range(7) for q in range(4) if 0 <= (k := total - q) < 4),
        (9, 7),
        (7, 9),
    ],
    misconceptions=[
        Misconception(
            "not at itself",
            "You keep a token from looking at itself. It may: the present is not the future.",
            lambda query, key: key < query,
        ),
        Misconception(
            "blocked",
            "You return True where looking is forbidden. The question is who may look; the answer "
            "is the opposite.",
            lambda query, key: key > query,
        ),
        Misconception(
            "swapped",
            "You let the key look at the query. The query is the one who looks; the key is looked "
            "at.",
            lambda query, key: key >= query,
        ),
        Misconception(
            "everyone",
            "You let everyone look at everyone, as BERT does. GPT may not see what comes later.",
            lambda query, key: True,
        ),
        Misconception(
            "only itself",
            "You let a token look at itself only. It may also look at everything before it.",
            lambda query, key: key == query,
        ),
        Misconception(
            "only the neighbour",
            "You let a token look at itself and its left neighbour only. The whole past is open, "
            "however far away.",
            lambda query, key: key in (query - 1, query),
        ),
        Misconception(
            "counted from 1",
            "You leave out position 0, or count from 1. Positions are numbered 0, 1, 2, …: the "
            "first token is at 0.",
            lambda query, key: 0 < key <= query,
        ),
    ],
)

_WORDS = ["we", "read", "from", "left", "to", "right"]

VISIBLE_WORDS = Exercise(
    name="visible_words",
    level="easy",
    minutes=3,
    solutions=[
        """
        def visible_words(words, position):
            return words[: position + 1]
        """,
        """
        def visible_words(words, position):
            return [words[i] for i in range(position + 1)]
        """,
        """
        def visible_words(words, position):
            return [word for i, word in enumerate(words) if i <= position]
        """,
    ],
    cases=[
        *((_WORDS[:length], position) for length in (1, 2, 4, 6) for position in range(length)),
        ("the cat and the dog".split(), 1),
        ("the cat and the dog".split(), 3),
    ],
    misconceptions=[
        Misconception(
            "slice ends early",
            "Your list ends before the word itself. A slice leaves its end out: words[:2] holds "
            "the words 0 and 1.",
            lambda words, position: words[:position],
        ),
        Misconception(
            "one too far",
            "Your list holds one word too many: the next word, the very one a language model has "
            "to guess.",
            lambda words, position: words[: position + 2],
        ),
        Misconception(
            "everything",
            "You return the whole text. Then guessing the next word is copying, not predicting.",
            lambda words, position: words,
        ),
        Misconception(
            "the future",
            "You return the words from here on: that is the future, seen from here.",
            lambda words, position: words[position:],
        ),
        Misconception(
            "only itself",
            "You return the word itself only. The words before it are visible too.",
            lambda words, position: [words[position]],
        ),
        Misconception(
            "by the word, not its place",
            "You look for the word, and the same word may stand in the text twice. Go by the "
            "position: it says which one.",
            lambda words, position: words[: words.index(words[position]) + 1],
            lambda got, due: {*got} == {*due} and len(got) != len(due),
        ),
        Misconception(
            "one text",
            "You join the words to one text. Leave them apart: a list.",
            lambda words, position: " ".join(words[: position + 1]),
        ),
    ],
)

check = checker(MAY_LOOK, VISIBLE_WORDS)
