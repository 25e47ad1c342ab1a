"""Writes an embedding model with random weights in the shape of bge-small, as safetensors for Inglenook and as ONNX for
ONNX Runtime, to measure speed on. Nothing is downloaded.

    pip install torch transformers tokenizers onnx
    python make_embedder.py FOLDER
"""

import pathlib
import sys

import tokenizers
import torch
import transformers

TEXTS, TOKENS = 32, 128
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class Hidden(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask):
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=12, num_attention_heads=12,
                                     intermediate_size=1536, max_position_embeddings=512)
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(folder)

    words = SPECIAL + [f"w{i}" for i in range(config.vocab_size - len(SPECIAL))]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))

    ids = torch.randint(len(SPECIAL), config.vocab_size, (TEXTS, TOKENS))
    torch.onnx.export(Hidden(model), (ids, torch.ones_like(ids)), folder / "model.onnx", input_names=["ids", "mask"],
                      opset_version=17, dynamo=False)


if __name__ == "__main__":
    main()
