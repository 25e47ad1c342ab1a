//! Starts the real program on a real port with tiny models, and speaks HTTP to it. Ends it, whatever happens.
#![allow(dead_code)]

pub mod collection;
pub mod scans;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use inglenook::embedding::testing::write_tiny_bert;
use inglenook::llm::testing::{FRAMING_TEMPLATE, Script, write_scripted_gguf};
use serde_json::{Value, json};

/// What the scripted model says, whatever it is asked.
pub const SCRIPT: &str =
    "The keeper of the lighthouse is Maren Holt [1]. An invented source [99] is not shown.";
/// How it reaches the reader of an answer from documents.
pub const SHOWN: &str =
    "The keeper of the lighthouse is Maren Holt [1]. An invented source is not shown.";

/// Longest time that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Tiny models on disk, made once a test binary.
pub struct Models {
    pub embedder: PathBuf,
    /// Says [`SCRIPT`] and ends.
    pub scripted: PathBuf,
    /// Never ends by itself.
    pub endless: PathBuf,
}

pub fn models() -> &'static Models {
    static MODELS: OnceLock<Models> = OnceLock::new();
    MODELS.get_or_init(|| {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("models-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let models = Models {
            embedder: dir.join("tiny-bert"),
            scripted: dir.join("scripted.gguf"),
            endless: dir.join("endless.gguf"),
        };
        std::fs::create_dir_all(&models.embedder).unwrap();
        write_tiny_bert(&models.embedder).unwrap();
        write_scripted_gguf(&models.scripted, &Script::once(SCRIPT)).unwrap();
        write_scripted_gguf(&models.endless, &Script::endless("tick tock")).unwrap();
        models
    })
}

/// Where this test binary keeps a chat model of this name.
pub fn model_path(name: &str) -> PathBuf {
    models().scripted.with_file_name(format!("{name}.gguf"))
}

/// A server with this chat model, and no other.
pub fn serve_model(path: PathBuf) -> TestServer {
    Setup {
        chat_model: Some(path),
        embedding_model: None,
        ..Setup::default()
    }
    .start()
}

/// A server with a chat model of this name that says the script.
pub fn serve_script(name: &str, script: &Script) -> TestServer {
    let path = model_path(name);
    write_scripted_gguf(&path, script).unwrap();
    serve_model(path)
}

/// As [`serve_script`], of a model that is shown where each message begins and ends.
pub fn serve_framed(name: &str, script: Script) -> TestServer {
    serve_script(name, &script.with_template(FRAMING_TEMPLATE))
}

pub struct TestServer {
    child: Child,
    pub base: String,
    pub data_dir: PathBuf,
    banner: String,
    _temporary: Option<tempfile::TempDir>,
}

/// How to start a server.
pub struct Setup {
    pub chat_model: Option<PathBuf>,
    pub embedding_model: Option<PathBuf>,
    pub data_dir: Option<PathBuf>,
    pub args: Vec<String>,
    pub environment: Vec<(&'static str, &'static str)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            chat_model: Some(models().scripted.clone()),
            embedding_model: Some(models().embedder.clone()),
            data_dir: None,
            args: Vec::new(),
            environment: Vec::new(),
        }
    }
}

impl Setup {
    pub fn endless() -> Self {
        Self {
            chat_model: Some(models().endless.clone()),
            ..Self::default()
        }
    }

    pub fn in_dir(mut self, dir: &Path) -> Self {
        self.data_dir = Some(dir.to_path_buf());
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.to_string()));
        self
    }

    pub fn start(self) -> TestServer {
        TestServer::start(self)
    }
}

