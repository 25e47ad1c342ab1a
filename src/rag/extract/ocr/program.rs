//! Runs a program on a file that may be hostile: with limits of memory, processor time and output, and ended when it is
//! late or nobody waits any more.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::super::worker;

pub struct Program<'a> {
    /// Inglenook itself, which limits itself and then becomes the program.
    pub runner: &'a Path,
    pub path: &'a Path,
    pub memory_bytes: u64,
    pub time: Duration,
    pub max_output_bytes: u64,
}

impl Program<'_> {
    /// What the program writes when it reads `input`. Dropping the future ends the program.
    pub async fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let not_started = |error: std::io::Error| format!("{name} did not start: {error}");
        let mut child = Command::new(self.runner)
            .arg("run-limited")
            .arg(self.memory_bytes.to_string())
            .arg(worker::cpu_seconds(self.time).to_string())
            .arg(self.path)
            .args(arguments)
            // Threads that wait for each other by spinning cost more than they gain beside other work.
            .env("OMP_THREAD_LIMIT", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(not_started)?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let send = async move {
            // A program that ends early no longer reads; its end says why.
            let _ = stdin.write_all(input).await;
        };
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let mut limited = stdout.take(self.max_output_bytes + 1);
        let work = async {
            let (_, read) = tokio::join!(send, async {
                tokio::join!(limited.read_to_end(&mut output), tail(stderr, &mut errors)).0
            });
            read.map_err(|error| format!("{name} cannot be read: {error}"))
        };
        let ended = tokio::time::timeout(self.time, work).await;
        let is_too_much = output.len() as u64 > self.max_output_bytes;
        if ended.is_err() || is_too_much {
            let _ = child.start_kill();
        }
        let status = child.wait().await.map_err(not_started)?;
        match ended {
            Err(_) => return Err(format!("{name} took longer than {} s", self.time.as_secs())),
            Ok(Err(reason)) => return Err(reason),
            Ok(Ok(_)) => {}
        }
        if is_too_much {
            return Err(format!(
                "{name} wrote more than {} bytes",
                self.max_output_bytes
            ));
        }
        if !status.success() {
            let errors = String::from_utf8_lossy(&errors);
            let said: Vec<&str> = errors.lines().filter(|line| !line.is_empty()).collect();
            let said = said.last().copied().unwrap_or_default();
            let said: String = said.chars().take(200).collect();
            return Err(format!("{name} failed ({status}): {said}"));
        }
        Ok(output)
    }
}

/// The end of what a program says, however much it says.
async fn tail(mut errors: tokio::process::ChildStderr, kept: &mut Vec<u8>) {
    const KEPT: usize = 4 << 10;
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = errors.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..n]);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
}

/// Limits this process and becomes the program that is named. Returns only when that fails.
pub fn run_limited(memory_bytes: u64, cpu_seconds: u64, command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        eprintln!("no program was named");
        return ExitCode::FAILURE;
    };
    if let Err(error) = worker::limit(memory_bytes, cpu_seconds) {
        eprintln!("the limits cannot be set: {error}");
        return ExitCode::FAILURE;
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    eprintln!("{} cannot be run: {error}", program.to_string_lossy());
    ExitCode::FAILURE
}

/// The languages that tesseract has data for.
pub fn languages(tesseract: &Path) -> Result<Vec<String>, String> {
    let output = std::process::Command::new(tesseract)
        .arg("--list-langs")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} cannot be run: {error}", tesseract.display()))?;
    let listed = String::from_utf8_lossy(&output.stdout);
    // The first line is a heading, which some versions write elsewhere.
    let names = listed.lines().filter(|line| !line.contains(' '));
    let names: Vec<String> = names.map(|line| line.trim().to_owned()).collect();
    match output.status.success() && !names.is_empty() {
        true => Ok(names),
        false => Err(format!(
            "{} lists no languages; install its language data (Debian: apt install tesseract-ocr-eng)",
            tesseract.display()
        )),
    }
}
