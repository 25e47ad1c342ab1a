//! Bytes to checked header. Every count is held against the bytes that are left before anything is allocated for it.

use std::collections::HashSet;
use std::ops::Range;

use candle_core::quantized::GgmlDType;

use super::{Array, Metadata, Problem, TensorEntry, Value};

/// The header of the largest vocabularies is near 30 MB. A longer one is refused, which bounds the memory it can cost.
const MAX_HEADER_BYTES: usize = 256 << 20;
/// Real files have no arrays in arrays at all.
const MAX_ARRAY_DEPTH: usize = 4;
const MAX_RANK: u32 = 4;
const DEFAULT_ALIGNMENT: usize = 32;
/// Fewest bytes of a key-value pair: key length, type, a one-byte value.
const MIN_PAIR_BYTES: usize = 8 + 4 + 1;
/// Fewest bytes of a tensor table entry: name length, rank, type, offset.
const MIN_TENSOR_BYTES: usize = 8 + 4 + 4 + 8;

pub(super) struct Header {
    pub metadata: Metadata,
    pub tensors: Vec<TensorEntry>,
}

/// Parses the header of a file with these bytes.
pub(super) fn parse(file: &[u8]) -> Result<Header, Problem> {
    let mut reader = Reader {
        bytes: &file[..file.len().min(MAX_HEADER_BYTES)],
        position: 0,
    };
    let header = parse_within(&mut reader, file.len());
    match header {
        // What looks cut off was cut off by the limit.
        Err(Problem::Truncated { .. } | Problem::TooMany { .. })
            if file.len() > MAX_HEADER_BYTES =>
        {
            Err(Problem::HeaderTooLong {
                limit: MAX_HEADER_BYTES,
            })
        }
        other => other,
    }
}

fn parse_within(reader: &mut Reader, file_len: usize) -> Result<Header, Problem> {
    let magic = &reader.bytes[..reader.bytes.len().min(4)];
    if magic != b"GGUF" {
        return Err(Problem::Magic {
            found: magic.to_vec(),
        });
    }
    reader.position = 4;
    match reader.u32("the version")? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 1..=3) => return Err(Problem::BigEndian),
        version => return Err(Problem::Version(version)),
    }
    let num_tensors = reader.count("the number of tensors", MIN_TENSOR_BYTES)?;
    let num_pairs = reader.count("the number of metadata keys", MIN_PAIR_BYTES)?;

    let metadata = parse_metadata(reader, num_pairs)?;
    let alignment = alignment(&metadata)?;
    let table = parse_tensor_table(reader, num_tensors)?;
    let data_start = reader.position.next_multiple_of(alignment);
    let tensors = table
        .into_iter()
        .map(|tensor| tensor.locate(data_start, file_len, alignment))
        .collect::<Result<_, _>>()?;
    Ok(Header { metadata, tensors })
}

fn parse_metadata(reader: &mut Reader, num_pairs: usize) -> Result<Metadata, Problem> {
    let mut metadata = Metadata::default();
    for _ in 0..num_pairs {
        let key = reader.string(|| "a metadata key".into())?;
        let type_number = reader.u32("a metadata type")?;
        let value = parse_value(reader, &key, type_number)?;
        if metadata.values.insert(key.clone(), value).is_some() {
            return Err(Problem::DuplicateKey { key });
        }
    }
    Ok(metadata)
}

fn parse_value(reader: &mut Reader, key: &str, type_number: u32) -> Result<Value, Problem> {
    const WHAT: &str = "a metadata value";
    Ok(match type_number {
        0 => Value::U8(u8::from_le_bytes(reader.array(WHAT)?)),
        1 => Value::I8(i8::from_le_bytes(reader.array(WHAT)?)),
        2 => Value::U16(u16::from_le_bytes(reader.array(WHAT)?)),
        3 => Value::I16(i16::from_le_bytes(reader.array(WHAT)?)),
        4 => Value::U32(u32::from_le_bytes(reader.array(WHAT)?)),
        5 => Value::I32(i32::from_le_bytes(reader.array(WHAT)?)),
        6 => Value::F32(f32::from_le_bytes(reader.array(WHAT)?)),
        7 => Value::Bool(parse_bool(key, reader.array::<1>(WHAT)?[0])?),
        8 => Value::String(reader.string(|| format!("the value of metadata key {key:?}"))?),
        9 => Value::Array(parse_array(reader, key, 1)?),
        10 => Value::U64(u64::from_le_bytes(reader.array(WHAT)?)),
        11 => Value::I64(i64::from_le_bytes(reader.array(WHAT)?)),
        12 => Value::F64(f64::from_le_bytes(reader.array(WHAT)?)),
        _ => {
            return Err(Problem::ValueType {
                key: key.into(),
                type_number,
            });
        }
    })
}

