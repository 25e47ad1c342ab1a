//! The one place where activations meet weights: every matrix product of the decoder goes through [`Linear`], every
//! token's vector comes out of [`TokenEmbedding`]. Both main memory and a GPU's have our own kernels, on which a row's result
//! does not depend on the rows beside it.

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{Device, Tensor};

use super::LlmError;
use super::attention::numbers;
#[cfg(feature = "cuda")]
use super::linear_cuda::GpuLinear;
use super::rows::{Onto, Rows};
use super::weights::WeightStore;
use crate::kernels::matrix::{self, Matrix, Product};

/// A matrix `[outputs, inputs]` as a GGUF file stores it, row by row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredMatrix<'a> {
    pub dtype: GgmlDType,
    pub bytes: &'a [u8],
    pub outputs: usize,
    pub inputs: usize,
}

impl StoredMatrix<'_> {
    fn pack(&self) -> Result<Arc<Matrix>, LlmError> {
        let matrix = Matrix::pack(self.dtype, self.bytes, self.outputs, self.inputs);
        matrix.map(Arc::new).map_err(LlmError::NoMemory)
    }
}

/// A matrix product with an optional bias.
#[derive(Debug)]
pub(crate) enum Linear {
    Packed {
        weight: Arc<Matrix>,
        bias: Option<Vec<f32>>,
    },
    #[cfg(feature = "cuda")]
    OnGpu(Box<GpuLinear>),
}

impl Linear {
    /// Nothing is kept of `weight` itself.
    pub fn new(
        weight: StoredMatrix,
        bias: Option<Vec<f32>>,
        device: &Device,
    ) -> Result<Self, LlmError> {
        #[cfg(feature = "cuda")]
        if !device.is_cpu() {
            return Ok(Self::OnGpu(GpuLinear::new(weight, bias, device)?.into()));
        }
        debug_assert!(device.is_cpu());
        let weight = weight.pack()?;
        Ok(Self::Packed { weight, bias })
    }

    /// The product with the embedding's own table, in main memory.
    pub fn tied(embedding: &TokenEmbedding) -> Self {
        Self::Packed {
            weight: embedding.table.clone(),
            bias: None,
        }
    }

    /// `[num_rows, inputs]` to `[num_rows, outputs]`.
    pub fn forward(&self, rows: Rows) -> Result<Tensor, LlmError> {
        let [output] = Self::forward_all([self], rows)?;
        Ok(output)
    }

    /// The same, added to what is there.
    pub fn forward_onto(&self, rows: Rows, onto: Onto) -> Result<Tensor, LlmError> {
        #[cfg(feature = "cuda")]
        if let Self::OnGpu(linear) = self {
            return linear.forward_onto(rows, onto);
        }
        onto.add(self.forward(rows)?)
    }

    /// What each of `linears` gives for the same rows, which are prepared once.
    pub fn forward_all<const N: usize>(
        linears: [&Self; N],
        rows: Rows,
    ) -> Result<[Tensor; N], LlmError> {
        #[cfg(feature = "cuda")]
        {
            let on_gpu: Vec<&GpuLinear> = linears.iter().filter_map(|l| l.on_gpu()).collect();
            if on_gpu.len() == N {
                let outputs = GpuLinear::forward_all(&on_gpu, rows)?;
                return Ok(outputs.try_into().expect("every matrix has an output"));
            }
        }
        let products: Vec<Product> = linears.iter().filter_map(|l| l.product()).collect();
        let input = rows.compute()?;
        let (num_rows, _) = input.dims2()?;
        let outputs = numbers(&input, |input| matrix::multiply(input, &products))?;
        let outputs = outputs.into_iter().zip(&products).map(|(output, product)| {
            let shape = (num_rows, product.matrix.num_outputs());
            Tensor::from_vec(output, shape, &Device::Cpu)
        });
        let outputs: Vec<Tensor> = outputs.collect::<Result<_, _>>()?;
        Ok(outputs
            .try_into()
            .expect("a layer's matrices are all in the same memory"))
    }

    fn product(&self) -> Option<Product<'_>> {
        match self {
            Self::Packed { weight, bias } => Some(Product {
                matrix: weight,
                bias: bias.as_deref(),
            }),
            #[cfg(feature = "cuda")]
            Self::OnGpu(_) => None,
        }
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self) -> Option<&GpuLinear> {
        match self {
            Self::OnGpu(linear) => Some(linear),
            Self::Packed { .. } => None,
        }
    }
}

/// The vectors of all tokens, packed, in main memory.
#[derive(Debug)]
pub(crate) struct TokenEmbedding {
    table: Arc<Matrix>,
}

impl TokenEmbedding {
    /// `table` is `[vocab_size, hidden_size]`.
    pub fn new(table: StoredMatrix) -> Result<Self, LlmError> {
        let table = table.pack()?;
        Ok(Self { table })
    }

    /// `[num_tokens, hidden_size]`; only the rows of these tokens are expanded.
    pub fn expand(&self, tokens: &[u32]) -> Vec<f32> {
        let hidden_size = self.table.num_inputs();
        let mut rows = vec![0f32; tokens.len() * hidden_size];
        for (row, &token) in rows.chunks_exact_mut(hidden_size).zip(tokens) {
            self.table.expand(token as usize, row);
        }
        rows
    }
}

/// Weights as candle's tensors and what multiplies with them.
impl WeightStore for Device {
    type Matrix = Linear;
    type Vector = Tensor;

