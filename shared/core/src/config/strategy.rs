//! Parses the strategy that keeps concurrent reservations apart.

use super::{ConfigError, Values};
use crate::dispatch::Strategy;

/// Parses the setting.
pub(super) fn strategy(values: &Values) -> Result<Strategy, ConfigError> {
    const NAME: &str = "BESPEAK_STRATEGY";
    let served = Strategy::ALL.iter().copied().filter(|strategy| strategy.may_serve());
    let served: Vec<_> = served.map(|strategy| (strategy.as_str(), strategy)).collect();
    let strategy = values.choice(NAME, &served)?;
    let experimental = values.choice("BESPEAK_EXPERIMENTAL", &[("true", true), ("false", false)])?;
    if strategy.is_experimental() && !experimental {
        let plain = served.iter().filter(|(_, strategy)| !strategy.is_experimental());
        let plain: Vec<_> = plain.map(|(name, _)| *name).collect();
        let expected = format!(
            "{}; shedlock and redlock are experimental and need BESPEAK_EXPERIMENTAL=true (serve --experimental)",
            plain.join(" or ")
        );
        return Err(values.error(NAME, expected));
    }
    Ok(strategy)
}
