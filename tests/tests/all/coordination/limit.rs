//! The rate limit per holder.

use bespeak_tests::{Api, Books, Client, until, until_within};
use serde_json::{Value, json};

use super::{PATIENCE, joined, redis, reserve, server};

fn of(holder: &str) -> Value {
    json!({"resourceId": "room", "quantity": 1, "ttlSeconds": 600, "holder": holder})
}

/// Without Redis, each process counts by itself. A refused request changes nothing, and its answer has `Retry-After`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_over_the_rate_gets_429_with_retry_after() {
    let api = Api::with(Books::sqlite(), &[("BESPEAK_RATE_LIMIT_PER_HOLDER", "3/1h")], None).await;
    api.stock("room", 100).await;
    for n in 0..3 {
        assert_eq!(api.reserve(&format!("ann-{n}"), &of("ann")).await.status, 200);
    }
    let refused = api.reserve("ann-3", &of("ann")).await;
    assert_eq!(refused.problem(), (429, "rate-limited".to_owned()));
    let seconds: u64 = refused.header("retry-after").parse().expect("whole seconds");
    assert!((1190..=1200).contains(&seconds), "one of three comes back in 20 minutes: {seconds}");
    assert!(refused.text.contains("3/3600s"), "{}", refused.text);
    assert_eq!(api.available("room").await, 97, "the refused request changed nothing");
    // Other holders and requests without a holder are not limited.
    assert_eq!(api.reserve("bob-0", &of("bob")).await.status, 200);
    for n in 0..10 {
        let body = json!({"resourceId": "room", "quantity": 1});
        assert_eq!(api.reserve(&format!("without-holder-{n}"), &body).await.status, 200);
    }
    // A request that is refused for another reason is counted too.
    for n in 0..3 {
        let body = json!({"resourceId": "none", "quantity": 1, "holder": "eve"});
        assert_eq!(api.reserve(&format!("eve-{n}"), &body).await.status, 404);
    }
    assert_eq!(api.reserve("eve-3", &of("eve")).await.status, 429);
    api.books.assert_consistent().await;
}

/// A retry is not counted, neither by Redis nor by the process itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_are_not_counted() {
    let (books, (redis, _gate)) = (Books::mysql().await, redis().await);
    for url in [redis.url(), String::new()] {
        let server = server(&books, &url, &[("BESPEAK_RATE_LIMIT_PER_HOLDER", "2/1h")]).await;
        server.stock("room", 100).await;
        if !url.is_empty() {
            joined(&server).await;
        }
        let (name, key) = (format!("ann{}", url.len()), format!("key{}", url.len()));
        let (_, first) = reserve(&server, &key, &of(&name)).await;
        for _ in 0..10 {
            let (status, again) = reserve(&server, &key, &of(&name)).await;
            assert_eq!((status, &again["token"]), (200, &first["token"]), "{again}");
        }
        server.act("release", first["token"].as_str().expect("a token")).await;
        for _ in 0..10 {
            let (status, ended) = reserve(&server, &key, &of(&name)).await;
            assert_eq!((status, &ended["type"]), (409, &json!("reservation-ended")), "{ended}");
        }
        assert_eq!(reserve(&server, &format!("{key}-2"), &of(&name)).await.0, 200);
        assert_eq!(reserve(&server, &format!("{key}-3"), &of(&name)).await.0, 429);
        assert_eq!(server.metric("bespeak_redis_calls_total").await > 0.0, !url.is_empty());
    }
    books.assert_consistent().await;
}

/// Two processes count together. While Redis is unreachable each counts alone, and together again afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_the_rate_limit_while_redis_is_available() {
    let (books, (redis, switch)) = (Books::mysql().await, redis().await);
    let settings = [("BESPEAK_RATE_LIMIT_PER_HOLDER", "2/1h")];
    let servers =
        [server(&books, &redis.url(), &settings).await, server(&books, &redis.url(), &settings).await];
    servers[0].stock("room", 1_000).await;
    for server in &servers {
        joined(server).await;
    }
    let ask = async |n: usize, holder: &str| {
        reserve(&servers[n], &fastrand::u64(..).to_string(), &of(holder)).await.0
    };
    assert_eq!([ask(0, "ann").await, ask(1, "ann").await], [200, 200]);
    assert_eq!([ask(0, "ann").await, ask(1, "ann").await], [429, 429]);
    assert_eq!([ask(0, "bob").await, ask(1, "bob").await], [200, 200]);
    switch.turn_off();
    // Each process allows its own two requests, without an error.
    for n in [0, 1] {
        assert_eq!([ask(n, "cat").await, ask(n, "cat").await, ask(n, "cat").await], [200, 200, 429]);
        let counted = async |name: &str, least: f64| servers[n].metric(name).await >= least;
        until("it counts alone", async || counted("bespeak_rate_limit_local_total", 3.0).await).await;
        until("its breaker is open", async || counted("bespeak_redis_open_breakers", 0.5).await).await;
    }
    switch.turn_on().expect("the port is free");
    for server in &servers {
        joined(server).await;
    }
    // Redis still has the earlier counts.
    assert_eq!([ask(0, "ann").await, ask(1, "ann").await], [429, 429]);
    assert_eq!([ask(0, "dan").await, ask(1, "dan").await, ask(0, "dan").await], [200, 200, 429]);
    books.assert_consistent().await;
}

/// The name of a holder may be personal data, such as a mail address, so Redis receives only a digest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stores_digests_that_expire() {
    let (books, (redis, _gate)) = (Books::mysql().await, redis().await);
    let server = server(&books, &redis.url(), &[("BESPEAK_RATE_LIMIT_PER_HOLDER", "20/1s")]).await;
    server.stock("room", 10).await;
    joined(&server).await;
    assert_eq!(reserve(&server, "key", &of("ann@example.org")).await.0, 200);
    let keys = bespeak_tests::ask(&redis, &["KEYS", "*"]).await;
    assert!(!keys.contains("ann"), "{keys}");
    until_within(PATIENCE, "the digest has expired", async || {
        bespeak_tests::ask(&redis, &["DBSIZE"]).await == ":0"
    })
    .await;
}
