//! The models of tests/goldens/make_llm_goldens.py, by its names.

use super::*;
use crate::llm::RopeScaling;

pub fn models() -> [(&'static str, TinyModel); 15] {
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context_length: 256.0,
    };
    [
        (
            "llama",
            TinyModel {
                num_kv_heads: 4,
                ..TinyModel::llama()
            },
        ),
        (
            "llama-tied-llama3-rope",
            TinyModel {
                is_tied: true,
                rope_base: 500_000.0,
                rope_scaling: llama3,
                ..TinyModel::llama()
            },
        ),
        (
            "llama-linear-rope",
            TinyModel {
                rope_scaling: RopeScaling::Linear { factor: 4.0 },
                ..TinyModel::llama()
            },
        ),
        ("qwen2", TinyModel::qwen2()),
        (
            "qwen2-tied",
            TinyModel {
                is_tied: true,
                rope_base: 1_000_000.0,
                seed: 2,
                ..TinyModel::qwen2()
            },
        ),
        ("qwen3", TinyModel::qwen3()),
        (
            "qwen3-tied",
            TinyModel {
                is_tied: true,
                rope_base: 1_000_000.0,
                seed: 3,
                ..TinyModel::qwen3()
            },
        ),
        ("mistral", TinyModel::mistral()),
        (
            "mistral-yarn",
            TinyModel {
                rope_scaling: RopeScaling::Yarn {
                    factor: 4.0,
                    original_context_length: 1024.0,
                    fast_turns: 32.0,
                    slow_turns: 1.0,
                },
                seed: 4,
                ..TinyModel::llama()
            },
        ),
        ("gemma3", TinyModel::gemma3()),
        ("phi3", TinyModel::phi3()),
        ("phi3-longrope", TinyModel::phi3_long_rope()),
        ("smollm3", TinyModel::smollm3()),
        ("granite", TinyModel::granite()),
        ("qwen3moe", TinyModel::qwen3moe()),
    ]
}
