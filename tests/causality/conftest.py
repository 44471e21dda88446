"""What several tests of the checker ask for."""

import warnings

import pytest


@pytest.fixture(scope="session")
def hugging_face():
    """Build a small model of Hugging Face's by the name of its class, vocabulary 20."""
    pytest.importorskip("transformers", reason="the families come from it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        from tests.causality.zoo import families

    def build(class_name: str):
        if class_name == "LlamaForCausalLM":
            return families.like_llama(class_name)()
        if class_name == "BertModel":
            return families.like_bert(class_name)()
        sizes = {
            "GPT2LMHeadModel": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
            "MambaForCausalLM": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
        }
        ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        return families.build(class_name, vocab_size=20, **sizes[class_name], **ends)()

    return build