fn parse_array(reader: &mut Reader, key: &str, depth: usize) -> Result<Array, Problem> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(Problem::Nesting {
            key: key.into(),
            limit: MAX_ARRAY_DEPTH,
        });
    }
    let type_number = reader.u32("an array's type")?;
    Ok(match type_number {
        0 => Array::U8(reader.numbers(u8::from_le_bytes)?),
        1 => Array::I8(reader.numbers(i8::from_le_bytes)?),
        2 => Array::U16(reader.numbers(u16::from_le_bytes)?),
        3 => Array::I16(reader.numbers(i16::from_le_bytes)?),
        4 => Array::U32(reader.numbers(u32::from_le_bytes)?),
        5 => Array::I32(reader.numbers(i32::from_le_bytes)?),
        6 => Array::F32(reader.numbers(f32::from_le_bytes)?),
        7 => {
            let bytes = reader.numbers(u8::from_le_bytes)?;
            Array::Bool(
                bytes
                    .into_iter()
                    .map(|byte| parse_bool(key, byte))
                    .collect::<Result<_, _>>()?,
            )
        }
        8 => {
            let len = reader.count("an array's length", 8)?;
            let mut strings = Vec::new();
            for i in 0..len {
                strings.push(reader.string(|| format!("element {i} of metadata key {key:?}"))?);
            }
            Array::String(strings)
        }
        9 => {
            let len = reader.count("an array's length", 12)?;
            let mut arrays = Vec::new();
            for _ in 0..len {
                arrays.push(parse_array(reader, key, depth + 1)?);
            }
            Array::Array(arrays)
        }
        10 => Array::U64(reader.numbers(u64::from_le_bytes)?),
        11 => Array::I64(reader.numbers(i64::from_le_bytes)?),
        12 => Array::F64(reader.numbers(f64::from_le_bytes)?),
        _ => {
            return Err(Problem::ValueType {
                key: key.into(),
                type_number,
            });
        }
    })
}

fn parse_bool(key: &str, byte: u8) -> Result<bool, Problem> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(Problem::Bool {
            key: key.into(),
            found,
        }),
    }
}

fn alignment(metadata: &Metadata) -> Result<usize, Problem> {
    const KEY: &str = "general.alignment";
    match (metadata.get(KEY), metadata.u64(KEY)) {
        (None, _) => Ok(DEFAULT_ALIGNMENT),
        (Some(_), Some(n @ 8..=65536)) if n.is_power_of_two() => Ok(n as usize),
        (Some(value), _) => Err(Problem::Alignment {
            found: format!("{value:?}"),
        }),
    }
}

/// A tensor whose place in the file is not checked yet.
struct UnplacedTensor {
    name: String,
    shape: Vec<usize>,
    dtype: GgmlDType,
    /// From the start of the tensor data.
    offset: u64,
    num_bytes: usize,
}

fn parse_tensor_table(
    reader: &mut Reader,
    num_tensors: usize,
) -> Result<Vec<UnplacedTensor>, Problem> {
    let mut names = HashSet::new();
    let mut tensors = Vec::new();
    for _ in 0..num_tensors {
        let tensor = parse_tensor(reader)?;
        if !names.insert(tensor.name.clone()) {
            return Err(Problem::DuplicateTensor {
                tensor: tensor.name,
            });
        }
        tensors.push(tensor);
    }
    Ok(tensors)
}

