"""Small causal models from libraries other than `transformers`, for the census.

None of these brings torch: they and what they need are installed with
``pip install --no-deps $(python tools/census_libraries.py)``. A library that is not installed gives
cases that do not run.
"""

import builtins
import os
import re
from collections.abc import Iterator
from functools import partial

import torch
from census import Case
from torch import Tensor, nn

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when keras is imported

LIBRARIES = """
    MEGABYTE-pytorch==0.3.6 PaLM-pytorch==0.2.2 block-recurrent-transformer-pytorch==0.4.4
    colt5-attention==0.11.2 compressive-transformer-pytorch==0.4.0 curated-transformers==2.0.1
    feedback-transformer-pytorch==0.0.11 flash-pytorch==0.1.9 g-mlp-pytorch==0.1.5
    gateloop-transformer==0.2.5 h-transformer-1d==0.1.9 hourglass-transformer-pytorch==0.0.6
    infini-transformer-pytorch==0.2.1 keras==3.15.1 labml-nn==0.5.1
    linear-attention-transformer==0.19.1 litgpt==0.5.13 local-attention==1.11.2 mambapy==1.2.0
    mega-pytorch==0.1.0 minGRU-pytorch==0.2.1 minimamba==1.0.1 multistream-transformers==0.0.4
    native-sparse-attention-pytorch==0.2.3 perceiver-ar-pytorch==0.0.10 performer-pytorch==1.1.4
    pytorch-tcn==1.2.3 recurrent-memory-transformer-pytorch==0.7.0
    recurrent-transformer-pytorch==0.0.17 reformer-pytorch==1.4.4 ring-attention-pytorch==0.5.20
    routing-transformer==1.6.1 rwkv7-hf==0.9.0 simple-hierarchical-transformer==0.4.0
    sinkhorn-transformer==0.11.4 stripedhyena==0.2.2 titans-pytorch==0.5.5 token-shift-gpt==0.0.2
    x-transformers==2.31.10 xlstm==2.0.6 yet-another-retnet==0.5.1
"""
NEEDS = """
    absl-py==2.5.1 assoc-scan==0.0.6 axial_positional_embedding==0.3.12 beartype==0.23.1
    catalogue==2.0.10 einops==0.8.2 einx==0.4.3 frozendict==2.5.1 h5py==3.16.0
    hyper-connections==0.4.11 jaxtyping==0.3.11 labml==0.4.168 lightning==2.6.6
    lightning-utilities==0.15.3 linformer==0.2.3 loguru==0.7.3 mixture-of-experts==0.2.3
    ml_dtypes==0.6.0 mogrifier==0.0.5 namex==0.1.0 opt_einsum==3.4.0 optree==0.20.0
    product_key_memory==0.3.0 pyvers==0.2.3 rotary-embedding-torch==0.9.1 tensordict==0.15.3
    torch-einops-utils==0.2.0 torchmetrics==1.9.0 wadler-lindig==0.1.8 x-mlps-pytorch==0.6.9
"""
LIBRARIES, NEEDS = (dict(pin.split("==") for pin in pins.split()) for pins in (LIBRARIES, NEEDS))

SHORTHANDS = {
    "$DECODER": "Decoder(dim=32, depth=2, heads=2, attn_dim_head=16, verbose=False",
    "$MODEL": "num_tokens=50, dim=32, depth=2, heads=2, dim_head=16",
    "$LONG": "num_tokens=50, dim=32, depth=2, heads=2, dim_head=16, max_seq_len=16",
    "$WIDTHS": "num_tokens=50, dim=32, depth=2",
    "$CURATED": "dtype=torch.float32, hidden_width=32, n_hidden_layers=2, n_pieces=50",
    "$LABML": "d_model=32, feed_forward=FeedForward(32, 32), dropout_prob=0.0",
    "~": "labml_nn.transformers",
}

