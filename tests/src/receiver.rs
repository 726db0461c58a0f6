//! A receiver of webhooks: a socket that answers as the test sets it up, and keeps the messages.

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

/// The reaction of a receiver to a message that it has read.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers with a status, further header lines (each with its line end) and a body.
    Answer(u16, String, String),
    /// Answers with a status, and with the beginning of a body that never ends.
    HalfABody(u16),
    /// Sends nothing and keeps the connection open.
    Nothing,
    /// Closes the connection without an answer.
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

/// A received message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The path and the query of the request.
    pub path: String,
    /// The request headers.
    pub headers: HeaderMap,
    /// The request body.
    pub body: String,
}

impl Message {
    /// A header as text; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Whether the message is signed with this secret, by the library that receivers use.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let webhook = standardwebhooks::Webhook::new(secret).expect("a secret");
        webhook.verify(self.body.as_bytes(), &self.headers).is_ok()
    }
}

/// A running receiver; it and its connections end when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    says: Arc<Mutex<Behaviour>>,
    messages: Arc<Mutex<Vec<Message>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts a receiver on a free port of this machine.
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

    /// Stops listening, so that connections are refused.
    pub async fn close(mut self) {
        self.task.abort();
        // The result is the cancellation.
        let _ = (&mut self.task).await;
    }

    /// Changes the behaviour from now on.
    pub fn says(&self, says: Behaviour) {
        *self.says.lock().expect("no panic under the lock") = says;
    }

    /// The URL of the receiver.
    pub fn url(&self) -> String {
        format!("http://{}/hooks?tenant=7", self.address)
    }

    /// The URL with a host name instead of an address.
    pub fn url_by_name(&self) -> String {
        format!("http://localhost:{}/hooks", self.address.port())
    }

    /// The received messages, in order.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().expect("no panic under the lock").clone()
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one message and reacts to it. A connection that ends early gets no answer.
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
    // Waits until the sender closes the connection.
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
