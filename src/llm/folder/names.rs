//! What the tensors of Hugging Face's checkpoints are called in GGUF files.

use crate::llm::hyperparameters::Architecture;

/// GGUF's name of the matrix that gives the logits.
pub(super) const OUTPUT: &str = "output.weight";

/// `None` for a name that no model of the family has.
pub(super) fn translate(name: &str, architecture: &Architecture) -> Option<String> {
    let name = match name {
        "lm_head.weight" => return Some(OUTPUT.into()),
        name => name.strip_prefix("model.")?,
    };
    match name {
        "embed_tokens.weight" => return Some("token_embd.weight".into()),
        "norm.weight" => return Some("output_norm.weight".into()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("layers.")?.split_once('.')?;
    let (stem, kind) = part.rsplit_once('.')?;
    if !is_number(layer) || !matches!(kind, "weight" | "bias") {
        return None;
    }
    let stem = match stem.strip_prefix("mlp.experts.") {
        Some(expert) => {
            let (expert, part) = expert.split_once('.')?;
            let stem = feed_forward(part).filter(|_| is_number(expert))?;
            format!("{stem}.{expert}")
        }
        None => stem_of(stem, architecture)?.to_owned(),
    };
    Some(format!("blk.{layer}.{stem}.{kind}"))
}

/// Whether the tensor follows from the configuration, so that it may be left out.
pub(super) fn is_implied(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

fn stem_of(stem: &str, architecture: &Architecture) -> Option<&'static str> {
    Some(match stem {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "post_attention_layernorm" if architecture.has_post_norm => "post_attention_norm",
        "pre_feedforward_layernorm" if architecture.has_post_norm => "ffn_norm",
        "post_feedforward_layernorm" if architecture.has_post_norm => "post_ffw_norm",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate" if architecture.has_experts => "ffn_gate_inp",
        "mlp.gate_up_proj" if architecture.has_fused_matrices => "ffn_up",
        _ => feed_forward(stem.strip_prefix("mlp.")?)?,
    })
}

fn feed_forward(part: &str) -> Option<&'static str> {
    Some(match part {
        "gate_proj" => "ffn_gate",
        "up_proj" => "ffn_up",
        "down_proj" => "ffn_down",
        _ => return None,
    })
}

/// Whether it is written as this program writes numbers.
fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok_and(|n| n.to_string() == text)
}
