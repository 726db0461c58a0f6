//! The flags of `serve`, derived from the table of settings, so that every setting of the server has a flag.

use std::env::VarError;

use bespeak::config::{SETTINGS, Values, unknown_variables};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::failure::Failure;

/// The flags of a command line, each under the name of its environment variable.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerFlags(Vec<(&'static str, String)>);

impl ServerFlags {
    /// The values of all settings: a flag wins over the environment, and the environment over the default. Prints a
    /// warning for each variable that looks like a misspelt setting.
    ///
    /// # Errors
    /// A variable is not valid UTF-8.
    pub(crate) fn values(&self) -> Result<Values, Failure> {
        let names: Vec<String> =
            std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        for (name, similar) in unknown_variables(names.iter().map(String::as_str)) {
            let hint = similar.map(|similar| format!("; did you mean {similar}?")).unwrap_or_default();
            eprintln!("bespeak: warning: {name} is not a setting{hint}");
        }
        for setting in SETTINGS {
            if let Err(VarError::NotUnicode(value)) = std::env::var(setting.name) {
                return Err(Failure::usage(format!(
                    "{}={} is not valid: must be UTF-8 text",
                    setting.name,
                    value.display()
                )));
            }
        }
        for (name, value) in &self.0 {
            let setting = SETTINGS.iter().find(|setting| setting.name == *name);
            let shown =
                setting.is_some_and(|setting| !value.is_empty() && setting.without_secret(value) != *value);
            if let (true, Some(setting)) = (shown, setting) {
                eprintln!(
                    "bespeak: warning: --{} shows its secret to everybody who may list the processes of this \
                     machine; set {name} or {name}_FILE instead",
                    setting.flag()
                );
            }
        }
        Ok(Values::collect(
            |wanted| self.0.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone()),
            |wanted| std::env::var(wanted).ok(),
        ))
    }
}

impl FromArgMatches for ServerFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = SETTINGS
            .iter()
            .filter(|setting| setting.of_server)
            .filter_map(|setting| Some((setting.name, matches.get_one::<String>(setting.name)?.clone())))
            .collect();
        Ok(())
    }
}

impl Args for ServerFlags {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().filter(|setting| setting.of_server).fold(command, |command, setting| {
            let help = format!("{} [env: {}] [default: {}]", setting.help, setting.name, setting.default);
            let flag = Arg::new(setting.name).long(setting.flag()).value_name("VALUE").help(help);
            // `--experimental` without a value is `--experimental true`.
            let is_switch = setting.name == "BESPEAK_EXPERIMENTAL";
            let flag = if is_switch { flag.num_args(0..=1).default_missing_value("true") } else { flag };
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
