"""What lessons need: texts, phrases, training, measuring, and what a run stood on."""

from causal_lab.course.gguf import ModelFile
from causal_lab.course.measuring import (
    as_text,
    bits_when_writing,
    fill_accuracy,
    write,
)
from causal_lab.course.passage import PASSAGE
from causal_lab.course.phrases import (
    decode_phrase,
    encode_phrases,
    generate_phrases,
    phrase_batches,
    phrase_vocabulary,
    split_phrases,
)
from causal_lab.course.predictions import Predictions
from causal_lab.course.runtime import default_device, reproducibility_report, seed_everything
from causal_lab.course.text import (
    Vocabulary,
    learn_word_vectors,
    load_text,
    split_characters,
    split_words,
)
from causal_lab.course.training import hide_some, random_windows, train
