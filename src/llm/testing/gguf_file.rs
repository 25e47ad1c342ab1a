//! Writes GGUF files, version 3, with F32 tensors.

use std::fs;
use std::io;
use std::path::Path;

use crate::llm::gguf::{Array, Value};

/// A name, a shape (outermost first) and numbers.
pub(super) type Tensor = (String, Vec<usize>, Vec<f32>);

pub(super) fn write_gguf(
    path: &Path,
    pairs: &[(String, Value)],
    tensors: &[Tensor],
) -> io::Result<()> {
    const ALIGNMENT: usize = 32;
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        put_text(&mut file, key);
        file.extend(type_number(value).to_le_bytes());
        put_value(&mut file, value);
    }
    let mut data: Vec<u8> = Vec::new();
    for (name, shape, numbers) in tensors {
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        put_text(&mut file, name);
        file.extend((shape.len() as u32).to_le_bytes());
        for &size in shape.iter().rev() {
            file.extend((size as u64).to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    }
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    file.extend(data);
    fs::write(path, file)
}

fn put_text(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

fn put_value(file: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(n) => file.push(*n),
        Value::I8(n) => file.extend(n.to_le_bytes()),
        Value::U16(n) => file.extend(n.to_le_bytes()),
        Value::I16(n) => file.extend(n.to_le_bytes()),
        Value::U32(n) => file.extend(n.to_le_bytes()),
        Value::I32(n) => file.extend(n.to_le_bytes()),
        Value::U64(n) => file.extend(n.to_le_bytes()),
        Value::I64(n) => file.extend(n.to_le_bytes()),
        Value::F32(x) => file.extend(x.to_le_bytes()),
        Value::F64(x) => file.extend(x.to_le_bytes()),
        Value::Bool(b) => file.push((*b).into()),
        Value::String(text) => put_text(file, text),
        Value::Array(array) => put_array(file, array),
    }
}

fn put_array(file: &mut Vec<u8>, array: &Array) {
    // The elements as values of their own: slow, and short.
    let elements: Vec<Value> = match array.clone() {
        Array::U8(all) => all.into_iter().map(Value::U8).collect(),
        Array::I8(all) => all.into_iter().map(Value::I8).collect(),
        Array::U16(all) => all.into_iter().map(Value::U16).collect(),
        Array::I16(all) => all.into_iter().map(Value::I16).collect(),
        Array::U32(all) => all.into_iter().map(Value::U32).collect(),
        Array::I32(all) => all.into_iter().map(Value::I32).collect(),
        Array::U64(all) => all.into_iter().map(Value::U64).collect(),
        Array::I64(all) => all.into_iter().map(Value::I64).collect(),
        Array::F32(all) => all.into_iter().map(Value::F32).collect(),
        Array::F64(all) => all.into_iter().map(Value::F64).collect(),
        Array::Bool(all) => all.into_iter().map(Value::Bool).collect(),
        Array::String(all) => all.into_iter().map(Value::String).collect(),
        Array::Array(all) => all.into_iter().map(Value::Array).collect(),
    };
    // The type of an empty array says nothing.
    let element_type = elements.first().map_or(0, type_number);
    file.extend(element_type.to_le_bytes());
    file.extend((elements.len() as u64).to_le_bytes());
    for element in &elements {
        put_value(file, element);
    }
}

fn type_number(value: &Value) -> u32 {
    match value {
        Value::U8(_) => 0,
        Value::I8(_) => 1,
        Value::U16(_) => 2,
        Value::I16(_) => 3,
        Value::U32(_) => 4,
        Value::I32(_) => 5,
        Value::F32(_) => 6,
        Value::Bool(_) => 7,
        Value::String(_) => 8,
        Value::Array(_) => 9,
        Value::U64(_) => 10,
        Value::I64(_) => 11,
        Value::F64(_) => 12,
    }
}
