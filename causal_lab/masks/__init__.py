"""Who may look at whom? Rules, sparse, soft and learned masks, and what they let through."""

from causal_lab.masks.learned import AdaptiveSpan, DistanceDecay, LearnedMask, RelativeBias
from causal_lab.masks.reach import (
    dead_queries,
    future_pairs,
    receptive_field,
    sparsity,
    stacked_receptive_field,
)
from causal_lab.masks.rules import (
    algorithm_4_causal_mask,
    from_allowed,
    generate_causal_logit_mask,
    generate_causal_mask,
    generate_document_mask,
    generate_incremental_mask,
    generate_prefix_mask,
    generate_retrieval_mask,
    generate_sliding_window_mask,
    to_additive,
    to_allowed,
    to_mask_mod,
)
from causal_lab.masks.soft import gate_to_bias, soft_causal_bias, soft_leak
from causal_lab.masks.sparse import (
    generate_block_sparse_mask,
    generate_dilated_mask,
    generate_quadrant_mask,
    generate_raster_mask,
    generate_row_column_mask,
)