# A library (^: as above), its modules if their name is another, and options of the check, with
# `vectors` first if it takes no ids. Then a call for each of the indented arguments (`;` between
# them, - for none); its brackets are closed behind.
MODELS = """
x-transformers: TransformerWrapper(num_tokens=50, max_seq_len=16, attn_layers=$DECODER,
    - ; rotary_pos_emb=True, attn_flash=True, attn_kv_heads=1
    rotary_xpos=True, attn_max_attend_past=3 ; polar_pos_emb=True ; alibi_pos_bias=True
    rel_pos_bias=True ; dynamic_pos_bias=True ; attn_data_dependent_alibi=True ; attn_use_cope=True
    attn_use_rel_proj_pos_bias=True ; attn_num_mem_kv=3, attn_add_zero_kv=True
    attn_sparse_topk=2, attn_sparse_topk_straight_through=True
    attn_pre_talking_heads=True, attn_post_talking_heads=True, attn_on_attn=True
    attn_gate_values=True, attn_swiglu_values=True, attn_gate_value_heads=True ; attn_selective=True
    attn_sigmoid=True ; attn_laser=True ; attn_inverted_attention=True
    attn_orthog_projected_values=True ; attn_orthog_projected_values_per_head=True
    attn_use_latent_kv=True, attn_dim_latent_kv=8, attn_use_latent_q=True, attn_dim_latent_q=8
    attn_aggregated_residuals=True, attn_aggregated_residual_kwargs={'lora_rank': 8}
    shift_tokens=3 ; residual_attn=True, macaron=True ; gate_residual=True ; orthog_residual=True
    mv_split_residual=True
    gated_multi_residual=True, num_residual_streams=2, residual_fn_kwargs={'read_gate_rank': 4}
    num_residual_streams=2, add_value_residual=True ; integrate_layers=True
^: TransformerWrapper(num_tokens=50, max_seq_len=16, attn_layers=$DECODER, pre_and_post_norm=True),
    num_memory_tokens=2 ; num_memory_tokens=2, memory_tokens_interspersed_every=4 ; looped=True
    ff_deep_embed=True, mixture_of_softmax=True
local-attention: LocalTransformer($LONG, causal=True, local_attn_window_size=4,
    - ; use_xpos=True ; use_dynamic_pos_bias=True ; exact_windowsize=True
performer-pytorch: PerformerLM($LONG, causal=True, nb_features=8,
    - ; generalized_attention=True ; no_projection=True ; local_attn_heads=1, local_window_size=4
    reversible=True, shift_tokens=True
reformer-pytorch: ReformerLM($LONG, causal=True, bucket_size=4, n_hashes=2,
# hashed positions are sorted, and later ones decide which share a chunk
    - ; use_full_attn=True
linear-attention-transformer: LinearAttentionTransformerLM($LONG, causal=True,
    - ; blindspot_size=4 ; n_local_attn_heads=1, local_attn_window_size=4
    use_rotary_emb=True, shift_tokens=True ; reversible=True, pkm_layers=(1,), pkm_num_keys=8
routing-transformer | output=0: RoutingTransformerLM($LONG, causal=True, window_size=4,
# a cluster takes those positions, later ones too, which are nearest to its centre
    - ; n_local_attn_heads=2, local_attn_window_size=4
sinkhorn-transformer: SinkhornTransformerLM($LONG, causal=True, bucket_size=4,
    - ; n_local_attn_heads=1 ; n_top_buckets=1 ; non_permutative=False ; use_simple_sort_net=True
minGRU-pytorch minGRU_pytorch.minLM: minLM($WIDTHS,
    - ; use_lstm=True ; enable_conv=True
minGRU-pytorch minGRU_pytorch.hybridLM: hybridLM($MODEL,
native-sparse-attention-pytorch native_sparse_attention_pytorch.transformer: Transformer($MODEL, \
use_sparse_attn=True, sparse_attn_kwargs=dict(sliding_window_size=2, compress_block_size=4, \
selection_block_size=4,
    compress_block_sliding_stride=2, num_selected_blocks=2
    compress_block_sliding_stride=4, num_selected_blocks=1, use_diff_topk=True
titans-pytorch: MemoryAsContextTransformer($MODEL, segment_len=4,
    - ; num_persist_mem_tokens=2, num_longterm_mem_tokens=2
    num_persist_mem_tokens=2, sliding_window_attn=True
    neural_memory_segment_len=2, neural_memory_batch_size=4
    neural_mem_gate_attn_output=True, neural_memory_qkv_receives_diff_views=True
MEGABYTE-pytorch: MEGABYTE(num_tokens=50, dim=(32, 24), depth=(1, 1), max_seq_len=(4, 4), \
dim_head=16, heads=2,
    - ; pos_emb=True, rel_pos=True
gateloop-transformer: Transformer($MODEL, checkpoint_gate_looped_attn=False,
    - ; use_gate_looped_attn=False, rotary_emb=True
    use_gate_looped_attn=False, data_dependent_rel_pos=True
recurrent-memory-transformer-pytorch | output=0: RecurrentMemoryTransformer($MODEL, \
num_memory_tokens=2, seq_len=16,
    - ; rotary_pos_emb=True
^: RecurrentMemoryTransformerWrapper(RecurrentMemoryTransformer($MODEL, num_memory_tokens=2, \
seq_len=4, xl_mem_len=4,
    - ; enhanced_xl_recurrence=True, rotary_pos_emb=True
block-recurrent-transformer-pytorch | output=0: BlockRecurrentTransformer($LONG, block_width=4,
    - ; use_compressed_mem=True, compressed_mem_factor=2
    recurrent_layers=(2,), read_recurrent_layers=(1,), all_layers_qk_rmsnorm=True
PaLM-pytorch palm_pytorch: PaLM($MODEL,
compressive-transformer-pytorch | output=0: CompressiveTransformer($WIDTHS, heads=2, seq_len=16, \
mem_len=16, cmem_len=4,
    - ; mogrify_gru=True
flash-pytorch: FLASHTransformer($WIDTHS, causal=True, group_size=4, query_key_dim=16,
    - ; shift_tokens=False, laplace_attn_fn=True
g-mlp-pytorch: gMLP($WIDTHS, seq_len=16, causal=True,
    - ; attn_dim=8, shift_tokens=1 ; circulant_matrix=True, heads=2
mega-pytorch: Mega($WIDTHS, ema_heads=4, attn_dim_qk=8, attn_dim_value=16,
    - ; laplacian_attn_fn=True, pre_norm=True ; norm_mhesa_heads=True
simple-hierarchical-transformer: HierarchicalTransformer($MODEL, seq_len=16, window_sizes=(4, \
None), hierarchies=
    (1, 2) ; (1, 4), hierarchical_stride=(1, 2)
    (1, 4), predict_hierarchy=1, hierarchy_merge_all=True
h-transformer-1d: HTransformer1D($LONG, causal=True, block_size=4,
    - ; reversible=True, shift_tokens=True
feedback-transformer-pytorch: FeedbackTransformer($MODEL, mem_len=8,
    - ; seq_len=4 ; keep_last_hidden=True
token-shift-gpt: TokenShiftGPT($WIDTHS, max_seq_len=16,
perceiver-ar-pytorch | output_positions=range(8, 16): PerceiverAR($WIDTHS, heads=2, dim_head=32, \
max_seq_len=16, cross_attn_seq_len=8,
    - ; perceive_depth=2
hourglass-transformer-pytorch: HourglassTransformerLM(num_tokens=50, dim=32, heads=2, \
dim_head=16, max_seq_len=16, depth=(1, 1, 1), shorten_factor=
    2 ; 4 ; 2, updown_sample_type='linear' ; 2, attn_resampling=False
infini-transformer-pytorch | output=0: InfiniTransformer($MODEL,
    - ; use_mem_delta_rule=True
recurrent-transformer-pytorch recurrent_transformer: RecurrentTransformer($MODEL, gate_low_rank=8,
    - ; block_size=4 ; recurrent=True ; recurrent=True, block_size=4
    recurrent=True, block_size=4, use_intra_block_rnn=False, rel_pos_bias=False
ring-attention-pytorch: RingTransformer($MODEL, causal=True, bucket_size=4,
    - ; force_regular_attn=True ; max_lookback_seq_len=4 ; num_grouped_query_heads=2
multistream-transformers: MultistreamTransformer($LONG, causal=True, num_streams=
    1 ; 2
colt5-attention | vectors: ConditionalRoutedAutoregressiveAttention(dim=32, light_dim_head=8, \
light_heads=2, light_window_size=4, heavy_window_size=4, heavy_dim_head=8, heavy_heads=2,
# later positions of a window decide which of its queries are chosen
    num_heavy_tokens_q=4, num_heavy_tokens_kv=4 ; num_heavy_tokens_q=2, num_heavy_tokens_kv=4
yet-another-retnet yet_another_retnet.retnet | vectors: RetNetDecoder(num_layers=2, \
decoder_layer=RetNetDecoderLayer(32, 2, 32,
    - ; norm_first=False
mambapy mambapy.mamba | vectors: Mamba(MambaConfig(d_model=32, n_layers=2, d_state=4,
    - ; pscan=False ; inner_layernorms=True, mup=True
mambapy mambapy.jamba | output=0: JambaLM(JambaLMConfig(d_model=32, n_layers=3, mlp_size=32, \
d_state=4, vocab_size=50, num_attention_heads=2, num_key_value_heads=1, attn_layer_offset=1, \
attn_layer_period=2, expert_layer_period=2, expert_layer_offset=1,
    num_experts=4, num_experts_per_tok=2
minimamba: MambaForCausalLM(MambaLMConfig(d_model=32, n_layer=2, d_state=4, vocab_size=50,
pytorch-tcn | vectors: TCN(num_inputs=32, num_channels=(16, 16), kernel_size=3, input_shape='NLC',
    - ; use_norm='layer_norm', dilations=(1, 4)
    use_norm='batch_norm', use_gate=True, use_skip_connections=True
xlstm: xLSTMLMModel(xLSTMLMModelConfig(vocab_size=50, embedding_dim=32, num_blocks=2, \
context_length=16, mlstm_block=mLSTMBlockConfig(mLSTMLayerConfig(num_heads=2)),
    -
    slstm_block=sLSTMBlockConfig(sLSTMLayerConfig(num_heads=2, backend='vanilla'), \
feedforward=FeedForwardConfig(1.3)), slstm_at=[1]
litgpt litgpt.model: GPT(Config(block_size=16, vocab_size=50, padded_vocab_size=50, n_layer=2, \
n_head=2, n_embd=32, intermediate_size=64,
    - ; sliding_window_size=4, sliding_window_indices=[1, 0]
    n_query_groups=1, parallel_residual=False, norm_qk=True, norm_class_name='RMSNorm'
    mlp_class_name='LLaMAMoE', n_expert=4, n_expert_per_token=2, moe_intermediate_size=32, \
bias=False
    attention_logit_softcapping=5.0, attention_scores_scalar=16, final_logit_softcapping=5.0
rwkv7-hf: RWKV7ForCausalLM(RWKV7Config(vocab_size=50, hidden_size=32, num_hidden_layers=2, \
num_heads=2, head_dim=16, intermediate_size=32,
    decay_low_rank_dim=8, gate_low_rank_dim=8, a_low_rank_dim=8, v_low_rank_dim=8
curated-transformers curated_transformers.models | forward_kwargs=_curated: \
LlamaCausalLM(LlamaConfig($CURATED, intermediate_width=32, n_query_heads=2,
    n_key_value_heads=1, rotary_embedding_fraction=1.0
^: FalconCausalLM(FalconConfig($CURATED, n_query_heads=2,
    - ; use_alibi=True ; new_decoder_architecture=True
^: GPTNeoXCausalLM(GPTNeoXConfig($CURATED, intermediate_width=32, n_attention_heads=2,
^: MPTCausalLM(MPTConfig($CURATED, n_attention_heads=2,
stripedhyena stripedhyena.model | output=0: StripedHyena(type('Config', (dict,), {'__getattr__': \
dict.get})(vocab_size=50, hidden_size=32, num_filters=32, num_attention_heads=2, num_layers=2, \
attn_layer_idxs=[], hyena_layer_idxs=[0, 1], state_size=2, short_filter_length=3, \
short_filter_bias=True, eps=1e-5, params_dtype=torch.float32, mlp_dtype=torch.float32, \
model_parallel_size=1, inner_mlp_size=32, tie_embeddings=True, make_vocab_size_divisible_by=2, \
use_flashfft=False, inference_mode=False, depthwise_dtype=torch.float32,
keras: Sequential([layers.Input((None,)), layers.Embedding(50, 32),
    layers.Conv1D(32, 3, padding='causal'), layers.Conv1D(32, 2, padding='causal', dilation_rate=3)
    layers.GRU(32, return_sequences=True) ; layers.LSTM(32, return_sequences=True)
    layers.SimpleRNN(32, return_sequences=True)
keras | vectors: Model(x := Input((None, 32)),
    layers.MultiHeadAttention(2, 16)(x, x, use_causal_mask=True)
    layers.GroupQueryAttention(16, 2, 1)(x, x, use_causal_mask=True)
    layers.Attention(use_scale=True)([x, x], use_causal_mask=True)
labml-nn ~.hour_glass | vectors, time_axis=0: HourGlass(2, 32, 0.0, 32,
    [2] ; [2, 2]
labml-nn ~.fast_weights ~.feed_forward | vectors, time_axis=0: \
FastWeightsAttentionTransformer(n_layers=2, layer=FastWeightsAttentionTransformerLayer($LABML, \
attn=FastWeightsAttention(2, 32, 0.0, DPFP()
labml-nn ~.feedback | vectors, time_axis=0: FeedbackTransformer(n_layers=2, \
layer=FeedbackTransformerLayer($LABML, attn=FeedbackAttention(2, 32
labml-nn ~ ~.aft ~.alibi ~.primer_ez ~.rope ~.gmlp ~.switch | vectors, time_axis=0, \
forward_kwargs=_masked: Encoder(n_layers=2, layer=TransformerLayer($LABML, self_attn=
    MultiHeadAttention(2, 32) ; AlibiMultiHeadAttention(2, 32) ; RotaryPEMultiHeadAttention(2, 32)
    MultiDConvHeadAttention(2, 32) ; AFTLocal(32, 16, 4)
^: Encoder(n_layers=2, layer=GMLPBlock(32, 32, 16
^: SwitchTransformer(n_layers=2, layer=SwitchTransformerLayer(d_model=32, dropout_prob=0.0, \
attn=MultiHeadAttention(2, 32), feed_forward=SwitchFeedForward(is_scale_prob=True, n_experts=2, \
expert=FeedForward(32, 32), d_model=32, capacity_factor=
# what is above the capacity is dropped, at random
    1.0, drop_tokens=False ; 1.0, drop_tokens=True
"""


