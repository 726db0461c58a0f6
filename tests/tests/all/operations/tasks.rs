//! A background task that ends unexpectedly ends the process with an error.

use bespeak_services::Redis;
use bespeak_tests::{Api, Books, Output, Topic, bespeak};

/// Runs a server in which a task panics as soon as it runs; returns how the process ended.
async fn with_panic_of(task: &str, settings: &[(&str, &str)]) -> Output {
    let point = format!("task.{task}:panic");
    let mut environment = vec![("BESPEAK_TEST_FAILPOINT", point.as_str()), ("BESPEAK_LISTEN", "127.0.0.1:0")];
    environment.extend(settings);
    bespeak(&["serve"], &environment).await
}

async fn assert_ends(task: &str, settings: &[(&str, &str)]) {
    let output = with_panic_of(task, settings).await;
    assert_eq!(output.code, 1, "{task}: {output:?}");
    let said = format!("the task {task} panicked: failpoint task.{task} panics");
    assert!(output.err.contains(&said), "{task}: {output:?}");
    assert!(
        output.err.lines().any(|line| line.contains("ERROR") && line.contains(task)),
        "{task}: {output:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_each_task_of_a_process_with_a_file_ends_the_process() {
    for task in ["database_upkeep", "lane", "listener", "purger", "relay", "timer", "webhooks"] {
        let books = Books::sqlite();
        assert_ends(task, &[("BESPEAK_DATABASE_URL", &books.url())]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_each_task_that_needs_servers_ends_the_process() {
    let redis = Redis::provide().await.unwrap_or_else(|missing| panic!("{missing}"));
    let topic = Topic::new().await;
    let books = Books::mysql().await;
    let settings = [
        ("BESPEAK_DATABASE_URL", &*books.url()),
        ("BESPEAK_EVENTS_URL", &topic.url()),
        ("BESPEAK_REDIS_URLS", &redis.url()),
        ("BESPEAK_RATE_LIMIT_PER_HOLDER", "100/1s"),
    ];
    for task in [
        "events_start",
        "kafka_consumer",
        "lane_lookup",
        "rate_limit",
        "sold_out_publisher",
        "sold_out_receiver",
    ] {
        assert_ends(task, &settings).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liveness_is_red_after_a_task_ended_and_the_metric_says_which() {
    bespeak::telemetry::metrics().expect("metrics");
    let api = Api::start(Books::sqlite()).await;
    assert_eq!(api.get("/health/live").await.status, 200);
    api.app.watch("broken", async { panic!("on purpose") }).await;
    let live = api.get("/health/live").await;
    assert_eq!(live.problem(), (503, "unavailable".to_owned()));
    assert!(live.text.contains("broken") && !live.text.contains("on purpose"), "{}", live.text);
    let metrics = api.get("/metrics").await.text;
    assert!(metrics.contains("bespeak_tasks_running{task=\"broken\"} 0"), "{metrics}");
    assert!(metrics.contains("bespeak_tasks_running{task=\"lane\"} 1"), "{metrics}");
    assert_eq!(api.app.task_failure().map(|failure| failure.task), Some("broken"));
}
