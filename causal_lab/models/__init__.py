"""How do GPT and BERT differ by one boolean? Read transformer.py first."""

from causal_lab.models.cache import KVCache, cache_nbytes
from causal_lab.models.encoder_decoder import EncoderDecoder
from causal_lab.models.generation import (
    cached_step,
    decode_one_token,
    generate,
    pad_left,
    prefill,
    stream,
)
from causal_lab.models.layers import MultiHeadAttention
from causal_lab.models.llama import Llama
from causal_lab.models.transformer import BERT, GPT, Transformer
