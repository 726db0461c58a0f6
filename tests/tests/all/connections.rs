//! The limits of connections over real sockets: their number, the size of heads, and clients that do not read.

use std::time::Duration;

use bespeak_tests::{Books, Client, Server, until_within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// How long to wait for what a busy machine does late.
const PATIENCE: Duration = Duration::from_secs(60);

async fn server(settings: &[(&str, &str)]) -> (Server, Books) {
    let books = Books::sqlite();
    let server = Server::start(&books, settings).await;
    server.stock("seat", 10).await;
    (server, books)
}

fn address(server: &Server) -> std::net::SocketAddr {
    server.url.trim_start_matches("http://").parse().expect("an address")
}

async fn socket(server: &Server) -> TcpStream {
    TcpStream::connect(address(server)).await.expect("connected")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Sends a request on a connection of its own, and reads until the server closes it or `end` has arrived.
async fn ask(server: &Server, request: &str, end: &str) -> String {
    let mut stream = socket(server).await;
    send_and_read(&mut stream, request, end).await
}

async fn send_and_read(stream: &mut TcpStream, request: &str, end: &str) -> String {
    // The server may close the connection before everything is sent.
    let _ = stream.write_all(request.as_bytes()).await;
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    let whole = tokio::time::timeout(PATIENCE, async {
        while !text.contains(end) {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
            }
        }
    });
    whole.await.expect("answered in time");
    text
}

#[tokio::test]
async fn a_head_may_have_so_many_bytes_and_no_more() {
    let (server, _books) = server(&[]).await;
    let with_header = |bytes: usize| {
        format!("GET /health/live HTTP/1.1\r\nHost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(bytes))
    };
    assert!(ask(&server, &with_header(15_000), "}").await.starts_with("HTTP/1.1 200"));
    for bytes in [17_000, 400_000] {
        let text = ask(&server, &with_header(bytes), "never").await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{bytes}: {text:?}");
    }
    let text = ask(&server, &with_header(17_000), "never").await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text:?}");
    let (server, _books) = self::server(&[("BESPEAK_HEAD_BYTES_MAX", "65536")]).await;
    assert!(ask(&server, &with_header(60_000), "}").await.starts_with("HTTP/1.1 200"));
}

/// A client that asks for megabytes and does not read them loses its connection, and with it the server its answers.
#[tokio::test]
async fn a_client_that_does_not_take_its_answers_is_disconnected() {
    let (server, _books) = server(&[("BESPEAK_RESPONSE_TIMEOUT_SECONDS", "1")]).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(address(&server)).await.expect("connected");
    // More than a megabyte each, which no buffer of the kernel holds together.
    let requests = get("/docs/swagger-ui-bundle.js").repeat(12);
    stream.write_all(requests.as_bytes()).await.expect("sent");
    until_within(PATIENCE, "the client is disconnected", async || {
        server.text("/metrics").await.contains("closed_total{reason=\"slow_reader\"} 1")
    })
    .await;
    let mut taken = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut taken)).await.expect("it ends");
    assert!(end.is_err(), "the connection is reset: {end:?}, {} bytes", taken.len());
    // A client that takes its answers gets them, however large.
    let last = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let text = ask(&server, last, "never-in-the-file").await;
    assert!(text.len() > 500_000, "{} bytes", text.len());
}

/// Beyond the limit, an orchestrator still learns that the process lives, and other clients learn that they may retry.
#[tokio::test]
async fn health_checks_are_answered_beyond_the_limit_of_connections() {
    let settings = [("BESPEAK_CONNECTIONS_MAX", "2"), ("BESPEAK_REQUEST_TIMEOUT_SECONDS", "300")];
    let books = Books::sqlite();
    let server = Server::start(&books, &settings).await;
    // The first two connections of this server are never idle: their heads do not end.
    let mut senders = [socket(&server).await, socket(&server).await];
    for sender in &mut senders {
        sender.write_all(b"GET /api/v1/resources HTTP/1.1\r\nHost: localhost\r\n").await.expect("sent");
    }
    until_within(PATIENCE, "all places are taken", async || {
        ask(&server, &get("/api/v1/resources"), "}").await.starts_with("HTTP/1.1 503")
    })
    .await;
    for path in ["/health/live", "/health/ready"] {
        let text = ask(&server, &get(path), "}").await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{path}: {text}");
    }
    let refused = ask(&server, &get("/api/v1/resources"), "}").await;
    for part in ["HTTP/1.1 503", "retry-after: 1", "connection: close", "unavailable", "too many connections"]
    {
        assert!(refused.contains(part), "{part} is not in {refused}");
    }
    // The two get their answers, and their places are free again.
    for mut sender in senders {
        let text = send_and_read(&mut sender, "\r\n", "}").await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
    until_within(PATIENCE, "a place is free", async || {
        ask(&server, &get("/api/v1/resources"), "}").await.starts_with("HTTP/1.1 200")
    })
    .await;
    assert!(server.text("/metrics").await.contains("closed_total{reason=\"limit\"} "));
}

/// Idle connections do not keep others out: they end when their places are wanted.
#[tokio::test]
async fn idle_connections_make_room() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[("BESPEAK_CONNECTIONS_MAX", "2")]).await;
    // The first two connections of this server.
    let mut idle = [socket(&server).await, socket(&server).await];
    until_within(PATIENCE, "the idle connections have their places", async || {
        ask(&server, &get("/api/v1/resources"), "}").await.starts_with("HTTP/1.1 503")
    })
    .await;
    until_within(PATIENCE, "one of them made room", async || {
        ask(&server, &get("/api/v1/resources"), "}").await.starts_with("HTTP/1.1 200")
    })
    .await;
    let ended = async |stream: &mut TcpStream| {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 16])).await.expect("it ends");
        matches!(read, Ok(0) | Err(_))
    };
    for stream in &mut idle {
        assert!(ended(stream).await);
    }
}