def _curated(ids: Tensor) -> dict:
    from curated_transformers.layers import AttentionMask

    return {"attention_mask": AttentionMask(torch.ones(ids.shape, dtype=torch.bool))}


def _masked(vectors: Tensor) -> dict:
    length = len(vectors)
    return {"mask": torch.ones(length, length, dtype=torch.bool).tril()[:, :, None]}


class FromCode:
    """Makes a model by running ``code``, which the page shows."""

    def __init__(self, modules: list[str], call: str):
        names = set(re.findall(r"(?<![\w.'])([a-zA-Z]\w*)[(.]", call)) - {"torch", *dir(builtins)}
        names = ", ".join(sorted(names)) if len(modules) == 1 else "*"
        imports = "".join(f"from {module} import {names}\n" for module in modules)
        self.code = (
            f"import torch\n{imports}\ntorch.manual_seed(0)\nmodel = {call}.eval()\n"
            "for weight in model.parameters():  # what is all 0 or all 1 is moved, as by training\n"
            "    if weight.numel() > 1 and weight.min() == weight.max():\n"
            "        weight.data += 0.1 * torch.randn_like(weight)"
        )

    def __call__(self) -> nn.Module:
        """Import the library only now."""
        made = {}
        exec(self.code, made)
        return made["model"]


