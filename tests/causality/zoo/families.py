"""Small, randomly initialised members of real model families, with the verdict that is true.

Each entry is built from a small configuration; nothing is downloaded. The expected verdict
follows from the architecture, not from what the checker says.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import transformers
from torch import Tensor, nn

transformers.logging.set_verbosity_error()  # "the fast kernels are missing" is no finding

VOCABULARY = 50
PAD, START, END = 0, 1, 2
BATCH, LENGTH = 2, 8


def token_ids(seed: int = 0) -> Tensor:
    """Draw ordinary ids: none of them is padding, a start or an end."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(END + 1, VOCABULARY, (BATCH, LENGTH), generator=generator)


def vectors(size: int = 16) -> Tensor:
    return torch.randn(BATCH, LENGTH, size, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Family:
    """One model and what is true of it."""

    name: str
    make: Callable[[], nn.Module]
    causal: bool | None
    length_dependent: bool = False  # of the causal ones
    special_ids: tuple[int, ...] = (PAD, END)
    inputs: Callable[[], Tensor] = token_ids
    options: dict = field(default_factory=dict)  # of check_causality


def build(class_name: str, *, seed: int = 0, wrap: Callable | None = None, **config) -> Callable:
    """Give a function that makes the model, so that collecting the tests builds none."""

    def make() -> nn.Module:
        model_class = getattr(transformers, class_name)
        with warnings.catch_warnings():
            # Parts of transformers still use decorators and functions that PyTorch calls old;
            # how they are built says nothing about causality.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            torch.manual_seed(seed)
            model = model_class(model_class.config_class(**config)).eval()
        return wrap(model) if wrap else model

    return make


def like_llama(class_name: str, *, wrap: Callable | None = None, **config) -> Callable:
    """Fill in the names that most decoders since Llama share."""
    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32,
        "pad_token_id": PAD,
        "bos_token_id": START,
        "eos_token_id": END,
    }
    return build(class_name, wrap=wrap, **(common | config))


def like_bert(class_name: str, *, wrap: Callable | None = None, **config) -> Callable:
    """Fill in the names that most encoders since BERT share."""
    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "type_vocab_size": 2,
        "pad_token_id": PAD,
    }
    return build(class_name, wrap=wrap, **(common | config))


def like_bart(class_name: str, *, wrap: Callable | None = None, **config) -> Callable:
    """Fill in the names that encoder-decoders since BART share."""
    common = {
        "vocab_size": VOCABULARY,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 32,
        "pad_token_id": PAD,
        "bos_token_id": START,
        "eos_token_id": END,
        "decoder_start_token_id": END,
        "forced_eos_token_id": END,
    }
    return build(class_name, wrap=wrap, **(common | config))


class Decoder(nn.Module):
    """The decoder of a pair, whose encoder always reads the same."""

    def __init__(self, pair: nn.Module, source: Tensor, name: str = "input_ids", **options):
        super().__init__()
        self.pair, self.name, self.options = pair, name, options
        self.register_buffer("source", source)

    def forward(self, ids: Tensor) -> Tensor:
        source = {self.name: self.source}
        return self.pair(**source, decoder_input_ids=ids, **self.options).logits


class Encoder(nn.Module):
    """The same pair seen from its encoder's ids: every output may read all of them."""

    def __init__(self, pair: nn.Module):
        super().__init__()
        self.pair = pair
        self.register_buffer("target", token_ids(seed=2))

    def forward(self, ids: Tensor) -> Tensor:
        return self.pair(input_ids=ids, decoder_input_ids=self.target).logits


class FromVectors(nn.Module):
    """A language model that is fed vectors in place of ids."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, vectors: Tensor) -> Tensor:
        return self.model(inputs_embeds=vectors).logits


def decoder(pair: nn.Module) -> nn.Module:
    return Decoder(pair, token_ids(seed=1)[:, :5])


def decoder_without_cache(pair: nn.Module) -> nn.Module:
    return Decoder(pair, token_ids(seed=1)[:, :5], use_cache=False)


def listener(pair: nn.Module) -> nn.Module:
    """Give the decoder of a model that hears, at a fixed sound."""
    sound = torch.randn(BATCH, 16, 8, generator=torch.Generator().manual_seed(1))
    return Decoder(pair, sound, "input_features")


def bare_encoder(pair: nn.Module) -> nn.Module:
    return pair.get_encoder()


def half(model: nn.Module) -> nn.Module:
    return model.bfloat16()


def half_decoder(pair: nn.Module) -> nn.Module:
    return decoder(pair.bfloat16())


def trained_doge(model: nn.Module) -> nn.Module:
    """Move the scores of the dynamic mask away from where they all are the same."""
    for name, parameter in model.named_parameters():
        if name.endswith("self_attn.A"):
            nn.init.normal_(parameter)
    return model


class InnerEncoder(nn.Module):
    """What comes after the front end of a model that hears or sees: vectors in, vectors out."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, vectors: Tensor) -> Tensor:
        return self.model.encoder(vectors).last_hidden_state


