//! Health checks and metrics, however often they are requested.

use std::time::Instant;

use bespeak::telemetry;
use bespeak_tests::{Api, Books, Client, each_store};

each_store!(readiness_takes_the_write_path_once_a_second_at_most);

/// How often a call has waited for the write path.
fn waits() -> u64 {
    let text = telemetry::metrics().expect("metrics").render();
    let line =
        text.lines().find(|line| line.starts_with("bespeak_pool_wait_seconds_count{pool=\"writers\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

async fn readiness_takes_the_write_path_once_a_second_at_most(books: Books) {
    telemetry::metrics().expect("metrics");
    let api = Api::start(books).await;
    api.stock("seat", 1).await;
    let (before, began) = (waits(), Instant::now());
    for _ in 0..500 {
        assert_eq!(api.get("/health/ready").await.status, 200);
    }
    let (checks, seconds) = (waits() - before, began.elapsed().as_secs());
    assert!(checks >= 1 && checks <= seconds + 2, "{checks} checks in {seconds} s");
}
