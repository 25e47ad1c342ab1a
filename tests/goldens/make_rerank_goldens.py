"""Scores of two tiny cross-encoders with seeded weights, as transformers computes them, for src/embedding/tests.

    python tests/goldens/make_rerank_goldens.py     # writes rerank_goldens.json beside itself

Both models are made here and by the test from the same closed form, so that no weights need to be stored: element i
of a tensor is scale * sin(0.37 * i + phase), where phase is the sum of the bytes of its name modulo 1000.
"""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

VOCABULARY = 200
SHAPE = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    num_labels=1,
)


def fill(model):
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            phase = float(sum(name.encode()) % 1000)
            index = np.arange(tensor.numel(), dtype=np.float64)
            values = np.sin(0.37 * index + phase)
            if name.endswith("LayerNorm.weight"):
                values = 1.0 + 0.1 * values
            elif "embeddings" in name and name.endswith("weight"):
                values = 0.5 * values
            else:
                values = 0.2 * values
            tensor.copy_(torch.tensor(values, dtype=torch.float32).reshape(tensor.shape))
    return model.eval()


def score(model, ids, types):
    with torch.no_grad():
        arguments = {"input_ids": torch.tensor([ids])}
        if types is not None:
            arguments["token_type_ids"] = torch.tensor([types])
        return model(**arguments).logits[0, 0].item()


def pairs(special, between):
    """Queries and documents of several lengths, ids without special tokens."""
    made = []
    for number, (num_query, num_document) in enumerate([(1, 1), (3, 9), (7, 2), (5, 50)]):
        query = [10 + (number * 17 + i * 7) % 180 for i in range(num_query)]
        document = [10 + (number * 29 + i * 11) % 180 for i in range(num_document)]
        first = [special[0], *query, special[1]]
        second = [special[1]] * between + document + [special[1]]
        made.append((first + second, [0] * len(first) + [1] * len(second), len(first)))
    return made


def main():
    bert = fill(BertForSequenceClassification(BertConfig(**SHAPE, max_position_embeddings=64, type_vocab_size=2)))
    roberta = fill(
        XLMRobertaForSequenceClassification(
            XLMRobertaConfig(**SHAPE, max_position_embeddings=66, type_vocab_size=1, pad_token_id=1)
        )
    )
    goldens = {
        "bert": {
            "config": bert.config.to_dict(),
            "pairs": [
                {"ids": ids, "num_first": num_first, "logit": score(bert, ids, types)}
                for ids, types, num_first in pairs((2, 3), 0)
            ],
        },
        "xlm_roberta": {
            "config": roberta.config.to_dict(),
            "pairs": [
                {"ids": ids, "num_first": num_first, "logit": score(roberta, ids, None)}
                for ids, _, num_first in pairs((0, 2), 1)
            ],
        },
    }
    for golden in goldens.values():
        golden["config"]["architectures"] = [
            "BertForSequenceClassification"
            if golden["config"]["model_type"] == "bert"
            else "XLMRobertaForSequenceClassification"
        ]
        golden["tensors"] = None
    for name, model in (("bert", bert), ("xlm_roberta", roberta)):
        goldens[name]["tensors"] = {
            key: list(tensor.shape) for key, tensor in model.state_dict().items() if tensor.is_floating_point()
        }
        keep = ["model_type", "architectures", "vocab_size", "hidden_size", "num_hidden_layers"]
        keep += ["num_attention_heads", "intermediate_size", "max_position_embeddings", "type_vocab_size"]
        keep += ["hidden_act", "layer_norm_eps", "pad_token_id", "id2label"]
        goldens[name]["config"] = {key: goldens[name]["config"][key] for key in keep}
    path = Path(__file__).with_name("rerank_goldens.json")
    path.write_text(json.dumps(goldens, indent=1) + "\n")


if __name__ == "__main__":
    main()
