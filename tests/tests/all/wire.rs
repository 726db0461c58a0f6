//! HTTP over real sockets: pipelining, half-closed connections, slow senders, malformed requests.

use std::time::{Duration, Instant};

use bespeak_tests::{Books, Client, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn server() -> (Server, Books) {
    let books = Books::sqlite();
    let server = Server::start(&books, &[("BESPEAK_REQUEST_TIMEOUT_SECONDS", "1")]).await;
    server.stock("seat", 10).await;
    (server, books)
}

async fn socket(server: &Server) -> TcpStream {
    TcpStream::connect(server.url.trim_start_matches("http://")).await.expect("connected")
}

/// Reads until the server closes the connection or `answers` answers have arrived.
async fn read(stream: &mut TcpStream, answers: usize) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let whole = tokio::time::timeout(Duration::from_secs(10), async {
        while text.matches("HTTP/1.1 ").count() < answers || !text.ends_with('}') {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
            }
        }
    });
    whole.await.expect("answered in time");
    text
}

fn reserve(key: &str) -> String {
    let body = r#"{"resourceId":"seat","quantity":1}"#;
    format!(
        "POST /api/v1/reserve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (server, books) = server().await;
    let mut stream = socket(&server).await;
    let requests: String = ["a", "b", "a"].map(reserve).concat()
        + "GET /api/v1/resources/seat HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(requests.as_bytes()).await.expect("sent");
    let text = read(&mut stream, 4).await;
    assert_eq!(text.matches("HTTP/1.1 200").count(), 4, "{text}");
    assert_eq!(text.matches("idempotent-replayed: true").count(), 1, "{text}");
    assert!(text.contains(r#""availableStock":8"#), "{text}");
    books.assert_consistent().await;
}

#[tokio::test]
async fn a_client_that_closed_its_sending_side_gets_its_answer() {
    let (server, _books) = server().await;
    let mut stream = socket(&server).await;
    stream.write_all(reserve("k").as_bytes()).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    assert!(read(&mut stream, 1).await.contains("HTTP/1.1 200"));
    // A request that ends inside its head or its body gets a problem that names the part.
    for (cut, why) in [(40, "malformed-request"), (reserve("k").len() - 5, "malformed-body")] {
        let mut stream = socket(&server).await;
        stream.write_all(&reserve("other").as_bytes()[..cut]).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        let text = read(&mut stream, 1).await;
        assert!(text.contains("HTTP/1.1 400") && text.contains(why), "{cut}: {text:?}");
    }
}

#[tokio::test]
async fn a_slow_sender_gets_408_and_an_idle_connection_stays_open() {
    let (server, _books) = server().await;
    let mut idle = socket(&server).await;
    for cut in [30, reserve("k").len() - 5] {
        let mut stream = socket(&server).await;
        let started = Instant::now();
        stream.write_all(&reserve("k").as_bytes()[..cut]).await.expect("sent");
        let text = read(&mut stream, 1).await;
        assert!(text.contains("HTTP/1.1 408") && text.contains("request-timeout"), "{cut}: {text:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    // The idle connection has been open for longer than the request timeout.
    idle.write_all(reserve("late").as_bytes()).await.expect("sent");
    assert!(read(&mut idle, 1).await.contains("HTTP/1.1 200"));
}

#[tokio::test]
async fn malformed_requests_are_refused_and_the_server_keeps_serving() {
    let (server, books) = server().await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(600_000));
    for noise in ["\u{16}\u{3}\u{1}\u{2}", "GARBAGE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &long] {
        let mut stream = socket(&server).await;
        // The server may close the connection before everything is sent.
        let _ = stream.write_all(noise.as_bytes()).await;
        let text = read(&mut stream, 1).await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text:?}");
    }
    for _ in 0..50 {
        drop(socket(&server).await);
    }
    let mut stream = socket(&server).await;
    stream.write_all(reserve("k").as_bytes()).await.expect("sent");
    assert!(read(&mut stream, 1).await.contains("HTTP/1.1 200"));
    assert_eq!(
        server.logged("ERROR"),
        Vec::<String>::new(),
        "a client's mistake must not be logged as an error"
    );
    books.assert_consistent().await;
}
