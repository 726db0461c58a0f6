//! `bespeak`: the server, a client for it and the operators' commands in one binary. See [`bespeak_cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    bespeak_cli::run_command_line()
}
