//! The second half of a layer: a gated feed-forward network, or several of them, of which a router picks some for every
//! row. What a row gives depends on that row alone.

use candle_core::Tensor;

use super::LlmError;
use super::hyperparameters::Activation;
use super::linear::Linear;
use super::rows::{Onto, Rows};

/// `M` is what multiplies with a matrix.
#[derive(Debug)]
pub(crate) enum FeedForward<M> {
    Dense(GatedNetwork<M>),
    Experts(Experts<M>),
}

/// `down(activation(gate(x)) * up(x))`.
#[derive(Debug)]
pub(crate) struct GatedNetwork<M> {
    pub gate: M,
    pub up: M,
    pub down: M,
}

/// Networks of which each row is given to the few that the router rates highest, and gets their sum, weighed by the
/// softmax of their ratings (Shazeer et al. 2017, arXiv:1701.06538).
#[derive(Debug)]
pub(crate) struct Experts<M> {
    /// `[num_experts, inputs]`.
    pub router: M,
    pub networks: Vec<GatedNetwork<M>>,
    /// How many compute a row; from 1 to their number.
    pub num_used: usize,
}

impl FeedForward<Linear> {
    /// `[num_rows, inputs]` to the same shape.
    pub fn forward(&self, rows: Rows, activation: Activation) -> Result<Tensor, LlmError> {
        match self {
            Self::Dense(network) => network.forward(rows, activation, Linear::forward),
            Self::Experts(experts) => experts.forward(&rows.compute()?, activation),
        }
    }

    /// The same, added to what is there.
    pub fn forward_onto(
        &self,
        rows: Rows,
        activation: Activation,
        onto: Onto,
    ) -> Result<Tensor, LlmError> {
        match self {
            Self::Dense(network) => {
                network.forward(rows, activation, |down, rows| down.forward_onto(rows, onto))
            }
            Self::Experts(_) => onto.add(self.forward(rows, activation)?),
        }
    }
}

impl GatedNetwork<Linear> {
    /// `last` multiplies with the last matrix.
    fn forward(
        &self,
        rows: Rows,
        activation: Activation,
        last: impl FnOnce(&Linear, Rows) -> Result<Tensor, LlmError>,
    ) -> Result<Tensor, LlmError> {
        let [gate, up] = Linear::forward_all([&self.gate, &self.up], rows)?;
        let (gate, up) = (&gate, &up);
        let rows = Rows::Gated {
            gate,
            up,
            activation,
        };
        last(&self.down, rows)
    }
}

impl Experts<Linear> {
    fn forward(&self, input: &Tensor, activation: Activation) -> Result<Tensor, LlmError> {
        let num_rows = input.dim(0)?;
        let ratings = self.router.forward(Rows::Plain(input))?.to_vec2::<f32>()?;
        let choices: Vec<Choice> = ratings
            .iter()
            .zip(0..)
            .flat_map(|(ratings, row)| choose(ratings, self.num_used, row))
            .collect();
        // Each expert's rows side by side, so that its weights are read once. The sort keeps the order of rows.
        let mut order: Vec<u32> = (0..choices.len() as u32).collect();
        order.sort_by_key(|&index| choices[index as usize].expert);
        let rows: Vec<u32> = order
            .iter()
            .map(|&index| choices[index as usize].row)
            .collect();
        let device = input.device();
        let given = input.index_select(&Tensor::new(rows.as_slice(), device)?, 0)?;
        let mut outputs = Vec::new();
        let mut first = 0;
        for run in order.chunk_by(|&a, &b| choices[a as usize].expert == choices[b as usize].expert)
        {
            let network = &self.networks[choices[run[0] as usize].expert];
            let rows = given.narrow(0, first, run.len())?;
            outputs.push(network.forward(Rows::Plain(&rows), activation, Linear::forward)?);
            first += run.len();
        }
        let outputs = Tensor::cat(&outputs, 0)?;
        // Back to the rows, whose sums are taken in an order of their own.
        let mut places = vec![0u32; order.len()];
        for (place, &index) in order.iter().enumerate() {
            places[index as usize] = place as u32;
        }
        let shape = (num_rows, self.num_used, input.dim(1)?);
        let outputs = outputs
            .index_select(&Tensor::new(places.as_slice(), device)?, 0)?
            .reshape(shape)?;
        let weights: Vec<f32> = choices.iter().map(|choice| choice.weight).collect();
        let weights = Tensor::from_vec(weights, (num_rows, self.num_used, 1), device)?;
        Ok(outputs.broadcast_mul(&weights)?.sum(1)?)
    }
}

/// One expert for one row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Choice {
    row: u32,
    expert: usize,
    weight: f32,
}

/// The experts rated highest, of equal ones the first, with the softmax of their ratings.
fn choose(ratings: &[f32], num_used: usize, row: u32) -> Vec<Choice> {
    let mut experts: Vec<usize> = (0..ratings.len()).collect();
    experts.sort_by(|&a, &b| ratings[b].total_cmp(&ratings[a]));
    experts.truncate(num_used);
    let highest = ratings[experts[0]];
    let weights: Vec<f32> = experts
        .iter()
        .map(|&expert| (ratings[expert] - highest).exp())
        .collect();
    let sum: f32 = weights.iter().sum();
    let choice = |(expert, weight)| Choice {
        row,
        expert,
        weight: weight / sum,
    };
    experts.into_iter().zip(weights).map(choice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_ratings_are_chosen_and_weighed_by_their_softmax() {
        let choices = choose(&[0.0, 2.0, -1.0, 3.0, 2.0], 3, 7);
        let experts: Vec<usize> = choices.iter().map(|choice| choice.expert).collect();
        assert_eq!(experts, [3, 1, 4]);
        assert!(choices.iter().all(|choice| choice.row == 7));
        let e = std::f32::consts::E;
        for (choice, expected) in choices.iter().zip([e, 1.0, 1.0]) {
            assert!((choice.weight - expected / (e + 2.0)).abs() < 1e-6);
        }
    }

    #[test]
    fn ratings_that_are_no_numbers_choose_some_experts_still() {
        assert_eq!(choose(&[f32::NAN, 0.0, f32::NAN], 2, 0).len(), 2);
    }
}
