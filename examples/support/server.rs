//! A server that a measuring program starts. It ends with that program, however that ends.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};

pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts `command` as a server on a free port, and waits until it serves. `read` is given each line that it says
    /// first. Returns the base URL too.
    pub fn start(command: &mut Command, read: impl Fn(&str)) -> io::Result<(Self, String)> {
        let mut child = command
            .args(["--port", "0", "--log", "warn", "serve"])
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take();
        let server = Self(child);
        for line in out.into_iter().flat_map(|out| BufReader::new(out).lines()) {
            let line = line?;
            read(&line);
            if let Some(base) = line.strip_prefix("Open ") {
                return Ok((server, base.to_owned()));
            }
        }
        Err(io::Error::other("the server ended at its start"))
    }
}
