//! The scenarios: how many requests arrive at what times, and what each of them does.

use std::time::Duration;

use bespeak_lab::load::OpenLoop;
use clap::ValueEnum;

/// Connections of the scenarios with a rate. A server that keeps the rate never needs so many at once.
const CONNECTIONS: usize = 512;
/// The number of buyers in the crowd, and the units that they compete for.
const CROWD: u32 = 2_000;
const CROWD_UNITS: u64 = 100;
/// Units of each vehicle: so many that no vehicle sells out and every arrival is a write.
const PLENTY: u64 = 1_000_000;
/// The shortest time that late requests may still be sent after the end.
const LATE_MIN: Duration = Duration::from_secs(10);
/// Arrivals per second of the soak, and how many times longer than the others it runs.
const SOAK_RATE: u32 = 200;
const SOAK_TIMES: u32 = 6;

/// The name of a scenario on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// 100 arrivals a second, one vehicle
    #[value(name = "one-100")]
    One100,
    /// 500 arrivals a second, one vehicle
    #[value(name = "one-500")]
    One500,
    /// 1,000 arrivals a second, one vehicle
    #[value(name = "one-1000")]
    One1000,
    /// 100 arrivals a second over 100 vehicles
    #[value(name = "fleet-100")]
    Fleet100,
    /// 500 arrivals a second over 100 vehicles
    #[value(name = "fleet-500")]
    Fleet500,
    /// 1,000 arrivals a second over 100 vehicles
    #[value(name = "fleet-1000")]
    Fleet1000,
    /// 2,000 buyers at once for 100 units of one vehicle
    Crowd,
    /// 200 customers a second over 100 vehicles; each holds, then commits or releases; six times as long
    Soak,
}

/// What one arrival does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It holds a unit.
    Hold,
    /// It holds a unit, then commits the hold; every third releases it.
    HoldThenEnd,
}

/// A scenario with the length of its runs.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// The title in reports, such as `1,000/s, one vehicle`.
    pub(super) title: &'static str,
    pub(super) vehicles: u64,
    pub(super) units: u64,
    pub(super) attempt: Attempt,
    pub(super) load: OpenLoop,
}

impl Scenario {
    /// The scenario of a name, with runs of a duration.
    pub(super) fn of(name: Name, duration: Duration) -> Self {
        let at_rate = |name, title, vehicles, per_second| Self {
            name,
            title,
            vehicles,
            units: PLENTY,
            attempt: Attempt::Hold,
            load: OpenLoop {
                per_second,
                connections: CONNECTIONS,
                warm_up: (duration / 4).min(Duration::from_secs(2)),
                duration,
                // A server that is still busy after another length of the run has lost: the remaining requests count
                // as failed. A short run gets more time, because a busy machine alone can delay it by as much.
                late_max: duration.max(LATE_MIN),
            },
        };
        match name {
            Name::One100 => at_rate("one-100", "100/s, one vehicle", 1, 100),
            Name::One500 => at_rate("one-500", "500/s, one vehicle", 1, 500),
            Name::One1000 => at_rate("one-1000", "1,000/s, one vehicle", 1, 1_000),
            Name::Fleet100 => at_rate("fleet-100", "100/s, 100 vehicles", 100, 100),
            Name::Fleet500 => at_rate("fleet-500", "500/s, 100 vehicles", 100, 500),
            Name::Fleet1000 => at_rate("fleet-1000", "1,000/s, 100 vehicles", 100, 1_000),
            Name::Crowd => Self {
                name: "crowd",
                title: "2,000 at once for 100 units",
                vehicles: 1,
                units: CROWD_UNITS,
                attempt: Attempt::Hold,
                load: OpenLoop {
                    // All buyers arrive within a millisecond, each on its own connection.
                    per_second: CROWD * 1_000,
                    connections: CROWD as usize,
                    warm_up: Duration::ZERO,
                    duration: Duration::from_millis(1),
                    late_max: Duration::from_secs(60),
                },
            },
            Name::Soak => {
                let mut soak = at_rate("soak", "200/s hold, then commit or release", 100, SOAK_RATE);
                soak.attempt = Attempt::HoldThenEnd;
                soak.load.duration = duration * SOAK_TIMES;
                soak
            }
        }
    }

    /// About how long a run takes if no request is late.
    pub(super) fn takes(&self) -> Duration {
        self.load.warm_up + self.load.duration + Duration::from_secs(2)
    }
}
