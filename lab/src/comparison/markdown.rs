//! The report as Markdown, for a repository.

use bespeak_lab::load::thousands;

use bespeak_cli::counted;

use super::{charts::ms, result::Lab, sentences::Sentences};

pub(super) fn text(lab: &Lab) -> String {
    let mut text = "# The lock lab\n\n".to_owned();
    for line in lab.environment.lines() {
        text += &format!("- {line}\n");
    }
    text += &format!("- {} s of arrivals in each run, except in the crowd and the soak\n", lab.seconds);
    if lab.interrupted {
        text += "\n**The lab was stopped before the end.**\n";
    }
    text += "\n";
    for sentence in Sentences::of(lab).all() {
        text += &format!("- {sentence}\n");
    }
    for scenario in lab.scenarios.iter().filter(|scenario| !lab.of(scenario.name).is_empty()) {
        text += &format!("\n## {} (`{}`)\n\n", scenario.title, scenario.name);
        text += "| strategy | req/s | mean ms | p50 | p95 | p99 | max | accepted | refused | failed | waited for \
        a lock | sold twice |\n";
        text += &format!("|{}\n", "---|".repeat(12));
        for run in lab.of(scenario.name) {
            let times = [run.mean_ms, run.p50_ms, run.p95_ms, run.p99_ms, run.max_ms].map(ms).join(" | ");
            text += &format!(
                "| {} | {} | {times} | {} | {} | {:.1} % | {:.0} % | {} |\n",
                run.strategy,
                thousands(run.requests_per_second),
                run.accepted,
                run.refused,
                run.failure_rate * 100.0,
                run.waited_share * 100.0,
                strong(run.duplicates)
            );
        }
    }
    if !lab.frozen_holder.is_empty() {
        text += "\n## The frozen holder\n\n| lock | store's guard | stopped | longest stop, ms | lease, ms | \
        sold meanwhile | locks lost | sold twice |\n";
        text += &format!("|{}\n", "---|".repeat(8));
        for holder in &lab.frozen_holder {
            text += &format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
                holder.strategy,
                if holder.guarded { "on" } else { "off" },
                counted(holder.rounds.into(), "time", "times"),
                holder.frozen_ms,
                holder.lease_ms,
                holder.sold_meanwhile,
                holder.locks_lost,
                strong(holder.duplicates)
            );
        }
    }
    text
}

fn strong(count: u64) -> String {
    if count == 0 { "0".to_owned() } else { format!("**{count}**") }
}
