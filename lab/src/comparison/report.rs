//! The report as an HTML page: one file that loads nothing from the network.

use bespeak_lab::load::thousands;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    charts::{self, ms},
    result::Lab,
    scenario::Scenario,
    sentences::Sentences,
};
use bespeak_cli::{Failure, counted};

const STYLE: &str = "
:root{color-scheme:light;--ink:#17202b;--soft:#5c6773;--line:#dde2e8;--good:#1b7f4d;--bad:#b3261e}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:940px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2.4rem 0 .3rem}p{margin:.4rem 0}.soft{color:var(--soft)}
.verdict{display:inline-block;padding:.15rem .7rem;border-radius:1rem;color:#fff;font-weight:600;font-size:1rem}
.good{background:var(--good)}.bad{background:var(--bad)}.red{color:var(--bad);font-weight:700}
.tiles{display:flex;gap:1rem;flex-wrap:wrap;margin:1.2rem 0}
.tile{border:1px solid var(--line);border-radius:.5rem;padding:.6rem 1rem;min-width:9rem;flex:1}
.tile b{display:block;font-size:1.5rem}.tile span{color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:13px}
td,th{text-align:right;padding:.25rem .4rem;border-bottom:1px solid var(--line)}
td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}th{color:var(--soft);font-weight:500}
tr.first td{border-top:2px solid var(--line)}
svg{max-width:100%;height:auto;display:block}
.key{color:var(--soft);font-size:13px}
.key i{display:inline-block;width:.8rem;height:.8rem;border-radius:.2rem;margin:0 .3rem 0 .9rem}
";

/// Sources that say why a lock alone is not enough.
const SOURCES: [(&str, &str); 3] = [
    (
        "Martin Kleppmann, How to do distributed locking",
        "https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html",
    ),
    (
        "Redis, Distributed locks with Redis",
        "https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/",
    ),
    ("ShedLock's README", "https://github.com/lukas-krecan/ShedLock"),
];

/// The whole page.
pub(super) fn html(lab: &Lab) -> Result<String, Failure> {
    let sections = lab
        .scenarios
        .iter()
        .filter(|scenario| !lab.of(scenario.name).is_empty())
        .map(|scenario| section(lab, scenario))
        .collect::<Result<Vec<_>, _>>()?;
    let frozen = frozen(lab)?;
    let sentences = Sentences::of(lab);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "The lock lab" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "The lock lab " (verdict(lab)) }
                p.soft { "The same load over HTTP on each strategy in turn, each time with an empty database." }
                @if lab.interrupted { p.red { "The lab was stopped before the end. This page has the results \
                until then." } }
                (tiles(lab))
                @for sentence in sentences.all() { p { (sentence) } }
                (key(lab))
                @for section in sections { (section) }
                (frozen)
                h2 { "All figures" }
                (table(lab))
                h2 { "How to read the figures" }
                p.soft {
                    "Arrivals are open-loop: requests are due at set times, whatever the responses, and a \
                     response time counts from \
                     the time when the request was due. Except in the crowd, each vehicle has plenty of units, \
                     so that every arrival is \
                     a write. Requests per second are those with status 200 or 409. All others count as failed, \
                     and so do requests that \
                     were not sent within the length of the run after its end. Units sold twice are counted in \
                     the database: the held \
                     and committed units of a vehicle beyond its total minus its available units. Waited for a \
                     lock is the number of \
                     waits for row locks, as InnoDB counts them, and for distributed locks, per attempt. Waiting \
                     in the queue of a lane \
                     does not count."
                }
                h2 { "Environment" }
                @for line in lab.environment.lines() { p.soft { (line) } }
            }
        }
    };
    Ok(page.into_string())
}

fn verdict(lab: &Lab) -> Markup {
    html! {
        @if lab.results.is_empty() && lab.frozen_holder.is_empty() { span.verdict.bad { "nothing was measured" } }
        @else if lab.broken.is_some() { span.verdict.bad { "the lab did not finish" } }
        @else if lab.passed { span.verdict.good { "no guarded strategy oversold" } }
        @else { span.verdict.bad { "a guarded strategy oversold" } }
    }
}

fn tiles(lab: &Lab) -> Markup {
    let guarded: u64 =
        lab.results.iter().filter(|run| run.strategy != "unguarded").map(|run| run.duplicates).sum();
    let unguarded: u64 =
        lab.results.iter().filter(|run| run.strategy == "unguarded").map(|run| run.duplicates).sum();
    let alone: u64 = lab.frozen_holder.iter().filter(|run| !run.guarded).map(|run| run.duplicates).sum();
    html! {
        div.tiles {
            (tile(guarded, "units sold twice by guarded strategies, all runs"))
            @if lab.results.iter().any(|run| run.strategy == "unguarded") {
                (tile(unguarded, "units sold twice without any guard"))
            }
            @if !lab.frozen_holder.is_empty() {
                (tile(alone, "units sold twice by locks alone while their holder was frozen"))
            }
        }
    }
}