T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "pad_token_id": PAD,
    "eos_token_id": 1,
    "decoder_start_token_id": PAD,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_positions": 32,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "bos_token_id": START,
    "eos_token_id": END,
}

REFORMER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "attention_head_size": 8,
    "num_attention_heads": 2,
    "feed_forward_size": 32,
    "axial_pos_embds": False,
    "max_position_embeddings": 32,
    "local_attn_chunk_length": 4,
    "lsh_attn_chunk_length": 4,
    "num_buckets": 4,
    "hash_seed": 0,
    "pad_token_id": PAD,
    "eos_token_id": END,
}
MAMBA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "state_size": 4,
    "num_hidden_layers": 2,
    "pad_token_id": PAD,
    "eos_token_id": END,
}
DEEPSEEK = {
    "num_key_value_heads": 2,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_group": 2,
    "topk_group": 1,
}

DECODERS = [
    Family("gpt2", build("GPT2LMHeadModel", **GPT2), True),
    Family("openai-gpt", build("OpenAIGPTLMHeadModel", **GPT2), True),
    Family("gpt-bigcode", build("GPTBigCodeForCausalLM", **GPT2), True),
    Family(
        "gpt-neo-local-window",
        build(
            "GPTNeoForCausalLM",
            vocab_size=VOCABULARY,
            max_position_embeddings=32,
            hidden_size=16,
            num_layers=2,
            attention_types=[[["global", "local"], 1]],
            num_heads=2,
            window_size=2,
            eos_token_id=END,
            bos_token_id=START,
        ),
        True,
    ),
    Family("gptj", build("GPTJForCausalLM", **GPT2, rotary_dim=4), True),
    Family("codegen", build("CodeGenForCausalLM", **(GPT2 | {"n_head": 4}), rotary_dim=4), True),
    Family("gpt-neox", like_llama("GPTNeoXForCausalLM"), True),
    Family(
        "opt",
        build(
            "OPTForCausalLM",
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            ffn_dim=32,
            num_attention_heads=2,
            max_position_embeddings=32,
            word_embed_proj_dim=16,
            pad_token_id=PAD,
            eos_token_id=END,
        ),
        True,
    ),
    Family(
        "bloom-alibi",
        build(
            "BloomForCausalLM",
            vocab_size=VOCABULARY,
            hidden_size=16,
            n_layer=2,
            n_head=2,
            pad_token_id=PAD,
        ),
        True,
    ),
    Family(
        "mpt-alibi",
        build(
            "MptForCausalLM",
            vocab_size=VOCABULARY,
            d_model=16,
            n_heads=2,
            n_layers=2,
            max_seq_len=32,
        ),
        True,
    ),
    Family("llama", like_llama("LlamaForCausalLM"), True),
    Family("llama-eager", like_llama("LlamaForCausalLM", attn_implementation="eager"), True),
    Family(
        "llama-dynamic-rope",
        # Beyond the trained length the angles are recomputed from the length of what came.
        like_llama(
            "LlamaForCausalLM",
            max_position_embeddings=4,
            rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0},
        ),
        True,
        length_dependent=True,
    ),
    Family("mistral-window", like_llama("MistralForCausalLM", sliding_window=3), True),
    Family("mixtral", like_llama("MixtralForCausalLM", num_local_experts=4), True),
    Family("gemma", like_llama("GemmaForCausalLM", head_dim=8), True),
    Family("gemma2", like_llama("Gemma2ForCausalLM", head_dim=8, sliding_window=3), True),
    Family(
        "gemma3-text",
        like_llama(
            "Gemma3ForCausalLM",
            head_dim=8,
            sliding_window=3,
            layer_types=["sliding_attention", "full_attention"],
        ),
        True,
    ),
    Family(
        "gemma3-text-bidirectional",
        # The switch that turns the decoder into the encoder of EmbeddingGemma.
        like_llama(
            "Gemma3ForCausalLM",
            head_dim=8,
            sliding_window=3,
            layer_types=["sliding_attention", "full_attention"],
            use_bidirectional_attention=True,
        ),
        False,
    ),
    Family(
        "gemma3n-text",
        like_llama(
            "Gemma3nForCausalLM",
            head_dim=8,
            sliding_window=3,
            layer_types=["sliding_attention", "full_attention"],
            vocab_size_per_layer_input=VOCABULARY,
            hidden_size_per_layer_input=8,
            num_kv_shared_layers=0,
            laurel_rank=4,
            activation_sparsity_pattern=[0.5, 0.0],
        ),
        True,
    ),
    Family("qwen2", like_llama("Qwen2ForCausalLM"), True),
    Family("qwen3", like_llama("Qwen3ForCausalLM", head_dim=8), True),
    Family(
        "qwen2-moe",
        like_llama("Qwen2MoeForCausalLM", **EXPERTS, shared_expert_intermediate_size=16),
        True,
    ),
    Family("qwen3-moe", like_llama("Qwen3MoeForCausalLM", head_dim=8, **EXPERTS), True),
    Family(
        "qwen3-next",
        like_llama(
            "Qwen3NextForCausalLM",
            **EXPERTS,
            head_dim=8,
            shared_expert_intermediate_size=16,
            layer_types=["linear_attention", "full_attention"],
            linear_num_value_heads=2,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
        ),
        True,
    ),
    Family("phi", like_llama("PhiForCausalLM"), True),
    Family("phi3", like_llama("Phi3ForCausalLM"), True),
    Family("falcon", like_llama("FalconForCausalLM"), True),
    Family("falcon-alibi", like_llama("FalconForCausalLM", alibi=True), True),
    Family("stablelm", like_llama("StableLmForCausalLM"), True),
    Family("starcoder2-window", like_llama("Starcoder2ForCausalLM", sliding_window=3), True),
    Family("cohere", like_llama("CohereForCausalLM"), True),
    Family("cohere2", like_llama("Cohere2ForCausalLM", sliding_window=3), True),
    Family("olmo", like_llama("OlmoForCausalLM"), True),
    Family("olmo2", like_llama("Olmo2ForCausalLM"), True),
    Family("olmoe", like_llama("OlmoeForCausalLM", num_experts=4, num_experts_per_tok=2), True),
    Family("granite", like_llama("GraniteForCausalLM"), True),
    Family("nemotron", like_llama("NemotronForCausalLM"), True),
    Family("glm4", like_llama("Glm4ForCausalLM", head_dim=8), True),
    Family(
        "diffllama",
        like_llama("DiffLlamaForCausalLM", num_attention_heads=4, num_key_value_heads=2),
        True,
    ),
    Family(
        "modernbert-decoder",
        like_llama("ModernBertDecoderForCausalLM", local_attention=4, cls_token_id=START),
        True,
    ),
    Family(
        "ctrl",
        build(
            "CTRLLMHeadModel",
            vocab_size=VOCABULARY,
            n_positions=32,
            n_embd=16,
            dff=32,
            n_layer=2,
            n_head=2,
        ),
        True,
    ),
    Family(
        "xglm",
        build(
            "XGLMForCausalLM",
            vocab_size=VOCABULARY,
            max_position_embeddings=32,
            d_model=16,
            ffn_dim=32,
            num_layers=2,
            attention_heads=2,
            pad_token_id=PAD,
            eos_token_id=END,
        ),
        True,
    ),
    Family("biogpt", like_llama("BioGptForCausalLM"), True),
    Family(
        "deepseek-v2",
        like_llama(
            "DeepseekV2ForCausalLM",
            num_key_value_heads=2,
            moe_intermediate_size=16,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_shared_experts=1,
            first_k_dense_replace=1,
            kv_lora_rank=8,
            q_lora_rank=8,
            qk_nope_head_dim=8,
            qk_rope_head_dim=4,
            v_head_dim=8,
            n_group=1,
            topk_group=1,
        ),
        True,
    ),
    Family(
        "deepseek-v3",
        like_llama(
            "DeepseekV3ForCausalLM",
            num_key_value_heads=2,
            moe_intermediate_size=16,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_shared_experts=1,
            first_k_dense_replace=1,
            kv_lora_rank=8,
            q_lora_rank=8,
            qk_nope_head_dim=8,
            qk_rope_head_dim=4,
            v_head_dim=8,
            n_group=2,
            topk_group=1,
        ),
        True,
    ),
    Family(
        "gpt-oss-sinks",
        like_llama(
            "GptOssForCausalLM",
            head_dim=8,
            sliding_window=3,
            num_local_experts=4,
            num_experts_per_tok=2,
        ),
        True,
    ),
    Family(
        "llama4-text",
        like_llama(
            "Llama4ForCausalLM",
            head_dim=8,
            attention_chunk_size=3,
            intermediate_size_mlp=32,
            num_local_experts=2,
            num_experts_per_tok=1,
            no_rope_layers=[1, 0],
        ),
        True,
    ),
    Family(
        "minimax-lightning",
        like_llama(
            "MiniMaxForCausalLM",
            head_dim=8,
            num_local_experts=4,
            num_experts_per_tok=2,
            layer_types=["linear_attention", "full_attention"],
            block_size=3,
        ),
        True,
    ),
    Family(
        "lfm2-convolution",
        like_llama(
            "Lfm2ForCausalLM",
            layer_types=["conv", "full_attention"],
        ),
        True,
    ),
]

