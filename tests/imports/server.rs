//! A small web site on a real socket. Each connection has a thread, so that one that hangs holds up no other.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug)]
pub struct Request {
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
}

#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Sends the head and nothing else, until the client gives up.
    pub hangs: bool,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn html(body: impl Into<String>) -> Self {
        let mut reply = Self::status(200).header("content-type", "text/html; charset=utf-8");
        reply.body = body.into().into_bytes();
        reply
    }

    pub fn bytes(media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut reply = Self::status(200).header("content-type", media_type);
        reply.body = body.into();
        reply
    }

    pub fn redirect(to: impl Into<String>) -> Self {
        Self::status(302).header("location", to)
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Answers 304 to who has it already.
    pub fn tagged(self, request: &Request, etag: &str) -> Self {
        match request.headers.get("if-none-match") {
            Some(known) if known == etag => Self::status(304),
            _ => self.header("etag", etag),
        }
    }
}

pub struct Site {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Site {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let answer = Arc::new(answer);
        let thread = std::thread::spawn({
            let (requests, is_stopping) = (Arc::clone(&requests), Arc::clone(&is_stopping));
            move || {
                for stream in listener.incoming() {
                    if is_stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                    std::thread::spawn(move || {
                        // A client that hangs up is none of the site's worries.
                        let _ = serve(stream.unwrap(), &*answer, &requests);
                    });
                }
            }
        });
        Self {
            address,
            requests,
            is_stopping,
            thread: Some(thread),
        }
    }

    /// A site with these pages, and 404 elsewhere.
    pub fn with_pages(pages: &[(&str, &str)]) -> Self {
        let pages = pages
            .iter()
            .map(|(path, body)| (path.to_string(), body.to_string()));
        let pages: HashMap<String, String> = pages.collect();
        Self::start(move |request| match pages.get(&request.path) {
            Some(body) => Reply::html(body.as_str()),
            None => Reply::status(404),
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// What was asked for, in order, without robots.txt.
    pub fn paths(&self) -> Vec<String> {
        let paths = self.requests().into_iter().map(|request| request.path);
        paths.filter(|path| path != "/robots.txt").collect()
    }

    pub fn forget_requests(&self) {
        self.requests.lock().unwrap().clear();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &(dyn Fn(&Request) -> Reply + Send + Sync),
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let Some(first) = lines.next() else {
        return Ok(());
    };
    let path = first?.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let request = Request { path, headers };
    requests.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    write!(
        stream,
        "HTTP/1.1 {} Whatever\r\nconnection: close\r\n",
        reply.status
    )?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    let announced = reply.body.len() + usize::from(reply.hangs);
    write!(stream, "content-length: {announced}\r\n\r\n")?;
    stream.write_all(&reply.body)?;
    stream.flush()?;
    if reply.hangs {
        let _ = stream.read(&mut [0]);
    }
    Ok(())
}
