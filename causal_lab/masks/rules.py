"""Who may look at whom: boolean masks, True where attention is blocked.

Rows are queries (who looks), columns are keys (who is looked at). All masks here
combine with ``|`` (blocked by either), ``&`` (blocked by both) and ``~`` (the opposite), and
broadcast against ``(batch, head, query, key)``.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from causal_lab.validation import check_boolean, check_size, describe

# The paper hands ``device`` on without its name (B.6); here it is named, in every function that
# makes a tensor. Not given, it is that of the tensor a mask is made from, else the default device.
Device = torch.device | str | None


def algorithm_4_causal_mask(T: int) -> Tensor:
    """Build M entry by entry, as the paper writes it: (query, key) = (T, T) (Algorithm 4, B.2).

    >>> algorithm_4_causal_mask(3).tolist()
    [[0.0, -inf, -inf], [0.0, 0.0, -inf], [0.0, 0.0, 0.0]]
    """
    # Slow on purpose: this is the reference that the fast versions are compared with.
    T = check_size("T", T)
    M = torch.empty(T, T)
    for i in range(1, T + 1):  # the paper counts from 1
        for j in range(1, T + 1):
            if j <= i:
                M[i - 1, j - 1] = 0.0
            else:
                M[i - 1, j - 1] = float("-inf")
    return M


def block_future(past_len: int, current_len: int, *, device: Device = None) -> Tensor:
    """Block what comes after each of ``current_len`` queries behind ``past_len`` cached keys.

    What :func:`generate_incremental_mask` checks and models and caches call: (query, key).

    >>> block_future(1, 2).int().tolist()
    [[0, 0, 1], [0, 0, 0]]
    """
    return torch.full((current_len, past_len + current_len), True, device=device).triu(past_len + 1)


def generate_causal_mask(T: int, *, device: Device = None) -> Tensor:
    """Block every key that comes after its query: bool, (query, key) = (T, T) (B.4, §4.1).

    >>> generate_causal_mask(4).int().tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    """
    return block_future(0, check_size("T", T), device=device)


def generate_causal_logit_mask(
    T: int, *, device: Device = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Make M, added to the scores, in their dtype: 0 or −∞, (query, key) = (T, T) (B.5, §4.1).

    >>> generate_causal_logit_mask(2).tolist()
    [[0.0, -inf], [0.0, 0.0]]
    """
    # The paper's text says "a large negative value", its code says −∞; only −∞ gives a weight of
    # exactly 0 for every score.
    return to_additive(generate_causal_mask(T, device=device), dtype)


def generate_incremental_mask(past_len: int, current_len: int, *, device: Device = None) -> Tensor:
    """Block the future for a chunk of new tokens behind a KV cache (B.7).

    Args:
        past_len: tokens already cached; 0 gives the square causal mask.
        current_len: new tokens in this chunk, at least 1.

    Returns:
        bool, (query, key) = (current_len, past_len + current_len), True where blocked.

    >>> generate_incremental_mask(2, 2).int().tolist()
    [[0, 0, 0, 1], [0, 0, 0, 0]]
    """
    past_len = check_size("past_len", past_len, minimum=0)
    current_len = check_size("current_len", current_len)
    return block_future(past_len, current_len, device=device)


def generate_sliding_window_mask(
    T: int, window: int, *, sinks: int = 0, device: Device = None
) -> Tensor:
    """Block the future, and what lies further back than a window: bool, (query, key) = (T, T).

    Source: Beltagy et al., "Longformer", 2020; for the sinks, Xiao et al., "StreamingLLM", 2023.

    Args:
        window: how many tokens a query sees, its own included.
        sinks: how many of the first tokens it sees nevertheless, but for its future.

    >>> generate_sliding_window_mask(4, 2, sinks=1).int().tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 1, 0, 0]]
    """
    window = check_size("window", window)
    sinks = check_size("sinks", sinks, minimum=0)
    blocked = generate_causal_mask(T, device=device)
    position = torch.arange(T, device=blocked.device)
    forgotten = (position[:, None] - position >= window) & (position >= sinks)
    return blocked | forgotten


