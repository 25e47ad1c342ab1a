//! Valid files come out as they went in; no bytes whatever bring the reader down.

use std::fs;
use std::path::Path;

use candle_core::quantized::{GgmlDType, gguf_file};
use proptest::prelude::*;

use super::builder::GgufBuilder;
use super::*;
use crate::test_data;

fn problem(bytes: &[u8]) -> Problem {
    header::parse(bytes).err().expect("the file is refused")
}

fn small() -> GgufBuilder {
    GgufBuilder::new()
        .string("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .bool("tokenizer.ggml.add_bos_token", true)
        .strings("tokenizer.ggml.tokens", &["<unk>", "a", "b"])
        .f32s("tokenizer.ggml.scores", &[0.0, -1.0, -2.5])
        .i32s("tokenizer.ggml.token_type", &[2, 1, 1])
        .tensor("weight", &[2, 3], 0, &[1; 24])
        .tensor("quantized", &[32, 2], 8, &[2; 68])
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "gguf")
    });
    files.sort();
    files
}

#[test]
fn metadata_and_tensors_come_out_as_they_were_written() {
    let gguf = small().open();
    let metadata = gguf.metadata();
    assert_eq!(metadata.string("general.architecture"), Some("llama"));
    assert_eq!(metadata.u64("llama.block_count"), Some(2));
    assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token"), Some(true));
    assert_eq!(
        metadata.strings("tokenizer.ggml.tokens").unwrap(),
        ["<unk>", "a", "b"]
    );
    assert_eq!(
        metadata.f32s("tokenizer.ggml.scores").unwrap(),
        [0.0, -1.0, -2.5]
    );
    assert_eq!(
        metadata.i64s("tokenizer.ggml.token_type").unwrap(),
        [2, 1, 1]
    );
    assert_eq!(metadata.u64("general.architecture"), None);

    let weight = gguf.tensor("weight").unwrap();
    assert_eq!(
        (weight.shape.as_slice(), weight.dtype),
        ([3, 2].as_slice(), GgmlDType::F32)
    );
    assert_eq!(gguf.tensor_bytes(weight), [1; 24]);
    assert_eq!(
        gguf.tensor_bytes(gguf.tensor("quantized").unwrap()),
        [2; 68]
    );
    assert_eq!(gguf.tensors().count(), 2);
    assert!(gguf.tensor("absent").is_none());
}

#[test]
fn version_2_is_read_like_version_3() {
    let mut builder = small();
    builder.version = 2;
    assert_eq!(builder.open().metadata(), small().open().metadata());
}

#[test]
fn other_versions_and_big_endian_files_are_refused_as_what_they_are() {
    let mut builder = small();
    builder.version = 1;
    assert_eq!(problem(&builder.bytes()), Problem::Version(1));
    builder.version = 3u32.swap_bytes();
    assert_eq!(problem(&builder.bytes()), Problem::BigEndian);
}

#[test]
fn a_type_that_cannot_be_computed_with_is_refused_by_name() {
    for (number, name) in [
        (16, "IQ2_XXS"),
        (39, "MXFP4"),
        (250, "the unknown type number 250"),
    ] {
        let bytes = GgufBuilder::new()
            .tensor("blk.0.ffn_up.weight", &[256], number, &[0; 256])
            .bytes();
        let message = problem(&bytes).to_string();
        assert!(
            message.contains(name) && message.contains("blk.0.ffn_up.weight"),
            "{message}"
        );
    }
}

#[test]
fn impossible_tensors_are_refused() {
    let tensor =
        |dims: &[u64], offset| problem(&GgufBuilder::new().tensor_at("t", dims, 8, offset).bytes());
    let name = || "t".to_string();
    assert_eq!(
        tensor(&[33], 0),
        Problem::RowLength {
            tensor: name(),
            row: 33,
            block: 32
        }
    );
    assert_eq!(
        tensor(&[32, 0], 0),
        Problem::EmptyDimension { tensor: name() }
    );
    assert_eq!(
        tensor(&[1 << 40, 1 << 40], 0),
        Problem::TooLarge { tensor: name() }
    );
    assert_eq!(
        tensor(&[32, 1, 1, 1, 1], 0),
        Problem::Rank {
            tensor: name(),
            found: 5
        }
    );
    assert_eq!(
        tensor(&[32], 8),
        Problem::Misaligned {
            tensor: name(),
            offset: 8,
            alignment: 32
        }
    );
    let outside = |offset| Problem::OutsideFile {
        tensor: name(),
        offset,
        size: 34,
        available: 0,
    };
    assert_eq!(tensor(&[32], 0), outside(0));
    assert_eq!(tensor(&[32], u64::MAX - 31), outside(u64::MAX - 31));
}

#[test]
fn the_alignment_must_be_a_sane_power_of_two() {
    for wrong in [0, 1, 4, 48, 1 << 31] {
        let bytes = GgufBuilder::new().u32("general.alignment", wrong).bytes();
        assert!(
            matches!(problem(&bytes), Problem::Alignment { .. }),
            "{wrong}"
        );
    }
    let bytes = GgufBuilder::new().string("general.alignment", "32").bytes();
    assert!(matches!(problem(&bytes), Problem::Alignment { .. }));
    GgufBuilder::new().u32("general.alignment", 64).open();
}

