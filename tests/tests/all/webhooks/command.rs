//! `bespeak webhooks`.

use bespeak_tests::{Behaviour, Books, Receiver, Server, bespeak};
use serde_json::{Value, json};

use super::ALLOWED;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_are_managed_by_the_command() {
    let books = Books::sqlite();
    let server = Server::start(&books, &[ALLOWED]).await;
    let url = server.url.clone();
    let run = async |arguments: &[&str]| {
        let arguments = [&["webhooks"], arguments, &["--json"]].concat();
        let ran = bespeak(&arguments, &[("BESPEAK_SERVER_URL", &url)]).await;
        let printed: Value = serde_json::from_str(&ran.out).unwrap_or_default();
        (ran.code, printed)
    };
    let receiver = Receiver::start(Behaviour::status(200)).await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("token.txt");
    std::fs::write(&file, "Bearer hunter2\n").expect("written");
    let header = format!("authorization=@{}", file.display());
    let (code, made) = run(&["create", "--url", &receiver.url(), "--header", &header, "--key", "k"]).await;
    assert_eq!((code, &made["headerNames"]), (0, &json!(["authorization"])), "{made}");
    let id = made["id"].as_str().expect("an id");
    let (_, again) = run(&["create", "--url", &receiver.url(), "--header", &header, "--key", "k"]).await;
    assert_eq!(again["secret"], made["secret"]);
    assert_eq!(run(&["test", id]).await.0, 0);
    assert_eq!(receiver.messages()[0].header("authorization"), "Bearer hunter2");
    receiver.says(Behaviour::status(500));
    assert_eq!(run(&["test", id]).await.0, 1);
    receiver.says(Behaviour::status(200));

    let (_, rotated) = run(&["rotate", id, "--overlap", "60"]).await;
    assert_ne!(rotated["secret"], made["secret"]);
    let (_, changed) = run(&["change", id, "--event-type", "bespeak.stock.*", "--no-headers"]).await;
    assert_eq!((&changed["eventTypes"], &changed["headerNames"]), (&json!(["bespeak.stock.*"]), &json!([])));
    let (_, disabled) = run(&["disable", id]).await;
    assert_eq!(disabled["enabled"], false);
    let listed = bespeak(&["webhooks", "list"], &[("BESPEAK_SERVER_URL", &url)]).await;
    assert!(
        listed.out.contains("disabled") && listed.out.contains("it was disabled by hand"),
        "{}",
        listed.out
    );
    assert!(!listed.out.contains("tenant=7"), "the query may be a secret: {}", listed.out);
    assert_eq!(run(&["enable", id]).await.1["health"]["circuit"], "CLOSED");
    let (code, replayed) = run(&["replay", id, "--since", "2026-01-01T00:00:00Z", "--only-missing"]).await;
    assert_eq!((code, replayed), (0, json!({"deliveries": 0, "enqueued": 0})));
    assert_eq!(run(&["deliveries", id, "--status", "FAILED"]).await.1["deliveries"], json!([]));
    assert_eq!(run(&["delete", id]).await.0, 0);
    assert_eq!(run(&["show", id]).await.1["type"], "webhook-not-found");
}
