//! Compiles the CUDA kernels where the feature asks for them; does nothing else.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    compile_kernels();
}

/// To PTX, for the compute capability in `CUDA_COMPUTE_CAP`, or that of this machine's GPU.
#[cfg(feature = "cuda")]
fn compile_kernels() {
    use std::path::PathBuf;

    const HEADERS: [&str; 3] = ["numbers.cuh", "weights.cuh", "matrix.cuh"];
    /// Types of weights, whose products are a module each.
    const TYPES: [&str; 12] = [
        "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "F16",
        "F32",
    ];
    let variable = |name| PathBuf::from(std::env::var_os(name).expect("cargo sets it"));
    let folder = variable("CARGO_MANIFEST_DIR").join("src/kernels/cuda");
    let generated = variable("OUT_DIR");
    let mut sources = ["attention.cu", "elementwise.cu", "matrix.cu", "sampling.cu"]
        .map(|name| folder.join(name))
        .to_vec();
    for name in TYPES {
        let source = generated.join(name).with_extension("cu");
        let text = format!("#include \"matrix.cuh\"\n\nPRODUCTS({name})\n");
        // Only what has changed is compiled anew.
        if std::fs::read_to_string(&source).ok().as_ref() != Some(&text) {
            std::fs::write(&source, text).expect("cargo's folder can be written to");
        }
        sources.push(source);
    }
    let kernels = cudaforge::KernelBuilder::new()
        .source_files(sources)
        .watch(HEADERS.map(|name| folder.join(name)))
        .include_path(folder)
        .args(["--expt-relaxed-constexpr", "-std=c++17", "-O3"])
        .build_ptx();
    if let Err(error) = kernels {
        panic!("the CUDA kernels cannot be compiled: {error}");
    }
}
