//! The key-value part of a GGUF file, typed. Getters never convert in a way that loses something.

use std::collections::BTreeMap;

/// Everything a GGUF file says about its model, by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    pub(super) values: BTreeMap<String, Value>,
}

/// One value, in the type that the file stores it in.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// An array; all elements have one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
}

impl Metadata {
    /// Of equal keys the last counts.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, Value)>) -> Self {
        let values = pairs.into_iter().collect();
        Self { values }
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// All keys with their values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub fn string(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A non-negative integer of any width.
    pub fn u64(&self, key: &str) -> Option<u64> {
        match *self.get(key)? {
            Value::U8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::U64(n) => Some(n),
            Value::I8(n) => n.try_into().ok(),
            Value::I16(n) => n.try_into().ok(),
            Value::I32(n) => n.try_into().ok(),
            Value::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// A floating point number; an F64 is rounded to the nearest.
    pub fn f32(&self, key: &str) -> Option<f32> {
        match *self.get(key)? {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        }
    }

    pub fn bool(&self, key: &str) -> Option<bool> {
        match *self.get(key)? {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }

    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            Value::Array(Array::String(texts)) => Some(texts),
            _ => None,
        }
    }

    pub fn f32s(&self, key: &str) -> Option<&[f32]> {
        match self.get(key)? {
            Value::Array(Array::F32(numbers)) => Some(numbers),
            _ => None,
        }
    }

    /// An array of integers of any width, when all of them fit.
    pub fn i64s(&self, key: &str) -> Option<Vec<i64>> {
        fn widen<T: Copy + TryInto<i64>>(numbers: &[T]) -> Option<Vec<i64>> {
            numbers.iter().map(|&n| n.try_into().ok()).collect()
        }
        let Value::Array(array) = self.get(key)? else {
            return None;
        };
        match array {
            Array::U8(numbers) => widen(numbers),
            Array::I8(numbers) => widen(numbers),
            Array::U16(numbers) => widen(numbers),
            Array::I16(numbers) => widen(numbers),
            Array::U32(numbers) => widen(numbers),
            Array::I32(numbers) => widen(numbers),
            Array::U64(numbers) => widen(numbers),
            Array::I64(numbers) => widen(numbers),
            _ => None,
        }
    }
}