def _read(table: str) -> Iterator[Case]:
    """Make cases of the lines; a call that no arguments follow is one."""
    head = ""
    for short, long in SHORTHANDS.items():
        table = table.replace(short, long)
    lines = [line for line in table.splitlines() if line and not line.startswith("#")]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith(" "):
            above, (head, _, call) = head, line.partition(": ")
            head = above if head == "^" else head
            names, _, options = head.partition(" | ")
            library, *modules = names.split()
            modules = modules or [library.replace("-", "_")]
            given = eval(f"dict({options.removeprefix('vectors').lstrip(', ')})")
            shape = (16, 2, 32) if given.get("time_axis") == 0 else (2, 16, 32)
            inputs = partial(torch.randn, shape) if options.startswith("vectors") else _ids
            line = "" if after.startswith(" ") else "-"
        for arguments in filter(None, line.split(";")):
            arguments = arguments.strip().removeprefix("-")
            label = call.split("(")[0] + (f", {arguments}" if arguments else "")
            code = call + arguments + _closing(call + arguments)
            yield Case(label, library, FromCode(modules, code), inputs, given)


def _closing(call: str) -> str:
    """Close the brackets that are open."""
    closing = []
    for sign in call:
        if sign in "([{":
            closing.append(")]}"["([{".index(sign)])
        elif closing and sign == closing[-1]:
            closing.pop()
    return "".join(reversed(closing))


def _ids() -> Tensor:
    return torch.randint(3, 50, (2, 16))


CASES = list(_read(MODELS))

if __name__ == "__main__":
    print(*(f"{name}=={pin}" for name, pin in (LIBRARIES | NEEDS).items()))
