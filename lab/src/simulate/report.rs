//! The report as an HTML page: one file that loads nothing from the network.

use bespeak_lab::load::Summary;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    charts,
    sale::{Sale, buyers, units},
};
use bespeak_cli::{Failure, counted};

const STYLE: &str = "
:root{color-scheme:light;--ink:#17202b;--soft:#5c6773;--line:#dde2e8;--good:#1b7f4d;--bad:#b3261e}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:920px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .3rem}p{margin:.3rem 0;color:var(--soft)}
.verdict{display:inline-block;padding:.15rem .7rem;border-radius:1rem;color:#fff;font-weight:600}
.good{background:var(--good)}.bad{background:var(--bad)}
.tiles{display:flex;gap:1rem;flex-wrap:wrap;margin:1.2rem 0}
.tile{border:1px solid var(--line);border-radius:.5rem;padding:.6rem 1rem;min-width:7rem}
.tile b{display:block;font-size:1.5rem}.tile span{color:var(--soft)}
table{border-collapse:collapse;width:100%}
td,th{text-align:right;padding:.3rem .6rem;border-bottom:1px solid var(--line)}
td:first-child,th:first-child{text-align:left}th{color:var(--soft);font-weight:500}
svg{max-width:100%;height:auto}
.key i{display:inline-block;width:.8rem;height:.8rem;border-radius:.2rem;margin:0 .3rem 0 1rem}
";

/// The whole page.
pub(super) fn html(sale: &Sale) -> Result<String, Failure> {
    let chart = |drawn: Result<String, Box<dyn std::error::Error>>| {
        drawn.map(PreEscaped).map_err(|error| Failure::caused("a chart cannot be drawn", &*error))
    };
    let distribution = chart(charts::distribution(sale))?;
    let over_time = chart(charts::over_time(sale))?;
    let waits = chart(charts::waits(sale))?;
    let errors: u64 = sale.errors.values().sum();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "Flash sale: " (buyers(sale)) ", " (units(sale)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Flash sale: " (buyers(sale)) ", " (units(sale)) " " (verdict(sale.passed)) }
                p {
                    (sale.resource) " on " (sale.server) @if sale.embedded { " (embedded server)" }
                    ", ramp " (seconds(sale.ramp_ms)) " s, seed " (sale.seed)
                }
                div.tiles {
                    (tile(&sale.accepted.to_string(), &format!("accepted of {} possible", sale.winners_expected)))
                    (tile(&sale.refused.to_string(), "refused: sold out"))
                    (tile(&errors.to_string(), "errors"))
                    (tile(&format!("{:.0}", sale.reserve.requests_per_second), "responses per second"))
                    (tile(&format!("{:.1} ms", sale.reserve.p99_ms), "p99 response time"))
                }
                h2 { "Books" }
                p {
                    (sale.books.text()) ": "
                    @if sale.books.balance { "they balance." } @else { b { "they do not balance." } }
                }
                (problems(sale))
                h2 { "Response times" }
                p { "In milliseconds, from the time when a request was due." }
                (times(sale))
                (key())
                (distribution)
                h2 { "Responses over time" }
                (over_time)
                h2 { "Each buyer's wait" }
                (waits)
                h2 { "Environment" }
                p {
                    "Bespeak " (sale.environment.version) ", " (sale.environment.at) ", " (sale.environment.os) ", "
                    (counted(sale.environment.cores as u64, "core", "cores")) " shared by buyers"
                    @if sale.embedded { " and server" } "."
                }
            }
        }
    };
    Ok(page.into_string())
}

fn verdict(passed: bool) -> Markup {
    html! { @if passed { span.verdict.good { "passed" } } @else { span.verdict.bad { "failed" } } }
}

fn tile(value: &str, name: &str) -> Markup {
    html! { div.tile { b { (value) } span { (name) } } }
}

fn problems(sale: &Sale) -> Markup {
    html! {
        @if !sale.errors.is_empty() || !sale.books.problems.is_empty() {
            ul {
                @for (what, count) in &sale.errors { li { (count) " x " (what) } }
                @for problem in &sale.books.problems { li { (problem) } }
            }
        }
    }
}

fn key() -> Markup {
    html! { p.key { i style="background:#1b7f4d" {} "accepted" i style="background:#b8bfc9" {} "refused" } }
}

fn times(sale: &Sale) -> Markup {
    let row = |name: &str, summary: &Summary| {
        html! {
            tr {
                td { (name) } td { (summary.answers) }
                @for ms in [summary.mean_ms, summary.p50_ms, summary.p95_ms, summary.p99_ms, summary.max_ms] {
                    td { (format!("{ms:.1}")) }
                }
            }
        }
    };
    html! {
        table {
            tr { th { "" } th { "responses" } th { "mean" } th { "p50" } th { "p95" } th { "p99" } th { "max" } }
            (row("reserve", &sale.reserve))
            @if let Some(commit) = &sale.commit { (row("commit", commit)) }
        }
    }
}

fn seconds(millis: u64) -> String {
    format!("{}", std::time::Duration::from_millis(millis).as_secs_f64())
}