def generate_padding_mask(
    lengths: Tensor | Sequence[int],
    max_len: int | None = None,
    *,
    side: str = "right",
    device: Device = None,
) -> Tensor:
    """Block the padding of a batch.

    Args:
        lengths: (batch,), real tokens in each sequence, 0 to ``max_len``.
        max_len: the longest sequence if not given.
        side: where the padding stands: behind the tokens ("right"), or before them ("left").

    Returns:
        bool, (batch, head, query, key) = (batch, 1, 1, max_len), True on padding.

    >>> generate_padding_mask([3, 1], side="left")[:, 0, 0].int().tolist()
    [[0, 0, 0], [1, 1, 0]]
    """
    if side not in ("left", "right"):
        raise ValueError(f'side must be "left" or "right", got {side!r}')
    try:
        lengths = _as_tensor(lengths, device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"lengths must be a row of integers: {error}") from error
    if lengths.ndim != 1 or lengths.numel() == 0 or not _is_integer(lengths.dtype):
        raise ValueError(
            "lengths must be a non-empty row of integers, one per sequence, got shape "
            f"{tuple(lengths.shape)} and dtype {lengths.dtype}"
        )
    lengths = lengths.long()  # small integer dtypes would overflow below
    longest = int(lengths.max())
    max_len = check_size("max_len", max(longest, 1) if max_len is None else max_len)
    if int(lengths.min()) < 0 or longest > max_len:
        raise ValueError(
            f"every length must lie between 0 and max_len={max_len}, got "
            f"{lengths.tolist()}; give a larger max_len or cut the sequences"
        )
    position = torch.arange(max_len, device=lengths.device)
    real = lengths[:, None]
    blocked = position >= real if side == "right" else position < max_len - real
    # The two axes of length 1 make ``generate_causal_mask(T) | padding`` mean what it says: without
    # them the batch axis would be taken for the query axis. ``nn.MultiheadAttention`` wants
    # ``key_padding_mask=padding[:, 0, 0]``.
    return blocked[:, None, None, :]


def generate_prefix_mask(T: int, prefix_len: int, *, device: Device = None) -> Tensor:
    """Block the future, except inside a prefix, where all see all: bool, (query, key) = (T, T).

    So the model is causal only from the prefix's last token on: ask the loss of nothing before it.
    Source: Dong et al., "Unified language model pre-training", 2019; Raffel et al. (T5), 2019.

    Args:
        prefix_len: tokens of the prefix, 0 to T.

    >>> generate_prefix_mask(4, 2).int().tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    """
    prefix_len = check_size("prefix_len", prefix_len, minimum=0)
    blocked = generate_causal_mask(T, device=device)
    if prefix_len > T:
        raise ValueError(
            f"prefix_len must be at most T={T}, got {prefix_len}; it counts tokens of the text"
        )
    behind = torch.arange(T, device=blocked.device) >= prefix_len
    return blocked & behind  # a prefix of 0 leaves the causal mask, one of T blocks nothing


def generate_document_mask(
    document_ids: Tensor | Sequence[int] | Sequence[Sequence[int]], *, device: Device = None
) -> Tensor:
    """Block what belongs to another document than the query, in a packed row.

    The order of time is not in it: write ``generate_causal_mask(T) | generate_document_mask(ids)``.
    Source: Krell et al., "Efficient sequence packing without cross-contamination", 2021.

    Args:
        document_ids: (T,) or (batch, T), which document each token belongs to, in any order.

    Returns:
        bool, (query, key) = (T, T), or (batch, 1, T, T), True where the documents differ.

    >>> generate_document_mask([0, 0, 1]).int().tolist()
    [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    """
    # Documents are packed so that no room is lost to padding. The mask alone does not make a packed
    # document equal to the document alone: its positions must begin at 0 again, too.
    ids = _check_labels("document_ids", document_ids, device)
    blocked = ids[..., :, None] != ids[..., None, :]
    return blocked if ids.ndim == 1 else blocked[:, None]


def generate_retrieval_mask(
    segment_ids: Tensor | Sequence[int] | Sequence[Sequence[int]], *, device: Device = None
) -> Tensor:
    """Block the future, and hide retrieved passages from each other (§11).

    Source: Ratner et al., "Parallel context windows", 2022; Gim et al., "Prompt Cache", 2023.

    Args:
        segment_ids: (T,) or (batch, T), 1, 2, … for the tokens of passages, 0 for what is shared:
            instruction, question, answer.

    Returns:
        bool, (query, key) = (T, T), or (batch, 1, T, T), True where blocked.

    >>> generate_retrieval_mask([1, 1, 2, 0]).int().tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1], [0, 0, 0, 0]]
    """
    # A passage sees the shared tokens before it and itself. If none stands *between* the passages
    # (it would pass on what it saw), its keys and values do not depend on which passages are beside
    # it. If its positions do not either, they can be computed once, kept, and used in any order.
    ids = _check_labels("segment_ids", segment_ids, device)
    if ids.device.type != "meta" and int(ids.min()) < 0:
        raise ValueError(
            f"segment_ids must not be negative, got {int(ids.min())}; 0 is shared, passages count "
            "from 1, and padding is blocked by generate_padding_mask"
        )
    queries, keys = ids[..., :, None], ids[..., None, :]
    elsewhere = (queries != keys) & (queries != 0) & (keys != 0)
    blocked = generate_causal_mask(ids.shape[-1], device=ids.device) | elsewhere
    return blocked if ids.ndim == 1 else blocked[:, None]