RECURRENT = [
    Family(
        "mamba",
        build(
            "MambaForCausalLM",
            vocab_size=VOCABULARY,
            hidden_size=16,
            state_size=4,
            num_hidden_layers=2,
            pad_token_id=PAD,
            eos_token_id=END,
        ),
        True,
    ),
    Family(
        "mamba2-chunks",
        build(
            "Mamba2ForCausalLM",
            vocab_size=VOCABULARY,
            hidden_size=16,
            state_size=4,
            num_hidden_layers=2,
            num_heads=4,
            head_dim=8,
            n_groups=1,
            chunk_size=3,
            pad_token_id=PAD,
            eos_token_id=END,
        ),
        True,
    ),
    Family(
        "falcon-mamba",
        build(
            "FalconMambaForCausalLM",
            vocab_size=VOCABULARY,
            hidden_size=16,
            state_size=4,
            num_hidden_layers=2,
            pad_token_id=PAD,
            eos_token_id=END,
        ),
        True,
    ),
    Family(
        "rwkv",
        build(
            "RwkvForCausalLM",
            vocab_size=VOCABULARY,
            hidden_size=16,
            attention_hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            context_length=32,
            bos_token_id=START,
            eos_token_id=END,
        ),
        True,
    ),
    Family(
        "recurrent-gemma",
        like_llama(
            "RecurrentGemmaForCausalLM", lru_width=16, attention_window_size=3, num_hidden_layers=3
        ),
        True,
    ),
    Family(
        "jamba",
        like_llama(
            "JambaForCausalLM",
            mamba_d_state=4,
            mamba_dt_rank=4,
            num_experts=2,
            attn_layer_period=2,
            attn_layer_offset=1,
            expert_layer_period=2,
            expert_layer_offset=1,
            use_mamba_kernels=False,
        ),
        True,
    ),
    Family(
        "bamba",
        like_llama(
            "BambaForCausalLM",
            attn_layer_indices=[1],
            mamba_n_heads=4,
            mamba_d_head=8,
            mamba_d_state=4,
            mamba_chunk_size=3,
        ),
        True,
    ),
    Family(
        "zamba",
        like_llama(
            "ZambaForCausalLM",
            num_hidden_layers=3,
            layers_block_type=["mamba", "hybrid", "hybrid"],
            num_key_value_heads=2,
            mamba_d_state=4,
            mamba_dt_rank=4,
            n_mamba_heads=2,
            use_mamba_kernels=False,
        ),
        True,
    ),
    Family(
        "xlstm",
        build(
            "xLSTMForCausalLM",
            vocab_size=VOCABULARY,
            hidden_size=64,
            qk_dim_factor=1.0,
            num_heads=2,
            num_hidden_layers=2,
            chunk_size=16,
            pad_token_id=PAD,
            eos_token_id=END,
        ),
        True,
    ),
]

