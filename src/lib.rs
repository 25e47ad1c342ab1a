//! The map of Inglenook. Modules stand in dependency order: each may use those above it, never those below.

pub mod device;
pub mod kernels;

pub mod llm;

pub mod embedding;
pub mod engine;
pub mod fetch;
pub mod store;
pub mod tokenizer;

pub mod rag;

pub mod eval;

pub mod http;

pub mod app;
pub mod cli;
pub mod config;
pub mod hub;
pub mod telemetry;

#[doc(hidden)]
pub mod test_data;
