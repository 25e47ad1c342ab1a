//! Holds the layers of ARCHITECTURE.md: which module may use which, and which library stays where.

use std::fs;
use std::path::{Path, PathBuf};

/// What each module may import besides itself.
const IMPORTS: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    ("device", &["kernels"]),
    ("llm", &["kernels", "device"]),
    ("embedding", &["kernels", "device"]),
    ("engine", &["llm"]),
    ("store", &["kernels"]),
    ("fetch", &[]),
    ("tokenizer", &["llm"]),
    (
        "rag",
        &["store", "fetch", "tokenizer", "embedding", "engine"],
    ),
    // Of the engine, how a token is sampled; of the tokenizer, why a template fails.
    ("eval", &["rag", "store", "engine", "tokenizer"]),
    (
        "http",
        &["rag", "store", "tokenizer", "embedding", "engine"],
    ),
    ("config", &[]),
    ("telemetry", &[]),
    ("hub", &["embedding"]),
    // A GPU for tests is asked of the device.
    ("test_data", &["device"]),
    (
        "app",
        &[
            "config",
            "device",
            "embedding",
            "engine",
            "fetch",
            "http",
            "hub",
            "llm",
            "rag",
            "store",
            "telemetry",
            "tokenizer",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "config",
            "engine",
            "eval",
            "http",
            "hub",
            "kernels",
            "rag",
            "store",
            "telemetry",
        ],
    ),
];

/// Text that may only stand in these modules.
const CONFINED: &[(&str, &[&str])] = &[
    // Logging names the libraries that it keeps quiet.
    ("actix_", &["http", "telemetry"]),
    ("candle_", &["llm", "embedding", "kernels", "device"]),
    ("cudarc", &["kernels"]),
    ("rusqlite", &["store", "telemetry"]),
    ("usearch", &["store"]),
    ("ureq", &["fetch", "hub", "cli"]),
    ("llguidance", &["engine", "rag"]),
    ("env::var", &["config", "test_data"]),
    ("unsafe ", &["kernels"]),
    ("anyhow", &["app", "cli", "telemetry", "main"]),
];

/// Files that only tests are made of.
fn is_test(path: &Path) -> bool {
    path.components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

fn sources() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        if is_test(folder.strip_prefix(&root).unwrap()) {
            continue;
        }
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !is_test(path.strip_prefix(&root).unwrap())
            {
                let first = path
                    .strip_prefix(&root)
                    .unwrap()
                    .components()
                    .next()
                    .unwrap();
                let module = first
                    .as_os_str()
                    .to_string_lossy()
                    .trim_end_matches(".rs")
                    .to_string();
                found.push((module, path));
            }
        }
    }
    found
}

/// Lines of code, with their numbers: comments and tests are free to name what they like.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let lines = lines.take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn modules_import_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for (module, path) in sources() {
        if module == "lib" || module == "main" {
            continue;
        }
        let (_, allowed) = IMPORTS
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| {
                panic!("module {module} is not in the table of tests/architecture.rs");
            });
        for (number, line) in code_lines(&fs::read_to_string(&path).unwrap()) {
            for used in line.split("crate::").skip(1) {
                let used = used
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap();
                let is_module = IMPORTS.iter().any(|(name, _)| *name == used);
                if is_module && used != module && !allowed.contains(&used) {
                    wrong.push(format!(
                        "{}:{number}: {module} may not use {used}",
                        path.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn libraries_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for (module, path) in sources() {
        for (number, line) in code_lines(&fs::read_to_string(&path).unwrap()) {
            for (text, allowed) in CONFINED {
                if line.contains(text) && !allowed.contains(&module.as_str()) {
                    wrong.push(format!(
                        "{}:{number}: {text:?} belongs in {allowed:?}",
                        path.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
