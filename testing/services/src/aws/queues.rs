//! The queues of an AWS emulator: their description in `localstack/aws/`, and a request that checks whether one exists.
//!
//! Never: an SQS client; `tests/src/sqs.rs` has one.
//! Protocol: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/>.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The script that creates the queues.
pub(super) const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../localstack/aws/queues.py");
/// The attributes of the queues, which the script reads.
pub(super) const DESCRIPTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../localstack/aws/queues.json");
/// The queue that the script creates last.
pub(super) const LAST: &str = "bespeak-consumer";
/// The region of the queues.
pub(super) const REGION: &str = "eu-central-1";

/// The time that a server has until it answers and its queues exist.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// A starting emulator may accept a connection and never answer it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The header names the region. Emulators do not check the signature.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/sqs/aws4_request, \
    SignedHeaders=host, Signature=0";

/// Sends `GetQueueUrl` and returns the HTTP status: 200 if the queue exists.
pub(super) async fn queue_status(address: SocketAddr, queue: &str) -> io::Result<u16> {
    let body = format!(r#"{{"QueueName":"{queue}"}}"#);
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\
        x-amz-target: AmazonSQS.GetQueueUrl\r\nauthorization: {AUTHORIZATION}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    timeout(RESPONSE_TIMEOUT, status(address, &request)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

async fn status(address: SocketAddr, request: &str) -> io::Result<u16> {
    let mut server = TcpStream::connect(address).await?;
    server.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    server.read_to_end(&mut response).await?;
    let response = String::from_utf8_lossy(&response);
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the response is not HTTP"))
}
