//! Measures what the server adds to the engine: for a request, and for each token of a stream, over real sockets. A scripted
//! model, which costs almost nothing to compute, is asked through the server and straight through the engine. Prints JSON.
//!
//!     cargo run --release --example api_overhead -- target/release/inglenook
//!
//! Another server of the same model can be asked beside it, by the command that starts it; its model reads the file
//! in its own way, so that only its times compare:
//!
//!     ... -- target/release/inglenook python -m llama_cpp.server --model {model} --port {port} --n_ctx 4096

#[path = "support/server.rs"]
mod server;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use inglenook::config::Settings;
use inglenook::llm::testing::{Script, write_scripted_gguf};
use inglenook::rag::generate::{ChatModel, GenerationEvent, GenerationOptions};
use serde_json::{Value, json};
use server::Server;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const REQUESTS: usize = 500;
const TOKENS: usize = 2000;
const STREAMS: usize = 8;
/// Both read it as one token a letter.
const PROMPT: &str = "What does the clock say?";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let program = arguments
        .next()
        .ok_or("usage: api_overhead PROGRAM [OTHER SERVER...]")?;
    let other: Vec<String> = arguments.collect();
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("clock.gguf");
    write_scripted_gguf(&model, &Script::endless("tick tock"))?;

    let engine = through_engine(&model)?;
    let (server, address) = start(Path::new(&program), dir.path(), &model)?;
    let server_side = through_server(&address)?;
    drop(server);
    let other = match other.split_first() {
        Some((program, arguments)) => Some(other_server(program, arguments, &model)?),
        None => None,
    };

    let per_token = |at: usize| server_side.token_us[at] - engine.token_us[at];
    let report = json!({
        "request_us": {
            "one_token_through_server": server_side.request_us,
            "one_token_through_engine": engine.request_us,
            "overhead": server_side.request_us - engine.request_us,
        },
        "token_us": {
            "one_stream": {
                "through_server": server_side.token_us[0],
                "through_engine": engine.token_us[0],
                "overhead": per_token(0),
            },
            "streams_together": {
                "streams": STREAMS,
                "through_server": server_side.token_us[1],
                "through_engine": engine.token_us[1],
                "overhead": per_token(1),
            },
        },
        "requests": REQUESTS,
        "tokens_of_a_stream": TOKENS,
        "other_server": other,
    });
    println!("{report:#}");
    Ok(())
}

/// The median of requests, and the time of a token alone and beside others, in microseconds.
struct Measured {
    request_us: f64,
    token_us: [f64; 2],
}

fn through_engine(model: &Path) -> Result<Measured> {
    let settings = Settings {
        speculation: "off".into(),
        ..Settings::default()
    };
    let model = model.to_str().ok_or("the path is not text")?;
    let (chat, _) = inglenook::app::load_chat_model(&settings, model)?;
    inglenook::http::runtime().block_on(async move {
        let mut requests = Vec::new();
        for _ in 0..REQUESTS {
            let started = Instant::now();
            generate(&chat, 1).await?;
            requests.push(started.elapsed());
        }
        let mut token_us = [0.0; 2];
        for (place, streams) in [1, STREAMS].into_iter().enumerate() {
            let started = Instant::now();
            try_join_all((0..streams).map(|_| generate(&chat, TOKENS))).await?;
            token_us[place] = micros(started.elapsed()) / (streams * TOKENS) as f64;
        }
        Ok(Measured {
            request_us: median_us(requests),
            token_us,
        })
    })
}

async fn generate(chat: &ChatModel, max_tokens: usize) -> Result<()> {
    let options = GenerationOptions {
        trims_start: false,
        ..GenerationOptions::greedy(Some(max_tokens), Duration::from_secs(120))
    };
    let mut generation = chat.generate(chat.plain_prompt(PROMPT), options)?;
    while let Some(event) = generation.next().await {
        if let GenerationEvent::Finished { usage, .. } = event?
            && usage.num_completion_tokens != max_tokens
        {
            return Err("the engine gave another number of tokens".into());
        }
    }
    Ok(())
}