BERT_DECODERS = [
    Family("bert-is-decoder", like_bert("BertLMHeadModel", is_decoder=True), True),
    Family("roberta-is-decoder", like_bert("RobertaForCausalLM", is_decoder=True), True),
    Family(
        "electra-is-decoder",
        like_bert("ElectraForCausalLM", is_decoder=True, embedding_size=16),
        True,
    ),
    Family("roformer-is-decoder", like_bert("RoFormerForCausalLM", is_decoder=True), True),
]

PAIRS = [
    Family("t5-decoder", build("T5ForConditionalGeneration", wrap=decoder, **T5), True),
    Family("bart-decoder", like_bart("BartForConditionalGeneration", wrap=decoder), True),
    Family("pegasus-decoder", like_bart("PegasusForConditionalGeneration", wrap=decoder), True),
    Family("marian-decoder", like_bart("MarianMTModel", wrap=decoder), True),
    Family("mbart-decoder", like_bart("MBartForConditionalGeneration", wrap=decoder), True),
    Family(
        "blenderbot-decoder", like_bart("BlenderbotForConditionalGeneration", wrap=decoder), True
    ),
    Family("m2m100-decoder", like_bart("M2M100ForConditionalGeneration", wrap=decoder), True),
    Family(
        "prophetnet-decoder",
        # Not by design: get_predict_relative_pos_embeddings flattens (batch, length, ngram, heads)
        # and reads it back as (batch, ngram, heads, length), so that the biases of output 0 are
        # those of position length/2. From the second layer on these hold what came by then.
        build(
            "ProphetNetForConditionalGeneration",
            wrap=decoder,
            vocab_size=VOCABULARY,
            hidden_size=16,
            encoder_ffn_dim=32,
            num_encoder_layers=2,
            num_encoder_attention_heads=2,
            decoder_ffn_dim=32,
            num_decoder_layers=2,
            num_decoder_attention_heads=2,
            max_position_embeddings=32,
            ngram=2,
            num_buckets=8,
            relative_max_distance=16,
            pad_token_id=PAD,
            eos_token_id=END,
            disable_ngram_loss=True,
        ),
        False,
    ),
    Family(
        "whisper-decoder",
        like_bart(
            "WhisperForConditionalGeneration",
            wrap=listener,
            num_mel_bins=16,
            max_source_positions=4,
            max_target_positions=16,
            begin_suppress_tokens=None,
        ),
        True,
    ),
    Family(
        "trocr-decoder",
        build(
            "TrOCRForCausalLM",
            vocab_size=VOCABULARY,
            d_model=16,
            decoder_layers=2,
            decoder_attention_heads=2,
            decoder_ffn_dim=32,
            cross_attention_hidden_size=16,
            max_position_embeddings=32,
            pad_token_id=PAD,
            eos_token_id=END,
        ),
        True,
    ),
    Family("t5-encoder-ids", build("T5ForConditionalGeneration", wrap=Encoder, **T5), False),
    Family("bart-encoder-ids", like_bart("BartForConditionalGeneration", wrap=Encoder), False),
    Family("t5-encoder", build("T5EncoderModel", **T5), False),
    Family("bart-encoder", like_bart("BartModel", wrap=bare_encoder), False),
]