def to_allowed(blocked: Tensor) -> Tensor:
    """Cross over to True = allowed, as SDPA, FlexAttention and Hugging Face have it; any shape.

    >>> to_allowed(generate_causal_mask(2)).int().tolist()
    [[1, 0], [1, 1]]
    """
    return ~check_boolean("blocked", blocked)


def from_allowed(allowed: Tensor) -> Tensor:
    """Come back from the opposite convention: True where attention is blocked, any shape.

    >>> from_allowed(torch.ones(2, 2).tril().bool()).int().tolist()
    [[0, 1], [0, 0]]
    """
    return ~check_boolean("allowed", allowed)


def to_additive(blocked: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn a mask of any shape into what is added to the scores, in their dtype: 0 or −∞ (B.5).

    >>> to_additive(torch.tensor([False, True])).tolist()
    [0.0, -inf]
    """
    check_boolean("blocked", blocked)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(
            f"dtype must be a floating dtype such as torch.float32, because −∞ must fit "
            f"into it; got {dtype}"
        )
    zeros = torch.zeros(blocked.shape, dtype=dtype, device=blocked.device)
    # Filled, not multiplied: 0 · −∞ is NaN.
    return zeros.masked_fill(blocked, float("-inf"))


def from_additive(additive: Tensor) -> Tensor:
    """Read a 0/−∞ matrix of any shape back as a boolean mask.

    >>> from_additive(generate_causal_logit_mask(2)).int().tolist()
    [[0, 1], [0, 0]]
    """
    if not isinstance(additive, Tensor) or not additive.is_floating_point():
        raise ValueError(
            f"additive must be a floating tensor of 0 and −∞, got {describe(additive)}; a boolean "
            "mask is read by from_allowed, or is already what you want"
        )
    blocked = additive == float("-inf")
    strange = additive[~blocked & (additive != 0)]
    if strange.numel():
        raise ValueError(
            f"additive must hold 0 and −∞ only, found {strange[0].item():g}; replace a finite "
            "fill by −∞, and pass a bias as bias"
        )
    return blocked


def to_mask_mod(blocked: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Cross over to FlexAttention's ``mask_mod``: a function, True where attention is *allowed*.

    Source: Dong et al., "Flex Attention", 2024, whose ``create_block_mask`` takes it.

    Args:
        blocked: bool, (query, key) or (batch, head, query, key), whose first two may be 1, for all.

    >>> mask_mod = to_mask_mod(generate_causal_mask(3))
    >>> bool(mask_mod(0, 0, torch.tensor(0), torch.tensor(2)))
    False
    """
    if check_boolean("blocked", blocked).ndim not in (2, 4):
        raise ValueError(
            "blocked must have shape (query, key) or (batch, head, query, key), got "
            f"{tuple(blocked.shape)}; insert axes of length 1 with blocked[:, None]"
        )
    # A table to look up saves FlexAttention no memory, as a rule written with ``>=`` would; the
    # kernel skips blocked blocks all the same.
    table = ~(blocked if blocked.ndim == 4 else blocked[None, None])
    batches, heads = table.shape[:2]  # 1 is for all

    def mask_mod(batch, head, query, key):
        batch = batch if batches > 1 else 0
        return table[batch, head if heads > 1 else 0, query, key]

    return mask_mod


def _is_integer(dtype: torch.dtype) -> bool:
    return dtype != torch.bool and not dtype.is_floating_point and not dtype.is_complex


def _as_tensor(values: Tensor | Sequence, device: Device) -> Tensor:
    if isinstance(values, Tensor):  # as_tensor would move it to a default device
        return values if device is None else values.to(device)
    return torch.as_tensor(values, device=device)


def _check_labels(name: str, labels: Tensor | Sequence, device: Device) -> Tensor:
    try:
        labels = _as_tensor(labels, device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must hold one integer per token: {error}") from error
    if labels.ndim not in (1, 2) or labels.numel() == 0 or not _is_integer(labels.dtype):
        raise ValueError(
            f"{name} must hold one integer per token, shape (T,) or (batch, T), got shape "
            f"{tuple(labels.shape)} and dtype {labels.dtype}"
        )
    return labels
