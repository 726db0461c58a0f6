//! MySQL's official image, in a container of its own, through the Docker daemon of this machine.
//!
//! Never: an image or container that others made; a container that stays. Next: `mod.rs`, which tries this before a binary.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use testcontainers::{
    ContainerAsync, GenericImage, ImageExt,
    core::{IntoContainerPort, client::docker_client_instance},
    runners::AsyncRunner,
};
use tokio::{runtime::Handle, time::timeout};
use url::Url;

use crate::{ServiceError, port};

/// Where the server comes from.
pub(super) const IMAGE: &str = "mysql:8";
/// Nobody but this machine's tests and benchmarks meets it.
const PASSWORD: &str = "bespeak";

/// Whether a Docker daemon answers.
pub(super) async fn is_there() -> bool {
    let ping = async { docker_client_instance().await.ok()?.ping().await.ok() };
    timeout(Duration::from_secs(3), ping).await.is_ok_and(|answer| answer.is_some())
}

/// A running container; removed when dropped, or when its process ends.
pub(super) struct Container {
    /// Always there until it is dropped.
    container: Option<ContainerAsync<GenericImage>>,
    watchdog: Option<Child>,
    /// Where its server is reached.
    pub(super) address: SocketAddr,
}

impl Container {
    /// Starts one; the server may answer much later.
    pub(super) async fn start(options: &[&str]) -> Result<Self, ServiceError> {
        let (name, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
        // A port that Docker chooses would be another one after a restart.
        let port = port::free().map_err(ServiceError::io("finding a free port"))?;
        let container = GenericImage::new(name, tag)
            .with_mapped_port(port, 3306.tcp())
            .with_env_var("MYSQL_ROOT_PASSWORD", PASSWORD)
            .with_cmd(options.iter().copied())
            .start()
            .await
            .map_err(refused)?;
        let watchdog = watch(container.id());
        let host = container.get_host().await.map_err(refused)?.to_string();
        let mut addresses = tokio::net::lookup_host((host.as_str(), port))
            .await
            .map_err(ServiceError::io(format!("looking up Docker's host {host}")))?;
        let address =
            addresses.next().ok_or_else(|| ServiceError::Docker(format!("host {host} has no address")))?;
        Ok(Self { container: Some(container), watchdog, address })
    }

    /// The URL of its root account.
    pub(super) fn root_url(&self) -> Result<Url, ServiceError> {
        super::url(&format!("mysql://root:{PASSWORD}@{}", self.address))
    }

    /// `docker kill`.
    pub(super) async fn kill(&self) -> Result<(), ServiceError> {
        let Some(container) = &self.container else { return Ok(()) };
        if container.is_running().await.map_err(refused)? {
            let docker = docker_client_instance().await.map_err(refused)?;
            docker.kill_container(container.id(), None).await.map_err(refused)?;
        }
        while container.is_running().await.map_err(refused)? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// `docker start`.
    pub(super) async fn start_again(&self) -> Result<(), ServiceError> {
        let Some(container) = &self.container else { return Ok(()) };
        container.start().await.map_err(refused)
    }
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            drop(watchdog.stdin.take());
            // It fails only if somebody else waited for it, and then it is gone.
            let _ = watchdog.wait();
        }
        if Handle::try_current().is_err() {
            // Testcontainers panics outside a runtime; the watchdog has removed the container.
            std::mem::forget(self.container.take());
        }
    }
}

/// Removes the container when this process is gone. Testcontainers does so only when it drops it. Needs Docker's own client.
fn watch(id: &str) -> Option<Child> {
    Command::new("sh")
        .args(["-c", r#"read -r order; exec docker rm --force --volumes "$0""#, id])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .ok()
}

fn refused(error: impl std::fmt::Display) -> ServiceError {
    ServiceError::Docker(error.to_string())
}