ENCODERS = [
    Family("bert", like_bert("BertModel"), False),
    Family("roberta", like_bert("RobertaForMaskedLM"), False),
    Family("albert", like_bert("AlbertForMaskedLM", embedding_size=16), False),
    Family("electra", like_bert("ElectraModel", embedding_size=16), False),
    Family(
        "distilbert",
        build(
            "DistilBertModel",
            vocab_size=VOCABULARY,
            dim=16,
            hidden_dim=32,
            n_layers=2,
            n_heads=2,
            max_position_embeddings=32,
            pad_token_id=PAD,
        ),
        False,
    ),
    Family(
        "deberta",
        like_bert("DebertaModel", relative_attention=True, pos_att_type=["c2p", "p2c"]),
        False,
    ),
    Family(
        "deberta-v2",
        like_bert("DebertaV2Model", relative_attention=True, pos_att_type=["c2p", "p2c"]),
        False,
    ),
    Family(
        "xlnet",
        build(
            "XLNetLMHeadModel",
            vocab_size=VOCABULARY,
            d_model=16,
            n_layer=2,
            n_head=2,
            d_inner=32,
            pad_token_id=PAD,
        ),
        False,
    ),
    Family("mpnet", like_bert("MPNetModel"), False),
    Family("fnet", like_bert("FNetModel"), False),
    Family("longformer", like_bert("LongformerModel", attention_window=4), False),
    Family("bigbird", like_bert("BigBirdModel"), False),
    Family(
        "funnel",
        build(
            "FunnelModel",
            vocab_size=VOCABULARY,
            block_sizes=[1, 1],
            d_model=16,
            n_head=2,
            d_head=8,
            d_inner=32,
            num_decoder_layers=1,
        ),
        False,
    ),
    Family(
        "convbert",
        like_bert("ConvBertModel", embedding_size=16, conv_kernel_size=3, head_ratio=1),
        False,
    ),
    Family(
        "squeezebert",
        like_bert(
            "SqueezeBertModel",
            embedding_size=16,
            q_groups=2,
            k_groups=2,
            v_groups=2,
            post_attention_groups=1,
            intermediate_groups=2,
            output_groups=2,
        ),
        False,
    ),
    Family(
        "nystromformer",
        like_bert("NystromformerModel", num_landmarks=4, segment_means_seq_len=8),
        False,
    ),
    Family(
        "modernbert",
        like_bert(
            "ModernBertModel",
            local_attention=4,
            cls_token_id=START,
            sep_token_id=END,
            bos_token_id=START,
            eos_token_id=END,
        ),
        False,
    ),
    Family("roformer", like_bert("RoFormerModel"), False),
    Family(
        "xlm",
        build(
            "XLMWithLMHeadModel",
            vocab_size=VOCABULARY,
            n_words=VOCABULARY,
            emb_dim=16,
            n_layers=2,
            n_heads=2,
            max_position_embeddings=32,
            pad_index=PAD,
        ),
        False,
    ),
]

