//! Retries of whole transactions, bounded and with jitter.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use crate::store::StoreError;

/// How many times a batch that loses to another process is attempted before that becomes an error.
const ATTEMPTS_MAX: u32 = 10;
/// For how long such a batch is attempted. If another writer holds a lock for longer, an error lets clients decide
/// for themselves.
const ATTEMPTS_FOR: Duration = Duration::from_secs(5);

/// Runs a whole transaction, and retries it, bounded and with jitter, if it lost to another process or its connection
/// broke. `transaction` receives the number of earlier attempts.
pub(in crate::store) async fn with_retries<T, Transaction>(
    transaction: impl Fn(u32) -> Transaction,
) -> Result<T, StoreError>
where
    Transaction: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    let mut attempts = 0;
    loop {
        let failure = match transaction(attempts).await {
            Err(failure @ (StoreError::Contended { .. } | StoreError::Lost { .. })) => failure,
            result => return result,
        };
        attempts += 1;
        crate::telemetry::count_retry(failure.retry_cause());
        if attempts == ATTEMPTS_MAX || began.elapsed() >= ATTEMPTS_FOR {
            return Err(failure.after(attempts));
        }
        tokio::time::sleep(jittered(attempts)).await;
    }
}

/// A random wait whose upper bound doubles with each attempt: 0 to 2 ms after the first, 0 to 256 ms at most.
fn jittered(attempts: u32) -> Duration {
    Duration::from_micros(fastrand::u64(0..1_000 << attempts.min(8)))
}
