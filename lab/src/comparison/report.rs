//! The lab's page: one file that needs no network.

use bespeak_lab::load::thousands;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Lab,
    charts::{self, ms},
    scenario::Scenario,
    trial::Figures,
};
use bespeak_cli::Failure;

const STYLE: &str = "
:root{color-scheme:light;--ink:#17202b;--soft:#5c6773;--line:#dde2e8;--good:#1b7f4d;--bad:#b3261e}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:940px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2.4rem 0 .3rem}p{margin:.4rem 0}.soft{color:var(--soft)}
.verdict{display:inline-block;padding:.15rem .7rem;border-radius:1rem;color:#fff;font-weight:600;font-size:1rem}
.good{background:var(--good)}.bad{background:var(--bad)}.red{color:var(--bad);font-weight:700}
.tiles{display:flex;gap:1rem;flex-wrap:wrap;margin:1.2rem 0}
.tile{border:1px solid var(--line);border-radius:.5rem;padding:.6rem 1rem;min-width:9rem;flex:1}
.tile b{display:block;font-size:1.5rem}.tile span{color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:13px}td,th{text-align:right;padding:.25rem .4rem;border-bottom:1px solid var(--line)}
td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}th{color:var(--soft);font-weight:500}tr.first td{border-top:2px solid var(--line)}
svg{max-width:100%;height:auto;display:block}
.key{color:var(--soft);font-size:13px}.key i{display:inline-block;width:.8rem;height:.8rem;border-radius:.2rem;margin:0 .3rem 0 .9rem}
";

/// Why a lock alone is not enough, and who said so.
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

impl Lab {
    /// The runs of a scenario, in their order.
    pub(super) fn of(&self, scenario: &str) -> Vec<&Figures> {
        self.results.iter().filter(|run| run.scenario == scenario).collect()
    }
}

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
                p.soft { "The same load on each strategy in turn, on a database of its own each time, over HTTP." }
                @if lab.interrupted { p.red { "It was stopped before the end: this is what was measured until then." } }
                (tiles(lab))
                @for sentence in sentences.all() { p { (sentence) } }
                (key(lab))
                @for section in sections { (section) }
                (frozen)
                h2 { "All figures" }
                (table(lab))
                h2 { "How to read them" }
                p.soft {
                    "Arrivals are open-loop: they come at set times whatever the answers, and a response time counts from when the \
                     request should have been sent. Each vehicle has plenty of units, so that every arrival is a write, but in the \
                     crowd. Requests per second are those answered 200 or 409; failed is everything else, and what was not \
                     sent within the length of the run after its end. Units sold twice are counted in the database: what is held and \
                     committed of a vehicle, beyond its total less what is available. Waited for a lock is the number of waits \
                     for row locks, as InnoDB counts them, and for distributed locks, per attempt; the queue of a lane is \
                     none."
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
        @else if lab.broken.is_some() { span.verdict.bad { "it was not finished" } }
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
            (tile(guarded, "units sold twice by guarded strategies, in all runs"))
            @if lab.results.iter().any(|run| run.strategy == "unguarded") {
                (tile(unguarded, "units sold twice with no guard at all"))
            }
            @if !lab.frozen_holder.is_empty() {
                (tile(alone, "units sold twice by locks alone, their holder frozen"))
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
            "Two processes share the vehicles. One is stopped (SIGSTOP) in mid-sale while it holds locks of " (lease_ms) " ms; the other \
             takes them over when they have run out, and sells; then the first goes on where it was. Stopped " (stopped)
            " times, for up to " (longest) " ms."
        }
        (drawn)
        p {
            "A process that is stopped while it holds a lock does not know, when it goes on, that its time is over and that others have \
             sold meanwhile: it writes what it had computed before, and the storage must refuse that, by fencing ("
            (source(0)) "). "
            "Neither lock claims otherwise: the documentation of Redlock says “you should implement fencing tokens” and \
             not to assume that a lock is kept for as long as its owner is alive (" (source(1)) "), and ShedLock warns that where \
             work takes longer than lockAtMostFor, “more than one process will effectively hold the lock” (" (source(2)) "). "
            "Bespeak's store is what fences: with its guard on, a write that was decided on what is no longer so is refused, the same \
             stops sell nothing twice, and the lock is what it can be, an optimisation."
        }
    })
}

