//! The Dockerfile agrees with the workspace: toolchain, packages, settings, and commands.

use std::collections::BTreeMap;

use bespeak::config::{Config, SETTINGS, Values};
use bespeak_services::Tool;
use bespeak_tests::bespeak;

use super::{complaints, text, workspace};

/// The instructions, each on a line of its own, without comments.
fn instructions() -> Vec<String> {
    let whole: Vec<_> =
        text("Dockerfile").lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let joined = whole.join("\n").replace("\\\n", " ");
    joined
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|it| !it.is_empty())
        .collect()
}

/// The arguments of the last such instruction, which is in the last stage.
fn last(instruction: &str) -> String {
    let found = instructions().into_iter().rfind(|line| line.starts_with(&format!("{instruction} ")));
    let line = found.unwrap_or_else(|| panic!("no {instruction}"));
    line[instruction.len() + 1..].to_owned()
}

#[test]
fn dockerfile_linter_reports_nothing() {
    assert_eq!(complaints(Tool::HADOLINT, &["Dockerfile"]), "");
}

#[test]
fn image_uses_the_workspace_toolchain_and_package() {
    let all = instructions().join("\n");
    let manifest = text("Cargo.toml");
    let toolchain =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    let toolchain = toolchain.trim_matches('"');
    assert!(
        all.contains(&format!("FROM rust:{toolchain}.")),
        "the base image must be that of Rust {toolchain}"
    );
    assert!(
        all.contains(&format!("ENV RUSTUP_TOOLCHAIN={toolchain}.")),
        "RUSTUP_TOOLCHAIN must be {toolchain}"
    );
    let program = last("ENTRYPOINT");
    let program = program.trim_matches(['[', ']', '"']);
    let (_, binary) = program.rsplit_once('/').expect("a path");
    assert!(
        all.contains("--package bespeak-cli") && workspace::programs()["cli"].contains(&binary.to_owned())
    );
    assert!(all.contains(&format!("/out/{binary} {program}")), "{program} is not what was built");
}

#[test]
fn dockerignore_keeps_every_build_input() {
    let ignored = text(".dockerignore");
    let ignored: Vec<_> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    let needed = ["Cargo.toml", "Cargo.lock", "migrations"].map(str::to_owned);
    for path in workspace::programs().into_keys().chain(needed) {
        for part in std::path::Path::new(&path).ancestors().filter(|part| !part.as_os_str().is_empty()) {
            assert!(!ignored.contains(&part.to_str().expect("plain")), "{path} is ignored");
        }
    }
    for heavy in ["target", ".git"] {
        assert!(ignored.contains(&heavy), "{heavy} would be sent to the Docker daemon on every build");
    }
}

#[test]
fn image_env_and_port_match_settings() {
    let variables: BTreeMap<_, _> = last("ENV")
        .split(' ')
        .map(|pair| pair.split_once('=').expect("NAME=VALUE"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for name in variables.keys() {
        assert!(SETTINGS.iter().any(|setting| setting.name == name), "{name} is not a setting of Bespeak");
    }
    Config::parse(&Values::collect(|_| None, |name| variables.get(name).cloned())).expect("it starts");
    assert_eq!(variables["BESPEAK_LISTEN"], format!("0.0.0.0:{}", last("EXPOSE")));
    let volume = last("VOLUME");
    assert!(
        variables["BESPEAK_DATABASE_URL"].starts_with(&format!("sqlite://{volume}/")),
        "the database must be on the volume"
    );
    assert_ne!(last("USER").split(':').next(), Some("0"), "not as root");
}

#[tokio::test]
async fn image_health_check_and_command_are_cli_commands() {
    for instruction in ["HEALTHCHECK", "CMD"] {
        let said = last(instruction);
        let (_, words) = said.split_once('[').expect("a list of words");
        let words = words.trim_end_matches(']').split(',').map(|word| word.trim().trim_matches('"'));
        let mut arguments: Vec<_> = words.filter(|word| !word.ends_with("/bespeak")).collect();
        arguments.push("--help");
        let ran = bespeak(&arguments, &[]).await;
        assert_eq!(ran.code, 0, "{instruction}: {ran:?}");
    }
}
