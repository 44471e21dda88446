"""The exercises of notebook 00: who may look at whom, in plain Python."""

from causal_lab.exercises.frame import Exercise, Misconception, checker

MAY_LOOK = Exercise(
    name="may_look",
    level="easy",
    minutes=2,
    reference=lambda query, key: key <= query,
    cases=[
        (query, key) for total in range(7) for query in range(4) if 0 <= (key := total - query) < 4
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
    ],
)

_WORDS = ["we", "read", "from", "left", "to", "right"]

VISIBLE_WORDS = Exercise(
    name="visible_words",
    level="easy",
    minutes=3,
    reference=lambda words, position: words[: position + 1],
    cases=[(_WORDS[:length], position) for length in (1, 2, 4, 6) for position in range(length)],
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
    ],
)

check = checker(MAY_LOOK, VISIBLE_WORDS)