#[test]
fn arrays_nested_deeper_than_the_limit_are_refused() {
    let nested = |depth: usize| {
        let mut value = Vec::new();
        for _ in 1..depth {
            value.extend(9u32.to_le_bytes());
            value.extend(1u64.to_le_bytes());
        }
        value.extend(0u32.to_le_bytes());
        value.extend(0u64.to_le_bytes());
        GgufBuilder::new().raw("k", 9, &value)
    };
    nested(4).open();
    assert_eq!(
        problem(&nested(5).bytes()),
        Problem::Nesting {
            key: "k".into(),
            limit: 4
        }
    );
}

#[test]
fn the_hostile_files_are_refused_for_what_is_wrong_with_them() {
    let Some(folder) = test_data::require("fuzz/gguf") else {
        return;
    };
    for path in files_in(&folder) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let result = GgufFile::open(&path);
        if let Ok(gguf) = &result {
            let total: usize = gguf
                .tensors()
                .map(|tensor| gguf.tensor_bytes(tensor).len())
                .sum();
            assert!(total as u64 <= fs::metadata(&path).unwrap().len());
            // These are valid containers of senseless values; some mutations hit only harmless bytes.
            assert!(
                name.starts_with("sem_") || name.starts_with("mut_"),
                "{name} was accepted"
            );
            continue;
        }
        let Err(GgufError::Invalid { problem, .. }) = result else {
            panic!("{name} could not be read")
        };
        let expected = match name.as_str() {
            "alignment_huge" | "alignment_zero" => matches!(problem, Problem::Alignment { .. }),
            "array_nested_deep" => matches!(problem, Problem::Nesting { .. }),
            "bad_magic" | "empty" => matches!(problem, Problem::Magic { .. }),
            "ggml_type_bad" => matches!(problem, Problem::TensorType { .. }),
            "invalid_utf8_key" => matches!(problem, Problem::NotUtf8 { .. }),
            "ndims_huge" => matches!(problem, Problem::Rank { .. } | Problem::TooMany { .. }),
            "nkv_huge" | "str_len_huge" => matches!(problem, Problem::TooMany { .. }),
            "offset_past_eof" | "trunc_1185375" => matches!(problem, Problem::OutsideFile { .. }),
            "two_same_tensors" => matches!(problem, Problem::DuplicateTensor { .. }),
            "version_99" => problem == Problem::Version(99),
            _ => name.starts_with("trunc_") || name.starts_with("mut_"),
        };
        assert!(expected, "{name}: {problem}");
    }
}

#[test]
fn a_real_file_with_a_type_that_cannot_be_computed_with_is_refused_by_name() {
    let Some(path) = test_data::require("lm/quant_goldens.gguf") else {
        return;
    };
    let message = GgufFile::open(&path).unwrap_err().to_string();
    assert!(
        message.contains("\"t.IQ4_NL\" is stored as IQ4_NL"),
        "{message}"
    );
}

/// candle's own reader is the independent witness.
#[test]
fn real_files_read_as_another_reader_reads_them() {
    let (Some(tokenizers), Some(models)) =
        (test_data::require("tokenizers"), test_data::require("lm"))
    else {
        return;
    };
    for path in files_in(&tokenizers).into_iter().chain(files_in(&models)) {
        if path.ends_with("quant_goldens.gguf") {
            continue;
        }
        let gguf = GgufFile::open(&path).unwrap();
        let mut file = fs::File::open(&path).unwrap();
        let theirs = gguf_file::Content::read(&mut file).unwrap();
        assert_eq!(
            gguf.metadata().iter().count(),
            theirs.metadata.len(),
            "{path:?}"
        );
        if let Some(tokens) = theirs.metadata.get("tokenizer.ggml.tokens") {
            let tokens = tokens
                .to_vec()
                .unwrap()
                .iter()
                .map(|token| token.to_string().unwrap().clone());
            // candle strips trailing NUL characters, which some vocabularies have on purpose.
            let ours = gguf
                .metadata()
                .strings("tokenizer.ggml.tokens")
                .unwrap()
                .iter();
            assert!(
                ours.map(|token| token.trim_end_matches('\0')).eq(tokens),
                "{path:?}"
            );
        }
        assert_eq!(
            gguf.tensors().count(),
            theirs.tensor_infos.len(),
            "{path:?}"
        );
        for tensor in gguf.tensors() {
            let their_info = &theirs.tensor_infos[&tensor.name];
            assert_eq!(tensor.shape, their_info.shape.dims());
            assert_eq!(tensor.dtype, their_info.ggml_dtype);
            let their_tensor = theirs
                .tensor(&mut file, &tensor.name, &candle_core::Device::Cpu)
                .unwrap();
            assert_eq!(
                gguf.tensor_bytes(tensor),
                &*their_tensor.data().unwrap(),
                "{}",
                tensor.name
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_and_cut_bytes_never_bring_the_reader_down(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in 0.3f64..2.0,
    ) {
        let mut bytes = small().bytes();
        for (index, byte) in changes {
            let position = index.index(bytes.len());
            bytes[position] = byte;
        }
        bytes.truncate((bytes.len() as f64 * keep) as usize);
        if let Ok(header) = header::parse(&bytes) {
            for tensor in header.tensors {
                prop_assert!(tensor.range.end <= bytes.len());
            }
        }
    }
}
