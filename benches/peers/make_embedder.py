"""Writes an embedding model with random weights in the shape of bge-small or bge-base, as safetensors for Inglenook and
transformers and, of bge-small, as ONNX for ONNX Runtime, to measure speed on. Nothing is downloaded.

    pip install torch transformers tokenizers onnx
    python make_embedder.py FOLDER [small|base]
"""

import pathlib
import sys

import tokenizers
import torch
import transformers

TEXTS, TOKENS = 32, 128
# Hidden sizes.
SHAPES = {"small": 384, "base": 768}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class Hidden(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask):
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    shape = sys.argv[2] if len(sys.argv) == 3 else "small"
    if shape not in SHAPES:
        sys.exit(f"unknown shape {shape!r}; known are {', '.join(SHAPES)}")
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    hidden = SHAPES[shape]
    config = transformers.BertConfig(vocab_size=30522, hidden_size=hidden, num_hidden_layers=12, num_attention_heads=12,
                                     intermediate_size=4 * hidden, max_position_embeddings=512)
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

    if shape != "small":
        return
    ids = torch.randint(len(SPECIAL), config.vocab_size, (TEXTS, TOKENS))
    torch.onnx.export(Hidden(model), (ids, torch.ones_like(ids)), folder / "model.onnx", input_names=["ids", "mask"],
                      opset_version=17, dynamo=False)


if __name__ == "__main__":
    main()
