//! The child process that reads one file and dies: `inglenook extract-worker`. Gives up its own rights to memory and
//! time before it looks at the file, says each page as soon as it is read, and never asks for anything.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use super::protocol::{self, Message, Page, Refusal, Request};
use super::reader::{self, Budget, Source};

/// Nesting in a file is recursion in its parser.
const STACK_BYTES: usize = 128 << 20;

/// Reads a request and a file from `input`, writes messages to `output`.
pub fn run<I, O>(input: I, output: O) -> ExitCode
where
    I: Read + Send + 'static,
    O: Write + Send + 'static,
{
    // A panic ends a page, not the process; its message goes to the parent as the page's failure.
    std::panic::set_hook(Box::new(|_| {}));
    let reader = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || serve(input, output));
    match reader.map(|reader| reader.join()) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn serve(input: impl Read, mut output: impl Write) -> std::io::Result<()> {
    let mut input = BufReader::new(input);
    let request = protocol::read_request(&mut input)?;
    limit_self(&request)?;
    let mut bytes = Vec::new();
    read_all(&mut input, &mut bytes)?;
    let mut say = |message: &Message| protocol::write_message(&mut output, &request.mark, message);
    let source = Source {
        format: request.format,
        bytes,
        filename: &request.filename,
        password: request.password.as_deref(),
        wants_scans: request.wants_scans,
    };
    let opened = caught(|| reader::open(source, &Budget::default()));
    let mut reader = match opened.unwrap_or_else(|panic| Err(Refusal::Invalid(panic))) {
        Ok(reader) => reader,
        Err(refusal) => return say(&Message::Refused(refusal)),
    };
    say(&Message::Opened {
        num_pages: reader.num_pages(),
        title: reader.title(),
    })?;
    for number in request.first_page..=reader.num_pages() {
        let content = caught(|| reader.page(number)).unwrap_or_else(Err);
        say(&Message::Page(Page { number, content }))?;
    }
    say(&Message::Done)?;
    // The parent has all it wants: let the operating system free the memory.
    std::process::exit(0)
}

fn read_all(input: &mut impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    input.read_to_end(bytes).map(|_| ())
}

/// Limits that nothing in the file can lift. What the program itself has mapped by now does not count: a build for
/// a GPU maps gigabytes of libraries.
fn limit_self(request: &Request) -> std::io::Result<()> {
    let memory = mapped_bytes().saturating_add(request.memory_bytes);
    limit(memory, request.cpu_seconds)
}

/// How long a child may compute that is given `time` by the clock. The clock ends it first, and says why; this limit is
/// for threads that compute at the same time, and for a child whose Inglenook was killed.
pub(super) fn cpu_seconds(time: Duration) -> u64 {
    2 * time.as_secs() + 1
}

/// Limits this process: the bytes that it may map, and the time that it may compute.
pub(super) fn limit(memory_bytes: u64, cpu_seconds: u64) -> std::io::Result<()> {
    use rlimit::Resource;
    for (resource, limit) in [
        (Resource::AS, memory_bytes),
        (Resource::CPU, cpu_seconds),
        (Resource::CORE, 0),
    ] {
        let (_, hard) = resource.get()?;
        let limit = limit.min(hard);
        resource.set(limit, limit)?;
    }
    Ok(())
}

/// The address space in use, where the system tells.
fn mapped_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kibibytes = line.and_then(|line| {
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
    });
    kibibytes.unwrap_or(0) << 10
}

/// Runs `work`; a panic becomes its message.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
        let message: String = message
            .unwrap_or_else(|| "panicked".to_owned())
            .chars()
            .take(200)
            .collect();
        format!("its reader stopped at {message:?}")
    })
}
