//! Tests of a server that is started, killed, frozen, emptied, given another time, and made unreachable by its switch.

use std::path::Path;

use tokio::{io::BufReader, net::TcpStream, time::timeout};

use super::*;

async fn send(address: SocketAddr, words: &[&str]) -> io::Result<String> {
    let response = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        protocol::send(&mut stream, words).await
    };
    timeout(Duration::from_secs(2), response).await?
}

/// Returns 1 if the server has the key, else 0.
async fn exists(address: SocketAddr, key: &str) -> String {
    send(address, &["EXISTS", key]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_restarts_at_the_same_address_and_a_dropped_one_leaves_nothing_behind() {
    let mut server = Redis::start_own(&[]).await.unwrap();
    let address = server.address();
    assert_eq!(server.url(), format!("redis://{address}"));
    send(address, &["SET", "key", "value"]).await.unwrap();
    assert_eq!(exists(address, "key").await, "1");
    // When it is killed, then nothing answers
    server.kill().await.unwrap();
    assert!(send(address, &["PING"]).await.is_err());
    // When it is started again, then the data in memory is lost
    server.restart().await.unwrap();
    assert_eq!(exists(address, "key").await, "0");
    // When it is dropped while it is frozen, then server and folder are gone
    server.freeze().await.unwrap();
    let folder = match server.origin.source() {
        Source::Binary(process) => process.folder().to_owned(),
        _ => Path::new("none").to_owned(),
    };
    assert_eq!(folder.exists(), server.pid().is_some());
    drop(server);
    assert!(!folder.exists());
    assert!(send(address, &["PING"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_server_keeps_acknowledged_writes_until_it_is_emptied() {
    let mut server = Redis::start_own(Redis::DURABLE).await.unwrap();
    let address = server.address();
    send(address, &["SET", "key", "value"]).await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(exists(address, "key").await, "1");
    server.restart_empty().await.unwrap();
    assert_eq!(exists(address, "key").await, "0");
    // And the emptied server is durable too
    send(address, &["SET", "key", "value"]).await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(exists(address, "key").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_does_not_answer_and_continues_when_thawed() {
    let mut server = Redis::start_own(&[]).await.unwrap();
    let address = server.address();
    send(address, &["SET", "key", "value"]).await.unwrap();
    server.freeze().await.unwrap();
    server.freeze().await.unwrap();
    let timed_out = send(address, &["PING"]).await.unwrap_err();
    assert_eq!(timed_out.kind(), io::ErrorKind::TimedOut);
    server.thaw().await.unwrap();
    server.thaw().await.unwrap();
    assert_eq!(exists(address, "key").await, "1");
    // A frozen server can be killed, and is not frozen after the restart
    server.freeze().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(send(address, &["PING"]).await.unwrap(), "PONG");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_url_of_a_server_behind_a_switch_is_the_switch_s() {
    let (server, switch) = Redis::start_own_behind_switch(&[]).await.unwrap();
    assert_eq!(server.url(), format!("redis://{}", switch.address()));
    assert_eq!(send(switch.address(), &["PING"]).await.unwrap(), "PONG");
    switch.turn_off();
    assert!(send(switch.address(), &["PING"]).await.is_err());
    assert_eq!(send(server.address(), &["PING"]).await.unwrap(), "PONG");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_expire_by_the_clock_that_was_set() {
    let server = Redis::start_own_with_clock(&[]).await.unwrap();
    let address = server.address();
    send(address, &["SET", "key", "value", "EX", "600"]).await.unwrap();
    assert_eq!(exists(address, "key").await, "1");
    server.set_clock(3600).unwrap();
    assert_eq!(exists(address, "key").await, "0");
    // When it jumps back, then a key that was set meanwhile lives longer than it should
    send(address, &["SET", "key", "value", "EX", "600"]).await.unwrap();
    server.set_clock(0).unwrap();
    let left: u64 = send(address, &["TTL", "key"]).await.unwrap().parse().unwrap();
    assert!(left > 3600, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_s_server_is_used_with_its_password_and_never_killed() {
    let own = Redis::start_own(&[]).await.unwrap();
    send(own.address(), &["CONFIG", "SET", "requirepass", "se+cr&t=word"]).await.unwrap();
    let right = format!("redis://:se+cr%26t%3Dword@{}", own.address());
    let mut server = Redis::from_environment(&right).await.unwrap();
    assert_eq!(server.url(), right);
    assert!(server.describe().ends_with(", BESPEAK_TEST_REDIS_URL"), "{}", server.describe());
    // Then it can neither be killed, nor frozen, nor given another time
    assert!(matches!(server.kill().await, Err(ServiceError::NotOwned(_))));
    assert!(matches!(server.freeze().await, Err(ServiceError::NotOwned(_))));
    assert!(matches!(server.set_clock(1), Err(ServiceError::NotOwned(_))));
    drop(server);
    // And a missing or wrong password is an error at once
    for wrong in ["", ":secret@"] {
        let refused = Redis::from_environment(&format!("redis://{wrong}{}", own.address())).await;
        assert!(matches!(refused, Err(ServiceError::InvalidUrl { .. })), "{refused:?}");
    }
    assert!(matches!(parse_url("http://127.0.0.1"), Err(ServiceError::InvalidUrl { .. })));
}
