//! A container of this machine's Docker daemon that ends with the process that started it.
//!
//! Never: an image or container that others made; a container that stays. Next: `mysql/docker.rs`, `kafka/docker.rs` and
//! `redis/docker.rs`, for what runs in it.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, core::client::docker_client_instance,
    runners::AsyncRunner,
};
use tokio::{runtime::Handle, time::timeout};

use crate::ServiceError;

/// Whether a Docker daemon answers.
pub(crate) async fn is_there() -> bool {
    let ping = async { docker_client_instance().await.ok()?.ping().await.ok() };
    timeout(Duration::from_secs(3), ping).await.is_ok_and(|answer| answer.is_some())
}

/// A running container; removed when dropped, or when its process ends.
pub(crate) struct Container {
    /// Always there until it is dropped.
    container: Option<ContainerAsync<GenericImage>>,
    watchdog: Option<Child>,
    /// Where its server is reached.
    pub(crate) address: SocketAddr,
}

impl Container {
    /// Starts one whose server is reached at `port` of Docker's host; it may answer much later.
    pub(crate) async fn start(
        image: ContainerRequest<GenericImage>,
        port: u16,
    ) -> Result<Self, ServiceError> {
        let container = image.start().await.map_err(refused)?;
        let watchdog = watch(container.id());
        let host = container.get_host().await.map_err(refused)?.to_string();
        let mut addresses = tokio::net::lookup_host((host.as_str(), port))
            .await
            .map_err(ServiceError::io(format!("looking up Docker's host {host}")))?;
        let address =
            addresses.next().ok_or_else(|| ServiceError::Docker(format!("host {host} has no address")))?;
        Ok(Self { container: Some(container), watchdog, address })
    }

    /// `docker kill`.
    pub(crate) async fn kill(&self) -> Result<(), ServiceError> {
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
    pub(crate) async fn start_again(&self) -> Result<(), ServiceError> {
        let Some(container) = &self.container else { return Ok(()) };
        container.start().await.map_err(refused)
    }

    /// `docker rm --force`, and waits until it is gone. Nothing more can be done with it.
    pub(crate) async fn remove(&mut self) -> Result<(), ServiceError> {
        let Some(container) = self.container.take() else { return Ok(()) };
        container.rm().await.map_err(refused)
    }

    /// `docker pause`. It must not be paused already.
    pub(crate) async fn freeze(&self) -> Result<(), ServiceError> {
        let Some(container) = &self.container else { return Ok(()) };
        container.pause().await.map_err(refused)
    }

    /// `docker unpause`. It must be paused.
    pub(crate) async fn thaw(&self) -> Result<(), ServiceError> {
        let Some(container) = &self.container else { return Ok(()) };
        container.unpause().await.map_err(refused)
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
