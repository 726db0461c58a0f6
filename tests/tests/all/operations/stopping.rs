//! How a server starts and stops: draining, a bound, a second signal, and no clients before there is a database.

use std::time::Duration;

use bespeak::{app::Rejected, dispatch::DispatchError, store::CommitMode, webhooks::EndpointId};
use bespeak_tests::{Api, Books, Client, Server, bespeak, clean_program, until};
use http::Method;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drains_serves_and_is_not_ready_and_a_second_signal_ends_it() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[("BESPEAK_DRAIN_SECONDS", "300")]).await;
    server.stock("seat", 2).await;
    assert_eq!(server.ask(Method::GET, "/health/ready", &[], "").await.0, 200);
    server.signal("TERM");
    until("it is not ready", async || server.ask(Method::GET, "/health/ready", &[], "").await.0 == 503).await;
    assert_eq!(server.ask(Method::GET, "/health/live", &[], "").await.0, 200);
    server.hold("while-draining", "seat").await;
    server.signal("TERM");
    assert_eq!(server.ended(Duration::from_secs(20)).await, 1);
    // What was acknowledged is durable nevertheless
    let server = Server::start(&books, &[]).await;
    assert_eq!(server.available("seat").await, 1);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_ends_well_after_its_time_to_drain() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[("BESPEAK_DRAIN_SECONDS", "1")]).await;
    assert_eq!(server.stop().await, 0);
}

/// A task that waits for ever: the process ends nevertheless, with an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_takes_half_a_minute_at_most() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[("BESPEAK_TEST_FAILPOINT", "task.purger")]).await;
    server.reached("task.purger").await;
    server.signal("TERM");
    assert_eq!(server.ended(Duration::from_secs(90)).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_server_that_does_not_stop() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[("BESPEAK_TEST_FAILPOINT", "task.purger")]).await;
    server.reached("task.purger").await;
    server.signal("INT");
    until("it is stopping", async || server.logged("INFO").iter().any(|line| line.contains("stopping")))
        .await;
    server.signal("TERM");
    assert_eq!(server.ended(Duration::from_secs(20)).await, 1);
}

/// A client that was queued would wait for a database that may not come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_refused_until_the_database_is_open() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    // Given a database server that never greets
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("mysql://u:p@{}/books", silent.local_addr().expect("an address"));
    let mut command = clean_program("bespeak");
    command.arg("serve").env("BESPEAK_DATABASE_URL", url).env("BESPEAK_LISTEN", address.to_string());
    let mut serving = command.spawn().expect("it can be run");
    let _connection = silent.accept().await.expect("it connects");
    let refused = TcpStream::connect(address).await.expect_err("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(serving.try_wait().expect("a child").is_none(), "it waits for the database");
    // And the address is taken: another server says so at once
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let listen = taken.local_addr().expect("an address").to_string();
    let books = Books::sqlite();
    let other =
        bespeak(&["serve"], &[("BESPEAK_DATABASE_URL", &books.url()), ("BESPEAK_LISTEN", &listen)]).await;
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.err.contains("cannot be listened on"), "{other:?}");
    assert!(!books.path().exists(), "it created no database");
    books.expect_damage();
    serving.kill().expect("killed");
    serving.wait().expect("gone");
}

/// Loops over many transactions look whether the process shuts down before they begin another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loops_begin_no_transaction_after_the_stop() {
    let api = Api::start(Books::sqlite()).await;
    api.stock("seat", 2).await;
    api.app.stop().await;
    let deleted = api.app.delete_webhook(EndpointId::from_uuid(uuid::Uuid::now_v7())).await;
    assert!(matches!(deleted, Err(Rejected::Failed(DispatchError::Stopping))), "{deleted:?}");
    let define = bespeak::engine::Define {
        resource_id: bespeak::engine::ResourceId::new("resourceId", "room").expect("an id"),
        total: 1,
        fulfilment: None,
    };
    let import = api.app.begin_import(CommitMode::Commit).expect("a place");
    let imported = import.define(vec![define]).await;
    assert!(matches!(imported, Err(DispatchError::Stopping)), "{imported:?}");
}
