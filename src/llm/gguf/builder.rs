//! Writes small GGUF files for tests, right or wrong on purpose.

use super::GgufFile;

/// The parts of a GGUF file, in order of writing.
pub(crate) struct GgufBuilder {
    pub version: u32,
    pairs: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
    alignment: usize,
}

impl GgufBuilder {
    pub fn new() -> Self {
        Self {
            version: 3,
            pairs: Vec::new(),
            tensors: Vec::new(),
            data: Vec::new(),
            alignment: 32,
        }
    }

    /// A key with a value of any type, given as its bytes.
    pub fn raw(mut self, key: &str, type_number: u32, value: &[u8]) -> Self {
        let mut pair = text(key);
        pair.extend(type_number.to_le_bytes());
        pair.extend(value);
        self.pairs.push(pair);
        self
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub fn bool(self, key: &str, value: bool) -> Self {
        self.raw(key, 7, &[value.into()])
    }

    pub fn string(self, key: &str, value: &str) -> Self {
        self.raw(key, 8, &text(value))
    }

    pub fn strings<S: AsRef<str>>(self, key: &str, values: &[S]) -> Self {
        let elements = values.iter().flat_map(|value| text(value.as_ref()));
        self.array(key, 8, values.len(), elements)
    }

    pub fn i32s(self, key: &str, values: &[i32]) -> Self {
        self.array(
            key,
            5,
            values.len(),
            values.iter().flat_map(|n| n.to_le_bytes()),
        )
    }

    pub fn f32s(self, key: &str, values: &[f32]) -> Self {
        self.array(
            key,
            6,
            values.len(),
            values.iter().flat_map(|x| x.to_le_bytes()),
        )
    }

    fn array(
        self,
        key: &str,
        type_number: u32,
        len: usize,
        elements: impl Iterator<Item = u8>,
    ) -> Self {
        let mut value = type_number.to_le_bytes().to_vec();
        value.extend((len as u64).to_le_bytes());
        value.extend(elements);
        self.raw(key, 9, &value)
    }

    /// A tensor after the last one's data; `dims` are innermost first, as the file has them.
    pub fn tensor(mut self, name: &str, dims: &[u64], type_number: u32, data: &[u8]) -> Self {
        self.data
            .resize(self.data.len().next_multiple_of(self.alignment), 0);
        let offset = self.data.len() as u64;
        self.data.extend(data);
        self.tensor_at(name, dims, type_number, offset)
    }

    /// A tensor table entry alone.
    pub fn tensor_at(mut self, name: &str, dims: &[u64], type_number: u32, offset: u64) -> Self {
        let mut entry = text(name);
        entry.extend((dims.len() as u32).to_le_bytes());
        entry.extend(dims.iter().flat_map(|n| n.to_le_bytes()));
        entry.extend(type_number.to_le_bytes());
        entry.extend(offset.to_le_bytes());
        self.tensors.push(entry);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.pairs.len() as u64).to_le_bytes());
        file.extend(self.pairs.iter().flatten());
        file.extend(self.tensors.iter().flatten());
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        file.extend(&self.data);
        file
    }

    /// Writes the file and opens it.
    pub fn open(&self) -> GgufFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.bytes()).unwrap();
        GgufFile::open(file.path()).unwrap()
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
