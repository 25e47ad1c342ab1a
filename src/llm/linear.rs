//! The one place where activations meet quantized weights: every matrix product of the decoder goes through
//! [`Linear`], every token's vector comes out of [`TokenEmbedding`].

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};

use super::LlmError;

/// A matrix product with an optional bias.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    /// `weight` is `[outputs, inputs]`, on the device that `forward` computes on.
    pub fn new(
        weight: Arc<QTensor>,
        bias: Option<Tensor>,
        device: &Device,
    ) -> Result<Self, LlmError> {
        let weight = multiplier(weight, device)?;
        Ok(Self { weight, bias })
    }

    /// `[num_tokens, inputs]` to `[num_tokens, outputs]`.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor, LlmError> {
        let output = self.weight.forward(input)?;
        match &self.bias {
            Some(bias) => Ok(output.broadcast_add(bias)?),
            None => Ok(output),
        }
    }
}

/// The vectors of all tokens, kept as the file has them, in main memory.
#[derive(Debug)]
pub(crate) struct TokenEmbedding {
    table: Arc<QTensor>,
    device: Device,
}

impl TokenEmbedding {
    /// `table` is `[vocab_size, hidden_size]` in main memory.
    pub fn new(table: Arc<QTensor>, device: &Device) -> Self {
        let device = device.clone();
        Self { table, device }
    }

    /// `[num_tokens, hidden_size]`; only the rows of these tokens are expanded.
    pub fn forward(&self, tokens: &[u32]) -> Result<Tensor, LlmError> {
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        Ok(self.table.embedding(&ids)?.to_device(&self.device)?)
    }
}

fn multiplier(weight: Arc<QTensor>, device: &Device) -> Result<QMatMul, LlmError> {
    if device.is_cpu() {
        // Computes F32, F16 and BF16 where they lie; `from_arc` would expand them to F32 first.
        Ok(QMatMul::QTensor(weight))
    } else {
        Ok(QMatMul::from_arc(weight)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QStorage};

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
            let storage =
                QStorage::from_data(row.repeat(ROWS).into(), &Device::Cpu, dtype(&name)).unwrap();
            let table = Arc::new(QTensor::new(storage, (ROWS, 256)).unwrap());
            let expected = Tensor::from_vec(golden.numbers, (1, 256), &Device::Cpu).unwrap();

            let embedding = TokenEmbedding::new(table.clone(), &Device::Cpu);
            let found = embedding.forward(&[17]).unwrap();
            assert!(relative_difference(&found, &expected) < 1e-5, "{name}");

            let linear = Linear::new(table, None, &Device::Cpu).unwrap();
            let all_rows = expected.broadcast_as((ROWS, 256)).unwrap();
            for num_tokens in [1, 3, 40] {
                let input = noise("input", num_tokens, 256);
                let found = linear.forward(&input).unwrap();
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

    /// Up to rounding: on x86-64 with AVX2, candle multiplies a single row by Q6_K in another order than several.
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
            let weight = QTensor::quantize(&noise("weight", 64, 512), dtype).unwrap();
            let linear = Linear::new(Arc::new(weight), None, &Device::Cpu).unwrap();
            let input = noise("input", 40, 512);
            let all = linear.forward(&input).unwrap();
            for num_rows in [1, 2, 8, 31, 33] {
                let some = linear.forward(&input.narrow(0, 0, num_rows).unwrap());
                let difference =
                    relative_difference(&some.unwrap(), &all.narrow(0, 0, num_rows).unwrap());
                assert!(
                    difference < 2e-6,
                    "{dtype:?}, {num_rows} rows: {difference}"
                );
            }
        }
    }
}
