//! The encoder against the reference, against itself in company, and against candle's own operations.

use std::path::Path;
use std::time::Instant;

use super::super::load::{Loaded, load};
use super::super::{
    Embedder, EmbedderOptions, EmbeddingError, EmbeddingModel, EmbeddingTokenizer, InputKind,
    Pooling, Precision, Priority,
};
use super::{cosine, reference, tiny_bert};
use crate::kernels::matrix::ByteMatrix;
use crate::kernels::parallel;

fn load_folder(dir: &Path) -> Loaded {
    load(dir, EmbedderOptions::default()).expect("the model loads")
}

#[test]
fn minilm_agrees_with_the_reference() {
    let Some(data) = crate::test_data::require("embed") else {
        return;
    };
    let reference = reference(&data);
    let mut minilm = load_folder(&data.join("all-MiniLM-L6-v2"));
    assert_eq!(minilm.spec.dimensions, 384);
    assert_eq!(minilm.spec.max_tokens, 256);
    assert_eq!(minilm.spec.pooling, Pooling::Mean);
    assert!(minilm.spec.normalize);
    // 22.7 million, as the model's card says; its pooler is not used.
    assert_eq!(minilm.spec.num_parameters, 22_713_216 - 384 * 385);
    let mut token_ids = Vec::new();
    for item in &reference.items {
        let mut ids = minilm
            .tokenizer
            .encode(&item.text)
            .expect("text becomes tokens");
        // The reference cut its longest text at 256 tokens, of which [SEP] is the last.
        if ids.len() > 256 {
            ids.truncate(255);
            ids.push(102);
        }
        assert_eq!(ids, item.input_ids, "token ids of {}", item.name);
        token_ids.push(ids);
    }
    let together = minilm.model.embed(&token_ids).expect("the model runs");
    for ((item, ids), in_company) in reference.items.iter().zip(&token_ids).zip(together) {
        let alone = minilm
            .model
            .embed(std::slice::from_ref(ids))
            .expect("the model runs");
        for (vector, how) in [(&alone[0], "alone"), (&in_company, "in a batch")] {
            let similarity = cosine(vector, &item.embedding);
            assert!(similarity > 0.999_99, "{} {how}: {similarity}", item.name);
            let largest = vector
                .iter()
                .zip(&item.embedding)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(largest < 1e-4, "{} {how}: off by {largest}", item.name);
        }
    }
}

#[test]
fn passages_in_eight_bits_are_close_to_the_reference_and_the_same_in_any_company() {
    let Some(data) = crate::test_data::require("embed") else {
        return;
    };
    let options = EmbedderOptions {
        precision: Precision::Int8,
        ..EmbedderOptions::default()
    };
    let minilm = data.join("all-MiniLM-L6-v2");
    let plain = load_folder(&minilm);
    let mut bytes = load(&minilm, options).expect("the model loads");
    // Where the processor has no instructions for it, the model stays as it is.
    let is_used = bytes.spec.memory_bytes > plain.spec.memory_bytes;
    assert_eq!(is_used, ByteMatrix::suits(384, 1536));
    assert_eq!(bytes.spec.model_hash, plain.spec.model_hash);
    let items = reference(&data).items;
    let token_ids: Vec<_> = items.iter().map(|item| item.input_ids.clone()).collect();
    let together = bytes
        .model
        .embed_passages(&token_ids, &|| false)
        .expect("the model runs");
    for ((item, ids), in_company) in items.iter().zip(&token_ids).zip(together) {
        let similarity = cosine(&in_company, &item.embedding);
        // The two special tokens of an empty text have nothing to even their errors out with.
        let least = if ids.len() > 2 { 0.998 } else { 0.996 };
        assert!(similarity > least, "{}: {similarity}", item.name);
        let ids = std::slice::from_ref(ids);
        let alone = bytes
            .model
            .embed_passages(ids, &|| false)
            .expect("the model runs");
        assert_eq!(alone[0], in_company, "{}", item.name);
        // Many are computed one by one, few on all threads together.
        let many = vec![ids[0].clone(); 3 * parallel::num_threads()];
        let one_by_one = bytes.model.embed_passages(&many, &|| false);
        assert!(
            one_by_one
                .expect("the model runs")
                .iter()
                .all(|it| *it == alone[0])
        );
        let stopped = bytes.model.embed_passages(&many, &|| true);
        assert!((1..many.len() + 1).contains(&stopped.expect("the model runs").len()));
        // Only passages are computed so.
        let question = bytes.model.embed(ids).expect("the model runs");
        assert!(
            cosine(&question[0], &item.embedding) > 0.999_99,
            "{}",
            item.name
        );
    }
}

