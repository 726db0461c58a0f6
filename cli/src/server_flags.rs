//! The flags of `serve`, made from the table of settings: one for each, so that neither can have what the other lacks.

use std::env::VarError;

use bespeak::config::{SETTINGS, Values, unknown_variables};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::failure::Failure;

/// What flags were given, by the variable that each stands for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerFlags(Vec<(&'static str, String)>);

impl ServerFlags {
    /// All settings: flags over environment over defaults. Warns of variables that are misspelt.
    ///
    /// # Errors
    /// A variable that is no text.
    pub(crate) fn values(&self) -> Result<Values, Failure> {
        let names: Vec<String> =
            std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        for (name, meant) in unknown_variables(names.iter().map(String::as_str)) {
            let hint = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
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
        Ok(Values::collect(
            |asked| self.0.iter().find(|(name, _)| *name == asked).map(|(_, value)| value.clone()),
            |asked| std::env::var(asked).ok(),
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
            // `--experimental` says it all.
            let alone = setting.name == "BESPEAK_EXPERIMENTAL";
            let flag = if alone { flag.num_args(0..=1).default_missing_value("true") } else { flag };
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
