//! The benefit and the cost of a shared Redis: one and two processes on one MySQL, with Redis and without it.

use std::time::Duration;

use bespeak_lab::load::{Answer, Connection, Summary, TargetError, thousands};
use bespeak_services::Redis;
use tempfile::TempDir;

use crate::{
    Error,
    bench::Bench,
    chart::Chart,
    client::{define, hold, hold_request, load, only, random_key},
    mysql::Database,
    report::{Section, median, verdict},
    server::Server,
};

const CONNECTIONS: usize = 256;
/// Less than the time-out of a call (20 ms), so calls succeed, but more than half of it, so the circuit breaker opens.
const LATE_BY: Duration = Duration::from_millis(15);
/// A limit that is never reached, so that the cost of counting is measured and nothing is refused.
const LIMIT: (&str, &str) = ("BESPEAK_RATE_LIMIT_PER_HOLDER", "1000000/1s");

/// The features of a server that use Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    WithoutRedis,
    Channel,
    ChannelAndLimit,
    /// Channel and limit, with a frozen Redis.
    Frozen,
    /// Channel and limit, with a Redis whose responses come within the time limit, but late.
    Late,
}

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::WithoutRedis => "without Redis",
            Self::Channel => "sold-out channel",
            Self::ChannelAndLimit => "sold-out channel and rate limit",
            Self::Frozen => "sold-out channel and rate limit, Redis frozen",
            Self::Late => "sold-out channel and rate limit, Redis 15 ms late",
        }
    }

    async fn start(self, bench: &Bench, url: &str, redis: &str) -> Result<Server, Error> {
        let mut settings = vec![("BESPEAK_DATABASE_URL", url)];
        if self != Self::WithoutRedis {
            settings.push(("BESPEAK_REDIS_URLS", redis));
        }
        if matches!(self, Self::ChannelAndLimit | Self::Frozen | Self::Late) {
            settings.push(LIMIT);
        }
        Server::bespeak(&bench.binary, TempDir::new()?, &settings).await
    }
}