#[test]
fn the_reference_is_of_the_same_weights() {
    use sha2::{Digest, Sha256};
    let Some(data) = crate::test_data::require("embed") else {
        return;
    };
    let weights = std::fs::read(data.join("all-MiniLM-L6-v2/model.safetensors")).unwrap();
    let hash = format!("{:x}", Sha256::digest(weights));
    assert_eq!(hash, reference(&data).model_safetensors_sha256);
}

#[test]
fn a_vector_does_not_depend_on_the_company() {
    let dir = tiny_bert();
    let mut tiny = load_folder(dir.path());
    let texts: Vec<Vec<u32>> = (0..40)
        .map(|i| {
            let words = [
                "heat pump",
                "the black cat",
                "invoice 17",
                "?",
                "garden river",
            ];
            let text = words[i % words.len()].repeat(1 + i * 3 % 29);
            tiny.tokenizer.encode(&text).unwrap()
        })
        .collect();
    let together = tiny.model.embed(&texts).unwrap();
    for (ids, in_company) in texts.iter().zip(&together) {
        let alone = tiny.model.embed(std::slice::from_ref(ids)).unwrap();
        assert!(cosine(&alone[0], in_company) > 0.999_999);
    }
}

#[test]
fn weights_in_half_precision_give_nearly_the_same_vectors() {
    use safetensors::{Dtype, SafeTensors, tensor::TensorView};
    let full = tiny_bert();
    let mut full_model = load_folder(full.path());
    let ids = full_model
        .tokenizer
        .encode("the heat pump and its manual")
        .unwrap();
    let expected = full_model.model.embed(std::slice::from_ref(&ids)).unwrap();
    let bytes = std::fs::read(full.path().join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for dtype in [Dtype::F16, Dtype::BF16] {
        let halved: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .tensors()
            .into_iter()
            .map(|(name, tensor)| {
                let values = tensor
                    .data()
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b));
                let bytes = values
                    .flat_map(|value| match dtype {
                        Dtype::F16 => half::f16::from_f32(value).to_le_bytes(),
                        _ => half::bf16::from_f32(value).to_le_bytes(),
                    })
                    .collect();
                (name, tensor.shape().to_vec(), bytes)
            })
            .collect();
        let views = halved.iter().map(|(name, shape, bytes)| {
            (name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
        });
        let half = tiny_bert();
        let file = safetensors::serialize(views, None).unwrap();
        std::fs::write(half.path().join("model.safetensors"), file).unwrap();
        let vectors = load_folder(half.path())
            .model
            .embed(std::slice::from_ref(&ids))
            .unwrap();
        let similarity = cosine(&vectors[0], &expected[0]);
        assert!(similarity > 0.999, "{dtype:?}: {similarity}");
        assert!(similarity < 1.0, "{dtype:?} was not used");
    }
}

