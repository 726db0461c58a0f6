//! A server that is started, killed, frozen, emptied, given another time, and taken away by its gate.

use std::path::Path;

use tokio::{io::BufReader, net::TcpStream, time::timeout};

use super::*;

async fn ask(address: SocketAddr, words: &[&str]) -> io::Result<String> {
    let asked = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        protocol::ask(&mut stream, words).await
    };
    timeout(Duration::from_secs(2), asked).await?
}

/// 1 if the server knows the key, else 0.
async fn knows(address: SocketAddr, key: &str) -> String {
    ask(address, &["EXISTS", key]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_comes_back_at_its_address_and_nothing_stays_when_it_is_dropped() {
    let mut server = Redis::start_own(&[]).await.unwrap();
    let address = server.address();
    assert_eq!(server.url(), format!("redis://{address}"));
    ask(address, &["SET", "key", "value"]).await.unwrap();
    assert_eq!(knows(address, "key").await, "1");
    // When it is killed, then nobody answers
    server.kill().await.unwrap();
    assert!(ask(address, &["PING"]).await.is_err());
    // When it is started again, then what was in memory is lost
    server.restart().await.unwrap();
    assert_eq!(knows(address, "key").await, "0");
    // When it is dropped, frozen as it may be, then it is gone with its folder
    server.freeze().await.unwrap();
    let folder = match &server.origin {
        Origin::Binary { process, .. } => process.folder().to_owned(),
        _ => Path::new("none").to_owned(),
    };
    assert_eq!(folder.exists(), server.pid().is_some());
    drop(server);
    assert!(!folder.exists());
    assert!(ask(address, &["PING"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_server_keeps_what_it_acknowledged_unless_it_is_emptied() {
    let mut server = Redis::start_own(Redis::DURABLE).await.unwrap();
    let address = server.address();
    ask(address, &["SET", "key", "value"]).await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(knows(address, "key").await, "1");
    server.restart_empty().await.unwrap();
    assert_eq!(knows(address, "key").await, "0");
    // And from then on as before
    ask(address, &["SET", "key", "value"]).await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(knows(address, "key").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_silent_and_goes_on_where_it_was() {
    let mut server = Redis::start_own(&[]).await.unwrap();
    let address = server.address();
    ask(address, &["SET", "key", "value"]).await.unwrap();
    server.freeze().await.unwrap();
    server.freeze().await.unwrap();
    let silent = ask(address, &["PING"]).await.unwrap_err();
    assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    server.thaw().await.unwrap();
    server.thaw().await.unwrap();
    assert_eq!(knows(address, "key").await, "1");
    // A frozen one can be killed, and is not frozen when it is back
    server.freeze().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(ask(address, &["PING"]).await.unwrap(), "PONG");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_a_gate_is_named_by_it() {
    let (server, gate) = Redis::start_own_behind_gate(&[]).await.unwrap();
    assert_eq!(server.url(), format!("redis://{}", gate.address()));
    assert_eq!(ask(gate.address(), &["PING"]).await.unwrap(), "PONG");
    gate.close();
    assert!(ask(gate.address(), &["PING"]).await.is_err());
    assert_eq!(ask(server.address(), &["PING"]).await.unwrap(), "PONG");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ahead_ends_what_was_to_last_until_then() {
    let server = Redis::start_own_with_clock(&[]).await.unwrap();
    let address = server.address();
    ask(address, &["SET", "key", "value", "EX", "600"]).await.unwrap();
    assert_eq!(knows(address, "key").await, "1");
    server.set_clock(3600).unwrap();
    assert_eq!(knows(address, "key").await, "0");
    // And when it jumps back, then what was set meanwhile lasts longer than it should
    ask(address, &["SET", "key", "value", "EX", "600"]).await.unwrap();
    server.set_clock(0).unwrap();
    let left: u64 = ask(address, &["TTL", "key"]).await.unwrap().parse().unwrap();
    assert!(left > 3600, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_s_server_is_taken_as_it_is_with_its_password() {
    let own = Redis::start_own(&[]).await.unwrap();
    ask(own.address(), &["CONFIG", "SET", "requirepass", "se+cr&t=word"]).await.unwrap();
    let right = format!("redis://:se+cr%26t%3Dword@{}", own.address());
    let mut server = Redis::of_environment(&right).await.unwrap();
    assert_eq!(server.url(), right);
    assert!(server.describe().ends_with(", BESPEAK_TEST_REDIS_URL"), "{}", server.describe());
    // Then it is neither killed, nor frozen, nor given another time
    assert!(matches!(server.kill().await, Err(ServiceError::NotOurs(_))));
    assert!(matches!(server.freeze().await, Err(ServiceError::NotOurs(_))));
    assert!(matches!(server.set_clock(1), Err(ServiceError::NotOurs(_))));
    drop(server);
    // And whoever has no password, or another, is told at once
    for wrong in ["", ":secret@"] {
        let refused = Redis::of_environment(&format!("redis://{wrong}{}", own.address())).await;
        assert!(matches!(refused, Err(ServiceError::Url { .. })), "{refused:?}");
    }
    assert!(matches!(url("http://127.0.0.1"), Err(ServiceError::Url { .. })));
}