/// A hold on one hot resource by one of a thousand holders.
async fn hold_by(connection: Connection, number: usize) -> (Connection, Result<Answer, TargetError>) {
    let holder = number % 1_000;
    let body = format!(r#"{{"resourceId":"hot","quantity":1,"ttlSeconds":3600,"holder":"holder-{holder}"}}"#);
    connection.post("/api/v1/reserve", &[("idempotency-key", &random_key())], body).await
}

/// Holds on one hot resource of one process.
pub(crate) async fn overhead(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let mut redis = Redis::start_own(&[]).await?;
    let (late, switch) = Redis::start_own_behind_switch(&[]).await?;
    switch.set_latency(LATE_BY);
    let variants =
        [Variant::WithoutRedis, Variant::Channel, Variant::ChannelAndLimit, Variant::Frozen, Variant::Late];
    let mut rates = vec![Vec::new(); variants.len()];
    let (mut p50s, mut p99s) = (rates.clone(), rates.clone());
    // In turn, so that a machine that becomes slower affects all variants.
    for _ in 0..bench.rounds {
        for (n, variant) in variants.into_iter().enumerate() {
            let books = database.fresh().await?;
            let node = if variant == Variant::Late { &late } else { &redis };
            let server = variant.start(bench, &database.url(&books, None)?, &node.url()).await?;
            let target = server.target()?;
            define(&target, "hot", 9_000_000_000).await?;
            if variant == Variant::Frozen {
                redis.freeze().await?;
            }
            let summary =
                load(bench, &target, CONNECTIONS, |connection, number, _| hold_by(connection, number))
                    .await?;
            redis.thaw().await?;
            only(&summary, "200")?;
            rates[n].push(summary.requests_per_second);
            p50s[n].push(summary.p50_ms);
            p99s[n].push(summary.p99_ms);
            drop(server);
            database.drop(&books).await?;
        }
    }
    let figures: Vec<_> = (rates.into_iter().zip(p50s).zip(p99s))
        .map(|((rates, p50s), p99s)| (median(rates), median(p50s), median(p99s)))
        .collect();
    let row = |(variant, (rate, p50, p99)): (Variant, &(f64, f64, f64))| {
        let of_base = format!("{:.0} %", 100.0 * rate / figures[0].0);
        vec![variant.name().to_owned(), thousands(*rate), of_base, format!("{p50:.1}"), format!("{p99:.1}")]
    };
    let share = figures[1].0.min(figures[2].0) / figures[0].0;
    Ok(Section {
        title: "Redis: the cost on the hot path",
        what: format!(
            "POST /api/v1/reserve on one hot resource, distinct keys, 1,000 holders, {CONNECTIONS} connections, \
             one process on MySQL; Redis ({}) on the same cores. A frozen Redis was stopped before the load.",
            redis.describe()
        ),
        header: vec!["variant", "holds/s", "share of the rate without Redis", "p50 ms", "p99 ms"],
        rows: variants.into_iter().zip(&figures).map(row).collect(),
        verdict: format!(
            "{}\n\n{}\n\n{}",
            verdict(share >= 0.95, "with a healthy Redis at least 95 % of the rate without Redis"),
            verdict(
                figures[3].1 <= 1.1 * figures[0].1,
                "with a frozen Redis p50 within 10 % of that without Redis"
            ),
            verdict(
                figures[4].1 <= 1.1 * figures[0].1,
                "with a late Redis p50 within 10 % of that without Redis"
            )
        ),
        chart: None,
    })
}

/// Refusals of two processes that share a resource whose only unit is held.
pub(crate) async fn sold_out(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let redis = Redis::start_own(&[]).await?;
    let (mut rows, mut bars, mut reached) = (Vec::new(), Vec::new(), 0.0);
    for variant in [Variant::WithoutRedis, Variant::Channel] {
        let (mut rates, mut p99s, mut per_second) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            let books = database.fresh().await?;
            let url = database.url(&books, None)?;
            let servers = [
                variant.start(bench, &url, &redis.url()).await?,
                variant.start(bench, &url, &redis.url()).await?,
            ];
            let targets = [servers[0].target()?, servers[1].target()?];
            define(&targets[0], "hot", 1).await?;
            if hold(targets[0].connect().await?, "hot", "the-winner").await.1?.status != 200 {
                return Err("the only unit could not be held".into());
            }
            let before = transactions(&servers).await?;
            let halves = [load_half(bench, &targets[0]), load_half(bench, &targets[1])];
            let [first, second] = halves;
            let (first, second) = tokio::try_join!(first, second)?;
            let took = (bench.warm_up + bench.duration).max(Duration::from_secs(1)).as_secs_f64();
            per_second.push((transactions(&servers).await? - before) / took);
            rates.push(first.requests_per_second + second.requests_per_second);
            p99s.push(first.p99_ms.max(second.p99_ms));
            drop(servers);
            database.drop(&books).await?;
        }
        let rate = median(rates);
        let cells = [thousands(rate), format!("{:.1}", median(p99s)), format!("{:.0}", median(per_second))];
        rows.push([vec![variant.name().to_owned()], cells.to_vec()].concat());
        bars.push((variant.name().to_owned(), rate));
        reached = rate;
    }
    Ok(Section {
        title: "Redis: sold-out refusals across two processes",
        what: format!(
            "The only unit is held; {} connections to each of two processes request it with distinct keys. Redis ({}), \
             MySQL and the load generator share the cores.",
            CONNECTIONS / 2,
            redis.describe()
        ),
        header: vec!["variant", "refusals/s", "p99 ms", "transactions/s of both"],
        rows,
        verdict: verdict(reached >= 30_000.0, "at least 30,000/s with the sold-out channel"),
        chart: Some(Chart { title: "Sold-out refusals per second across two processes", bars }),
    })
}

/// Loads one of two processes with half of the connections.
async fn load_half(bench: &Bench, target: &bespeak_lab::load::Target) -> Result<Summary, Error> {
    let summary = load(bench, target, CONNECTIONS / 2, hold_request("hot".into())).await?;
    only(&summary, "409")?;
    Ok(summary)
}

/// The number of transactions of both processes so far.
async fn transactions(servers: &[Server; 2]) -> Result<f64, Error> {
    let mut all = 0.0;
    for server in servers {
        let mut connection = server.target()?.connect().await?;
        let body = connection.send(http::Method::GET, "/metrics", &[], "".into()).await?.body;
        let text = std::str::from_utf8(&body)?;
        let count = text.lines().find_map(|line| line.strip_prefix("bespeak_lane_batch_commands_count "));
        all += count.ok_or("/metrics has no bespeak_lane_batch_commands_count")?.parse::<f64>()?;
    }
    Ok(all)
}
