//! Somebody who is told of events: a real socket, that answers as it is told to.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What a receiver does with a message that it has read.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers with a status, more headers (each with its line's end) and a body.
    Answer(u16, String, String),
    /// Answers with a status, and with the beginning of a body that never ends.
    HalfABody(u16),
    /// Nothing, for as long as the sender waits.
    Nothing,
    /// Closes the connection.
    Closes,
}

impl Behaviour {
    /// Answers with a status.
    pub fn status(status: u16) -> Self {
        Self::with(status, "")
    }

    /// Answers with a status and one header.
    pub fn with(status: u16, header: &str) -> Self {
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        Self::Answer(status, header, "received".to_owned())
    }
}

/// What was received.
#[derive(Clone, Debug)]
pub struct Message {
    /// The path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

impl Message {
    /// A header as text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Whether a signature is one of this secret, by the library that receivers use.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let webhook = standardwebhooks::Webhook::new(secret).expect("a secret");
        webhook.verify(self.body.as_bytes(), &self.headers).is_ok()
    }
}

/// A receiver; gone when dropped, with all its connections.
pub struct Receiver {
    address: SocketAddr,
    says: Arc<Mutex<Behaviour>>,
    messages: Arc<Mutex<Vec<Message>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// One on a free port of this machine.
    pub async fn start(says: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let says = Arc::new(Mutex::new(says));
        let messages: Arc<Mutex<Vec<Message>>> = Arc::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let (answers, received, count) = (says.clone(), messages.clone(), connections.clone());
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve(stream, answers.clone(), received.clone()));
            }
        });
        Self { address, says, messages, connections, task }
    }

    /// Goes away: nobody can connect any more.
    pub async fn close(mut self) {
        self.task.abort();
        // It was told to end.
        let _ = (&mut self.task).await;
    }

    /// From now on it says something else.
    pub fn says(&self, says: Behaviour) {
        *self.says.lock().expect("no panic under the lock") = says;
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hooks?tenant=7", self.address)
    }

    /// Its URL by a name instead of an address.
    pub fn url_by_name(&self) -> String {
        format!("http://localhost:{}/hooks", self.address.port())
    }

    /// What it has received, in order.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().expect("no panic under the lock").clone()
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one message and answers it. Whoever hangs up early is not answered.
async fn serve(mut stream: TcpStream, says: Arc<Mutex<Behaviour>>, received: Arc<Mutex<Vec<Message>>>) {
    let Some(message) = read(&mut stream).await else { return };
    received.lock().expect("no panic under the lock").push(message);
    let says = says.lock().expect("no panic under the lock").clone();
    let answer = match says {
        Behaviour::Answer(status, headers, body) => format!(
            "HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        ),
        Behaviour::HalfABody(status) => format!("HTTP/1.1 {status} Said\r\nContent-Length: 100\r\n\r\nhalf"),
        Behaviour::Nothing => String::new(),
        Behaviour::Closes => return,
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    // Until the other side is done.
    let _ = stream.read(&mut [0; 1]).await;
}

async fn read(stream: &mut TcpStream) -> Option<Message> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
        let mut lines = head.split("\r\n");
        let path = lines.next()?.split(' ').nth(1)?.to_owned();
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            let name = HeaderName::try_from(name).expect("a name");
            headers.append(name, HeaderValue::try_from(value).expect("a value"));
        }
        let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
        if bytes.len() >= end + 4 + length {
            let body = String::from_utf8(bytes[end + 4..].to_vec()).expect("text");
            return Some(Message { path, headers, body });
        }
    }
}