fn source(number: usize) -> Markup {
    let (name, url) = SOURCES.get(number).copied().unwrap_or_default();
    html! { a href=(url) { (name) } }
}

fn table(lab: &Lab) -> Markup {
    html! {
        table {
            tr {
                @for head in ["scenario", "strategy", "req/s", "mean ms", "p50", "p95", "p99", "max", "accepted", "refused", "failed", "waited", "twice"] {
                    th { (head) }
                }
            }
            @for scenario in &lab.scenarios {
                @for (n, run) in lab.of(scenario.name).into_iter().enumerate() {
                    tr.first[n == 0] {
                        td { @if n == 0 { (scenario.name) } } td { (run.strategy) } td { (thousands(run.requests_per_second)) }
                        @for time in [run.mean_ms, run.p50_ms, run.p95_ms, run.p99_ms, run.max_ms] { td { (ms(time)) } }
                        td { (run.accepted) } td { (run.refused) } td { (format!("{:.1} %", run.failure_rate * 100.0)) }
                        td { (format!("{:.0} %", run.waited_share * 100.0)) }
                        @if run.duplicates == 0 { td { "0" } } @else { td.red { (run.duplicates) } }
                    }
                }
            }
        }
    }
}

/// What the figures say, in words.
pub(super) struct Sentences(Vec<String>);

impl Sentences {
    pub(super) fn of(lab: &Lab) -> Self {
        let mut said: Vec<String> =
            lab.scenarios.iter().filter_map(|scenario| compared(lab, scenario)).collect();
        said.extend(lab.results.iter().filter(|run| !run.is_right()).map(|run| {
            format!(
                "{} under {} left the books wrong: {} units sold twice, {} other findings.",
                run.strategy, run.scenario, run.duplicates, run.findings
            )
        }));
        said.extend(lab.broken.iter().map(|what| format!("It could not be finished: {what}")));
        let unguarded = || lab.results.iter().filter(|run| run.strategy == "unguarded");
        if unguarded().next().is_some() && unguarded().all(|run| run.duplicates == 0) {
            said.push("The load was too light to make the unguarded strategy oversell: it proves nothing about the others.".to_owned());
        }
        let unseen = lab.frozen_holder.iter().filter(|holder| !holder.guarded && holder.duplicates == 0);
        said.extend(unseen.map(|holder| {
            format!(
                "{} alone sold nothing twice, although its holder was stopped {} times: none of its transactions was caught between what it \
                 read and what it wrote. Run it again.",
                holder.strategy, holder.rounds
            )
        }));
        Self(said)
    }

    pub(super) fn all(self) -> Vec<String> {
        self.0
    }
}

/// Whether lanes are ahead in a scenario, or who is.
fn compared(lab: &Lab, scenario: &Scenario) -> Option<String> {
    let runs: Vec<_> = lab.of(scenario.name).into_iter().filter(|run| run.strategy != "unguarded").collect();
    let lanes = runs.iter().find(|run| run.strategy == "lanes")?;
    let others = || runs.iter().filter(|run| run.strategy != "lanes");
    let quickest = others().min_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms))?;
    let busiest = others().max_by(|a, b| a.requests_per_second.total_cmp(&b.requests_per_second))?;
    let told = format!(
        "{}: lanes {}/s, p99 {} ms; of the others at best {}/s ({}), p99 {} ms ({})",
        scenario.title,
        thousands(lanes.requests_per_second),
        ms(lanes.p99_ms),
        thousands(busiest.requests_per_second),
        busiest.strategy,
        ms(quickest.p99_ms),
        quickest.strategy
    );
    Some(format!("{told}."))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn whole(count: u64) -> f64 {
    count as f64
}
