//! Where a model's tensors come from. The decoder asks by GGUF's names, whatever file has them; what a file says about
//! its tensors is checked against the file before it gets here.

use candle_core::quantized::GgmlDType;

use super::gguf::GgufFile;

/// The tensors of one model.
pub(crate) trait Checkpoint {
    /// The tensor of this name, as GGUF spells it.
    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>>;

    /// The names of all tensors; of one that GGUF has no name for, its name in the file.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// Says that bytes of a tensor of this checkpoint will hardly be read again, so that they need not stay in memory.
    fn release(&self, bytes: &[u8]);

    /// What the file calls a tensor, whether it has it or not.
    fn name_in_file(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// One tensor as it lies in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredTensor<'a> {
    /// Row-major, outermost dimension first. None of them is 0.
    pub shape: &'a [usize],
    pub dtype: GgmlDType,
    /// As many as the shape and the type ask for, at any address.
    pub bytes: &'a [u8],
}

impl Checkpoint for GgufFile {
    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let entry = GgufFile::tensor(self, name)?;
        Some(StoredTensor {
            shape: &entry.shape,
            dtype: entry.dtype,
            bytes: self.tensor_bytes(entry),
        })
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors().map(|entry| entry.name.as_str()))
    }

    fn release(&self, bytes: &[u8]) {
        self.release_bytes(bytes);
    }
}