fn tile(count: u64, name: &str) -> Markup {
    let count_text = thousands(whole(count));
    html! { div.tile { @if count == 0 { b { "0" } } @else { b.red { (count_text) } } span { (name) } } }
}

fn key(lab: &Lab) -> Markup {
    let mut strategies: Vec<&str> = Vec::new();
    for run in &lab.results {
        if !strategies.contains(&run.strategy) {
            strategies.push(run.strategy);
        }
    }
    html! {
        p.key {
            @for strategy in strategies {
                @let (r, g, b) = rgb(strategy);
                i style=(format!("background:rgb({r},{g},{b})")) {} (strategy)
            }
        }
    }
}

fn rgb(strategy: &str) -> (u8, u8, u8) {
    let color = charts::color(strategy);
    (color.0, color.1, color.2)
}

fn section(lab: &Lab, scenario: &Scenario) -> Result<Markup, Failure> {
    let runs = lab.of(scenario.name);
    let glance = chart(charts::at_a_glance(&runs))?;
    let distribution = chart(charts::distribution(&runs))?;
    Ok(html! {
        h2 { (scenario.title) " " span.soft { "(" (scenario.name) ")" } }
        (glance)
        (distribution)
    })
}

fn chart(drawn: Result<String, Box<dyn std::error::Error>>) -> Result<PreEscaped<String>, Failure> {
    drawn.map(PreEscaped).map_err(|error| Failure::caused("a chart cannot be drawn", &*error))
}

fn frozen(lab: &Lab) -> Result<Markup, Failure> {
    if lab.frozen_holder.is_empty() {
        return Ok(html! {});
    }
    let drawn = chart(charts::frozen(&lab.frozen_holder))?;
    let lease_ms = lab.frozen_holder.first().map_or(0, |holder| holder.lease_ms);
    let longest = lab.frozen_holder.iter().map(|holder| holder.frozen_ms).max().unwrap_or(0);
    let stopped: u32 = lab.frozen_holder.iter().map(|holder| holder.rounds).sum();
    Ok(html! {
        h2 { "The frozen holder" }
        p.soft {
            "Two processes sell the same vehicles. One is stopped (SIGSTOP) in mid-sale while it holds locks \
             with a lease of "
            (lease_ms) " ms. When the leases have expired, the other acquires the locks and sells. Then the \
            first continues where it was \
             stopped. It was stopped " (counted(stopped.into(), "time", "times")) ", for up to " (longest) " ms."
        }
        (drawn)
        p {
            "A process that was stopped while it held a lock does not know, when it continues, that its lease \
             has expired and that \
             others have sold in the meantime. It writes the result that it computed before, and the storage \
             must refuse that write by \
             fencing (" (source(0)) "). "
            "Neither lock claims otherwise. The documentation of Redlock says “you should implement fencing \
             tokens”, and not to \
             assume that a lock is kept for as long as its owner is alive (" (source(1)) "). ShedLock warns that \
             if work takes longer than \
             lockAtMostFor, “more than one process will effectively hold the lock” (" (source(2)) "). "
            "Bespeak's store does the fencing. With its guard on, a write that was decided on outdated state is \
             refused, the same stops \
             sell nothing twice, and the lock is only an optimisation."
        }
    })
}

fn source(number: usize) -> Markup {
    let (name, url) = SOURCES.get(number).copied().unwrap_or_default();
    html! { a href=(url) { (name) } }
}

/// The columns of the table of all figures.
const HEADER: [&str; 13] = [
    "scenario", "strategy", "req/s", "mean ms", "p50", "p95", "p99", "max", "accepted", "refused", "failed",
    "waited", "twice",
];

fn table(lab: &Lab) -> Markup {
    html! {
        table {
            tr {
                @for head in HEADER {
                    th { (head) }
                }
            }
            @for scenario in &lab.scenarios {
                @for (n, run) in lab.of(scenario.name).into_iter().enumerate() {
                    tr.first[n == 0] {
                        td { @if n == 0 { (scenario.name) } }
                        td { (run.strategy) }
                        td { (thousands(run.requests_per_second)) }
                        @for time in [run.mean_ms, run.p50_ms, run.p95_ms, run.p99_ms, run.max_ms] { td { (ms(time)) } }
                        td { (run.accepted) } td { (run.refused) }
                        td { (format!("{:.1} %", run.failure_rate * 100.0)) }
                        td { (format!("{:.0} %", run.waited_share * 100.0)) }
                        @if run.duplicates == 0 { td { "0" } } @else { td.red { (run.duplicates) } }
                    }
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn whole(count: u64) -> f64 {
    count as f64
}
