"""How do scores become weights? Softmax, the formula, positions, and the linear algebra of time."""

from causal_lab.attention.formula import (
    algorithm_5_causal_attention,
    attention,
    attention_weights,
    fused_attention,
)
from causal_lab.attention.heads import CausalAttention
from causal_lab.attention.positions import (
    alibi_bias,
    alibi_slopes,
    rotate,
    rotation,
    sinusoidal_positions,
    to_half,
)
from causal_lab.attention.softmax import (
    entropy,
    masked_softmax,
    naive_softmax,
    stable_softmax,
)
from causal_lab.attention.spectral import (
    cumulative_products,
    distance_from_collapse,
    is_causal_attention,
    is_projection,
    leaking_cuts,
    previous_token_attention,
    random_causal_attention,
    second_eigenvalue,
    sink_attention,
    undo_attention,
    uniform_causal_attention,
    with_residual,
)