fn start(program: &Path, dir: &Path, model: &Path) -> Result<(Server, String)> {
    let mut command = Command::new(std::path::absolute(program)?);
    command
        .env("HOME", dir)
        .env("INGLENOOK_SPECULATION", "off")
        .current_dir(dir)
        .args(["--embedding-model", "none", "--data-dir"])
        .arg(dir.join("data"))
        .arg("--chat-model")
        .arg(model);
    let (server, base) = Server::start(&mut command, |_| {})?;
    let address = base.strip_prefix("http://").ok_or("another scheme")?;
    Ok((server, address.to_owned()))
}

/// The same through a server that someone else has written: one request, and one stream alone.
fn other_server(program: &str, arguments: &[String], model: &Path) -> Result<Value> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let model = model.to_str().ok_or("the path is not text")?;
    let filled = |argument: &String| {
        argument
            .replace("{model}", model)
            .replace("{port}", &port.to_string())
    };
    let child = Command::new(program)
        .args(arguments.iter().map(filled))
        .stdout(Stdio::null())
        .spawn()?;
    let _server = Server(child);
    let address = format!("127.0.0.1:{port}");
    let started = Instant::now();
    while TcpStream::connect(&address).is_err() {
        if started.elapsed() > Duration::from_secs(60) {
            return Err("the other server did not start within a minute".into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let request_us = requests_us(&address)?;
    let started = Instant::now();
    let num_texts = read_stream(&address)?;
    Ok(json!({
        "request_us": request_us,
        "texts_of_the_stream": num_texts,
        "text_us": micros(started.elapsed()) / num_texts as f64,
    }))
}

/// The median of requests for one token.
fn requests_us(address: &str) -> Result<f64> {
    let mut connection = Connection::open(address)?;
    let one = json!({ "prompt": PROMPT, "max_tokens": 1, "temperature": 0 });
    let mut requests = Vec::new();
    for _ in 0..REQUESTS {
        let started = Instant::now();
        connection.post(&one)?;
        requests.push(started.elapsed());
    }
    Ok(median_us(requests))
}

fn through_server(address: &str) -> Result<Measured> {
    let request_us = requests_us(address)?;
    let mut token_us = [0.0; 2];
    for (place, streams) in [1, STREAMS].into_iter().enumerate() {
        let started = Instant::now();
        let readers: Vec<_> = (0..streams)
            .map(|_| {
                let address = address.to_owned();
                std::thread::spawn(move || read_stream(&address))
            })
            .collect();
        for reader in readers {
            let num_texts = reader.join().map_err(|_| "a reader panicked")??;
            // One more says why the text ended.
            if num_texts != TOKENS + 1 {
                return Err(format!("{num_texts} events came for {TOKENS} tokens").into());
            }
        }
        token_us[place] = micros(started.elapsed()) / (streams * TOKENS) as f64;
    }
    Ok(Measured {
        request_us,
        token_us,
    })
}

/// Asks for a stream and reads it. Returns the number of its events.
fn read_stream(address: &str) -> Result<usize> {
    let mut connection = Connection::open(address)?;
    let body = json!({ "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "stream": true });
    connection.send("POST /v1/completions", &body.to_string())?;
    let mut num_texts = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if connection.0.read_line(&mut line)? == 0 {
            return Err("the stream broke off".into());
        }
        match line.strip_prefix("data: ").map(str::trim_end) {
            Some("[DONE]") => break,
            Some(_) => num_texts += 1,
            None => {}
        }
    }
    Ok(num_texts)
}

/// A connection that is kept.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: &str) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self(BufReader::new(socket)))
    }

    fn send(&mut self, line: &str, body: &str) -> Result<()> {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(self.0.get_mut().write_all(request.as_bytes())?)
    }

    fn post(&mut self, body: &Value) -> Result<Value> {
        self.send("POST /v1/completions", &body.to_string())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value> {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let line = line.trim_end().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        let answer: Value = serde_json::from_slice(&body)?;
        match answer.get("error") {
            Some(error) => Err(error.to_string().into()),
            None => Ok(answer),
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn median_us(mut durations: Vec<Duration>) -> f64 {
    durations.sort_unstable();
    micros(durations[durations.len() / 2])
}
