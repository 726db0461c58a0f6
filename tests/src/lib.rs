//! The harness: an API in this process, servers and functions as processes, and a fresh database for each test.
//!
//! Tests do not sleep to synchronise: [`until`] waits for a condition, with a deadline. [`Books`] audits its database
//! at the end of each test.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a failure of the harness fails the test"
)]

mod api;
mod binary;
mod books;
mod client;
mod collector;
mod contract;
mod deliveries;
mod kafka;
mod lambda;
mod previous;
mod receiver;
mod redis;
mod server;
mod sqs;

use std::time::{Duration, Instant};

use uuid::Uuid;

pub use api::{Api, Reply};
pub use binary::{Output, bespeak, clean_program, program};
pub use books::{Books, WriterLock, mysql_server};
pub use client::Client;
pub use collector::{Collector, Span};
pub use kafka::{Topic, kafka_server};
pub use lambda::{Gateway, Lambda, TIME, answered, sample};
pub use previous::previous_bespeak;
pub use receiver::{Behaviour, Message, Receiver};
pub use redis::{Nodes, ask, redlock};
pub use server::Server;
pub use sqs::{Queue, Received, aws_server};

/// Sixteen random hexadecimal digits, for the name of something on a server that the tests of many processes share.
///
/// The id of this process would not do: systems give it to another one later, and a topic outlives the test that made
/// it.
pub fn unique() -> String {
    let (digits, _) = Uuid::new_v4().as_u64_pair();
    format!("{digits:016x}")
}

/// Waits until `condition` holds, for at most ten seconds.
///
/// # Panics
/// The time is over; the message contains `what`.
pub async fn until<Fut: Future<Output = bool>>(what: &str, condition: impl Fn() -> Fut) {
    until_within(Duration::from_secs(10), what, condition).await;
}

/// Waits until `condition` holds, for at most `patience`.
///
/// # Panics
/// The time is over; the message contains `what`.
pub async fn until_within<Fut: Future<Output = bool>>(
    patience: Duration,
    what: &str,
    condition: impl Fn() -> Fut,
) {
    let deadline = Instant::now() + patience;
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    while !condition().await {
        assert!(Instant::now() < deadline, "the condition did not become true in time: {what}");
        ticks.tick().await;
    }
}

/// Makes two tests of each function that takes [`Books`]: `sqlite` and `mysql`, in a module of its name.
#[macro_export]
macro_rules! each_store {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$test($crate::Books::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mysql() {
                super::$test($crate::Books::mysql().await).await;
            }
        }
    )+};
}
