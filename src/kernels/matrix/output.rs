//! Where products go while several threads write different parts of one result.

/// A panel's results: `WIDTH` numbers for every row, `stride` numbers apart.
#[derive(Clone, Copy)]
pub struct Output<const WIDTH: usize> {
    pub first: *mut f32,
    pub stride: usize,
}

impl<const WIDTH: usize> Output<WIDTH> {
    /// Where the results of the rows after some go.
    pub fn after(self, num_rows: usize) -> Self {
        Self {
            first: self.first.wrapping_add(num_rows * self.stride),
            ..self
        }
    }

    /// # Safety
    /// The row must lie in the memory that the output was made for, and nobody else may use it meanwhile.
    pub unsafe fn row<'a>(self, row: usize) -> &'a mut [f32; WIDTH] {
        // SAFETY: the caller's promise; an array of f32 has the alignment of f32.
        unsafe { &mut *self.first.add(row * self.stride).cast() }
    }
}
