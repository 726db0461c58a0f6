//! A container of this machine's Docker daemon that ends with the process that started it.
//!
//! Never: an image or container that somebody else made; a container that stays.
//! Next: `mysql/docker.rs`, `kafka/docker.rs`, `redis/docker.rs` and `aws/docker.rs`, which name the images.

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
pub(crate) async fn docker_runs() -> bool {
    let ping = async { docker_client_instance().await.ok()?.ping().await.ok() };
    timeout(Duration::from_secs(3), ping).await.is_ok_and(|answer| answer.is_some())
}

/// A running container. It is removed when this value is dropped or when this process ends.
pub(crate) struct Container {
    /// Present until [`Container::remove`] or the drop.
    container: Option<ContainerAsync<GenericImage>>,
    watchdog: Option<Child>,
    /// The address of the server in the container.
    pub(crate) address: SocketAddr,
}

impl Container {
    /// Starts a container whose server is reached at `port` of Docker's host. The server may answer much later.
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

    /// Runs `docker kill` and waits until the container has stopped.
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

    /// Runs `docker start`.
    pub(crate) async fn start_again(&self) -> Result<(), ServiceError> {
        let Some(container) = &self.container else { return Ok(()) };
        container.start().await.map_err(refused)
    }

    /// Runs `docker rm --force` and waits until the container is gone. Later calls do nothing.
    pub(crate) async fn remove(&mut self) -> Result<(), ServiceError> {
        let Some(container) = self.container.take() else { return Ok(()) };
        container.rm().await.map_err(refused)
    }

    /// Runs `docker pause`. The container must not be paused.
    pub(crate) async fn freeze(&self) -> Result<(), ServiceError> {
        let Some(container) = &self.container else { return Ok(()) };
        container.pause().await.map_err(refused)
    }

    /// Runs `docker unpause`. The container must be paused.
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
            // Waiting fails only if the watchdog was waited for before, and then it has ended.
            let _ = watchdog.wait();
        }
        if Handle::try_current().is_err() {
            // Testcontainers panics when it drops a container outside a runtime. The watchdog has removed the
            // container.
            std::mem::forget(self.container.take());
        }
    }
}

/// Starts a shell that removes the container when this process is gone; it needs Docker's command-line client.
/// Testcontainers alone removes a container only when it is dropped.
fn watch(id: &str) -> Option<Child> {
    Command::new("sh")
        .args(["-c", r#"read -r line; exec docker rm --force --volumes "$0""#, id])
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