/// The line has what an operator needs to find a client, and nothing that lets a reader of the log act.
#[tokio::test]
async fn an_access_line_has_the_route_and_no_token() {
    let (server, _books) = server(&[("BESPEAK_ACCESS_LOG", "on")]).await;
    let token = server.hold("secret-key", "seat").await;
    server.show(&token).await;
    let lines = || {
        let lines = server.logged("INFO");
        lines.into_iter().filter(|line| line.contains("\"target\":\"access\"")).collect::<Vec<_>>()
    };
    let shown = || lines().into_iter().find(|line| line.contains("/api/v1/reservations/{token}"));
    until_within(PATIENCE, "the line is written", async || shown().is_some()).await;
    let line: serde_json::Value = serde_json::from_str(&shown().expect("a line")).expect("JSON");
    assert_eq!((&line["method"], &line["status"]), (&"GET".into(), &200.into()), "{line}");
    assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
    assert!(line["took_ms"].is_number() && line["request_id"].is_string(), "{line}");
    for line in lines() {
        assert!(!line.contains(&token) && !line.contains("secret-key"), "{line}");
    }
    let (quiet, _books) = self::server(&[]).await;
    assert!(quiet.logged("INFO").iter().all(|line| !line.contains("\"target\":\"access\"")));
}

/// A web page that makes its own name resolve to 127.0.0.1 is not served, and neither is one of another origin.
#[tokio::test]
async fn a_loopback_server_serves_only_names_of_this_machine() {
    let request =
        |method: &str, path: &str, headers: &str| format!("{method} {path} HTTP/1.1\r\n{headers}\r\n");
    let (open, _books) = server(&[]).await;
    let port = address(&open).port();
    for good in [
        format!("Host: localhost:{port}\r\n"),
        format!("Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"),
        "Host: [::1]:8080\r\n".to_owned(),
        "Host: bespeak.localhost\r\n".to_owned(),
    ] {
        let text = ask(&open, &request("GET", "/api/v1/resources/seat", &good), "}").await;
        assert!(text.starts_with("HTTP/1.1 200"), "{good}: {text}");
    }
    for (bad, field) in [
        ("Host: evil.example\r\n", "Host"),
        ("Host: localhost.evil.example:8080\r\n", "Host"),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", "Origin"),
        ("Host: localhost\r\nOrigin: null\r\n", "Origin"),
    ] {
        for (method, path) in
            [("GET", "/api/v1/resources/seat"), ("GET", "/docs/"), ("POST", "/api/v1/webhooks")]
        {
            let text = ask(&open, &request(method, path, bad), "}").await;
            assert!(text.starts_with("HTTP/1.1 421") && text.contains("host-not-allowed"), "{bad}: {text}");
            assert!(text.contains(&format!("\"field\":\"{field}\"")), "{text}");
        }
    }
    let absolute = "GET http://evil.example/api/v1/resources/seat HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(ask(&open, absolute, "}").await.starts_with("HTTP/1.1 421"));
    // Probes name any host, or none, and no browser leaves the host out.
    let probe = ask(&open, &request("GET", "/health/live", "Host: evil.example\r\n"), "}").await;
    assert!(probe.starts_with("HTTP/1.1 200"), "{probe}");
    let old = ask(&open, "GET /api/v1/resources/seat HTTP/1.0\r\n\r\n", "}").await;
    assert!(old.starts_with("HTTP/1.0 200") || old.starts_with("HTTP/1.1 200"), "{old}");

    for (setting, good, bad) in
        [("any", "evil.example", ""), ("shop.example", "shop.example:443", "localhost")]
    {
        let books = Books::sqlite();
        let server = Server::start(&books, &[("BESPEAK_ALLOWED_HOSTS", setting)]).await;
        let seen = async |host: &str| {
            let text =
                ask(&server, &request("GET", "/api/v1/resources", &format!("Host: {host}\r\n")), "}").await;
            text.split(' ').nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(seen(good).await, "200", "{setting}");
        if !bad.is_empty() {
            assert_eq!(seen(bad).await, "421", "{setting}");
        }
    }
}
