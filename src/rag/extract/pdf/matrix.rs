//! Transformations of the plane as PDF writes them (ISO 32000-1, 8.3.3): a row vector times a 3 x 3 matrix.

/// `[a b c d e f]`: x' = a x + c y + e, y' = b x + d y + f.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matrix(pub [f64; 6]);

impl Matrix {
    pub const IDENTITY: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    pub fn translation(x: f64, y: f64) -> Self {
        Self([1.0, 0.0, 0.0, 1.0, x, y])
    }

    /// The transformation that does `self` first and `then` second.
    pub fn then(&self, then: &Self) -> Self {
        let [a, b, c, d, e, f] = self.0;
        let [ta, tb, tc, td, te, tf] = then.0;
        Self([
            a * ta + b * tc,
            a * tb + b * td,
            c * ta + d * tc,
            c * tb + d * td,
            e * ta + f * tc + te,
            e * tb + f * td + tf,
        ])
    }

    /// Where the origin goes.
    pub fn origin(&self) -> (f64, f64) {
        (self.0[4], self.0[5])
    }

    /// Where a direction goes: no translation.
    pub fn vector(&self, x: f64, y: f64) -> (f64, f64) {
        let [a, b, c, d, ..] = self.0;
        (a * x + c * y, b * x + d * y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transformations_apply_in_reading_order() {
        let scale = Matrix([2.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
        let both = Matrix::translation(5.0, 7.0).then(&scale);
        assert_eq!(both.origin(), (10.0, 21.0));
        assert_eq!(both.vector(1.0, 1.0), (2.0, 3.0));
        assert_eq!(both.then(&Matrix::IDENTITY), both);
    }
}