/// The program with an environment of its own, so that nothing of this machine reaches it.
pub fn program(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inglenook"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy().into_owned();
        if name_text.starts_with("INGLENOOK_") || name_text.starts_with("HF_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(data_dir)
        .env("HOME", data_dir)
        // Tests mean the same whatever is installed.
        .env("INGLENOOK_OCR", "off")
        .arg("--data-dir")
        .arg(data_dir);
    command
}

impl TestServer {
    fn start(setup: Setup) -> Self {
        let (data_dir, temporary) = match setup.data_dir {
            Some(dir) => (dir, None),
            None => {
                let temporary = tempfile::tempdir().unwrap();
                (temporary.path().to_path_buf(), Some(temporary))
            }
        };
        let mut command = program(&data_dir);
        if let Some(model) = setup.chat_model {
            command.arg("--chat-model").arg(model);
        }
        if let Some(model) = setup.embedding_model {
            command.arg("--embedding-model").arg(model);
        }
        let mut child = command
            .args(["--port", "0", "--log", "warn"])
            .args(&setup.args)
            .envs(setup.environment)
            .arg("serve")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut banner = String::new();
        let base = loop {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("the server ended at start: {banner}"))
                .unwrap();
            banner.push_str(&line);
            banner.push('\n');
            if let Some(base) = line.strip_prefix("Open ") {
                break base.to_string();
            }
        };
        Self {
            child,
            base,
            data_dir,
            banner,
            _temporary: temporary,
        }
    }

    pub fn banner(&self) -> &str {
        &self.banner
    }

    pub fn address(&self) -> &str {
        self.base.strip_prefix("http://").unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As the kernel does it when memory runs out, or a power cut.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub fn wait(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn get(&self, path: &str) -> Reply {
        reply(agent().get(self.url(path)).call().unwrap())
    }

    pub fn delete(&self, path: &str) -> Reply {
        reply(agent().delete(self.url(path)).call().unwrap())
    }

    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.post_bytes(path, body.to_string().as_bytes(), "application/json")
    }

    pub fn post_bytes(&self, path: &str, body: &[u8], media_type: &str) -> Reply {
        reply(
            agent()
                .post(self.url(path))
                .header("content-type", media_type)
                .send(body)
                .unwrap(),
        )
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn upload(&self, filename: &str, content: &[u8]) -> Reply {
        let boundary = "inglenook-test-boundary";
        let mut body = Vec::new();
        write!(
            body,
            "--{boundary}\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n"
        )
        .unwrap();
        write!(
            body,
            "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\
             content-type: application/octet-stream\r\n\r\n"
        )
        .unwrap();
        body.extend_from_slice(content);
        write!(body, "\r\n--{boundary}--\r\n").unwrap();
        self.post_bytes(
            "/v1/files",
            &body,
            &format!("multipart/form-data; boundary={boundary}"),
        )
    }

    /// The collection that the browser app uses.
    pub fn collection(&self) -> String {
        self.get("/api/status").json()["default_vector_store_id"]
            .as_str()
            .unwrap()
            .to_string()
    }

    /// Uploads and attaches, and waits for the end of ingestion. Returns the file's id and its document.
    pub fn ingest(&self, collection: &str, filename: &str, content: &[u8]) -> (String, Value) {
        let file_id = self.upload(filename, content).ok()["id"]
            .as_str()
            .unwrap()
            .to_string();
        self.post(
            &format!("/v1/vector_stores/{collection}/files"),
            json!({ "file_id": file_id }),
        )
        .ok();
        let document = self.wait_for(collection, &file_id);
        (file_id, document)
    }

    pub fn wait_for(&self, collection: &str, file_id: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let document = self
                .get(&format!("/v1/vector_stores/{collection}/files/{file_id}"))
                .ok();
            if document["status"] != "in_progress" {
                return document;
            }
            assert!(
                Instant::now() < deadline,
                "ingestion did not end: {document}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a request over a socket of its own and leaves the answer unread.
    pub fn open(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        socket
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .proxy(None)
        .build()
        .new_agent()
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

fn reply(mut response: ureq::http::Response<ureq::Body>) -> Reply {
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                value.to_str().unwrap_or_default().to_string(),
            )
        })
        .collect();
    let mut body = Vec::new();
    response
        .body_mut()
        .as_reader()
        .read_to_end(&mut body)
        .unwrap();
    Reply {
        status: response.status().as_u16(),
        headers,
        body,
    }
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "not JSON ({error}): {}",
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    /// The body of a success.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The error of this status, in the API's shape with all four keys.
    pub fn error(&self, status: u16) -> Value {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        let body = self.json();
        let error = body["error"]
            .as_object()
            .unwrap_or_else(|| panic!("no error object: {body}"));
        for key in ["message", "type", "param", "code"] {
            assert!(error.contains_key(key), "{key} is missing: {body}");
        }
        assert!(!error["message"].as_str().unwrap().is_empty());
        body["error"].clone()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The `data:` payloads of an event stream, without `[DONE]`.
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        let text = std::str::from_utf8(&self.body).unwrap();
        let payloads = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]");
        payloads
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}
