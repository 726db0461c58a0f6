//! Clients that disconnect at every possible point.

use std::{
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use bespeak::store::{
    CommitMode, Store,
    mysql::{MysqlOptions, MysqlStore},
};
use bespeak_tests::{Api, Books, Client, until};

use super::{hold, open_transactions, order, stock};

/// Polls a future `times` times, then drops it; returns whether it had ended by then.
async fn polled<T>(times: usize, future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    let mut left = times;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A request that is dropped at any of its awaits leaves no transaction open, and the next request is served at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_disconnects_leaves_no_transaction_open() {
    for strategy in ["lanes", "conditional", "pessimistic"] {
        let settings =
            [("BESPEAK_WRITE_CONNECTIONS", "1"), ("BESPEAK_LANES", "1"), ("BESPEAK_STRATEGY", strategy)];
        let api = Api::with(Books::mysql().await, &settings, None).await;
        api.stock("seat", 1_000).await;
        for times in 0..6 {
            for n in 0..8 {
                polled(times, api.reserve(&format!("{times}-{n}"), &order(&["seat"]))).await;
            }
            let (key, body) = (format!("{times}-next"), order(&["seat"]));
            let next = api.reserve(&key, &body);
            let next = tokio::time::timeout(Duration::from_secs(5), next).await.expect("at once");
            assert_eq!(next.status, 200, "{}", next.text);
        }
        // The same holds for requests that are dropped after ever longer spans of time.
        for span in (0..60).map(|n| Duration::from_micros(n * 100)) {
            let key = format!("after-{}", span.as_micros());
            let _ = tokio::time::timeout(span, api.reserve(&key, &order(&["seat"]))).await;
        }
        until("nothing is open", || async { open_transactions(&api.books).await == 0 }).await;
        assert_eq!(api.reserve("last", &order(&["seat"])).await.status, 200);
        api.books.assert_consistent().await;
    }
}

/// A transaction that is dropped halfway, which the product never does, is rolled back, and its connection is not
/// reused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_transaction_is_rolled_back() {
    let books = Books::mysql().await;
    let options = MysqlOptions { writers: 1, ..MysqlOptions::default() };
    let store = MysqlStore::new(&books.url(), options).expect("a URL");
    store.migrate().await.expect("migrated");
    stock(&store, "seat", 1_000).await;
    let mut ended = 0;
    for times in 0.. {
        let batch = [hold(&format!("{times}"), &["seat"])];
        if polled(times, store.execute(&batch, CommitMode::Commit)).await {
            ended += 1;
        }
        // The check runs before the connection is used again, which would end an open transaction, and long before an
        // idle connection would be closed.
        let soon = Instant::now() + Duration::from_secs(2);
        while open_transactions(&books).await > 0 {
            assert!(Instant::now() < soon, "the transaction dropped at await {times} is still open");
        }
        let next = store.execute(&[hold(&format!("{times}-next"), &["seat"])], CommitMode::Commit).await;
        assert!(next.expect("executed").outcomes[0].is_ok());
        // The future has ended a few times, so that all its awaits were tried.
        if ended == 5 {
            assert!(times >= 7, "only {times} awaits were tried");
            break;
        }
    }
    until("nothing is open", || async { open_transactions(&books).await == 0 }).await;
    books.assert_consistent().await;
}
