//! Compiles the CUDA kernels where the feature asks for them; does nothing else.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    compile_kernels();
}

/// To PTX, for the compute capability in `CUDA_COMPUTE_CAP`, or that of this machine's GPU.
#[cfg(feature = "cuda")]
fn compile_kernels() {
    const HEADER: &str = "src/kernels/cuda/numbers.cuh";
    println!("cargo:rerun-if-changed={HEADER}");
    let kernels = cudaforge::KernelBuilder::new()
        .source_files(["src/kernels/cuda/attention.cu"])
        .watch([HEADER])
        .args(["--expt-relaxed-constexpr", "-std=c++17", "-O3"])
        .build_ptx();
    if let Err(error) = kernels {
        panic!("the CUDA kernels cannot be compiled: {error}");
    }
}