#[test]
fn roberta_is_bert_with_its_first_position_moved() {
    use safetensors::{SafeTensors, tensor::TensorView};
    let bert = tiny_bert();
    let roberta = tiny_bert();
    // The same model, its position table pushed down by two rows that are never used.
    let bytes = std::fs::read(bert.path().join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let moved: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let (mut shape, mut bytes) = (tensor.shape().to_vec(), tensor.data().to_vec());
            if name.contains("position") {
                let unused = 7.0f32.to_le_bytes().repeat(2 * shape[1]);
                bytes.splice(0..0, unused);
                shape[0] += 2;
            }
            (format!("roberta.{name}"), shape, bytes)
        })
        .collect();
    let views = moved.iter().map(|(name, shape, bytes)| {
        (
            name,
            TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let file = safetensors::serialize(views, None).unwrap();
    std::fs::write(roberta.path().join("model.safetensors"), file).unwrap();
    let path = roberta.path().join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["model_type"] = "xlm-roberta".into();
    config["pad_token_id"] = 1.into();
    config["max_position_embeddings"] = 514.into();
    std::fs::write(&path, config.to_string()).unwrap();

    let (mut bert, mut roberta) = (load_folder(bert.path()), load_folder(roberta.path()));
    assert_eq!(roberta.spec.max_tokens, bert.spec.max_tokens);
    let longest: Vec<u32> = (0..512).map(|i| 5 + i % 300).collect();
    for ids in [vec![2, 9, 30, 3], longest] {
        let expected = bert.model.embed(std::slice::from_ref(&ids)).unwrap();
        assert_eq!(
            roberta.model.embed(std::slice::from_ref(&ids)).unwrap(),
            expected
        );
    }
}

#[test]
fn ids_and_lengths_outside_the_model_are_errors() {
    let dir = tiny_bert();
    let mut tiny = load_folder(dir.path());
    assert!(matches!(
        tiny.model.embed(&[vec![2, 1_000_000, 3]]),
        Err(EmbeddingError::UnknownToken { id: 1_000_000, .. })
    ));
    assert!(matches!(
        tiny.model.embed(&[vec![2, 3], vec![5; 513]]),
        Err(EmbeddingError::InputTooLong {
            index: 1,
            num_tokens: 513,
            num_max_tokens: 512
        })
    ));
    assert!(tiny.model.embed(&[vec![]]).is_err());
    assert!(tiny.model.embed(&[]).unwrap().is_empty());
}

#[tokio::test]
async fn similar_texts_have_similar_vectors_in_the_tiny_model() {
    let dir = tiny_bert();
    let embedder = Embedder::load(dir.path(), EmbedderOptions::default()).unwrap();
    let texts = [
        "the pressure of the heat pump",
        "what is the heat pump pressure",
        "a black cat and a white dog",
    ];
    let answer = embedder
        .embed(
            texts.map(String::from).to_vec(),
            InputKind::Raw,
            Priority::Interactive,
        )
        .await
        .unwrap();
    let [a, b, c] = &answer.vectors[..] else {
        panic!("three vectors")
    };
    assert!(cosine(a, b) > cosine(a, c) + 0.2);
    assert_eq!(answer.num_tokens, [8, 8, 9]);
    assert_eq!(embedder.count_tokens(texts[0]), 6);
    assert_eq!(embedder.max_passage_tokens(), 510);
}

/// Run with optimisation: CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --lib measure_throughput -- --ignored --nocapture
#[test]
#[ignore = "a measurement, not a check"]
fn measure_throughput() {
    let data = crate::test_data::require("embed").expect("the test material");
    let mut minilm = load_folder(&data.join("all-MiniLM-L6-v2"));
    let text = |seed: u32| -> Vec<u32> {
        (0..128)
            .map(|i| 1000 + (seed * 131 + i * 7919) % 29_000)
            .collect()
    };
    let texts: Vec<Vec<u32>> = (0..32).map(text).collect();
    for num_texts in [1, 4, 8, 16, 32] {
        // The best single batch: what the machine can do when nobody else uses it.
        let mut best = f64::INFINITY;
        for batch in texts.chunks(num_texts).cycle().take(12.max(64 / num_texts)) {
            let started = Instant::now();
            minilm.model.embed(batch).unwrap();
            best = best.min(started.elapsed().as_secs_f64());
        }
        println!(
            "batches of {num_texts:2} x 128 tokens: {:.0} tokens/s",
            (num_texts * 128) as f64 / best
        );
    }
}