    fn matrix(&self, weight: StoredMatrix, bias: Option<Vec<f32>>) -> Result<Linear, LlmError> {
        Linear::new(weight, bias, self)
    }

    fn vector(&self, numbers: Vec<f32>) -> Result<Tensor, LlmError> {
        let len = numbers.len();
        Ok(Tensor::from_vec(numbers, len, self)?)
    }

    fn tied(&self, embedding: &TokenEmbedding) -> Option<Linear> {
        self.is_cpu().then(|| Linear::tied(embedding))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::QTensor;

    use super::*;
    use crate::llm::testing::seeded_number;

    fn noise(name: &str, rows: usize, columns: usize) -> Tensor {
        let numbers: Vec<f32> = (0..rows * columns)
            .map(|i| seeded_number(1, name, i))
            .collect();
        Tensor::from_vec(numbers, (rows, columns), &Device::Cpu).unwrap()
    }

    /// The largest difference, as a fraction of the expected numbers' root mean square.
    fn relative_difference(found: &Tensor, expected: &Tensor) -> f32 {
        let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        let difference = largest(&(found - expected).unwrap());
        let mean_square = expected.sqr().unwrap().mean_all().unwrap();
        difference.to_scalar::<f32>().unwrap() / mean_square.to_scalar::<f32>().unwrap().sqrt()
    }

    #[derive(serde::Deserialize)]
    struct Goldens {
        quantized: Vec<Quantized>,
    }

    #[derive(serde::Deserialize)]
    struct Quantized {
        r#type: String,
        bytes: String,
        numbers: Vec<f32>,
    }

    fn dtype(name: &str) -> GgmlDType {
        match name {
            "Q4_0" => GgmlDType::Q4_0,
            "Q4_1" => GgmlDType::Q4_1,
            "Q5_0" => GgmlDType::Q5_0,
            "Q5_1" => GgmlDType::Q5_1,
            "Q8_0" => GgmlDType::Q8_0,
            "Q2_K" => GgmlDType::Q2K,
            "Q3_K" => GgmlDType::Q3K,
            "Q4_K" => GgmlDType::Q4K,
            "Q5_K" => GgmlDType::Q5K,
            "Q6_K" => GgmlDType::Q6K,
            other => panic!("unknown type {other}"),
        }
    }

    #[test]
    fn every_quantization_is_read_and_multiplied_as_gguf_py_expands_it() {
        let text = include_str!("../../tests/goldens/llm_goldens.json");
        let goldens: Goldens = serde_json::from_str(text).unwrap();
        assert_eq!(goldens.quantized.len(), 10);
        // 32 equal rows, so that the products for many rows are taken too.
        const ROWS: usize = 32;
        for golden in goldens.quantized {
            let name = golden.r#type;
            let row: Vec<u8> = (0..golden.bytes.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&golden.bytes[i..i + 2], 16).unwrap())
                .collect();
            let table = StoredMatrix {
                dtype: dtype(&name),
                bytes: &row.repeat(ROWS),
                outputs: ROWS,
                inputs: 256,
            };
            let expected = Tensor::from_vec(golden.numbers, (1, 256), &Device::Cpu).unwrap();

            let embedding = TokenEmbedding::new(table).unwrap();
            let found = Tensor::from_vec(embedding.expand(&[17]), (1, 256), &Device::Cpu).unwrap();
            assert!(relative_difference(&found, &expected) < 1e-5, "{name}");

            let linear = Linear::new(table, None, &Device::Cpu).unwrap();
            let all_rows = expected.broadcast_as((ROWS, 256)).unwrap();
            for num_tokens in [1, 3, 40] {
                let input = noise("input", num_tokens, 256);
                let found = linear.forward(Rows::Plain(&input)).unwrap();
                let expected = input.matmul(&all_rows.t().unwrap()).unwrap();
                let difference = relative_difference(&found, &expected);
                // The input is quantized to 8 bits for the product.
                assert!(
                    difference < 5e-2,
                    "{name}, {num_tokens} tokens: {difference}"
                );
            }
        }
    }

    #[test]
    fn a_row_of_a_product_does_not_depend_on_the_rows_beside_it() {
        for dtype in [
            GgmlDType::F32,
            GgmlDType::F16,
            GgmlDType::BF16,
            GgmlDType::Q4_0,
            GgmlDType::Q4_1,
            GgmlDType::Q5_0,
            GgmlDType::Q5_1,
            GgmlDType::Q8_0,
            GgmlDType::Q2K,
            GgmlDType::Q3K,
            GgmlDType::Q4K,
            GgmlDType::Q5K,
            GgmlDType::Q6K,
        ] {
            let weight = QTensor::quantize(&noise("weight", 70, 512), dtype).unwrap();
            let stored = StoredMatrix {
                dtype,
                bytes: &weight.data().unwrap(),
                outputs: 70,
                inputs: 512,
            };
            let linear = Linear::new(stored, None, &Device::Cpu).unwrap();
            let input = noise("input", 40, 512);
            let all: Vec<Vec<f32>> = linear
                .forward(Rows::Plain(&input))
                .unwrap()
                .to_vec2()
                .unwrap();
            for num_rows in [1, 2, 8, 31, 33] {
                let some = input.narrow(0, 0, num_rows).unwrap();
                let some = linear.forward(Rows::Plain(&some));
                let some: Vec<Vec<f32>> = some.unwrap().to_vec2().unwrap();
                assert!(some == all[..num_rows], "{dtype:?}, {num_rows} rows");
            }
        }
    }
}
