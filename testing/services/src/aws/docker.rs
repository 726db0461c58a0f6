//! LocalStack, in a container of its own, with the queues that its own script makes when it is ready.
//!
//! Never: how a container ends; `container.rs` knows. Hooks: <https://docs.localstack.cloud/references/init-hooks/>.

use std::path::PathBuf;

use testcontainers::{GenericImage, ImageExt, core::IntoContainerPort};

use super::{Aws, QUEUES, SCRIPT};
use crate::{ServiceError, container::Container, port};

/// The version that `localstack/compose.yaml` takes.
pub(super) const IMAGE: &str = "localstack/localstack:4.7.0";

/// Starts one; it may answer much later.
pub(super) async fn start() -> Result<Container, ServiceError> {
    let (name, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
    let port = port::free().map_err(ServiceError::io("finding a free port"))?;
    let image = GenericImage::new(name, tag)
        .with_mapped_port(port, 4566.tcp())
        .with_env_var("SERVICES", "sqs")
        .with_env_var("AWS_DEFAULT_REGION", Aws::REGION)
        .with_copy_to("/etc/bespeak/queues.json", PathBuf::from(QUEUES))
        .with_copy_to("/etc/localstack/init/ready.d/queues.py", PathBuf::from(SCRIPT));
    Container::start(image, port).await
}
