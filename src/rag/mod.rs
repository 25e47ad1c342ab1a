//! Turns documents into answers.

pub mod chunk;
pub mod extract;
