//! What the tensors of Hugging Face's checkpoints are called in GGUF files, and back.

use crate::llm::hyperparameters::Architecture;

/// GGUF's name of the matrix that gives the logits.
pub(super) const OUTPUT: &str = "output.weight";

/// Names in the folder and in GGUF files.
type Pair = (&'static str, &'static str);

const OUTSIDE_LAYERS: [Pair; 3] = [
    ("lm_head.weight", OUTPUT),
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
];

const EVERY_LAYER: [Pair; 2] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.o_proj", "attn_output"),
];
const ATTENTION: [Pair; 3] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
];
const HEAD_NORMS: [Pair; 2] = [
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
];
const FEED_FORWARD: [Pair; 3] = [
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];
const FUSED: [Pair; 3] = [
    ("self_attn.qkv_proj", "attn_qkv"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];
const ROUTER: [Pair; 1] = [("mlp.gate", "ffn_gate_inp")];
const NORM: [Pair; 1] = [("post_attention_layernorm", "ffn_norm")];
const POST_NORMS: [Pair; 3] = [
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// What a layer of the family has, but for its experts.
fn layer_parts(architecture: &Architecture) -> Vec<Pair> {
    let matrices: [&[Pair]; 2] = match (architecture.has_fused_matrices, architecture.has_experts) {
        (true, _) => [&FUSED, &[]],
        (false, true) => [&ATTENTION, &ROUTER],
        (false, false) => [&ATTENTION, &FEED_FORWARD],
    };
    let norms: [&[Pair]; 2] = [
        if architecture.has_post_norm {
            &POST_NORMS
        } else {
            &NORM
        },
        if architecture.has_head_norm {
            &HEAD_NORMS
        } else {
            &[]
        },
    ];
    [[&EVERY_LAYER as &[Pair], &[]], matrices, norms]
        .concat()
        .concat()
}

/// GGUF's name; `None` for a name that no model of the family has.
pub(super) fn translate(name: &str, architecture: &Architecture) -> Option<String> {
    if let Some((_, known)) = OUTSIDE_LAYERS.iter().find(|(own, _)| *own == name) {
        return Some((*known).to_owned());
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (stem, kind) = part.rsplit_once('.')?;
    if !is_number(layer) || !matches!(kind, "weight" | "bias") {
        return None;
    }
    let stem = match stem.strip_prefix("mlp.experts.") {
        Some(expert) if architecture.has_experts => {
            let (expert, part) = expert.split_once('.').filter(|it| is_number(it.0))?;
            let is_part = |own: &str| own.strip_prefix("mlp.") == Some(part);
            let (_, known) = FEED_FORWARD.iter().find(|(own, _)| is_part(own))?;
            format!("{known}.{expert}")
        }
        _ => {
            let parts = layer_parts(architecture);
            let (_, known) = parts.iter().find(|(own, _)| *own == stem)?;
            (*known).to_owned()
        }
    };
    Some(format!("blk.{layer}.{stem}.{kind}"))
}

/// What a tensor that GGUF files call so is called in the folder.
pub(super) fn original(known: &str, architecture: &Architecture) -> Option<String> {
    if let Some((own, _)) = OUTSIDE_LAYERS.iter().find(|it| it.1 == known) {
        return Some((*own).to_owned());
    }
    let (layer, part) = known.strip_prefix("blk.")?.split_once('.')?;
    let (stem, kind) = part.rsplit_once('.')?;
    let parts = layer_parts(architecture);
    let own = match parts.iter().find(|it| it.1 == stem) {
        Some((own, _)) => (*own).to_owned(),
        None => {
            let (stem, expert) = stem.split_once('.')?;
            let (own, _) = FEED_FORWARD.iter().find(|it| it.1 == stem)?;
            own.replace("mlp.", &format!("mlp.experts.{expert}."))
        }
    };
    Some(format!("model.layers.{layer}.{own}.{kind}"))
}

/// Whether the tensor follows from the configuration, so that it may be left out.
pub(super) fn is_implied(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// Whether it is written as this program writes numbers.
fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|n| n.to_string() == text)
}
