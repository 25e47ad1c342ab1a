//! A tiny real cross-encoder for tests: the tiny BERT with a head that gives one number.

use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{HIDDEN, write_json, write_tiny_bert};

/// Writes a complete folder into `dir`, which must exist. Its scores are exact and mean nothing.
pub fn write_tiny_cross_encoder(dir: &Path) -> std::io::Result<()> {
    write_tiny_bert(dir)?;
    std::fs::remove_file(dir.join("modules.json"))?;
    std::fs::remove_dir_all(dir.join("1_Pooling"))?;
    let config = dir.join("config.json");
    let mut fields: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    fields["architectures"] = serde_json::json!(["BertForSequenceClassification"]);
    fields["id2label"] = serde_json::json!({ "0": "LABEL_0" });
    write_json(&config, &fields)?;

    let weights = dir.join("model.safetensors");
    let bytes = std::fs::read(&weights)?;
    let encoder = SafeTensors::deserialize(&bytes).map_err(std::io::Error::other)?;
    let head = [
        ("bert.pooler.dense.weight", vec![HIDDEN, HIDDEN]),
        ("bert.pooler.dense.bias", vec![HIDDEN]),
        ("classifier.weight", vec![1, HIDDEN]),
        ("classifier.bias", vec![1]),
    ];
    let head = head.map(|(name, shape)| {
        let num_values: usize = shape.iter().product();
        let values = (0..num_values).map(|i| (0.37 * i as f32).sin());
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        (name.to_owned(), shape, bytes)
    });
    let encoder = encoder.tensors().into_iter().map(|(name, tensor)| {
        let name = format!("bert.{name}");
        (name, tensor.shape().to_vec(), tensor.data().to_vec())
    });
    let all: Vec<_> = encoder.chain(head).collect();
    let views = all.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
            .expect("the bytes were made for the shape");
        (name.as_str(), view)
    });
    let bytes = safetensors::serialize(views, None).map_err(std::io::Error::other)?;
    std::fs::write(weights, bytes)
}