fn parse_tensor(reader: &mut Reader) -> Result<UnplacedTensor, Problem> {
    const WHAT: &str = "the tensor table";
    let name = reader.string(|| "a tensor's name".into())?;
    let rank = reader.u32(WHAT)?;
    if rank > MAX_RANK {
        return Err(Problem::Rank {
            tensor: name,
            found: rank,
        });
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        match usize::try_from(reader.u64(WHAT)?) {
            Ok(0) => return Err(Problem::EmptyDimension { tensor: name }),
            Ok(dimension) => shape.push(dimension),
            Err(_) => return Err(Problem::TooLarge { tensor: name }),
        }
    }
    shape.reverse();
    let type_number = reader.u32(WHAT)?;
    let offset = reader.u64(WHAT)?;
    let Some(dtype) = dtype(type_number) else {
        return Err(Problem::TensorType {
            tensor: name,
            type_name: type_name(type_number),
        });
    };
    let row = shape.last().copied().unwrap_or(1);
    let block = dtype.block_size();
    if !row.is_multiple_of(block) {
        return Err(Problem::RowLength {
            tensor: name,
            row,
            block,
        });
    }
    let num_bytes = shape
        .iter()
        .try_fold(1usize, |product, &dimension| product.checked_mul(dimension))
        .and_then(|num_elements| (num_elements / block).checked_mul(dtype.type_size()));
    match num_bytes {
        Some(num_bytes) => Ok(UnplacedTensor {
            name,
            shape,
            dtype,
            offset,
            num_bytes,
        }),
        None => Err(Problem::TooLarge { tensor: name }),
    }
}

impl UnplacedTensor {
    fn locate(
        self,
        data_start: usize,
        file_len: usize,
        alignment: usize,
    ) -> Result<TensorEntry, Problem> {
        if !self.offset.is_multiple_of(alignment as u64) {
            return Err(Problem::Misaligned {
                tensor: self.name,
                offset: self.offset,
                alignment,
            });
        }
        match self.range(data_start, file_len) {
            Some(range) => Ok(TensorEntry {
                name: self.name,
                shape: self.shape,
                dtype: self.dtype,
                range,
            }),
            None => Err(Problem::OutsideFile {
                offset: self.offset,
                size: self.num_bytes,
                available: file_len.saturating_sub(data_start),
                tensor: self.name,
            }),
        }
    }

    fn range(&self, data_start: usize, file_len: usize) -> Option<Range<usize>> {
        let start = usize::try_from(self.offset).ok()?.checked_add(data_start)?;
        let end = start.checked_add(self.num_bytes)?;
        (end <= file_len).then_some(start..end)
    }
}

/// The types that candle can compute with, by ggml's number.
fn dtype(type_number: u32) -> Option<GgmlDType> {
    Some(match type_number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        9 => GgmlDType::Q8_1,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        15 => GgmlDType::Q8K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// ggml's name of a type that [`dtype`] does not know.
fn type_name(type_number: u32) -> String {
    let name = match type_number {
        4 => "Q4_2",
        5 => "Q4_3",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return format!("the unknown type number {type_number}"),
    };
    name.into()
}

/// A position in the header's bytes; cannot leave them.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes[self.position..].get(..len)?;
        self.position += len;
        Some(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Problem> {
        let bytes = self.take(N).ok_or(Problem::Truncated { what })?;
        Ok(bytes.try_into().expect("take gave N bytes"))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, Problem> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, Problem> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A number of things of at least `min_bytes` each that must fit in what is left.
    fn count(&mut self, what: &'static str, min_bytes: usize) -> Result<usize, Problem> {
        let found = self.u64(what)?;
        match usize::try_from(found) {
            Ok(count) if count <= self.remaining() / min_bytes => Ok(count),
            _ => Err(Problem::TooMany {
                what,
                found,
                available: self.remaining(),
            }),
        }
    }

    fn numbers<T, const N: usize>(
        &mut self,
        decode: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Problem> {
        let len = self.count("an array's length", N)?;
        let bytes = self
            .take(len * N)
            .expect("count held the length against what is left");
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|&chunk| decode(chunk)).collect())
    }

    fn string(&mut self, what: impl Fn() -> String) -> Result<String, Problem> {
        let len = self.count("a text's length", 1)?;
        let bytes = self
            .take(len)
            .expect("count held the length against what is left");
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.into()),
            Err(_) => Err(Problem::NotUtf8 { what: what() }),
        }
    }
}