FSMT = {
    "langs": ["en", "de"],
    "src_vocab_size": VOCABULARY,
    "tgt_vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 32,
}
DELTA = {
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
OTHERS = [
    Family(
        "fsmt-decoder",
        build("FSMTForConditionalGeneration", wrap=decoder_without_cache, **FSMT),
        True,
    ),
    Family(
        "fsmt-decoder-with-cache",
        # The default! With a cache FSMT makes no causal mask, whatever the number of ids that come.
        build("FSMTForConditionalGeneration", wrap=decoder, **FSMT),
        False,
    ),
    Family(
        "pegasus-x-decoder",
        like_bart(
            "PegasusXForConditionalGeneration", wrap=decoder, block_size=4, num_global_tokens=2
        ),
        True,
    ),
    Family(
        "granite-moe-hybrid",
        like_llama(
            "GraniteMoeHybridForCausalLM",
            num_local_experts=4,
            num_experts_per_tok=2,
            shared_intermediate_size=16,
            layer_types=["mamba", "attention"],
            mamba_n_heads=4,
            mamba_d_head=8,
            mamba_d_state=4,
            mamba_chunk_size=3,
            mamba_n_groups=1,
        ),
        True,
    ),
    Family(
        "nemotron-h",
        like_llama(
            "NemotronHForCausalLM",
            hybrid_override_pattern="M*",
            mamba_num_heads=4,
            mamba_head_dim=8,
            ssm_state_size=4,
            n_groups=1,
            chunk_size=3,
            head_dim=8,
        ),
        True,
    ),
    Family("phimoe", like_llama("PhimoeForCausalLM", num_local_experts=4), True),
    Family(
        "minimax-m2",
        like_llama("MiniMaxM2ForCausalLM", head_dim=8, num_local_experts=4, num_experts_per_tok=2),
        True,
    ),
    Family("qwen3.5", like_llama("Qwen3_5ForCausalLM", **DELTA), True),
    Family("bitnet", like_llama("BitNetForCausalLM"), True),
    Family("persimmon", like_llama("PersimmonForCausalLM"), True),
    Family(
        "bark-semantic",
        build(
            "BarkSemanticModel",
            input_vocab_size=VOCABULARY,
            output_vocab_size=VOCABULARY,
            hidden_size=16,
            num_layers=2,
            num_heads=2,
            block_size=32,
        ),
        True,
    ),
    # On short inputs its first call rebuilds its attention with new weights: not one function.
    Family("bigbird-train", like_bert("BigBirdModel"), None, options={"train": True}),
    Family(
        "qwen3-next-vectors",
        like_llama(
            "Qwen3NextForCausalLM",
            wrap=FromVectors,
            **EXPERTS,
            **DELTA,
            shared_expert_intermediate_size=16,
        ),
        True,
        special_ids=(),
        inputs=vectors,
    ),
    Family(
        "rwkv-vectors",
        build(
            "RwkvForCausalLM",
            wrap=FromVectors,
            vocab_size=VOCABULARY,
            hidden_size=16,
            attention_hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            context_length=32,
        ),
        True,
        special_ids=(),
        inputs=vectors,
    ),
    Family(
        "t5-switch",
        build(
            "SwitchTransformersForConditionalGeneration",
            wrap=decoder,
            **T5,
            num_experts=2,
            expert_capacity=1,
            num_sparse_encoder_layers=1,
            num_sparse_decoder_layers=1,
            num_decoder_layers=2,
        ),
        True,
    ),
    Family(
        "nllb-moe-roomy",
        like_bart(
            "NllbMoeForConditionalGeneration",
            wrap=decoder,
            num_experts=2,
            encoder_sparse_step=1,
            decoder_sparse_step=1,
            moe_eval_capacity_token_fraction=1.0,
        ),
        True,
    ),
    Family(
        "nllb-moe-crowded",
        # By design: a second choice finds room only after *all* first choices, later ones too,
        # and the places are counted over the whole batch.
        like_bart(
            "NllbMoeForConditionalGeneration",
            wrap=decoder,
            num_experts=2,
            encoder_sparse_step=1,
            decoder_sparse_step=1,
            moe_eval_capacity_token_fraction=0.25,
        ),
        False,
    ),
    Family(
        "reformer",
        build("ReformerModel", **REFORMER, attn_layers=["local", "lsh"], is_decoder=False),
        False,
    ),
    Family(
        "reformer-local-decoder",
        build(
            "ReformerModelWithLMHead", **REFORMER, attn_layers=["local", "local"], is_decoder=True
        ),
        True,
    ),
    Family(
        "reformer-lsh-one-chunk",
        # No longer than a chunk: ordinary attention, whatever the buckets.
        build(
            "ReformerModelWithLMHead",
            **(REFORMER | {"lsh_attn_chunk_length": 16}),
            attn_layers=["local", "lsh"],
            is_decoder=True,
        ),
        True,
    ),
    Family(
        "reformer-lsh-decoder",
        # By design: positions are sorted into buckets and the sorted row is cut into chunks, so
        # that later positions decide which earlier ones share a chunk.
        build(
            "ReformerModelWithLMHead",
            **(REFORMER | {"lsh_attn_chunk_length": 2}),
            attn_layers=["lsh", "lsh"],
            is_decoder=True,
        ),
        False,
    ),
    Family(
        "xlnet-uni",
        build(
            "XLNetLMHeadModel",
            vocab_size=VOCABULARY,
            d_model=16,
            n_layer=2,
            n_head=2,
            d_inner=32,
            attn_type="uni",
            pad_token_id=PAD,
        ),
        True,
    ),
    Family(
        "xlm-causal",
        build(
            "XLMWithLMHeadModel",
            vocab_size=VOCABULARY,
            n_words=VOCABULARY,
            emb_dim=16,
            n_layers=2,
            n_heads=2,
            max_position_embeddings=32,
            pad_index=PAD,
            causal=True,
        ),
        True,
    ),
    Family(
        "perceiver",
        build(
            "PerceiverForMaskedLM",
            num_latents=4,
            d_latents=16,
            d_model=16,
            num_blocks=1,
            num_self_attends_per_block=1,
            num_self_attention_heads=2,
            num_cross_attention_heads=2,
            vocab_size=VOCABULARY,
            max_position_embeddings=8,
            qk_channels=16,
            v_channels=16,
        ),
        False,
    ),
    Family(
        "canine",
        like_bert(
            "CanineModel",
            downsampling_rate=4,
            local_transformer_stride=4,
            num_hash_buckets=32,
            num_hash_functions=2,
        ),
        False,
    ),
    Family(
        "imagegpt",
        build("ImageGPTForCausalImageModeling", **(GPT2 | {"vocab_size": VOCABULARY + 1})),
        True,
    ),
    Family(
        "led-decoder",
        like_bart(
            "LEDForConditionalGeneration",
            wrap=decoder,
            attention_window=4,
            max_encoder_position_embeddings=32,
            max_decoder_position_embeddings=32,
        ),
        True,
    ),
    Family(
        "bigbird-pegasus-decoder",
        like_bart("BigBirdPegasusForConditionalGeneration", wrap=decoder),
        True,
    ),
    Family("umt5-decoder", build("UMT5ForConditionalGeneration", wrap=decoder, **T5), True),
    Family(
        "longt5-decoder",
        build("LongT5ForConditionalGeneration", wrap=decoder, **T5, local_radius=3),
        True,
    ),
    Family("longt5-encoder-local", build("LongT5EncoderModel", **T5, local_radius=3), False),
    Family(
        "speech2text-decoder",
        like_bart(
            "Speech2TextForConditionalGeneration",
            wrap=listener,
            input_feat_per_channel=8,
            conv_channels=16,
            max_source_positions=32,
            max_target_positions=32,
        ),
        True,
    ),
    Family(
        "doge-untrained",
        # Its scores are all 1 until training moves them; which of many equal ones `topk` keeps
        # depends on how many there are, not on what they are.
        like_llama("DogeForCausalLM", keep_window_size=3),
        True,
        length_dependent=True,
    ),
    Family("doge", like_llama("DogeForCausalLM", keep_window_size=3, wrap=trained_doge), True),
    Family(
        "jetmoe",
        like_llama(
            "JetMoeForCausalLM",
            num_key_value_heads=2,
            kv_channels=8,
            num_local_experts=4,
            num_experts_per_tok=1,
        ),
        True,
    ),
    Family(
        "falcon-h1",
        like_llama(
            "FalconH1ForCausalLM",
            mamba_d_ssm=32,
            mamba_n_heads=4,
            mamba_d_head=8,
            mamba_d_state=4,
            mamba_n_groups=1,
            mamba_chunk_size=3,
        ),
        True,
    ),
    Family(
        "zamba2",
        like_llama(
            "Zamba2ForCausalLM",
            num_key_value_heads=2,
            mamba_d_state=4,
            n_mamba_heads=4,
            mamba_headdim=8,
            mamba_ngroups=1,
            chunk_size=3,
            layers_block_type=["mamba", "hybrid"],
            use_mem_eff_path=False,
        ),
        True,
    ),
    Family(
        "kimi-linear",
        like_llama(
            "KimiLinearForCausalLM",
            layer_types=["linear_attention", "full_attention"],
            mlp_layer_types=["dense", "sparse"],
            linear_head_dim=8,
            linear_num_heads=2,
            num_local_experts=4,
            **(DEEPSEEK | {"q_lora_rank": None}),
        ),
        True,
    ),
    Family(
        "deepseek-v32-sparse",
        # Many heads, so that no two scores are the same 0: see doge-untrained.
        like_llama(
            "DeepseekV32ForCausalLM", **DEEPSEEK, index_topk=2, index_head_dim=8, index_n_heads=16
        ),
        True,
    ),
    Family("deepseek-v4", like_llama("DeepseekV4ForCausalLM"), True),
    Family("hrm-text", like_llama("HrmTextForCausalLM"), True),
    Family("nanochat", like_llama("NanoChatForCausalLM"), True),
    Family(
        "exaone4",
        like_llama("Exaone4ForCausalLM", sliding_window=3, sliding_window_pattern=2),
        True,
    ),
    Family(
        "olmo3",
        like_llama(
            "Olmo3ForCausalLM",
            sliding_window=3,
            layer_types=["sliding_attention", "full_attention"],
        ),
        True,
    ),
    Family("gpt2-train", build("GPT2LMHeadModel", **GPT2), True, options={"train": True}),
    Family(
        "llama-train-dropout",
        like_llama("LlamaForCausalLM", attention_dropout=0.3),
        True,
        options={"train": True},
    ),
    Family(
        "opt-train-layerdrop",
        build(
            "OPTForCausalLM",
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            ffn_dim=32,
            num_attention_heads=2,
            max_position_embeddings=32,
            word_embed_proj_dim=16,
            layerdrop=0.5,
            pad_token_id=PAD,
            eos_token_id=END,
        ),
        True,
        options={"train": True},
    ),
    Family("bert-train", like_bert("BertModel"), False, options={"train": True}),
    Family(
        "mixtral-train-jitter",
        like_llama("MixtralForCausalLM", num_local_experts=4, router_jitter_noise=0.1),
        True,
        options={"train": True},
    ),
    Family(
        "t5-switch-train",
        # What is dropped inside an expert is drawn in the order in which tokens reach it. Another
        # future moves the draws of the past about, but they stay fair: that is not to be decided.
        build(
            "SwitchTransformersForConditionalGeneration",
            wrap=decoder,
            **T5,
            num_experts=2,
            expert_capacity=1,
            num_sparse_encoder_layers=1,
            num_sparse_decoder_layers=1,
            num_decoder_layers=2,
        ),
        None,
        options={"train": True},
    ),
    Family("gpt2-bfloat16", build("GPT2LMHeadModel", wrap=half, **GPT2), True),
    Family("llama-bfloat16", like_llama("LlamaForCausalLM", wrap=half), True),
    Family(
        "mixtral-bfloat16", like_llama("MixtralForCausalLM", num_local_experts=4, wrap=half), True
    ),
    Family("mamba-bfloat16", build("MambaForCausalLM", wrap=half, **MAMBA), True),
    Family(
        "jamba-bfloat16",
        like_llama(
            "JambaForCausalLM",
            wrap=half,
            mamba_d_state=4,
            mamba_dt_rank=4,
            num_experts=2,
            attn_layer_period=2,
            attn_layer_offset=1,
            expert_layer_period=2,
            expert_layer_offset=1,
            use_mamba_kernels=False,
        ),
        True,
    ),
    Family(
        "deepseek-v3-bfloat16", like_llama("DeepseekV3ForCausalLM", wrap=half, **DEEPSEEK), True
    ),
    Family(
        "t5-decoder-bfloat16", build("T5ForConditionalGeneration", wrap=half_decoder, **T5), True
    ),
    Family("bert-bfloat16", like_bert("BertModel", wrap=half), False),
    Family(
        "gpt2-vectors",
        build("GPT2LMHeadModel", wrap=FromVectors, **GPT2),
        True,
        special_ids=(),
        inputs=vectors,
    ),
    Family(
        "llama-vectors",
        like_llama("LlamaForCausalLM", wrap=FromVectors),
        True,
        special_ids=(),
        inputs=vectors,
    ),
    Family(
        "mixtral-vectors",
        like_llama("MixtralForCausalLM", num_local_experts=4, wrap=FromVectors),
        True,
        special_ids=(),
        inputs=vectors,
    ),
    Family(
        "bloom-vectors",
        build(
            "BloomForCausalLM",
            wrap=FromVectors,
            vocab_size=VOCABULARY,
            hidden_size=16,
            n_layer=2,
            n_head=2,
        ),
        True,
        special_ids=(),
        inputs=vectors,
    ),
    Family(
        "mamba-vectors",
        build("MambaForCausalLM", wrap=FromVectors, **MAMBA),
        True,
        special_ids=(),
        inputs=vectors,
    ),
    Family(
        "bert-vectors",
        like_bert("BertForMaskedLM", wrap=FromVectors),
        False,
        special_ids=(),
        inputs=vectors,
    ),
    Family(
        "wav2vec2-encoder",
        build(
            "Wav2Vec2Model",
            wrap=InnerEncoder,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            conv_dim=[8],
            conv_stride=[2],
            conv_kernel=[2],
        ),
        False,
        special_ids=(),
        inputs=vectors,
    ),
    Family("clip-text", like_llama("CLIPTextModel"), True),
    Family("siglip-text", like_llama("SiglipTextModel"), False),
]
MORE_ENCODERS = [
    Family("camembert", like_bert("CamembertModel"), False),
    Family("rembert", like_bert("RemBertModel", input_embedding_size=16), False),
    Family("ernie", like_bert("ErnieModel"), False),
    Family("ibert", like_bert("IBertModel"), False),
    Family(
        "mobilebert",
        like_bert(
            "MobileBertModel", embedding_size=16, intra_bottleneck_size=16, true_hidden_size=16
        ),
        False,
    ),
    Family("esm", like_bert("EsmModel", mask_token_id=3), False),
    Family("yoso", like_bert("YosoModel"), False),
    Family(
        "flaubert",
        build(
            "FlaubertModel",
            vocab_size=VOCABULARY,
            n_words=VOCABULARY,
            emb_dim=16,
            n_layers=2,
            n_heads=2,
            max_position_embeddings=32,
            pad_index=PAD,
        ),
        False,
    ),
    Family("layoutlm", like_bert("LayoutLMModel"), False),
    Family("nomic-bert", like_bert("NomicBertModel"), False),
    Family("eurobert", like_llama("EuroBertModel"), False),
    Family("splinter", like_bert("SplinterModel"), False),
]
FAMILIES = [*DECODERS, *RECURRENT, *BERT_DECODERS, *PAIRS, *ENCODERS, *OTHERS, *MORE_ENCODERS]
